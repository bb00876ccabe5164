"""Small tools of the reference that users' own classes share: bounds in time, and the locale."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import locale
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")

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
        timeout = getattr(args[0], name)
        if timeout is None:
            return await method(*args, **kwargs)
        async with asyncio.timeout(timeout):
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
