"""The local file system in a pool of threads: for NFS and slow disks (``AsyncPathIO``).

It is ``LocalStorage``, contained as well, only that no call of it is made by the loop's thread.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from ftpcluster.storage.base import Entry, File, Mover, Storage, WriteMode
from ftpcluster.storage.local import LocalStorage
from ftpcluster.storage.local_file import LocalFile

T = TypeVar("T")


class _Pool:
    """Runs calls in the pool, each bounded by ``timeout`` seconds (None: no bound)."""

    def __init__(self, executor: Executor, timeout: float | None) -> None:
        self._executor = executor
        self._timeout = timeout

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        work = functools.partial(function, *args, **kwargs)
        async with asyncio.timeout(self._timeout):
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)


class PooledFile(File):
    """An open local file that is read and written in threads, by one at a time.

    A thread goes on with a call that was cancelled, or took too long. Who closes the file waits for
    it, in a thread as well: else its descriptor could be another file's, or a socket, by then.
    """

    def __init__(self, pool: _Pool, file: LocalFile) -> None:
        self._pool = pool
        self._file = file
        self._lock = threading.Lock()

    async def _in_turn(self, method: Callable[..., T], *args: Any) -> T:
        return await self._pool.call(self._locked, method, *args)

    def _locked(self, method: Callable[..., T], *args: Any) -> T:
        with self._lock:
            return method(*args)

    @property
    def size(self) -> int:
        return self._file.size

    async def seek(self, offset: int) -> None:
        await self._in_turn(self._file.seek, offset)

    async def truncate(self) -> None:
        await self._in_turn(self._file.truncate)

    async def read(self, count: int) -> bytes:
        return await self._in_turn(self._file.read, count)

    async def write(self, data: bytes | memoryview) -> None:
        await self._in_turn(self._file.write, data)

    async def finish(self) -> None:
        await self._in_turn(self._file.finish)

    async def close(self) -> None:
        await self._in_turn(self._file.close)


class PooledStorage(Storage):
    """``LocalStorage`` whose calls run in a pool."""

    needs_task = True  # asyncio.timeout asks for a task

    def __init__(self, local: LocalStorage, executor: Executor, timeout: float | None) -> None:
        self._local = local
        self._pool = _Pool(executor, timeout)

    async def stat(self, path: str) -> os.stat_result:
        return await self._pool.call(self._local.stat, path)

    async def lstat(self, path: str) -> os.stat_result:
        return await self._pool.call(self._local.lstat, path)

    async def read_link(self, path: str) -> str:
        return await self._pool.call(self._local.read_link, path)

    async def scan(self, path: str) -> AsyncGenerator[list[Entry], None]:
        # not closed here: after a cancellation a thread may still be in it; it closes when it goes
        batches = self._local.scan(path)
        while batch := await self._pool.call(next, batches, None):
            yield batch

    async def open_reader(self, path: str) -> PooledFile:
        return PooledFile(self._pool, await self._pool.call(self._local.open_reader, path))

    async def open_writer(
        self, path: str, mode: WriteMode, *, atomic: bool = False, durable: bool = False
    ) -> PooledFile:
        opening = self._local.open_writer
        file = await self._pool.call(opening, path, mode, atomic=atomic, durable=durable)
        return PooledFile(self._pool, file)

    async def mkdir(self, path: str) -> None:
        await self._pool.call(self._local.mkdir_in_thread, path)

    async def rmdir(self, path: str) -> None:
        await self._pool.call(self._local.rmdir, path)

    async def unlink(self, path: str) -> None:
        await self._pool.call(self._local.unlink, path)

    async def available(self, path: str) -> int | None:
        return await self._pool.call(self._local.available, path)

    async def set_modified(self, path: str, seconds: float) -> None:
        await self._pool.call(self._local.set_modified, path, seconds)

    async def chmod(self, path: str, mode: int) -> None:
        await self._pool.call(self._local.chmod, path, mode)

    async def symlink(self, target: str, path: str) -> None:
        await self._pool.call(self._local.symlink, target, path)

    async def rename(self, source: str, target: str, *, replace: bool) -> None:
        await self._pool.call(self._local.rename, source, target, replace=replace)

    def mover(self, source: str, target: str, *, replace: bool) -> Mover:
        return self._local.mover(source, target, replace=replace)
