"""The local file system in threads: for storage that may not answer, and for ``AsyncPathIO``.

It is ``LocalStorage``, contained as well, only that no call of it is made by the loop's thread.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Concatenate, ParamSpec, TypeVar

from ftpcluster.answers import Answer
from ftpcluster.protocol.errors import LocalProblem
from ftpcluster.storage.base import Entry, File, Mover, Storage, WriteMode
from ftpcluster.storage.contained import Root
from ftpcluster.storage.local import LocalStorage
from ftpcluster.storage.local_file import LocalFile
from ftpcluster.storage.moving import LocalMover
from ftpcluster.storage.roots import is_same
from ftpcluster.storage.slow_calls import Lane, SlowCalls

P = ParamSpec("P")
T = TypeVar("T")

_LEAST, _FIRST, _MOST = 16 << 10, 64 << 10, 256 << 10
"""Bytes of one read or write. Storage that takes a second for a call gets fewer: a call cannot be
ended, so it should be short."""
_QUICK, _LONG = 0.05, 1.0
"""Seconds. The next call is larger after one that took less, and smaller after a longer one."""
_AT_THE_END = 10
"""The last call of an upload may take so many times as long as others: gateways to object stores
send a file on when it is closed."""
_BATCH = 1.0
"""Seconds after which the entries of a directory that were read are handed over."""


class SlowRoot:
    """A user's directory on storage that may not answer; the sessions that use it share it."""

    def __init__(
        self,
        path: str,
        calls: SlowCalls,
        check: Callable[[str], None] | None = None,
        make: Callable[[str], None] | None = None,
    ) -> None:
        """``check``, ``make``: called in a thread; raise OSError where the path may not be used,
        or the directory, which is missing, cannot be made."""
        self.path = path
        self.calls = calls
        self._check = check
        self._make = make
        self._local: LocalStorage | None = None

    def look(self) -> LocalStorage:
        """In a thread: the directory that is at the path now. Raises OSError."""
        if self._make is not None:
            self._make(self.path)
        local = self._local
        if local is None or not is_same(local.root, self.path):
            local = self._local = LocalStorage(Root(self.path))
        if self._check is not None:
            self._check(self.path)
        return local


