"""The local file system: a user's directory, contained by ``Root``; copies by descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import stat
import time
from collections.abc import Generator, Iterator

from ftpcluster.answers import Answer
from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import LocalProblem
from ftpcluster.storage.base import Entry, File, Storage, WriteMode
from ftpcluster.storage.contained import Parent, Root, rename_noreplace
from ftpcluster.storage.uploads import UploadPlace, remove_leftovers

_BATCH = 512
"""Entries of a directory that are read before the loop gets its turn again: about a millisecond."""
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_WRITE = {
    WriteMode.CREATE: os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOCTTY,
    WriteMode.TRUNCATE: os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY,
    WriteMode.APPEND: os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY,
    WriteMode.RESUME: os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY,
}
_STORE = _WRITE[WriteMode.TRUNCATE]

_one_byte = bytearray(1)
_cannot_tell: set[int] = set()
"""Devices whose file systems cannot say what they have in memory, as tmpfs, which has all."""
_cannot_copy: set[tuple[int, bool]] = set()
"""Devices whose files the kernel does not copy from (False) or to (True) by itself."""


class LocalFile(File):
    """An open regular file. ``position`` is where ``read`` is; ``write`` has the descriptor's."""

    __slots__ = (
        "_had_name",
        "_is_written",
        "_place",
        "fd",
        "kernel_fd",
        "position",
        "size",
        "status",
    )
    is_synchronous = True
    size: int

    def __init__(
        self,
        fd: int,
        *,
        is_written: bool = False,
        appends: bool = False,
        place: UploadPlace | None = None,
    ) -> None:
        """Takes over ``fd``; anything but a regular file is closed again and refused (ENXIO).

        ``place``: of an upload that is durable or atomic.
        """
        self.fd = fd
        self._is_written = is_written
        self._had_name = True
        self._place = place
        try:
            self.status = status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.ENXIO
                raise OSError(code, os.strerror(code))
        except OSError:
            self.fd = -1
            os.close(fd)
            raise
        # splice(2) refuses files opened with O_APPEND
        is_refused = appends or (status.st_dev, is_written) in _cannot_copy
        self.kernel_fd = None if is_refused else fd
        self.size = status.st_size
        self.position = 0

    def seek(self, offset: int) -> None:
        os.lseek(self.fd, offset, os.SEEK_SET)
        self.position = offset

    def truncate(self) -> None:
        if self.size:
            os.ftruncate(self.fd, 0)

    def read(self, count: int) -> bytes:
        data = os.pread(self.fd, count, self.position)
        self.position += len(data)
        return data

    def write(self, data: bytes | memoryview) -> None:
        """Write all of ``data`` at the descriptor's own position, which splice shares."""
        if not data:
            return
        self.look_at_name()
        written = os.write(self.fd, data)
        while written < len(data):
            written += os.write(self.fd, memoryview(data)[written:])

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

    def refuse_kernel_copies(self) -> None:
        self.kernel_fd = None
        _cannot_copy.add((self.status.st_dev, self._is_written))

    def look_at_name(self) -> None:
        """See whether the file still has a name, before its last byte is there.

        Who removes a file that is whole means that one; who removes it before would hear that an
        upload has succeeded of which nothing is left. Some file systems never count names.
        """
        self._had_name = os.fstat(self.fd).st_nlink > 0 or not self.status.st_nlink

    def is_exhausted(self, offset: int) -> bool:
        """Files of sysfs say that they have a page. Nothing is kept of them on a disk."""
        status = os.fstat(self.fd)
        return status.st_size == self.size and not status.st_blocks

    def read_ahead(self, offset: int, count: int) -> None:
        """Bring a part of the file into memory; blocks, so it is for a thread."""
        os.pread(self.fd, count, offset)

    def finish(self) -> None:
        """A durable upload waits for the disk here, so a thread has to call this."""
        place = self._place
        if place is not None:
            place.unmark(self.fd)
            place.sync_file(self.fd)
        if not self._had_name:
            raise LocalProblem("The file was removed while it was stored.")
        self._close_descriptor()  # before the name appears: NFS says only here what it has refused
        if place is not None:
            place.settle()

    def close(self) -> None:
        if self._place is None:
            self._close_descriptor()
            return
        place, self._place = self._place, None
        try:
            self._close_descriptor()
        finally:
            place.close()

    def _close_descriptor(self) -> None:
        fd, self.fd, self.kernel_fd = self.fd, -1, None
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # one that a thread opened for a command that had been aborted meanwhile
        if self.fd >= 0:
            os.close(self.fd)


