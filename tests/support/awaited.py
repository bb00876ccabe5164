"""Makes a storage asynchronous: all its methods become coroutine functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ftpcluster.answers import iterated, settled
from ftpcluster.storage.base import File, Storage


class Awaited:
    """A storage, or an open file, whose methods are all coroutine functions."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found) or (name == "is_resident"):
            return found
        return _iterating(found) if name == "scan" else _awaiting(found)


def _iterating(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: iterated(method(*args))


def _awaiting(method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        result = await settled(method(*args, **kwargs))
        return Awaited(result) if isinstance(result, File | Storage) else result

    return call
