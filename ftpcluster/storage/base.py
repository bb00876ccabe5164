"""What a session asks of a file system. Paths are virtual ones, in normal form.

Errors are OSErrors (the session has one table from errno to replies). Every method is a coroutine
so that a layer may wait; the local one never does, but gives the loop turns in a long ``mkdir``.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from enum import Enum
from typing import Protocol


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
"""One entry of a folder: its name, its status, and what a symbolic link says (else None)."""


class File(Protocol):
    """An open regular file, at a position."""

    has_size: bool
    """Whether reading gives as many bytes as ``size`` says, unless somebody changes the file."""

    @property
    def size(self) -> int:
        """Bytes that it had when it was opened."""

    async def seek(self, offset: int) -> None:
        """Read or write from ``offset`` on."""

    async def truncate(self) -> None:
        """Throw away what the file had when it was opened to be truncated."""

    async def read(self, count: int) -> bytes:
        """Up to ``count`` bytes; none at the end."""

    async def write(self, data: bytes | memoryview) -> None:
        """All of ``data``."""

    async def finish(self) -> None:
        """All has been written: have the storage keep what it promised, and close the file.

        Raises OSError or LocalProblem where that fails, or where it is not in the file.
        """

    async def close(self) -> None:
        """Close it; what could not be stored is an OSError here. Harmless when repeated.

        Of an atomic upload that did not finish nothing is left.
        """


class Storage(ABC):
    """A user's files."""

    needs_task = False
    """Whether its code may ask for the task that it runs in."""

    @abstractmethod
    async def stat(self, path: str) -> os.stat_result:
        """The status of a file or folder; of what a link names, not of the link."""

    @abstractmethod
    async def lstat(self, path: str) -> os.stat_result:
        """The status of a file or folder, or of the link itself."""

    @abstractmethod
    async def read_link(self, path: str) -> str:
        """The target of a symbolic link, as it is written there."""

    @abstractmethod
    def scan(self, path: str) -> AsyncGenerator[list[Entry], None]:
        """The entries of a directory in batches, in no order; links as such."""

    @abstractmethod
    async def open_reader(self, path: str) -> File:
        """Open a regular file for reading; anything else is an OSError."""

    @abstractmethod
    async def open_writer(
        self, path: str, mode: WriteMode, *, atomic: bool = False, durable: bool = False
    ) -> File:
        """Open or create a regular file for writing.

        ``atomic``: a file that begins with this has its name, and replaces another one of that
        name, when it is finished. ``durable``: finished is what a crash of the machine leaves.
        """

    @abstractmethod
    async def mkdir(self, path: str) -> None:
        """Make a folder, and those above it that are missing."""

    @abstractmethod
    async def rmdir(self, path: str) -> None:
        """Remove an empty folder."""

    @abstractmethod
    async def unlink(self, path: str) -> None:
        """Remove a file or a link."""

    async def available(self, path: str) -> int | None:
        """Bytes that may still be written in the folder ``path``; None where nobody knows."""
        return None

    async def set_modified(self, path: str, seconds: float) -> None:
        """Set when a file or folder was changed, in seconds since 1970 (UTC)."""
        raise _not_supported()

    async def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits of a file or folder."""
        raise _not_supported()

    async def symlink(self, target: str, path: str) -> None:
        """Make a symbolic link at ``path`` that leads to the virtual path ``target``."""
        raise _not_supported()

    @abstractmethod
    async def rename(self, source: str, target: str, *, replace: bool) -> None:
        """Move a file or folder. ``replace``: a file at ``target`` gives way; a folder never."""


def _not_supported() -> OSError:
    return OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