class PooledFile(File):
    """An open local file that is read and written in threads, one call at a time.

    A thread goes on with a call that was cancelled, or took too long. Whoever closes the file then
    does not wait: it is closed when that call has ended, since its descriptor could be another
    file's, or a socket, before.
    """

    __slots__ = ("_file", "_is_closed", "_lane", "_piece")

    def __init__(self, lane: Lane, file: LocalFile) -> None:
        self._lane = lane
        self._file = file
        self._is_closed = False
        self._piece = _FIRST

    @property
    def size(self) -> int:
        return self._file.size

    def seek(self, offset: int) -> Answer[None]:
        return self._lane.run("seek", self._file.seek, offset)

    def truncate(self) -> Answer[None]:
        return self._lane.run("truncate", self._file.truncate)

    async def read(self, count: int) -> bytes:
        began = time.monotonic()
        data = await self._lane.run("read", self._file.read, min(count, self._piece))
        self._took(time.monotonic() - began)
        return data

    async def write(self, data: bytes | memoryview) -> None:
        """The data must stay as they are: a thread may have them for longer than this lasts."""
        rest = memoryview(data)
        while rest:
            part, rest = rest[: self._piece], rest[self._piece :]
            began = time.monotonic()
            await self._lane.run("write", self._file.write, part)
            self._took(time.monotonic() - began)

    def _took(self, seconds: float) -> None:
        if seconds < _QUICK:
            self._piece = min(self._piece * 2, _MOST)
        elif seconds > _LONG:
            self._piece = max(self._piece // 4, _LEAST)

    async def finish(self) -> None:
        patience = self._lane.calls.patience * _AT_THE_END
        await self._lane.run("close", self._file.finish, patience=patience, needed=True)
        self._is_closed = True

    def close(self) -> Answer[None]:
        """Close it. Errors mean nothing any more: an upload was finished, or has failed."""
        if self._is_closed:
            return None
        self._is_closed = True
        if self._lane.is_busy:
            self._lane.detach("close", self._file.close)
            return None
        return self._closed()

    async def _closed(self) -> None:
        """Wait for it where that is possible: some storage removes no file that is open."""
        try:
            await self._lane.run("close", self._file.close, needed=True)
        except (OSError, LocalProblem):
            pass


class _Scan:
    """The entries of a directory, for threads."""

    def __init__(self, open_: Callable[[], Iterator[list[Entry]]]) -> None:
        self._open = open_
        self._batches: Iterator[list[Entry]] | None = None

    def next(self) -> list[Entry] | None:
        if self._batches is None:
            self._batches = self._open()
        return next(self._batches, None)

    def close(self) -> None:
        self._batches = None  # the last reference: what the generator has open is closed


class PooledMover(Mover):
    """``LocalMover`` in threads, one step at a time."""

    is_synchronous = False

    def __init__(self, lane: Lane, make: Callable[[], LocalMover]) -> None:
        """``make``: makes one, in a thread."""
        self._lane = lane
        self._make = make
        self._mover: LocalMover | None = None

    def begin(self) -> Answer[None]:
        def begin() -> None:
            self._mover = self._make()
            self._mover.begin()

        return self._lane.run("rename", begin)

    def copy(self) -> Answer[int]:
        assert self._mover is not None
        return self._lane.run("copy", self._mover.copy)

    def finish(self) -> Answer[None]:
        assert self._mover is not None
        patience = self._lane.calls.patience * _AT_THE_END
        return self._lane.run("rename", self._mover.finish, patience=patience, needed=True)

    def end(self) -> Answer[None]:
        """As of a file: nobody waits for a thread that may hang."""

        def end() -> None:
            if self._mover is not None:
                self._mover.end()

        if self._lane.is_busy:
            self._lane.detach("close", end)
            return None
        return self._lane.run("close", end, needed=True)


class PooledStorage(Storage):
    """``LocalStorage`` whose calls run in threads, to open the directory included."""

    def __init__(self, root: SlowRoot) -> None:
        self._root = root
        self._local: LocalStorage | None = None

    async def opened(self) -> None:
        self._local = await Lane(self._root.calls).run("open", self._root.look)

    def _here(self) -> LocalStorage:
        """In a thread. The directory is opened once, by whatever comes first."""
        if self._local is None:
            self._local = self._root.look()
        return self._local

    def _in_thread(
        self,
        method: Callable[Concatenate[LocalStorage, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Future[T]:
        def call() -> T:
            return method(self._here(), *args, **kwargs)

        return Lane(self._root.calls).run(method.__name__, call)

    async def _open(
        self,
        method: Callable[Concatenate[LocalStorage, P], LocalFile],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> PooledFile:
        def call() -> LocalFile:
            return method(self._here(), *args, **kwargs)

        lane = Lane(self._root.calls)
        opening = lane.run("open", call, discard=LocalFile.close)
        try:
            file = await opening
        except asyncio.CancelledError:
            if not opening.cancelled() and opening.exception() is None:
                lane.detach("close", opening.result().close)  # it came in the same turn
            raise
        return PooledFile(lane, file)

    def stat(self, path: str) -> Answer[os.stat_result]:
        return self._in_thread(LocalStorage.stat, path)

    def lstat(self, path: str) -> Answer[os.stat_result]:
        return self._in_thread(LocalStorage.lstat, path)

    def read_link(self, path: str) -> Answer[str]:
        return self._in_thread(LocalStorage.read_link, path)

    async def scan(self, path: str) -> AsyncGenerator[list[Entry], None]:
        lane = Lane(self._root.calls)
        scan, is_whole = _Scan(lambda: self._here().scan_in_time(path, _BATCH)), False
        try:
            while batch := await lane.run("scan", scan.next):
                yield batch
            is_whole = True
        finally:
            if not is_whole:
                lane.detach("close", scan.close)

    def open_reader(self, path: str) -> Answer[File]:
        return self._open(LocalStorage.open_reader, path)

    def open_writer(
        self, path: str, mode: WriteMode, *, atomic: bool = False, durable: bool = False
    ) -> Answer[File]:
        return self._open(LocalStorage.open_writer, path, mode, atomic=atomic, durable=durable)

    def mkdir(self, path: str) -> Answer[None]:
        return self._in_thread(LocalStorage.mkdir_in_thread, path)

    def rmdir(self, path: str) -> Answer[None]:
        return self._in_thread(LocalStorage.rmdir, path)

    def unlink(self, path: str) -> Answer[None]:
        return self._in_thread(LocalStorage.unlink, path)

    def available(self, path: str) -> Answer[int | None]:
        return self._in_thread(LocalStorage.available, path)

    def set_modified(self, path: str, seconds: float) -> Answer[None]:
        return self._in_thread(LocalStorage.set_modified, path, seconds)

    def chmod(self, path: str, mode: int) -> Answer[None]:
        return self._in_thread(LocalStorage.chmod, path, mode)

    def symlink(self, target: str, path: str) -> Answer[None]:
        return self._in_thread(LocalStorage.symlink, target, path)

    def rename(self, source: str, target: str, *, replace: bool) -> Answer[None]:
        return self._in_thread(LocalStorage.rename, source, target, replace=replace)

    def mover(self, source: str, target: str, *, replace: bool) -> Mover:
        def make() -> LocalMover:
            return self._here().mover(source, target, replace=replace)

        return PooledMover(Lane(self._root.calls), make)
