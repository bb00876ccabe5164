"""The path layers of the local file system.

``PathIO`` is the local file system itself; where a server has exactly that, sessions take the fast
path of ``storage.local`` instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from ftpcluster.compat.common import DEFAULT_BLOCK_SIZE, with_timeout
from ftpcluster.compat.pathio import (
    AbstractAsyncLister,
    AbstractPathIO,
    check_mode,
    defend_file_methods,
    universal_exception,
)

T = TypeVar("T")


def _sync_file(file: Any) -> None:
    """Have the disk store an open file; blocks."""
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: Any) -> None:
    """Have the disk store the names in a directory; blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _LocalLister(AbstractAsyncLister[Path]):
    """Entries of a local directory; the directory is closed when they are through."""

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


class PathIO(AbstractPathIO[Path]):
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

    def list(self, path: Path) -> AbstractAsyncLister[Path]:
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
    async def read(self, file: BinaryIO, block_size: int = DEFAULT_BLOCK_SIZE) -> bytes:
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
    async def sync_directory(self, path: Path) -> None:
        await asyncio.to_thread(_sync_directory, path)


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


class AsyncPathIO(AbstractPathIO[Path]):
    """The local file system in a bounded pool of threads: for NFS and slow disks.

    ``executor`` is the pool; None is the loop's own.
    """

    executor: Executor | None = None

    def __init__(
        self,
        timeout: float | None = None,
        connection: Any = None,
        state: Any = None,
        *,
        executor: Executor | None = None,
    ) -> None:
        super().__init__(timeout, connection, state)
        if executor is not None:
            self.executor = executor

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

    def list(self, path: Path) -> AbstractAsyncLister[Path]:
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
    def read(self, file: BinaryIO, block_size: int = DEFAULT_BLOCK_SIZE) -> bytes:
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
    def sync_directory(self, path: Path) -> None:
        _sync_directory(path)
