"""Files that all processes append to: opened by the supervisor, handed to the workers.

A worker could not open them itself: root was given up before, and Landlock allows it only what it
serves. In every process a reopened file takes the number of the old descriptor. So no writer
notices, not even C code that writes stacks there.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from multiprocessing.reduction import DupFd
from typing import Any

from ftpcluster.linewriter import LineWriter, Losses
from ftpcluster.privileges import Identity
from ftpcluster.safe_paths import acting_for

log = logging.getLogger(__name__)

# O_NONBLOCK: opening a FIFO without a reader would block the whole server
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MODE = 0o640
_STDERR = 2


class LogFile:
    """A file to which lines are appended. Pickled, it takes its descriptor to a spawned process."""

    def __init__(
        self, path: str, fd: int, *, is_new: bool = False, identity: Identity | None = None
    ) -> None:
        """Takes over ``fd``, and keeps its number."""
        self.path = path
        self.fd = fd
        self._is_new = is_new
        self._identity = identity
        self._writer: LineWriter | None = None

    def append(self, line: bytes) -> None:
        """Write a line, at once or as soon as possible. The process's log tells of lost lines."""
        self.prepare().write(line)

    def prepare(self) -> LineWriter:
        """Find out how to write here. It reads /proc: to be called before Landlock closes that."""
        if self._writer is None:
            self._writer = LineWriter(self.fd, _LossesOfTransfers())
        return self._writer

    @classmethod
    def open(cls, path: str, identity: Identity | None = None) -> LogFile:
        """``identity``: the user as whom this process will run. Raises OSError."""
        with acting_for(path, identity):
            try:
                fd = os.open(path, _FLAGS | os.O_EXCL, _MODE)
                return cls(path, fd, is_new=True, identity=identity)
            except FileExistsError:
                return cls(path, os.open(path, _FLAGS | _no_follow_unless_link(path), _MODE))

    def reopen(self) -> None:
        """Go on with the file that has the path now. Raises OSError; then nothing has changed."""
        with acting_for(self.path, None):
            self.replace(os.open(self.path, _FLAGS | _no_follow_unless_link(self.path), _MODE))

    def replace(self, fd: int) -> None:
        """Go on with ``fd``, which is taken over, under the old number."""
        os.dup2(fd, self.fd, inheritable=self.fd <= _STDERR)
        os.close(fd)

    def become_stderr(self) -> None:
        """Send here all that this process writes to stderr."""
        if self.fd != _STDERR:  # it has that number where the supervisor was started without stderr
            os.dup2(self.fd, _STDERR)
            os.close(self.fd)
            self.fd = _STDERR

    def give_to(self, uid: int, gid: int) -> None:
        """If ``open`` has made the file, give it to a user, who may reopen it. Raises OSError."""
        if self._is_new:
            os.fchown(self.fd, uid, gid)

    def undo(self) -> None:
        """If ``open`` has made the file and it is empty, remove it: the server does not start."""
        if self._is_new and not os.fstat(self.fd).st_size:
            with acting_for(self.path, self._identity):
                os.unlink(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherited, (self.path, DupFd(self.fd))


class _LossesOfTransfers(Losses):
    """Tells of lost lines in the process's log: the log of transfers has a format for programs."""

    def begin(self, why: str) -> None:
        log.error("the log of transfers cannot be written, and loses lines until it can: %s", why)

    def end(self, count: int, why: str) -> None:
        log.warning("the log of transfers is written again; lines that it has lost: %d", count)


def _no_follow_unless_link(path: str) -> int:
    """O_NOFOLLOW, unless the path is a link now: nobody can make it one before it is opened."""
    return 0 if os.path.islink(path) else os.O_NOFOLLOW


def try_to_open(path: str, identity: Identity | None = None) -> None:
    """Raises OSError where ``LogFile.open`` would; makes no file.

    A FIFO is not opened: its reader would take the close for the end of the log.
    """
    with acting_for(path, identity):
        _try_to_open(path)


def _try_to_open(path: str) -> None:
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            os.close(os.open(path, _FLAGS & ~os.O_CREAT))
    except FileNotFoundError:
        directory = os.path.dirname(os.path.realpath(path))
        os.close(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path) from None


def _inherited(path: str, fd: Any) -> LogFile:
    return LogFile(path, fd.detach())
