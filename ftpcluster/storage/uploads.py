"""Where an upload goes that is more than written: one that is durable, or atomic, or both.

An atomic upload is a new file beside the one that it is going to be, with a name of its own, until
it is whole and takes the other's. For as long as somebody writes it, it is locked (flock): so what
a killed worker has left has such a name, no lock any more, and the sticky bit, which an upload
loses before it is whole. For files that bit means nothing to Linux, no client can set it, and files
that were stored otherwise do not have it: so no other file is ever removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable
from typing import ParamSpec

from ftpcluster.descriptors import close_quietly
from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import FileNameNotAllowed, LocalProblem
from ftpcluster.protocol.pattern import Names, Pattern
from ftpcluster.storage.base import WriteMode
from ftpcluster.storage.beneath import encode
from ftpcluster.storage.contained import Parent, Root, rename_noreplace

P = ParamSpec("P")

TEMPORARY = ".*.~ftpcluster-????????~"
"""What the names of unfinished uploads look like, as a pattern."""
_LONGEST = 255 - len(TEMPORARY.replace("*", ""))
"""Bytes of the final name that fit into the temporary one, which has a random part anyway."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PERMISSION_BITS = 0o777
_REFUSED = frozenset((errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL))
"""How file systems without owners and modes, as CIFS or FUSE, refuse to change them."""
_UNFINISHED = stat.S_ISVTX

_temporary = Pattern(TEMPORARY)
_reserved = Names((TEMPORARY,))


def check_new_name(path: str) -> None:
    """Raises FileNameNotAllowed for names that unfinished uploads have, and for ``~``.

    Also where uploads are not atomic now: when they are, no listing shows such a name. And ``~``
    would mean the user's home no more.
    """
    if "~" in path and (_reserved.are_in(path) or path.endswith("/~")):
        raise FileNameNotAllowed


def temporary_name(name: str) -> str:
    """A name for what is going to be ``name``."""
    begin = name.encode("utf-8", "surrogateescape")[:_LONGEST].decode("utf-8", "surrogateescape")
    return f".{begin}.~ftpcluster-{secrets.token_hex(4)}~"


class UploadPlace:
    """The open directory of an upload, the final name of the upload, and its temporary one."""

    __slots__ = ("_directory", "_is_durable", "_mode", "_name", "_temporary")

    def __init__(self, root: Root, path: str, *, durable: bool) -> None:
        """Raises OSError where there is no such directory, or, if durable, it may not be read."""
        self._directory = -1
        self._is_durable = durable
        self._mode = WriteMode.TRUNCATE
        self._name = virtual.name(path)
        self._temporary: str | None = None
        access = os.O_RDONLY if durable else os.O_PATH  # fsync refuses the latter
        self._directory = root.open(virtual.parent(path), access | os.O_DIRECTORY)

    def create(self, replaced: os.stat_result | None, mode: WriteMode) -> int:
        """Create the file under its temporary name: its descriptor.

        ``replaced``: the file whose owner, group and permission bits it takes, as far as it may.
        """
        self._mode = mode
        fd = self._create(0o666 if replaced is None else 0o600)
        try:
            if replaced is None or _take_over(fd, replaced):
                return fd
        except OSError:
            close_quietly(fd)
            raise
        # what cannot be changed later may be obeyed when the file is made
        close_quietly(fd)
        assert self._temporary is not None
        os.unlink(encode(self._temporary), dir_fd=self._directory)
        return self._create(stat.S_IMODE(replaced.st_mode) & _PERMISSION_BITS)

    def _create(self, bits: int) -> int:
        self._temporary = None
        name = temporary_name(self._name)
        fd = os.open(encode(name), _NEW, bits | _UNFINISHED, dir_fd=self._directory)
        try:
            self._temporary = name
            _lock(fd)
        except OSError:
            close_quietly(fd)
            raise
        return fd

    def create_link(self, text: bytes, mode: WriteMode) -> None:
        """Make a symbolic link under a temporary name."""
        self._mode = mode
        name = temporary_name(self._name)
        os.symlink(text, encode(name), dir_fd=self._directory)
        self._temporary = name

    def unmark(self, fd: int) -> None:
        """All is written: take the sticky bit away, so that the file is never taken for a leftover.

        Some file systems have no such bit, and on some nobody may change it. There it stays, which
        does no harm: the file gets another name.
        """
        if self._temporary is None:
            return
        mode = os.fstat(fd).st_mode
        if mode & _UNFINISHED:
            _try(os.fchmod, fd, stat.S_IMODE(mode) & ~_UNFINISHED)

    def sync_file(self, fd: int) -> None:
        """Wait until the disk has all that was written, if that was promised."""
        if self._is_durable:
            os.fsync(fd)

    def settle(self) -> None:
        """The upload is whole: it takes its name, and where it is durable the disk has that, too.

        Raises OSError, or LocalProblem where somebody has removed it.
        """
        if self._temporary is not None:
            try:
                self._take_name(self._temporary)
            except FileNotFoundError:
                raise LocalProblem("The file was removed while it was stored.") from None
            self._temporary = None
        if self._is_durable:
            os.fsync(self._directory)

    def _take_name(self, temporary: str) -> None:
        old = Parent(self._directory, encode(temporary), owned=False)
        new = Parent(self._directory, encode(self._name), owned=False)
        if self._mode is WriteMode.CREATE:
            rename_noreplace(old, new)
        else:
            os.rename(old.name, new.name, src_dir_fd=old.fd, dst_dir_fd=new.fd)

    def close(self) -> None:
        """Remove what has not become a file; harmless when repeated."""
        directory, self._directory = self._directory, -1
        if directory < 0:
            return
        try:
            if self._temporary is not None:
                os.unlink(encode(self._temporary), dir_fd=directory)
        except FileNotFoundError:
            pass  # somebody was faster, with the whole directory for instance
        finally:
            close_quietly(directory)

    def __del__(self) -> None:
        # of an upload that could not be opened, or that a thread opened for one that was aborted
        self.close()


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pass  # a file system without locks: there nobody can take it for a leftover, either


def _take_over(fd: int, replaced: os.stat_result) -> bool:
    """Give a file the owner, group and mode of another one, as far as the server may.

    False where the file system refuses the mode, though the file is ours.
    """
    made = os.fstat(fd)
    if (made.st_uid, made.st_gid) != (replaced.st_uid, replaced.st_gid):
        # only root gives files away; a group of one's own may be set
        _ = _try(os.fchown, fd, replaced.st_uid, replaced.st_gid) or _try(
            os.fchown, fd, -1, replaced.st_gid
        )
    bits = stat.S_IMODE(replaced.st_mode) & _PERMISSION_BITS
    return _try(os.fchmod, fd, bits | _UNFINISHED)


def _try(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
    """Whether a file system let owner or mode be changed."""
    try:
        function(*args, **kwargs)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


# ---------------------------------------------------------------------- what killed workers left


def remove_leftovers(root: Root, path: str) -> bool:
    """Remove unfinished uploads that nobody writes; whether the directory had nothing else."""
    directory = root.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if not _temporary.matches(entry.name):
                    return False
                found.append(entry.name)
        return all(_remove_leftover(directory, name) for name in found)
    finally:
        close_quietly(directory)


def _remove_leftover(directory: int, name: str) -> bool:
    fd = os.open(name, _OLD, dir_fd=directory)
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) and mode & _UNFINISHED):
            return False  # a client or an administrator has stored it
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)
    except BlockingIOError:
        return False  # it is being written
    finally:
        close_quietly(fd)
    return True
