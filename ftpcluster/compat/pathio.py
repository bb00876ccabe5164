"""Path layers: what users subclass to serve files from wherever they are.

A layer works on real paths (``pathlib``), one instance for each connection; what the instances
share is their ``state``. Its methods are coroutines that raise PathIOError around what went
wrong. ``PathIO`` is the local file system; where a server has exactly that, sessions take the
fast path of ``storage.local`` instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ParamSpec, TypeVar

from ftpcluster.compat.common import with_timeout

P = ParamSpec("P")
T = TypeVar("T")

BLOCK_SIZE = 8192
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


class AbstractAsyncLister(ABC):
    """The entries of a folder: ``async for path in lister``, or ``await lister`` for a list."""

    def __init__(self, *, timeout: float | None = None) -> None:
        self.timeout = timeout

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    @abstractmethod
    async def __anext__(self) -> Any:
        """The next path; raises StopAsyncIteration at the end."""

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._all().__await__()

    async def _all(self) -> list[Any]:
        return [path async for path in self]


class OpenFile:
    """What ``open`` gives: await it, or ``async with`` it. Its methods are the layer's, bound."""

    def __init__(self, layer: AbstractPathIO, args: Any, kwargs: Any) -> None:
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

    async def iter_by_block(self, count: int = BLOCK_SIZE) -> AsyncIterator[bytes]:
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


