"""Moving a file to another file system, where rename(2) cannot: copy it, and remove the old one.

Under its new name it appears when it is whole and on the disk, and only then the old one goes: so
whatever ends this on its way, the file is there. Each step is a call that blocks, for a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from ftpcluster.protocol.errors import LocalProblem
from ftpcluster.storage.base import Mover, OtherFileSystem, WriteMode
from ftpcluster.storage.contained import Root
from ftpcluster.storage.uploads import UploadPlace

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BLOCK = 1 << 20
"""Bytes that are copied before somebody may end it."""


class LocalMover(Mover):
    """Moves a regular file or a symbolic link, as mv(1) does. Directories stay where they are."""

    def __init__(self, root: Root, source: str, target: str, *, replace: bool) -> None:
        self._root = root
        self._source = source
        self._target = target
        self._mode = WriteMode.TRUNCATE if replace else WriteMode.CREATE
        self._from = self._to = -1
        self._place: UploadPlace | None = None

    def begin(self) -> None:
        with self._root.parent(self._source) as old:
            self._status = status = os.stat(old.name, dir_fd=old.fd, follow_symlinks=False)
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                raise OtherFileSystem
            if not os.access(b".", os.W_OK | os.X_OK, dir_fd=old.fd, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._check_target()
            if stat.S_ISLNK(status.st_mode):
                self._open_place().create_link(os.readlink(old.name, dir_fd=old.fd), self._mode)
                return
            self._from = os.open(old.name, _READ, dir_fd=old.fd)
        self._status = os.fstat(self._from)
        if not stat.S_ISREG(self._status.st_mode):
            raise OtherFileSystem
        self._to = self._open_place().create(self._status, self._mode)

    def _check_target(self) -> None:
        """Refuse now what the last step would refuse: nothing is copied in vain."""
        with self._root.parent(self._target) as new:
            try:
                status = os.stat(new.name, dir_fd=new.fd, follow_symlinks=False)
            except FileNotFoundError:
                return
        if self._mode is WriteMode.CREATE or stat.S_ISDIR(status.st_mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _open_place(self) -> UploadPlace:
        try:
            self._place = UploadPlace(self._root, self._target, durable=True)
        except PermissionError:  # a directory that may not be read cannot be synchronized
            self._place = UploadPlace(self._root, self._target, durable=False)
        return self._place

    def copy(self) -> int:
        if self._from < 0:
            return 0
        block = os.read(self._from, _BLOCK)
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._to, rest) :]
        return len(block)

    def finish(self) -> None:
        assert self._place is not None
        self._check_unchanged()
        if self._to >= 0:
            _take_attributes(self._from, self._to)
            status = self._status
            os.utime(self._to, ns=(status.st_atime_ns, status.st_mtime_ns))
            self._place.unmark(self._to)
            os.fsync(self._to)
            fd, self._to = self._to, -1
            os.close(fd)  # before the name appears: NFS says only here what it has refused
        self._place.settle()
        try:
            with self._root.parent(self._source) as old:
                os.unlink(old.name, dir_fd=old.fd)
        except OSError:
            raise LocalProblem(
                "The file has its new name; its old one is there, too, and could not be removed."
            ) from None

    def _check_unchanged(self) -> None:
        """Raises LocalProblem where the file was written, or replaced, since it was copied."""
        with self._root.parent(self._source) as old:
            now = os.stat(old.name, dir_fd=old.fd, follow_symlinks=False)
        if _identity(now) != _identity(self._status):
            raise LocalProblem("The file was changed while it was moved: it is where it was.")

    def end(self) -> None:
        place, self._place = self._place, None
        fds, self._from, self._to = (self._from, self._to), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)
        if place is not None:
            place.close()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _take_attributes(source: int, target: int) -> None:
    """Extended attributes, access control lists among them, as far as the other has such."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))
