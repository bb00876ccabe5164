"""The local file system: a user's folder, contained by ``Root``; copies by descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import AsyncGenerator, Generator

from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import LocalProblem
from ftpcluster.storage.base import Entry, Storage, WriteMode
from ftpcluster.storage.beneath import Parent, Root, rename_noreplace
from ftpcluster.storage.uploads import Place, remove_leftovers

_BATCH = 512
"""Entries of a folder that are read before the loop gets its turn again: about a millisecond."""
_ROOTS = 256
"""Users' folders that stay open between their sessions."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_WRITE = {
    WriteMode.CREATE: os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOCTTY,
    WriteMode.TRUNCATE: os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY,
    WriteMode.APPEND: os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY,
    WriteMode.RESUME: os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY,
}

_one_byte = bytearray(1)
_cannot_tell: set[int] = set()
"""Devices whose file systems cannot say what they have in memory, as tmpfs, which has all."""


class LocalFile:
    """An open regular file. ``fd`` and ``position`` let the data connection copy in the kernel."""

    __slots__ = ("_place", "can_splice", "fd", "position", "status")
    has_size = True

    def __init__(self, fd: int, *, appends: bool = False, place: Place | None = None) -> None:
        """Takes over ``fd``; anything but a regular file is closed again and refused (ENXIO).

        ``place``: of an upload that is durable or atomic.
        """
        self.fd = fd
        self._place = place
        self.can_splice = not appends  # splice(2) refuses files opened with O_APPEND
        try:
            self.status = os.fstat(fd)
            if not stat.S_ISREG(self.status.st_mode):
                code = errno.EISDIR if stat.S_ISDIR(self.status.st_mode) else errno.ENXIO
                raise OSError(code, os.strerror(code))
        except OSError:
            self.fd = -1
            os.close(fd)
            raise
        self.position = 0

    @property
    def size(self) -> int:
        return self.status.st_size

    async def seek(self, offset: int) -> None:
        os.lseek(self.fd, offset, os.SEEK_SET)
        self.position = offset

    async def truncate(self) -> None:
        if self.status.st_size:
            os.ftruncate(self.fd, 0)

    async def read(self, count: int) -> bytes:
        return self.read_now(count)

    def read_now(self, count: int) -> bytes:
        data = os.pread(self.fd, count, self.position)
        self.position += len(data)
        return data

    async def write(self, data: bytes | memoryview) -> None:
        self.write_now(data)

    def write_now(self, data: bytes | memoryview) -> None:
        """Write all of ``data`` at the descriptor's own position, which splice shares."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def is_resident(self, offset: int) -> bool:
        """Whether the page at ``offset`` is in memory, so that reading it does not block."""
        if self.status.st_dev in _cannot_tell:
            return True
        try:
            os.preadv(self.fd, (_one_byte,), offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            _cannot_tell.add(self.status.st_dev)
        return True

    def read_ahead(self, offset: int, count: int) -> None:
        """Bring a part of the file into memory; blocks, so it is for a thread."""
        os.pread(self.fd, count, offset)

    async def finish(self) -> None:
        self.finish_now()

    def finish_now(self) -> None:
        """``finish`` for a thread: a durable upload waits for the disk."""
        place = self._place
        if place is not None:
            place.unmark(self.fd)
            place.sync_file(self.fd)
        if not os.fstat(self.fd).st_nlink:
            raise LocalProblem("The file was removed while it was stored.")
        self._close_descriptor()  # before the name appears: NFS says only here what it has refused
        if place is not None:
            place.settle()

    async def close(self) -> None:
        place, self._place = self._place, None
        try:
            self._close_descriptor()
        finally:
            if place is not None:
                place.close()

    def _close_descriptor(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # one that a thread opened for a command that had been aborted meanwhile
        if self.fd >= 0:
            os.close(self.fd)


class LocalStorage(Storage):
    """A user's files in a folder of this machine."""

    def __init__(self, root: Root) -> None:
        self.root = root

    async def stat(self, path: str) -> os.stat_result:
        status = await self.lstat(path)
        return self._followed(path) if stat.S_ISLNK(status.st_mode) else status

    async def lstat(self, path: str) -> os.stat_result:
        with self.root.parent(path) as parent:
            return os.stat(parent.name, dir_fd=parent.fd, follow_symlinks=False)

    async def read_link(self, path: str) -> str:
        with self.root.parent(path) as parent:
            return os.fsdecode(os.readlink(parent.name, dir_fd=parent.fd))

    def _followed(self, path: str) -> os.stat_result:
        fd = self.root.open(path, os.O_PATH)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    async def scan(self, path: str) -> AsyncGenerator[list[Entry], None]:
        with contextlib.closing(self.scan_now(path)) as batches:
            for batch in batches:
                yield batch

    def scan_now(self, path: str) -> Generator[list[Entry], None, None]:
        """``scan`` for a thread."""
        fd = self.root.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as entries:
                batch: list[Entry] = []
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                        target = None
                        if stat.S_ISLNK(status.st_mode):
                            target = os.readlink(entry.name, dir_fd=fd)
                    except OSError:
                        continue  # removed meanwhile
                    batch.append((entry.name, status, target))
                    if len(batch) == _BATCH:
                        yield batch
                        batch = []
                if batch:
                    yield batch
        finally:
            os.close(fd)

    async def open_reader(self, path: str) -> LocalFile:
        return LocalFile(self.root.open(path, _READ))

    async def open_writer(
        self, path: str, mode: WriteMode, *, atomic: bool = False, durable: bool = False
    ) -> LocalFile:
        if atomic and mode.can_be_atomic:
            return await self._open_atomic(path, mode, durable=durable)
        place = Place(self.root, path, durable=True) if durable else None
        fd = self.root.open(path, _WRITE[mode], 0o666 if mode.creates else 0)
        return LocalFile(fd, appends=mode is WriteMode.APPEND, place=place)

    async def _open_atomic(self, path: str, mode: WriteMode, *, durable: bool) -> LocalFile:
        """A new file, for ``path``. What could not be written there is not replaced either."""
        replaced = None
        try:
            if mode is WriteMode.CREATE:
                await self.lstat(path)
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            there = LocalFile(self.root.open(path, _WRITE[WriteMode.RESUME]))
            replaced = there.status
            await there.close()
        except FileNotFoundError:
            pass  # or the folder is missing, which is the next to be opened
        place = Place(self.root, path, durable=durable)
        return LocalFile(place.create(replaced, mode), place=place)

    async def mkdir(self, path: str) -> None:
        with contextlib.closing(self.mkdir_now(path)) as steps:
            for _ in steps:
                await asyncio.sleep(0)

    def mkdir_now(self, path: str) -> Generator[None, None, None]:
        """``mkdir`` for a thread; it yields where a loop should get its turn."""
        try:
            with self.root.parent(path) as parent:
                os.mkdir(parent.name, dir_fd=parent.fd)
        except FileNotFoundError:
            yield from self.root.make_folders(path)

    async def rmdir(self, path: str) -> None:
        with self.root.parent(path) as parent:
            try:
                os.rmdir(parent.name, dir_fd=parent.fd)
            except OSError as error:
                # listings do not show what a killed worker left: for the client it is empty
                if error.errno != errno.ENOTEMPTY or not remove_leftovers(self.root, path):
                    raise
                os.rmdir(parent.name, dir_fd=parent.fd)

    async def unlink(self, path: str) -> None:
        with self.root.parent(path) as parent:
            os.unlink(parent.name, dir_fd=parent.fd)

    async def rename(self, source: str, target: str, *, replace: bool) -> None:
        with self.root.parent(source) as old, self.root.parent(target) as new:
            if replace and not _is_folder(old):
                # the kernel itself refuses to put a file in a folder's place
                os.rename(old.name, new.name, src_dir_fd=old.fd, dst_dir_fd=new.fd)
            else:
                rename_noreplace(old, new)

    async def available(self, path: str) -> int | None:
        fd = self.root.open(path, os.O_PATH)
        try:
            status = os.fstatvfs(fd)
        finally:
            os.close(fd)
        return status.f_bavail * status.f_frsize

    async def set_modified(self, path: str, seconds: float) -> None:
        with self._named(path) as (name, status):
            os.utime(name, ns=(status.st_atime_ns, round(seconds * 1000) * 1_000_000))

    async def chmod(self, path: str, mode: int) -> None:
        with self._named(path) as (name, _):
            os.chmod(name, mode)

    @contextlib.contextmanager
    def _named(self, path: str) -> Generator[tuple[str, os.stat_result], None, None]:
        """A name, for calls that take one, of exactly what lies at ``path`` now."""
        fd = self.root.open(path, os.O_PATH)
        try:
            yield f"/proc/self/fd/{fd}", os.fstat(fd)
        finally:
            os.close(fd)

    async def symlink(self, target: str, path: str) -> None:
        # a relative text: an absolute one would lead out of the root, and be refused
        text = virtual.relative(target, virtual.parent(path))
        with self.root.parent(path) as parent:
            os.symlink(text.encode("utf-8", "surrogateescape"), parent.name, dir_fd=parent.fd)


def _is_folder(entry: Parent) -> bool:
    status = os.stat(entry.name, dir_fd=entry.fd, follow_symlinks=False)
    return stat.S_ISDIR(status.st_mode)


class LocalFiles:
    """Opens users' folders, and shares a folder's descriptor between the sessions that use it."""

    def __init__(self) -> None:
        self._roots: OrderedDict[str, Root] = OrderedDict()

    def open(self, base_path: str | os.PathLike[str]) -> LocalStorage:
        """Raises OSError where the folder is missing or may not be entered."""
        path = os.fspath(base_path)
        root = self._roots.get(path)
        if root is None or not _is_same(root, path):
            root = self._roots[path] = Root(path)
            if len(self._roots) > _ROOTS:
                self._roots.popitem(last=False)  # sessions that use it keep it open
        return LocalStorage(root)


def _is_same(root: Root, path: str) -> bool:
    """Whether the folder that was opened still is the one at that path."""
    status = os.stat(path)
    return root.identity == (status.st_dev, status.st_ino)