class LocalStorage(Storage):
    """A user's files in a directory of this machine."""

    def __init__(self, root: Root) -> None:
        self.root = root

    def stat(self, path: str) -> os.stat_result:
        status = self.lstat(path)
        return self._followed(path) if stat.S_ISLNK(status.st_mode) else status

    def lstat(self, path: str) -> os.stat_result:
        with self.root.parent(path) as parent:
            return os.stat(parent.name, dir_fd=parent.fd, follow_symlinks=False)

    def read_link(self, path: str) -> str:
        with self.root.parent(path) as parent:
            return os.fsdecode(os.readlink(parent.name, dir_fd=parent.fd))

    def _followed(self, path: str) -> os.stat_result:
        fd = self.root.open(path, os.O_PATH)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def scan(self, path: str) -> Iterator[list[Entry]]:
        return self.scan_in_time(path, None)

    def scan_in_time(self, path: str, most: float | None) -> Iterator[list[Entry]]:
        """``scan``, whose batches take about ``most`` seconds at the most."""
        due = math.inf if most is None else time.monotonic() + most
        fd = self.root.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as entries:
                batch: list[Entry] = []
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                        is_link = stat.S_ISLNK(status.st_mode)
                        target = os.readlink(entry.name, dir_fd=fd) if is_link else None
                    except OSError:
                        continue  # removed meanwhile
                    batch.append((entry.name, status, target))
                    if len(batch) == _BATCH or (most is not None and time.monotonic() > due):
                        yield batch
                        batch = []
                        due = math.inf if most is None else time.monotonic() + most
                if batch:
                    yield batch
        finally:
            os.close(fd)

    def open_reader(self, path: str) -> LocalFile:
        return LocalFile(self.root.open(path, _READ))

    def open_writer(
        self, path: str, mode: WriteMode, *, atomic: bool = False, durable: bool = False
    ) -> LocalFile:
        if atomic and mode.can_be_atomic:
            return self._open_atomic(path, mode, durable=durable)
        place = UploadPlace(self.root, path, durable=True) if durable else None
        if mode is WriteMode.TRUNCATE:  # most are; to hash a mode takes longer
            flags, bits = _STORE, 0o666
        else:
            flags, bits = _WRITE[mode], 0o666 if mode.creates else 0
        fd = self.root.open(path, flags, bits)
        return LocalFile(fd, is_written=True, appends=mode is WriteMode.APPEND, place=place)

    def _open_atomic(self, path: str, mode: WriteMode, *, durable: bool) -> LocalFile:
        """A new file, for ``path``. What could not be written there is not replaced either."""
        replaced = None
        try:
            if mode is WriteMode.CREATE:
                self.lstat(path)
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            there = LocalFile(self.root.open(path, _WRITE[WriteMode.RESUME]))
            replaced = there.status
            there.close()
        except FileNotFoundError:
            pass  # or the directory is missing, which is the next to be opened
        place = UploadPlace(self.root, path, durable=durable)
        return LocalFile(place.create(replaced, mode), is_written=True, place=place)

    def mkdir(self, path: str) -> Answer[None]:
        return None if self._make_one(path) else self._make_missing(path)

    def mkdir_in_thread(self, path: str) -> None:
        """``mkdir`` for a thread, which no loop waits for."""
        if not self._make_one(path):
            for _ in self.root.make_directories(path):
                pass

    def _make_one(self, path: str) -> bool:
        """Make a directory; False where those above it are missing."""
        try:
            with self.root.parent(path) as parent:
                os.mkdir(parent.name, dir_fd=parent.fd)
        except FileNotFoundError:
            return False
        return True

    async def _make_missing(self, path: str) -> None:
        with contextlib.closing(self.root.make_directories(path)) as steps:
            for _ in steps:
                await asyncio.sleep(0)  # other sessions have their turn

    def rmdir(self, path: str) -> None:
        with self.root.parent(path) as parent:
            try:
                os.rmdir(parent.name, dir_fd=parent.fd)
            except OSError as error:
                # listings do not show what a killed worker left: for the client it is empty
                if error.errno != errno.ENOTEMPTY or not remove_leftovers(self.root, path):
                    raise
                os.rmdir(parent.name, dir_fd=parent.fd)

    def unlink(self, path: str) -> None:
        with self.root.parent(path) as parent:
            os.unlink(parent.name, dir_fd=parent.fd)

    def rename(self, source: str, target: str, *, replace: bool) -> None:
        with self.root.parent(source) as old, self.root.parent(target) as new:
            if replace and not _is_directory(old):
                # the kernel itself refuses to put a file in a directory's place
                os.rename(old.name, new.name, src_dir_fd=old.fd, dst_dir_fd=new.fd)
            else:
                rename_noreplace(old, new)

    def available(self, path: str) -> int | None:
        fd = self.root.open(path, os.O_PATH)
        try:
            status = os.fstatvfs(fd)
        finally:
            os.close(fd)
        return status.f_bavail * status.f_frsize

    def set_modified(self, path: str, seconds: float) -> None:
        with self._named(path) as (name, status):
            os.utime(name, ns=(status.st_atime_ns, round(seconds * 1000) * 1_000_000))

    def chmod(self, path: str, mode: int) -> None:
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

    def symlink(self, target: str, path: str) -> None:
        # a relative text: an absolute one would lead out of the root, and be refused
        text = virtual.relative(target, virtual.parent(path))
        with self.root.parent(path) as parent:
            os.symlink(text.encode("utf-8", "surrogateescape"), parent.name, dir_fd=parent.fd)


def _is_directory(entry: Parent) -> bool:
    status = os.stat(entry.name, dir_fd=entry.fd, follow_symlinks=False)
    return stat.S_ISDIR(status.st_mode)


def is_same(root: Root, path: str) -> bool:
    """Whether the directory that was opened still is the one at that path."""
    status = os.stat(path)
    return root.identity == (status.st_dev, status.st_ino)
