"""A custom storage: objects in memory, streamed, without descriptors, and asynchronous.

Of the storages it uses only ``ftpcluster.storage.base``, as one over an object store would.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator

import ftpcluster
from ftpcluster.protocol.path import is_beneath, name, parent
from ftpcluster.session.hooks import SessionHooks
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Entry, File, Storage, WriteMode, status_of

_PIECE = 64 * 1024
_BATCH = 2


class Bucket:
    """Objects by their virtual paths, and the directories that they are in."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified: dict[str, float] = {}
        self.directories = {"/"}
        self.open_files = 0

    def put(self, path: str, data: bytes) -> None:
        self.objects[path] = data
        self.modified[path] = time.time()


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


async def _answer_of_the_store() -> None:
    """Let the loop take a turn, as if the answer came over a network."""
    await asyncio.sleep(0)


class ObjectReader(File):
    """An object that is streamed, some bytes at a time."""

    def __init__(self, bucket: Bucket, data: bytes) -> None:
        self._bucket = bucket
        self._data = data
        self._position = 0
        self._is_open = True
        bucket.open_files += 1

    @property
    def size(self) -> int:
        return len(self._data)

    async def seek(self, offset: int) -> None:
        self._position = offset

    async def truncate(self) -> None:
        raise _error(errno.EBADF)

    async def read(self, count: int) -> bytes:
        await _answer_of_the_store()
        begin = self._position
        piece = self._data[begin : begin + min(count, _PIECE)]
        self._position += len(piece)
        return piece

    async def write(self, data: bytes | memoryview) -> None:
        raise _error(errno.EBADF)

    async def close(self) -> None:
        self._bucket.open_files -= self._is_open
        self._is_open = False


class ObjectWriter(ObjectReader):
    """An object that is put in place of another one when it is finished."""

    def __init__(self, bucket: Bucket, path: str, mode: WriteMode) -> None:
        super().__init__(bucket, bucket.objects.get(path, b""))
        self._path = path
        self._content = bytearray(self._data)
        if mode is WriteMode.APPEND:
            self._position = len(self._content)

    async def truncate(self) -> None:
        self._content.clear()

    async def write(self, data: bytes | memoryview) -> None:
        await _answer_of_the_store()
        end = self._position + len(data)
        self._content[self._position : end] = data
        self._position = end

    async def finish(self) -> None:
        await _answer_of_the_store()
        self._bucket.put(self._path, bytes(self._content))
        await self.close()


class ObjectStorage(Storage):
    """A user's objects."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def stat(self, path: str) -> os.stat_result:
        await _answer_of_the_store()
        return self._status(path)

    def _status(self, path: str) -> os.stat_result:
        bucket = self._bucket
        if path in bucket.directories:
            return status_of(is_directory=True)
        if path not in bucket.objects:
            raise _error(errno.ENOENT)
        return status_of(size=len(bucket.objects[path]), modified=bucket.modified[path])

    async def scan(self, path: str) -> AsyncIterator[list[Entry]]:
        if path not in self._bucket.directories:
            raise _error(errno.ENOTDIR if path in self._bucket.objects else errno.ENOENT)
        everything = [*self._bucket.objects, *self._bucket.directories]
        found = [each for each in everything if each != "/" and parent(each) == path]
        for start in range(0, len(found), _BATCH):
            await _answer_of_the_store()
            some = found[start : start + _BATCH]
            yield [(name(each), self._status(each), None) for each in some]

    async def open_reader(self, path: str) -> File:
        await _answer_of_the_store()
        if path in self._bucket.directories:
            raise _error(errno.EISDIR)
        if path not in self._bucket.objects:
            raise _error(errno.ENOENT)
        return ObjectReader(self._bucket, self._bucket.objects[path])

    async def open_writer(
        self, path: str, mode: WriteMode, *, atomic: bool = False, durable: bool = False
    ) -> File:
        await _answer_of_the_store()
        if path in self._bucket.directories:
            raise _error(errno.EISDIR)
        if parent(path) not in self._bucket.directories:
            raise _error(errno.ENOENT)
        if mode is WriteMode.CREATE and path in self._bucket.objects:
            raise _error(errno.EEXIST)
        if mode is WriteMode.RESUME and path not in self._bucket.objects:
            raise _error(errno.ENOENT)
        return ObjectWriter(self._bucket, path, mode)

    async def mkdir(self, path: str) -> None:
        if path in self._bucket.directories or path in self._bucket.objects:
            raise _error(errno.EEXIST)
        while path != "/":
            self._bucket.directories.add(path)
            path = parent(path)

    async def rmdir(self, path: str) -> None:
        if path not in self._bucket.directories:
            raise _error(errno.ENOTDIR if path in self._bucket.objects else errno.ENOENT)
        if any(parent(each) == path for each in (*self._bucket.objects, *self._bucket.directories)):
            raise _error(errno.ENOTEMPTY)
        self._bucket.directories.discard(path)

    async def unlink(self, path: str) -> None:
        await _answer_of_the_store()
        if self._bucket.objects.pop(path, None) is None:
            raise _error(errno.ENOENT)

    async def rename(self, source: str, target: str, *, replace: bool) -> None:
        self._status(source)
        bucket = self._bucket
        if target in bucket.directories or (target in bucket.objects and not replace):
            raise _error(errno.EEXIST)
        for old in [each for each in bucket.objects if is_beneath(each, source)]:
            bucket.put(target + old[len(source) :], bucket.objects.pop(old))
        for old in [each for each in bucket.directories if is_beneath(each, source)]:
            bucket.directories.discard(old)
            bucket.directories.add(target + old[len(source) :])

    def available(self, path: str) -> int | None:
        """A plain function: nothing has to be awaited."""
        return 1 << 40 if path in self._bucket.directories else None


class BucketHooks(SessionHooks):
    """Every user's files are in one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def open_storage(self, user: ftpcluster.User) -> Storage:
        return ObjectStorage(self._bucket)


class BucketServer(ftpcluster.Server):
    """The same in the library, and for ``ftpcluster run --server``: a bucket for each process."""

    def __init__(self, users: object = None) -> None:
        super().__init__(users)  # type: ignore[arg-type]
        self.bucket = Bucket()

    def open_storage(self, user: ftpcluster.User) -> Storage:
        return ObjectStorage(self.bucket)


def hooks_over(bucket: Bucket, _: Session) -> SessionHooks:
    return BucketHooks(bucket)
