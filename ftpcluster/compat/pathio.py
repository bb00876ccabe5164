"""Path layers: what users subclass to serve files from wherever they are.

A layer works on real paths (``pathlib``), one instance for each connection; what the instances
share is their ``state``. Its methods are coroutines that raise PathIOError around what went
wrong. ``local_pathio`` has those of the local file system, ``memory`` the one in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import PurePath
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from ftpcluster.compat.common import DEFAULT_BLOCK_SIZE

P = ParamSpec("P")
T = TypeVar("T")
PathT = TypeVar("PathT", bound=PurePath)

_MODES = ("rb", "wb", "ab", "r+b")


class PathIOError(Exception):
    """A path layer failed. ``reason`` is the ``sys.exc_info()`` of what went wrong."""

    def __init__(self, *args: object, reason: tuple[Any, Any, Any] | None = None) -> None:
        super().__init__(*args)
        self.reason = reason


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """A PathIOError around an OSError leaves the block as that OSError."""
    try:
        yield
    except PathIOError as error:
        cause = error.reason[1] if error.reason else None
        if isinstance(cause, OSError):
            raise cause from None
        raise


def universal_exception(
    method: Callable[P, Awaitable[T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turn whatever a layer's method raises into PathIOError."""

    @functools.wraps(method)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except (asyncio.CancelledError, NotImplementedError, StopAsyncIteration, PathIOError):
            raise
        except Exception as error:
            raise PathIOError(reason=sys.exc_info()) from error

    return guarded


class AsyncListerMixin(ABC, Generic[T]):
    """Lets what can be iterated with ``async for`` be awaited, too, for a list."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[T]:
        """The iterator."""

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._all().__await__()

    async def _all(self) -> list[T]:
        return [each async for each in self]


class AbstractAsyncLister(AsyncListerMixin[T]):
    """The entries of a directory: ``async for path in lister``, or ``await lister`` for a list."""

    def __init__(self, *, timeout: float | None = None) -> None:
        self.timeout = timeout

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> T:
        """The next path; raises StopAsyncIteration at the end."""


class OpenFile:
    """What ``open`` gives: await it, or ``async with`` it. Its methods are the layer's, bound."""

    def __init__(self, layer: AbstractPathIO[Any], args: Any, kwargs: Any) -> None:
        self._layer = layer
        self._args = args
        self._kwargs = kwargs
        self._opened = False

    async def _open(self) -> OpenFile:
        if len(self._args) > 1 or "mode" in self._kwargs:
            check_mode(self._args[1] if len(self._args) > 1 else self._kwargs["mode"])
        self.file = await self._layer._open(*self._args, **self._kwargs)
        self._opened = True
        self.seek = functools.partial(self._layer.seek, self.file)
        self.write = functools.partial(self._layer.write, self.file)
        self.read = functools.partial(self._layer.read, self.file)
        self.close = functools.partial(self._layer.close, self.file)
        self.sync = functools.partial(self._layer.sync, self.file)
        return self

    def __await__(self) -> Generator[Any, None, OpenFile]:
        return self._open().__await__()

    async def __aenter__(self) -> OpenFile:
        return await self._open()

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._opened:
            await self.close()

    async def iter_by_block(self, count: int = DEFAULT_BLOCK_SIZE) -> AsyncIterator[bytes]:
        """The content from here to the end, in blocks of at most ``count`` bytes."""
        while block := await self.read(count):
            yield block


def defend_file_methods(
    method: Callable[P, Awaitable[T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let a layer's method for open files take the result of ``open``, too, and not only the file.

    That result has methods of the same names. Called instead of the file's they would only make a
    coroutine that nobody awaits: nothing would be written.
    """

    @functools.wraps(method)
    async def unwrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        layer, file, *rest = args
        arguments: Any = (layer, file.file if isinstance(file, OpenFile) else file, *rest)
        return await method(*arguments, **kwargs)

    return unwrapped


class AbstractPathIO(ABC, Generic[PathT]):
    """Base of all path layers.

    ``timeout`` in seconds bounds operations of the layers that can be bounded (None: no bound);
    ``connection`` is the connection this instance serves; ``state`` what the instances of one
    server share, made by the first of them.
    """

    def __init__(
        self, timeout: float | None = None, connection: Any = None, state: Any = None
    ) -> None:
        self.timeout = timeout
        self.connection = connection
        self._state = state

    @property
    def state(self) -> Any:
        """What all instances of one server share."""
        return self._state

    @abstractmethod
    async def exists(self, path: PathT) -> bool:
        """Whether there is anything at ``path``."""

    @abstractmethod
    async def is_dir(self, path: PathT) -> bool:
        """Whether a directory is at ``path``."""

    @abstractmethod
    async def is_file(self, path: PathT) -> bool:
        """Whether a file is at ``path``."""

    @abstractmethod
    async def mkdir(self, path: PathT, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory; ``parents`` and ``exist_ok`` as in ``pathlib.Path.mkdir``."""

    @abstractmethod
    async def rmdir(self, path: PathT) -> None:
        """Remove an empty directory."""

    @abstractmethod
    async def unlink(self, path: PathT) -> None:
        """Remove a file."""

    @abstractmethod
    def list(self, path: PathT) -> AbstractAsyncLister[PathT]:
        """The entries of a directory, as paths; none where there is no such directory."""

    @abstractmethod
    async def stat(self, path: PathT) -> Any:
        """An object with st_size, st_mtime and st_ctime at least; st_mode where it has one."""

    @abstractmethod
    async def _open(self, path: PathT, mode: str = "rb") -> Any:
        """Open a file: mode "rb", "wb", "ab" or "r+b", else ValueError."""

    def open(self, *args: Any, **kwargs: Any) -> OpenFile:
        """``async with layer.open(path, mode="rb") as file``, or ``await`` it."""
        return OpenFile(self, args, kwargs)

    @abstractmethod
    async def seek(self, file: Any, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position of an open file."""

    @abstractmethod
    async def write(self, file: Any, data: bytes) -> Any:
        """Write all of ``data``."""

    @abstractmethod
    async def read(self, file: Any, block_size: int = DEFAULT_BLOCK_SIZE) -> bytes:
        """Up to ``block_size`` bytes; none at the end."""

    @abstractmethod
    async def close(self, file: Any) -> None:
        """Close an open file."""

    @abstractmethod
    async def rename(self, source: PathT, destination: PathT) -> Any:
        """Move a file or directory."""

    async def sync(self, file: Any) -> None:
        """Wait until what was written survives a crash; called before ``close`` by durable uploads.

        Override it where that takes more than ``close`` does.
        """

    async def sync_directory(self, path: PathT) -> None:
        """The same for the names in a directory, when a file of it has been closed."""


def check_mode(mode: str) -> str:
    """Raises ValueError for a mode that no layer has."""
    if mode not in _MODES:
        raise ValueError(f"expected a mode of {', '.join(_MODES)}, got {mode!r}")
    return mode
