"""The local file system: a user's directory, contained by ``Root``; copies by descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator

from ftpcluster.answers import Answer
from ftpcluster.descriptors import close_quietly
from ftpcluster.native import NATIVE
from ftpcluster.protocol import path as virtual
from ftpcluster.storage.base import Entry, OtherFileSystem, Storage, WriteMode
from ftpcluster.storage.beneath import examined
from ftpcluster.storage.contained import Parent, Root, rename_noreplace
from ftpcluster.storage.local_file import LocalFile
from ftpcluster.storage.moving import LocalMover
from ftpcluster.storage.rewriting import to_rewrite
from ftpcluster.storage.uploads import UploadPlace, remove_leftovers

if NATIVE:
    from ftpcluster._native.entries import entries_in
else:
    from ftpcluster.storage.scanning import entries_in

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


class LocalStorage(Storage):
    """A user's files in a directory of this machine."""

    def __init__(self, root: Root, on_long: Callable[[Root, float], None] | None = None) -> None:
        """``on_long`` is called where the loop had to wait for it."""
        self.root = root
        self._on_long = on_long

    def opened(self) -> Answer[None]:
        return None if self.root.substitute is None else self.root.substitute.opened()

    def now(self) -> Storage:
        return self.root.substitute or self

    def took_long(self, seconds: float) -> None:
        if self._on_long is not None:
            self._on_long(self.root, seconds)

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
            close_quietly(fd)

    def scan(self, path: str) -> Iterator[list[Entry]]:
        return self.scan_in_time(path, None)

    def scan_in_time(self, path: str, most: float | None) -> Iterator[list[Entry]]:
        """``scan``, whose batches take about ``most`` seconds at the most."""
        fd = self.root.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield from entries_in(fd, _BATCH, most)
        finally:
            close_quietly(fd)

    def open_reader(self, path: str) -> LocalFile:
        root = self.root
        return LocalFile(root.open_regular(root.fd, path, _READ, 0))

    def open_writer(
        self, path: str, mode: WriteMode, *, atomic: bool = False, durable: bool = False
    ) -> LocalFile:
        if atomic and mode.can_be_atomic:
            return self._open_atomic(path, mode, durable=durable)
        place = UploadPlace(self.root, path, durable=True) if durable else None
        try:
            return self._open_in_place(path, mode, place)
        except OSError:
            if place is not None:
                place.close()  # the error may keep it for long
            raise

    def _open_in_place(self, path: str, mode: WriteMode, place: UploadPlace | None) -> LocalFile:
        if mode is WriteMode.TRUNCATE:  # most are; to hash a mode takes longer
            flags, bits = _STORE, 0o666
        else:
            flags, bits = _WRITE[mode], 0o666 if mode.creates else 0
        try:
            opened = self.root.open_regular(self.root.fd, path, flags, bits)
        except OSError as error:
            if mode is not WriteMode.TRUNCATE:
                raise
            return to_rewrite(self.root, path, error, place)
        return LocalFile(opened, is_written=True, appends=mode is WriteMode.APPEND, place=place)

    def _open_atomic(self, path: str, mode: WriteMode, *, durable: bool) -> LocalFile:
        """A new file for ``path``. A file that could not be written there may not be replaced."""
        replaced = None
        try:
            if mode is WriteMode.CREATE:
                self.lstat(path)
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            replaced = self._status_of_writable(path)
        except FileNotFoundError:
            pass  # or the directory is missing, which is the next to be opened
        place = UploadPlace(self.root, path, durable=durable)
        try:
            return LocalFile(examined(place.create(replaced, mode)), is_written=True, place=place)
        except OSError:
            place.close()
            raise

    def _status_of_writable(self, path: str) -> os.stat_result:
        try:
            fd, *_ = self.root.open_regular(self.root.fd, path, _WRITE[WriteMode.RESUME], 0)
        except OSError as error:
            with contextlib.closing(to_rewrite(self.root, path, error)) as there:
                return os.fstat(there.fd)
        try:
            return os.fstat(fd)
        finally:
            close_quietly(fd)

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
            try:
                if replace and not _is_directory(old):
                    # the kernel itself refuses to put a file in a directory's place
                    os.rename(old.name, new.name, src_dir_fd=old.fd, dst_dir_fd=new.fd)
                else:
                    rename_noreplace(old, new)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    raise OtherFileSystem from None
                raise

    def mover(self, source: str, target: str, *, replace: bool) -> LocalMover:
        return LocalMover(self.root, source, target, replace=replace)

    def available(self, path: str) -> int | None:
        fd = self.root.open(path, os.O_PATH)
        try:
            status = os.fstatvfs(fd)
        finally:
            close_quietly(fd)
        return status.f_bavail * status.f_frsize

    def set_modified(self, path: str, seconds: float) -> None:
        with self._named(path) as (name, status):
            os.utime(name, ns=(status.st_atime_ns, round(seconds * 1000) * 1_000_000))

    def chmod(self, path: str, mode: int) -> None:
        with self._named(path) as (name, _):
            os.chmod(name, mode)

    @contextlib.contextmanager
    def _named(self, path: str) -> Generator[tuple[str, os.stat_result], None, None]:
        """A name of exactly what lies at ``path`` now, for calls that take no descriptor."""
        fd = self.root.open(path, os.O_PATH)
        try:
            yield f"/proc/self/fd/{fd}", os.fstat(fd)
        finally:
            close_quietly(fd)

    def symlink(self, target: str, path: str) -> None:
        # a relative text: an absolute one would lead out of the root, and be refused
        text = virtual.relative(target, virtual.parent(path))
        with self.root.parent(path) as parent:
            os.symlink(text.encode("utf-8", "surrogateescape"), parent.name, dir_fd=parent.fd)


def _is_directory(entry: Parent) -> bool:
    status = os.stat(entry.name, dir_fd=entry.fd, follow_symlinks=False)
    return stat.S_ISDIR(status.st_mode)
