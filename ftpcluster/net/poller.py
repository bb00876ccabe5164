"""Readiness of many descriptors: one epoll of our own, which the loop watches as one descriptor.

``loop.add_reader`` costs uvloop six calls of epoll_ctl and an object for each connection, and that
is most of what a short connection costs. Here it is one call to begin and one to end, and what is
ready comes in batches. It works the same on every loop that has ``add_reader``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from ftpcluster.native import NATIVE
from ftpcluster.net.readiness import Readiness
from ftpcluster.net.watching import BROKEN, FAILURE, READ, TURN, WRITE, Watcher, log_failure

if TYPE_CHECKING or not NATIVE:
    from ftpcluster.net.watching import Watching
else:
    from ftpcluster._native.watching import Watching

__all__ = ("BROKEN", "FAILURE", "READ", "WRITE", "Poller", "Watcher")


class Poller(Watching):
    """Tells watchers when their descriptors are ready, level-triggered."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._waiting: deque[Readiness] = deque()
        self._is_arranged = False

    @property
    def is_late(self) -> bool:
        """Whether this turn of the loop has lasted long enough: long work waits for ``turn``.

        Else a few transfers, or a hundred handshakes, would keep all other sessions waiting.
        """
        return monotonic() >= self._ends

    def turn(self) -> Readiness:
        """Done when the caller may go on for some time. Each turn of the loop lets one waiting
        caller go on, so that short work is done in between."""
        waiter = Readiness(self._loop)
        self._waiting.append(waiter)
        self._arrange_turn()
        return waiter

    def _arrange_turn(self) -> None:
        if not self._is_arranged:
            self._is_arranged = True
            self._loop.call_soon(self._let_one_go_on)

    def _let_one_go_on(self) -> None:
        self._is_arranged = False
        waiter = self._waiting.popleft()
        if self._waiting:
            self._arrange_turn()
        self._ends = monotonic() + TURN
        try:
            if not waiter.done():  # else it was cancelled
                waiter.set_result(None)
        except Exception:
            log_failure()
