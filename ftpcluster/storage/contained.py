"""Opening files beneath a directory, and nowhere else, whatever links and renames go on meanwhile.

``openat2(2)`` with RESOLVE_BENEATH lets the kernel hold the bounds while it walks the path, so
there is no moment between a check and a use. Where a seccomp filter refuses the call, each
component is opened by itself without following links: then links are refused altogether.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import weakref
from collections.abc import Generator

from ftpcluster.descriptors import close_quietly
from ftpcluster.native import NATIVE
from ftpcluster.storage.base import Storage
from ftpcluster.storage.beneath import Opened

if NATIVE:
    from ftpcluster._native.beneath import encode, examined, open_regular, openat2
else:
    from ftpcluster.storage.beneath import encode, examined, open_regular, openat2

_SYS_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "ppc64le": 357, "s390x": 347}
_RENAME_NOREPLACE = 1
_O_PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DIRECTORIES = 4
"""Directories that are made before others get their turn: each takes 20 to 200 µs on ext4."""

_syscall = ctypes.CDLL(None, use_errno=True).syscall


def _walk(directory: int, path: bytes, flags: int, mode: int) -> int:
    """openat2's stand-in: component by component, refusing links."""
    *names, last = path.split(b"/")
    here = directory
    try:
        for name in names:
            following = os.open(name, _O_PATH_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            if here != directory:
                close_quietly(here)
            here = following
        fd = os.open(last, flags | os.O_NOFOLLOW, mode, dir_fd=here)
    finally:
        if here != directory:
            close_quietly(here)
    if flags & os.O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode):
        close_quietly(fd)  # O_PATH opens the link itself
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return fd


def _walk_to_regular(directory: int, path: str, flags: int, mode: int) -> Opened:
    return examined(_walk(directory, encode(path), flags | os.O_CLOEXEC, mode))


class Root:
    """An open directory; all that it opens lies beneath it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises OSError where ``path`` is not a directory that may be entered."""
        self.path = os.fspath(path)
        self.substitute: Storage | None = None
        """Found slow, what is beneath is used by way of this for a while."""
        self.fd = os.open(self.path, _O_PATH_DIRECTORY)
        self._close = weakref.finalize(self, os.close, self.fd)
        status = os.fstat(self.fd)
        self.identity = (status.st_dev, status.st_ino)
        self._open, self.open_regular = (
            (openat2, open_regular) if has_openat2(self.fd) else (_walk, _walk_to_regular)
        )

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """A file descriptor of what the virtual path names."""
        return self._open(self.fd, encode(path), flags | os.O_CLOEXEC, mode)

    def parent(self, path: str) -> Parent:
        """The directory that holds ``path``, opened, for calls that take a directory and a name."""
        directory, _, last = encode(path).rpartition(b"/")
        if not directory:
            return Parent(self.fd, last, owned=False)
        return Parent(self._open(self.fd, directory, _O_PATH_DIRECTORY, 0), last, owned=True)

    def make_directories(self, path: str) -> Generator[None, None, None]:
        """Make the directory that the virtual path names, and those above it that are missing.

        Each is made in the one above, by its descriptor: to begin at the root each time would take
        time that grows with the square of the depth. No link is followed on the way down, so what
        is put in a new directory's place meanwhile leads nowhere. Yields now and then.
        """
        *above, last = encode(path).split(b"/")
        found, here = yield from self._deepest(above)
        try:
            for count, name in enumerate(above[found:], 1):
                if count % _DIRECTORIES == 0:
                    yield
                try:
                    os.mkdir(name, dir_fd=here)
                except FileExistsError:
                    pass  # somebody else was faster
                made = os.open(name, _O_PATH_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                close_quietly(here)
                here = made
            os.mkdir(last, dir_fd=here)
        finally:
            close_quietly(here)

    def _deepest(self, directories: list[bytes]) -> Generator[None, None, tuple[int, int]]:
        """How many of ``directories``, each in the one before, are there; the last one's
        descriptor.

        They are found by halving: few looks at long paths, each from the root, since a link may
        lead from one of them to anywhere beneath it.
        """
        found, missing = 0, len(directories) + 1
        here = self._open(self.fd, b".", _O_PATH_DIRECTORY, 0)
        try:
            while missing - found > 1:
                middle = (found + missing) // 2
                if middle > _DIRECTORIES:
                    yield
                try:
                    there = self._open(
                        self.fd, b"/".join(directories[:middle]), _O_PATH_DIRECTORY, 0
                    )
                except FileNotFoundError:
                    missing = middle
                else:
                    close_quietly(here)
                    here, found = there, middle
        except BaseException:
            close_quietly(here)
            raise
        return found, here

    def close(self) -> None:
        self._close()


class Parent:
    """A directory's descriptor and the name of an entry in it; closes what it opened."""

    __slots__ = ("_owned", "fd", "name")

    def __init__(self, fd: int, name: bytes, *, owned: bool) -> None:
        self.fd = fd
        self.name = name
        self._owned = owned

    def __enter__(self) -> Parent:
        return self

    def __exit__(self, *_: object) -> None:
        if self._owned:
            close_quietly(self.fd)


def has_openat2(directory: int) -> bool:
    """Whether this kernel, and this process's seccomp filter, let openat2 through."""
    try:
        close_quietly(openat2(directory, b".", _O_PATH_DIRECTORY, 0))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return False
        raise
    return True


def rename_noreplace(source: Parent, target: Parent) -> None:
    """Rename unless the target exists (EEXIST), decided by the kernel in one step."""
    number = _SYS_RENAMEAT2.get(os.uname().machine)
    if number is not None:
        result = _syscall(number, source.fd, source.name, target.fd, target.name, _RENAME_NOREPLACE)
        if result == 0:
            return
        error = ctypes.get_errno()
        if error not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(error, os.strerror(error))
    # A file system or kernel without RENAME_NOREPLACE: the best that is left is a look before.
    try:
        os.stat(target.name, dir_fd=target.fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source.name, target.name, src_dir_fd=source.fd, dst_dir_fd=target.fd)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
