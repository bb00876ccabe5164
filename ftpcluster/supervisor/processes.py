"""The processes that have not ended, and the handling of those that SIGKILL does not end.

A process dies only when its system call returns. Where storage hangs (a FUSE file system, a hard
NFS mount) that call may never return. The supervisor does not wait for such a process. It gives the
process up, and reaps it if it ends after all. If the supervisor ends first, init reaps it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable

from ftpcluster.expiry import Expiry
from ftpcluster.supervisor.process import ProcessLike

log = logging.getLogger(__name__)

_TIME_TO_DIE = 1.0
"""Seconds after SIGKILL. A process that is then in an uninterruptible system call stays there."""
_LONGEST_DEATH = 10.0
"""Seconds after SIGKILL: a process with much memory on a busy machine needs some of them."""


class Processes:
    """The processes whose end the server waits for."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_given_up: Callable[[ProcessLike], None],
        on_fewer: Callable[[], None],
    ) -> None:
        """``on_given_up(process)`` is called when SIGKILL has not ended it, ``on_fewer()`` when a
        process has ended or was given up."""
        self._loop = loop
        self._on_given_up = on_given_up
        self._on_fewer = on_fewer
        self._awaited: set[ProcessLike] = set()
        self._killed: set[ProcessLike] = set()
        self.given_up: set[ProcessLike] = set()
        """The processes that SIGKILL has not ended, and that have not ended since."""

    def __bool__(self) -> bool:
        return bool(self._awaited)

    def add(self, process: ProcessLike) -> None:
        """Wait for a process that has been started."""
        self._awaited.add(process)
        process.on_exit(functools.partial(self._on_exit, process))

    def kill(self, process: ProcessLike) -> None:
        """Send SIGKILL, and give the process up if that does not end it in time."""
        if process not in self._awaited:
            return
        process.kill()
        if process not in self._killed:
            self._killed.add(process)
            until = self._loop.time() + _LONGEST_DEATH
            Expiry.after(self._loop, _TIME_TO_DIE, self._look_whether_it_dies, process, until)

    def kill_all(self) -> None:
        for process in tuple(self._awaited):
            self.kill(process)

    def _look_whether_it_dies(self, process: ProcessLike, until: float) -> None:
        if process not in self._awaited:
            return
        if not process.is_stuck and self._loop.time() < until:
            Expiry.after(self._loop, _TIME_TO_DIE, self._look_whether_it_dies, process, until)
            return
        log.error(
            "pid %s cannot be killed: it is in a system call that does not return, probably of "
            "storage that hangs; nobody waits for it, and its connections are ended",
            process.pid,
        )
        self._forget(process)
        self.given_up.add(process)
        process.leave()
        self._on_given_up(process)
        self._on_fewer()

    def _on_exit(self, process: ProcessLike) -> None:
        if process not in self._awaited:
            log.info("pid %s, which could not be killed, has ended", process.pid)
            self.given_up.discard(process)
        self._forget(process)
        self._on_fewer()

    def _forget(self, process: ProcessLike) -> None:
        self._awaited.discard(process)
        self._killed.discard(process)
