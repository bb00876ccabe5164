"""What a session asks of a file system. Paths are virtual ones, in normal form.

A program that keeps files elsewhere, in an object store for instance, subclasses ``Storage`` and
``File``; docs/library.md has an example. Each method may be a plain function, where it never waits
for long, or a coroutine function. Errors are OSErrors: the session has one table from errno to
replies.

===============================  =====================================================
a storage that serves            has these methods, beside those of the lines above
===============================  =====================================================
CWD, SIZE, MDTM, MLST            ``stat``
LIST, NLST, MLSD                 ``scan``
RETR, HASH                       ``open_reader``
STOR, STOU, APPE, REST           ``open_writer``
MKD, RMD, DELE                   ``mkdir``, ``rmdir``, ``unlink``
RNFR, RNTO                       ``rename``
MFMT, SITE CHMOD, SITE SYMLINK   ``set_modified``, ``chmod``, ``symlink`` (``read_link``)
===============================  =====================================================

``stat`` and ``scan`` are needed. Each of the others refuses (EOPNOTSUPP) until it is overridden.
"""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from enum import Enum

from ftpcluster.answers import Answer


class WriteMode(Enum):
    """How an upload opens its file."""

    CREATE = "create"  # STOU: a file that did not exist

    TRUNCATE = "truncate"  # STOR: the file is what is uploaded, from File.truncate() on
    APPEND = "append"  # APPE: at the end, wherever that is when a byte arrives
    RESUME = "resume"  # REST before STOR or APPE: at an offset of a file that exists

    @property
    def creates(self) -> bool:
        return self is not WriteMode.RESUME

    @property
    def can_be_atomic(self) -> bool:
        """Whether it begins a file; the others go on with one, where it is."""
        return self in (WriteMode.CREATE, WriteMode.TRUNCATE)


Entry = tuple[str, os.stat_result, str | None]
"""One entry of a directory: its name, its status, and what a symbolic link says (else None)."""


Batches = Iterator[list[Entry]] | AsyncIterator[list[Entry]]
"""The entries of a directory, some at a time."""


COPY_REFUSED = frozenset((errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV))
"""How kernels and file systems refuse sendfile(2) and splice(2): the bytes may still be copied."""


class File(ABC):
    """An open regular file, at a position."""

    __slots__ = ()

    has_size = True
    """Whether reading gives as many bytes as ``size`` says, unless somebody changes the file."""
    kernel_fd: int | None = None
    """A descriptor, at the file's position, for the kernel to copy to or from a socket by itself.
    Without one all bytes go through ``read`` and ``write``."""
    is_synchronous = False
    """Whether all methods are plain functions, which any thread may call. What takes long, such as
    a digest, then runs in a thread."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes that it had when it was opened."""

    @abstractmethod
    def seek(self, offset: int) -> Answer[None]:
        """Read or write from ``offset`` on."""

    def truncate(self) -> Answer[None]:
        """Throw away the old content of a file that was opened with WriteMode.TRUNCATE.

        Sessions call it when the first data can come, so that a transfer that never begins leaves
        the file as it was.
        """
        raise _not_supported()

    def read(self, count: int) -> Answer[bytes]:
        """Up to ``count`` bytes; none at the end. A file from ``open_writer`` needs it not."""
        raise _not_supported()

    def write(self, data: bytes | memoryview) -> Answer[None]:
        """Write all of ``data``. Copy it to keep it: its buffer is used again.

        A file from ``open_reader`` needs neither this nor ``truncate``.
        """
        raise _not_supported()

    def is_resident(self, offset: int) -> bool:
        """Whether the bytes at ``offset`` are in memory, so that reading them does not block."""
        return True

    def refuse_kernel_copies(self) -> None:
        """The kernel cannot copy to or from this file: ``kernel_fd`` is None from now on."""
        raise NotImplementedError

    def look_at_name(self) -> None:  # noqa: B027
        """Called before more is written by way of ``kernel_fd``, which ``write`` does not see.

        A storage notes here whether the file still has its name, for ``finish``.
        """

    def is_exhausted(self, offset: int) -> bool:
        """Asked when reading has ended at ``offset``, before ``size`` bytes: is that all of it?

        True where ``size`` says nothing, as in /proc. False: the file was made shorter meanwhile,
        so the transfer has failed.
        """
        return False

    def read_ahead(self, offset: int, count: int) -> None:
        """Bring bytes that are not resident into memory. This blocks: a thread calls it."""
        raise NotImplementedError

    def finish(self) -> Answer[None]:
        """All has been written: make it durable and give it its name, as promised, and close it.

        After this the client hears 226. So it raises OSError or LocalProblem where that fails, or
        where what was written is not under the file's name: another program has removed it.
        """
        return self.close()

    @abstractmethod
    def close(self) -> Answer[None]:
        """Close it; what could not be stored is an OSError here. Harmless when repeated.

        Of an atomic upload that did not finish nothing is left.
        """