class AbstractPathIO(ABC):
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
    async def exists(self, path: Any) -> bool:
        """Whether there is anything at ``path``."""

    @abstractmethod
    async def is_dir(self, path: Any) -> bool:
        """Whether a folder is at ``path``."""

    @abstractmethod
    async def is_file(self, path: Any) -> bool:
        """Whether a file is at ``path``."""

    @abstractmethod
    async def mkdir(self, path: Any, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a folder; ``parents`` and ``exist_ok`` as in ``pathlib.Path.mkdir``."""

    @abstractmethod
    async def rmdir(self, path: Any) -> None:
        """Remove an empty folder."""

    @abstractmethod
    async def unlink(self, path: Any) -> None:
        """Remove a file."""

    @abstractmethod
    def list(self, path: Any) -> AbstractAsyncLister:
        """The entries of a folder, as paths; none where there is no such folder."""

    @abstractmethod
    async def stat(self, path: Any) -> Any:
        """An object with st_size, st_mtime and st_ctime at least; st_mode where it has one."""

    @abstractmethod
    async def _open(self, path: Any, mode: str = "rb") -> Any:
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
    async def read(self, file: Any, block_size: int = BLOCK_SIZE) -> bytes:
        """Up to ``block_size`` bytes; none at the end."""

    @abstractmethod
    async def close(self, file: Any) -> None:
        """Close an open file."""

    @abstractmethod
    async def rename(self, source: Any, destination: Any) -> Any:
        """Move a file or folder."""

    async def sync(self, file: Any) -> None:  # noqa: B027
        """Wait until what was written survives a crash; called before ``close`` by durable uploads.

        Override it where that takes more than ``close`` does.
        """

    async def sync_folder(self, path: Any) -> None:  # noqa: B027
        """The same for the names in a folder, when a file of it has been closed."""


def _sync_file(file: Any) -> None:
    """Have the disk store an open file; blocks."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(path: Any) -> None:
    """Have the disk store the names in a folder; blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def check_mode(mode: str) -> str:
    """Raises ValueError for a mode that no layer has."""
    if mode not in _MODES:
        raise ValueError(f"expected a mode of {', '.join(_MODES)}, got {mode!r}")
    return mode


class _LocalLister(AbstractAsyncLister):
    """Entries of a local folder; the folder is closed when they are through."""

    def __init__(self, path: Path, *, timeout: float | None = None) -> None:
        super().__init__(timeout=timeout)
        self._path = Path(path)
        self._entries: Iterator[Path] | None = None

    @universal_exception
    async def __anext__(self) -> Path:
        return self._next()

    def _next(self) -> Path:
        if self._entries is None:
            names: list[str] = []
            with contextlib.suppress(FileNotFoundError):
                names = os.listdir(self._path)
            self._entries = iter([self._path / name for name in names])
        try:
            return next(self._entries)
        except StopIteration:
            raise StopAsyncIteration from None


class PathIO(AbstractPathIO):
    """The local file system; its calls block, as short as they are."""

    @universal_exception
    async def exists(self, path: Path) -> bool:
        return path.exists()

    @universal_exception
    async def is_dir(self, path: Path) -> bool:
        return path.is_dir()

    @universal_exception
    async def is_file(self, path: Path) -> bool:
        return path.is_file()

    @universal_exception
    async def mkdir(self, path: Path, *, parents: bool = False, exist_ok: bool = False) -> None:
        path.mkdir(parents=parents, exist_ok=exist_ok)

    @universal_exception
    async def rmdir(self, path: Path) -> None:
        path.rmdir()

    @universal_exception
    async def unlink(self, path: Path) -> None:
        path.unlink()

    def list(self, path: Path) -> AbstractAsyncLister:
        return _LocalLister(path, timeout=self.timeout)

    @universal_exception
    async def stat(self, path: Path) -> os.stat_result:
        return path.stat()

    @universal_exception
    async def _open(self, path: Path, mode: str = "rb") -> BinaryIO:
        return path.open(check_mode(mode))  # type: ignore[return-value]

    @universal_exception
    @defend_file_methods
    async def seek(self, file: BinaryIO, offset: int, whence: int = io.SEEK_SET) -> int:
        return file.seek(offset, whence)

    @universal_exception
    @defend_file_methods
    async def write(self, file: BinaryIO, data: bytes) -> int:
        return file.write(data)

    @universal_exception
    @defend_file_methods
    async def read(self, file: BinaryIO, block_size: int = BLOCK_SIZE) -> bytes:
        return file.read(block_size)

    @universal_exception
    @defend_file_methods
    async def close(self, file: BinaryIO) -> None:
        file.close()

    @universal_exception
    async def rename(self, source: Path, destination: Path) -> Path:
        return source.rename(destination)

    @universal_exception
    @defend_file_methods
    async def sync(self, file: BinaryIO) -> None:
        await asyncio.to_thread(_sync_file, file)  # this is not short

    @universal_exception
    async def sync_folder(self, path: Path) -> None:
        await asyncio.to_thread(_sync_folder, path)


def _in_executor(method: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """A layer's method that runs in the layer's pool, bounded by its timeout."""

    @universal_exception
    @with_timeout
    @functools.wraps(method)
    async def run(self: AsyncPathIO, *args: Any, **kwargs: Any) -> T:
        call = functools.partial(method, self, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.executor, call)

    return run


class _ExecutorLister(_LocalLister):
    def __init__(self, layer: AsyncPathIO, path: Path) -> None:
        super().__init__(path, timeout=layer.timeout)
        self._executor = layer.executor

    @universal_exception
    @with_timeout
    async def __anext__(self) -> Path:
        if self._entries is None:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._load)
        return self._next()

    def _load(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._entries = iter([self._path / name for name in os.listdir(self._path)])


class AsyncPathIO(AbstractPathIO):
    """The local file system in a bounded pool of threads: for NFS and slow disks.

    ``executor`` is the pool; None is the loop's own.
    """

    executor: Any = None

    @_in_executor
    def exists(self, path: Path) -> bool:
        return path.exists()

    @_in_executor
    def is_dir(self, path: Path) -> bool:
        return path.is_dir()

    @_in_executor
    def is_file(self, path: Path) -> bool:
        return path.is_file()

    @_in_executor
    def mkdir(self, path: Path, *, parents: bool = False, exist_ok: bool = False) -> None:
        path.mkdir(parents=parents, exist_ok=exist_ok)

    @_in_executor
    def rmdir(self, path: Path) -> None:
        path.rmdir()

    @_in_executor
    def unlink(self, path: Path) -> None:
        path.unlink()

    def list(self, path: Path) -> AbstractAsyncLister:
        return _ExecutorLister(self, path)

    @_in_executor
    def stat(self, path: Path) -> os.stat_result:
        return path.stat()

    @_in_executor
    def _open(self, path: Path, mode: str = "rb") -> Any:
        return path.open(check_mode(mode))

    @defend_file_methods
    @_in_executor
    def seek(self, file: BinaryIO, offset: int, whence: int = io.SEEK_SET) -> int:
        return file.seek(offset, whence)

    @defend_file_methods
    @_in_executor
    def write(self, file: BinaryIO, data: bytes) -> int:
        return file.write(data)

    @defend_file_methods
    @_in_executor
    def read(self, file: BinaryIO, block_size: int = BLOCK_SIZE) -> bytes:
        return file.read(block_size)

    @defend_file_methods
    @_in_executor
    def close(self, file: BinaryIO) -> None:
        file.close()

    @_in_executor
    def rename(self, source: Path, destination: Path) -> Path:
        return source.rename(destination)

    @defend_file_methods
    @_in_executor
    def sync(self, file: BinaryIO) -> None:
        _sync_file(file)

    @_in_executor
    def sync_folder(self, path: Path) -> None:
        _sync_folder(path)
