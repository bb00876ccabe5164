"""The files of ``[log]``: opened while that is permitted, and again after a rotation."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import sys
from collections.abc import Iterator

from ftpcluster.config import ConfigError, Log
from ftpcluster.daemon_calls import call_in_daemon
from ftpcluster.expiry import Expiry
from ftpcluster.logfile import LogFile
from ftpcluster.logs import log_to
from ftpcluster.privileges import Identity
from ftpcluster.safe_paths import UnsafePath
from ftpcluster.supervisor.supervisor import Supervisor

log = logging.getLogger(__name__)

_SILENCE = 5.0
"""Seconds after which the log says that a file does not open."""


def why_not(error: OSError) -> str:
    """Why a log cannot be opened, and what to do."""
    if isinstance(error, IsADirectoryError):
        return "is a directory; name a file in it"
    if isinstance(error, UnsafePath):
        return str(error)
    if error.errno == errno.ENXIO:
        return "is a FIFO that nobody reads; start its reader before"
    why = f"cannot be opened: {error.strerror}"
    return f"{why}; make its directory, and let the user who starts the server write there"


class LogFiles:
    """The log and the transfer log; None where there is none, or it is stderr."""

    def __init__(self, config: Log, identity: Identity | None = None) -> None:
        """``identity``: the user that will run the server. Raises ConfigError where one fails."""
        self.log = _open("log.file", config.file, identity)
        self.transfers = _open("log.transfers", config.transfers, identity)
        self._reopening: dict[LogFile, Expiry] = {}
        self._reopened: list[LogFile] = []
        self._again: set[LogFile] = set()  # renamed again while a thread opened them

    def log_as(self, config: Log) -> None:
        """Log the supervisor's messages."""
        fd = sys.stderr.fileno() if self.log is None else self.log.fd
        log_to(fd, "supervisor", config.level, config.format)

    def give_to(self, identity: Identity) -> None:
        """Give files that were made here to the user who will reopen them."""
        for _, file in self._all():
            try:
                file.give_to(identity.uid, identity.gid)
            except OSError as error:
                log.warning("%s cannot be given to %s: %s", file.path, identity.name, error)

    def undo(self) -> None:
        """The server does not start: leave no files behind that another user could not write."""
        for _, file in self._all():
            file.undo()

    def reopen(self, supervisor: Supervisor) -> None:
        """The files were renamed: go on with new ones, in all processes. A thread opens each of
        them: its file system may hang.
        """
        loop = asyncio.get_running_loop()
        for _, file in self._all():
            if file in self._reopening:
                self._again.add(file)
                continue
            reopened = functools.partial(self._on_reopened, supervisor, file)
            self._reopening[file] = Expiry.after(loop, _SILENCE, _tell_of_silence, file)
            call_in_daemon(loop, "log", file.reopen).add_done_callback(reopened)

    def _on_reopened(
        self, supervisor: Supervisor, file: LogFile, done: asyncio.Future[None]
    ) -> None:
        self._reopening.pop(file).cancel()
        error = done.exception()
        if error is None:
            supervisor.hand_out_log(file.fd, is_transfers=file is self.transfers)
            self._reopened.append(file)
        else:
            why = error.strerror if isinstance(error, OSError) else None
            log.error(
                "%s cannot be opened again, the old file goes on: %s; see to it that the "
                "server's user may write there, and send SIGUSR1 again",
                *(file.path, why or error),
            )
        if not self._reopening:
            self._tell_of_reopened()
        if file in self._again:
            self._again.discard(file)
            self.reopen(supervisor)

    def _tell_of_reopened(self) -> None:
        """Log that when all are open, so that the new log has it."""
        while self._reopened:
            log.info("%s was opened again", self._reopened.pop(0).path)

    def _all(self) -> Iterator[tuple[bool, LogFile]]:
        if self.log is not None:
            yield False, self.log
        if self.transfers is not None:
            yield True, self.transfers


def _tell_of_silence(file: LogFile) -> None:
    log.warning(
        "%s is not opened yet, its file system does not answer: the old file goes on", file.path
    )


def _open(key: str, path: str | None, identity: Identity | None) -> LogFile | None:
    if path is None:
        return None
    try:
        return LogFile.open(path, identity)
    except OSError as error:
        raise ConfigError(f"{key}: {path}: {why_not(error)}") from error