class OtherFileSystem(OSError):
    """A rename would have to copy, since it leads to another file system."""

    def __init__(self) -> None:
        super().__init__(errno.EXDEV, os.strerror(errno.EXDEV))


class Mover(ABC):
    """A file that is moved to another file system, in steps."""

    is_synchronous = True
    """Whether the steps are plain functions that block: a thread takes each."""

    @abstractmethod
    def begin(self) -> Answer[None]:
        """Raises OtherFileSystem where it is something that is not moved."""

    @abstractmethod
    def copy(self) -> Answer[int]:
        """Copy some more; the bytes that were copied, none at the end."""

    @abstractmethod
    def finish(self) -> Answer[None]:
        """All was copied: the file takes its new name, and loses the old one."""

    @abstractmethod
    def end(self) -> Answer[None]:
        """It is over, finished or not. What has not become a file is removed."""


class Storage(ABC):
    """A user's files."""

    needs_task = False
    """Whether its code may ask for the task that it runs in."""

    def opened(self) -> Answer[None]:
        """What a login waits for. Raises OSError where the files cannot be had."""
        return None

    def now(self) -> Storage:
        """The storage that the next command uses: this one, as a rule.

        Where it was found slow, it returns one that makes the same calls in threads.
        """
        return self

    def took_long(self, seconds: float) -> None:
        """A command that uses it kept the loop waiting for so long."""
        return

    @abstractmethod
    def stat(self, path: str) -> Answer[os.stat_result]:
        """The status of a file or directory; of what a link names, not of the link."""

    def lstat(self, path: str) -> Answer[os.stat_result]:
        """The status of a file or directory, or of the link itself, where there are links."""
        return self.stat(path)

    def read_link(self, path: str) -> Answer[str]:
        """The target of a symbolic link, as it is written there."""
        raise _not_supported()

    @abstractmethod
    def scan(self, path: str) -> Batches:
        """The entries of a directory in batches, in no order; links as such.

        An error that the directory has comes with the first batch.
        """

    def open_reader(self, path: str) -> Answer[File]:
        """Open a regular file for reading; anything else is an OSError."""
        raise _not_supported()

    def open_writer(
        self, path: str, mode: WriteMode, *, atomic: bool = False, durable: bool = False
    ) -> Answer[File]:
        """Open or create a regular file for writing.

        ``atomic``: a new file gets its name, and replaces another one of that name, only when it is
        finished. ``durable``: a file that is finished survives a crash of the machine.
        """
        raise _not_supported()

    def mkdir(self, path: str) -> Answer[None]:
        """Make a directory, and those above it that are missing."""
        raise _not_supported()

    def rmdir(self, path: str) -> Answer[None]:
        """Remove an empty directory."""
        raise _not_supported()

    def unlink(self, path: str) -> Answer[None]:
        """Remove a file or a link."""
        raise _not_supported()

    def rename(self, source: str, target: str, *, replace: bool) -> Answer[None]:
        """Move a file or directory. ``replace``: over a file, too, but never over a directory.

        Sessions do not look whether ``target`` lies beneath ``source``: OSError with EINVAL then.
        Raises OtherFileSystem where ``mover`` may know a way.
        """
        raise _not_supported()

    def mover(self, source: str, target: str, *, replace: bool) -> Mover | None:
        """What moves a file to another file system; None where nothing does."""
        return None

    def available(self, path: str) -> Answer[int | None]:
        """Bytes that may still be written in the directory ``path``; None where nobody knows."""
        return None

    def set_modified(self, path: str, seconds: float) -> Answer[None]:
        """Set when a file or directory was changed, in seconds since 1970 (UTC)."""
        raise _not_supported()

    def chmod(self, path: str, mode: int) -> Answer[None]:
        """Set the permission bits of a file or directory."""
        raise _not_supported()

    def symlink(self, target: str, path: str) -> Answer[None]:
        """Make a symbolic link at ``path`` that leads to the virtual path ``target``."""
        raise _not_supported()


def status_of(*, size: int = 0, modified: float = 0, is_directory: bool = False) -> os.stat_result:
    """A status for storages that have none from an operating system.

    ``size`` in bytes, ``modified`` in seconds since 1970 (UTC).
    """
    mode = stat.S_IFDIR | 0o755 if is_directory else stat.S_IFREG | 0o644
    return os.stat_result((mode, 0, 0, 1, 0, 0, size, *(int(modified),) * 3))


def _not_supported() -> OSError:
    return OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
