"""Small tools that aioftp has, for classes of the library's users."""

from __future__ import annotations

import contextlib
import functools
import locale
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

from ftpcluster.expiry import time_limit

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_BLOCK_SIZE = 8192
END_OF_LINE = "\r\n"
_locale_lock = threading.Lock()


@overload
def with_timeout(name: str) -> Callable[[Callable[P, Awaitable[T]]], _Coroutine[P, T]]: ...
@overload
def with_timeout(name: Callable[P, Awaitable[T]]) -> _Coroutine[P, T]: ...


def with_timeout(name: Any) -> Any:
    """Bound a coroutine method by an attribute of its object: seconds, None is no bound.

    ``@with_timeout`` takes ``self.timeout``, ``@with_timeout("path_timeout")`` that attribute.
    Raises TimeoutError.
    """
    if isinstance(name, str):
        return functools.partial(_bounded, name)
    return _bounded("timeout", name)


_Coroutine = Callable[P, Coroutine[Any, Any, T]]


def _bounded(name: str, method: Callable[P, Awaitable[T]]) -> _Coroutine[P, T]:
    @functools.wraps(method)
    async def bounded(*args: P.args, **kwargs: P.kwargs) -> T:
        async with time_limit(getattr(args[0], name)):
            return await method(*args, **kwargs)

    return bounded


@contextlib.contextmanager
def setlocale(name: str) -> Iterator[str]:
    """Set the locale of all categories, one thread at a time, and restore it afterwards.

    ftpcluster itself needs no locale: listings have English months whatever it is.
    """
    with _locale_lock:
        before = locale.setlocale(locale.LC_ALL)
        try:
            yield locale.setlocale(locale.LC_ALL, name)
        finally:
            locale.setlocale(locale.LC_ALL, before)


class AsyncStreamIterator:
    """What a function reads, until it reads nothing."""

    def __init__(self, read_coro: Callable[[], Awaitable[bytes]]) -> None:
        self.read_coro = read_coro

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if data := await self.read_coro():
            return data
        raise StopAsyncIteration


class _Enterable(Generic[T]):
    """A coroutine function that was called: to be awaited, or entered."""

    def __init__(
        self, call: Callable[[], Coroutine[Any, Any, AbstractAsyncContextManager[T]]]
    ) -> None:
        self._call = call
        self._entered: AbstractAsyncContextManager[T] | None = None

    def __await__(self) -> Generator[Any, None, AbstractAsyncContextManager[T]]:
        return self._call().__await__()

    async def __aenter__(self) -> T:
        self._entered = await self._call()
        return await self._entered.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._entered is not None
        await self._entered.__aexit__(kind, error, traceback)


def async_enterable(
    function: Callable[P, Coroutine[Any, Any, AbstractAsyncContextManager[T]]],
) -> Callable[P, _Enterable[T]]:
    """Decorator: what the function returns may be entered at once, ``async with function():``."""

    @functools.wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> _Enterable[T]:
        return _Enterable(functools.partial(function, *args, **kwargs))

    return called


def wrap_with_container(value: Any) -> Any:
    """A text as a tuple of one; all else as it is."""
    return (value,) if isinstance(value, str) else value
