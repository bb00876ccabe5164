"""Tests of the library run as its users' do: server and client in one process and one loop."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.conftest import LOOPS

DEADLINE = 60.0

Test = Callable[..., Coroutine[Any, Any, None]]


def on_both_loops(test: Test) -> Callable[..., None]:
    """Run a test on stock asyncio and on uvloop; it may leave no task and no unheard error."""

    @functools.wraps(test)
    def run(loop: str, **fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop], debug=False) as runner:
            runner.run(_watched(test, fixtures))
        gc.collect()  # what was not closed warns now, within the test whose fault it is

    del run.__wrapped__  # type: ignore[attr-defined]  # it is a plain test, with one fixture more
    own = inspect.signature(test).parameters.values()
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD), *own]
    )
    return pytest.mark.parametrize("loop", list(LOOPS))(run)


async def _watched(test: Test, fixtures: dict[str, Any]) -> None:
    await _open_what_the_loop_keeps()
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with asyncio.timeout(DEADLINE):
        await test(**fixtures)
    assert not tasks(), "tasks are left over"
    assert not errors, errors


async def _open_what_the_loop_keeps() -> None:
    """uvloop opens a descriptor with its first stream; it is nobody's fault, so it comes first."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.read()
        writer.close()
        await writer.wait_closed()


def tasks() -> set[asyncio.Task[Any]]:
    """Every task but the one that asks."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
