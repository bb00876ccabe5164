"""Files that all processes append to: opened by the supervisor, handed to the workers.

A worker could not open them itself: by then root has been given up, and Landlock allows it no more
than what it serves. A reopened file takes the old one's number in every process, so that whoever
writes there, be it C code that writes down stacks, need not know.
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

# O_NONBLOCK, since opening a fifo that nobody reads would stop the whole server
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MODE = 0o640
_STDERR = 2


class LogFile:
    """A file that lines are appended to. Pickled for a process that is spawned it goes along."""

    def __init__(
        self, path: str, fd: int, *, is_new: bool = False, identity: Identity | None = None
    ) -> None:
        """Takes over ``fd``, which stays its number."""
        self.path = path
        self.fd = fd
        self._is_new = is_new
        self._identity = identity
        self._writer: LineWriter | None = None

    def append(self, line: bytes) -> None:
        """Write a line, now or as soon as it can be. The log says what was lost."""
        self.prepare().write(line)

    def prepare(self) -> LineWriter:
        """Find out how to write here, which a process that is confined could not any more."""
        if self._writer is None:
            self._writer = LineWriter(self.fd, _Told())
        return self._writer

    @classmethod
    def open(cls, path: str, identity: Identity | None = None) -> LogFile:
        """``identity``: the user that this process will run as. Raises OSError."""
        with acting_for(path, identity):
            try:
                fd = os.open(path, _FLAGS | os.O_EXCL, _MODE)
                return cls(path, fd, is_new=True, identity=identity)
            except FileExistsError:
                return cls(path, os.open(path, _FLAGS | _as_it_is(path), _MODE))

    def reopen(self) -> None:
        """Go on with what has the name now. Raises OSError; then nothing has changed."""
        with acting_for(self.path, None):
            self.replace(os.open(self.path, _FLAGS | _as_it_is(self.path), _MODE))

    def replace(self, fd: int) -> None:
        """Go on with ``fd``, which is taken over."""
        os.dup2(fd, self.fd, inheritable=self.fd <= _STDERR)
        os.close(fd)

    def become_stderr(self) -> None:
        """Let all that this process writes on stderr go here."""
        if self.fd != _STDERR:  # it is where the supervisor was started without one
            os.dup2(self.fd, _STDERR)
            os.close(self.fd)
            self.fd = _STDERR

    def give_to(self, uid: int, gid: int) -> None:
        """Let somebody else reopen it, if it was made by ``open``. Raises OSError."""
        if self._is_new:
            os.fchown(self.fd, uid, gid)

    def undo(self) -> None:
        """Nobody is going to write here: what ``open`` made is removed again."""
        if self._is_new and not os.fstat(self.fd).st_size:
            with acting_for(self.path, self._identity):
                os.unlink(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _inherited, (self.path, DupFd(self.fd))


class _Told(Losses):
    """Tells of it in the log of the process: in the other one programs want lines of its form."""

    def begin(self, why: str) -> None:
        log.error("the log of transfers cannot be written, and loses lines until it can: %s", why)

    def end(self, count: int, why: str) -> None:
        log.warning("the log of transfers is written again; lines that it has lost: %d", count)


def _as_it_is(path: str) -> int:
    """O_NOFOLLOW where the path is no link now, so that nobody can make it one meanwhile."""
    return 0 if os.path.islink(path) else os.O_NOFOLLOW


def try_to_open(path: str, identity: Identity | None = None) -> None:
    """Raises OSError where ``LogFile.open`` would; makes no file.

    Fifos are left alone: whoever reads one would take the end of this for the log's.
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
