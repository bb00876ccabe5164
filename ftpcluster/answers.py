"""Results that are there at once, or that have to be awaited.

Most calls that a command makes never wait. A coroutine for each of them would take more time than
the call itself. So such a function returns an ``Answer``: its result, or an awaitable of it.
"""

from __future__ import annotations

import functools
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from types import CoroutineType
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeGuard, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Answer: TypeAlias = T | Awaitable[T]
"""A result, or an awaitable of one."""


def is_awaitable(answer: Answer[T]) -> TypeGuard[Awaitable[T]]:
    """Whether the result has to be awaited."""
    return hasattr(answer, "__await__")


async def settled(answer: Answer[T]) -> T:
    """The result of an answer of either kind: ``await settled(storage.stat(path))``."""
    return await cast(Awaitable[T], answer) if hasattr(answer, "__await__") else answer


def then(
    answer: Answer[T],
    go_on: Callable[Concatenate[T, P], Answer[R]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Answer[R]:
    """``go_on(result, *args)``: at once where the result is there, else when it has come."""
    if hasattr(answer, "__await__"):
        return _later(cast(Awaitable[T], answer), go_on, *args, **kwargs)
    return go_on(answer, *args, **kwargs)


Steps: TypeAlias = Generator[Answer[Any], Any, T]
"""A generator that yields answers. Each ``yield`` evaluates to the result of its answer."""


def stepwise(function: Callable[P, Steps[T]]) -> Callable[P, Answer[T]]:
    """Decorates a generator of ``Steps``. A call runs it at once, up to the first wait.

    From there a coroutine goes on.
    """

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> Answer[T]:
        steps = function(*args, **kwargs)
        result = None
        try:
            while True:
                answer = steps.send(result)
                if hasattr(answer, "__await__"):
                    return _awaited(steps, answer)
                result = answer
        except StopIteration as done:
            return cast(T, done.value)

    return called


async def _awaited(steps: Steps[T], answer: Answer[Any]) -> T:
    """Run the rest of the steps, from the first answer that has to be awaited."""
    try:
        while True:
            try:
                result = await settled(answer)
            except BaseException as error:
                answer = steps.throw(error)
            else:
                answer = steps.send(result)
    except StopIteration as done:
        return cast(T, done.value)
    finally:
        steps.close()


def as_coroutine(awaitable: Awaitable[T]) -> Coroutine[Any, Any, T]:
    """A coroutine that awaits ``awaitable``; itself where it is one."""
    if isinstance(awaitable, CoroutineType):
        return awaitable
    return settled(awaitable)


async def _later(
    answer: Awaitable[T],
    go_on: Callable[Concatenate[T, P], Answer[R]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    return await settled(go_on(await answer, *args, **kwargs))


async def iterated(items: Iterator[T] | AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """The items of a plain or an asynchronous iterator. The caller has to close it."""
    try:
        if isinstance(items, AsyncIterator):
            async for item in items:
                yield item
        else:
            for item in items:
                yield item
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()
        elif isinstance(items, Generator):
            items.close()
