"""Functions in steps: at once where nothing has to be awaited, else as a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ftpcluster.answers import Answer, Steps, is_awaitable, settled, stepwise


async def later(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def fails_later() -> int:
    await asyncio.sleep(0)
    raise FileNotFoundError


def fails() -> int:
    raise FileNotFoundError


@stepwise
def total(*questions: Callable[[], Answer[int]]) -> Steps[int]:
    """The sum of the answers; -1 for one that fails."""
    result = 0
    for question in questions:
        try:
            answer: int = yield question()
        except FileNotFoundError:
            answer = -1
        result += answer
    return result


def test_what_is_there_at_once_needs_no_coroutine() -> None:
    assert total() == 0
    assert total(lambda: 1, fails, lambda: 2) == 2


async def test_a_coroutine_takes_over_where_an_answer_has_to_be_awaited() -> None:
    answer = total(lambda: 1, lambda: later(2), lambda: 3, fails, fails_later, lambda: later(4))
    assert is_awaitable(answer)
    assert await answer == 8


@pytest.mark.parametrize("first", [lambda: 1, lambda: later(1)], ids=["at once", "later"])
async def test_what_it_raises_comes_out(first: Callable[[], Any]) -> None:
    @stepwise
    def raises() -> Steps[None]:
        yield first()
        raise PermissionError

    with pytest.raises(PermissionError):
        await settled(raises())


async def test_cancelled_it_ends_as_a_coroutine_does() -> None:
    ended: list[str] = []

    @stepwise
    def waits() -> Steps[None]:
        try:
            yield asyncio.get_running_loop().create_future()
        finally:
            ended.append("finally")

    task = asyncio.ensure_future(settled(waits()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["finally"]
