"""Readiness of many descriptors: one epoll of our own, which the loop watches as one descriptor.

``loop.add_reader`` costs uvloop six calls of epoll_ctl and an object for each connection, and that
is most of what a short connection costs. Here it is one call to begin and one to end, and what is
ready comes in batches. It works the same on every loop that has ``add_reader``.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections import deque
from time import monotonic
from typing import Protocol

from ftpcluster.net.readiness import Readiness

log = logging.getLogger(__name__)

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
FAILURE = select.EPOLLERR
"""Asks for errors only. (Errors are reported to other watchers as well.)"""
BROKEN = select.EPOLLERR | select.EPOLLHUP
"""The events of a broken connection. A FIN of the peer alone is none of them."""

_ROUNDS = 8
"""Calls of epoll_wait(2) in one turn of the loop. Another call finds new events for a tenth of the
cost of another turn. The loop's other callbacks wait no longer than after one call for all these
events."""
_EVENTS_PER_ROUND = 16
_TURN = 0.002
"""Seconds after which a turn makes no further call: the loop has timers and messages. Also the
seconds for which a caller of ``turn`` may go on."""


class Watcher(Protocol):
    """Called when its descriptor is ready. That may have changed by then."""

    def on_ready(self, events: int) -> None:
        """``events``: READ and WRITE, or others where the connection failed."""


class Poller:
    """Tells watchers when their descriptors are ready, level-triggered."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._watchers: dict[int, Watcher] = {}
        self._ends = 0.0  # by the clock: the loop's time may stand still during a turn
        self._waiting: deque[Readiness] = deque()
        self._is_arranged = False
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def add(self, fd: int, events: int, watcher: Watcher) -> None:
        """Raises OSError where the kernel has no memory, or the user watches too much."""
        try:
            self._epoll.register(fd, events)
        except FileExistsError:  # it could not be removed
            self._epoll.modify(fd, events)
        self._watchers[fd] = watcher

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """To be called before ``fd`` is closed: a duplicate elsewhere would keep it ready.

        Harmless where ``fd`` is not watched.
        """
        if self._watchers.pop(fd, None) is not None:
            self._unregister(fd)

    def _unregister(self, fd: int) -> None:
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass  # it is tried again at the next event, or its close does it

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
        self._ends = monotonic() + _TURN
        try:
            if not waiter.done():  # else it was cancelled
                waiter.set_result(None)
        except Exception:
            log.exception("a connection's handler failed: this is a bug")

    def _on_ready(self) -> None:
        watchers = self._watchers
        self._ends = end = monotonic() + _TURN
        for _ in range(_ROUNDS):
            if self._epoll.closed or not (ready := self._epoll.poll(0, _EVENTS_PER_ROUND)):
                return
            for fd, events in ready:
                # an earlier watcher of this batch may have closed it
                if (watcher := watchers.get(fd)) is None:
                    self._unregister(fd)
                    continue
                try:
                    watcher.on_ready(events)
                except Exception:
                    # other watchers must go on; and this one would fail again at once, for ever
                    log.exception("a connection's handler failed: this is a bug")
                    if watchers.get(fd) is watcher:
                        self.remove(fd)
            if monotonic() >= end:
                return

    def close(self) -> None:
        """Stop watching; harmless when repeated."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
