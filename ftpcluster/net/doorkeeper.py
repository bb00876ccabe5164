"""Listeners whose command does not come at once: strangers are turned away meanwhile.

A plain data connection is accepted by the command that uses it. Until then whoever knows the port
could fill the listener's queue, and the client's own connection would wait for a second, or for
ever. To watch each listener from 227 on would cost a small transfer more than that is worth: so
only those are watched that have waited for a moment, and the queue has room for that long.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from ftpcluster.net.poller import READ, Poller
from ftpcluster.net.stream import accept
from ftpcluster.protocol.address import plain

if TYPE_CHECKING:
    from ftpcluster.net.passive import PassiveListener

_MOMENT = 0.05
"""Seconds; a listener is watched after one or two of these."""
_AT_ONCE = 64
"""Connections that are looked at before others get their turn."""
_KEPT = 16
"""Connections of those who may come that are kept for the command. A proxy may bring more than
one, since whoever knows the port may come through it."""


class Doorkeeper:
    """Accepts at a listener until its command comes. What is kept is the listener's."""

    __slots__ = ("_expected", "_listener", "_poller")

    def __init__(
        self, listener: PassiveListener, poller: Poller, expected: tuple[str | None, ...]
    ) -> None:
        self._listener = listener
        self._poller = poller
        self._expected = expected
        poller.add(listener.sock.fileno(), READ, self)

    def on_ready(self, _: int) -> None:
        for _ in range(_AT_ONCE):
            try:
                fd, address, _ = accept(self._listener.sock)
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # it was reset while it queued
            except OSError:  # no descriptor is left: the command will say so
                self._listener.dismiss_doorkeeper()
                return
            if address not in self._expected and plain(address) not in self._expected:
                os.close(fd)
                continue
            self._listener.kept.append((fd, address))
            if len(self._listener.kept) >= self._most:
                self._listener.dismiss_doorkeeper()
                return

    @property
    def _most(self) -> int:
        return 1 if self._expected[1] is None else _KEPT

    def end(self) -> None:
        self._poller.remove(self._listener.sock.fileno())


class Doorkeepers:
    """Gives each listener one that needs one."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._newer: list[tuple[PassiveListener, int, Poller, tuple[str | None, ...]]] = []
        self._older = self._newer.copy()
        self._timer: asyncio.TimerHandle | None = None

    def expect(
        self, listener: PassiveListener, poller: Poller, peer: str, proxy: str | None
    ) -> None:
        """Only these may come to a listener, which has just been assigned."""
        self._newer.append((listener, listener.assignment, poller, (peer, proxy)))
        if self._timer is None:
            self._wait()

    def _wait(self) -> None:
        loop = self._loop or asyncio.get_running_loop()
        self._timer = loop.call_later(_MOMENT, self._look)

    def _look(self) -> None:
        """What was here a moment ago, and still is, is watched."""
        waiting, self._older, self._newer = self._older, self._newer, []
        for listener, assignment, poller, expected in waiting:
            if listener.assignment == assignment:
                listener.begin_watch(poller, expected)
        self._timer = None
        if self._older:
            self._wait()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._newer.clear()
        self._older.clear()
