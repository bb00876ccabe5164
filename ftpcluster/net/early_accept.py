"""Passive listeners before their command: connections from other addresses are closed.

A plain data connection is accepted by the command that uses it. Until then anybody who knows the
port could fill the listener's queue. The client's own connection would then wait for a second, or
for ever. To watch each listener from 227 on would cost a small transfer too much. So a listener is
watched only after a moment, and its queue is long enough for that moment.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from ftpcluster.descriptors import close_quietly
from ftpcluster.native import NATIVE
from ftpcluster.net.poller import READ, Poller
from ftpcluster.protocol.address import plain

if NATIVE:
    from ftpcluster._native.sockets import accept_at_once
else:
    from ftpcluster.net.sockets import accept_at_once

_MOMENT = 0.05
"""Seconds. A listener is watched after one or two of them."""
_AT_ONCE = 64
"""Connections that are accepted before other sessions get their turn."""
_KEPT = 16
"""Connections from a proxy that are kept for the command. Anybody who knows the port may come
through the proxy, so the first one need not be the client's."""


Expected = tuple[str, str | None]
"""A client's address, and that of its proxy."""


class EarlyListener(Protocol):
    """A listener that was assigned to a session, and its connections that were accepted early."""

    sock: socket.socket
    assignment: int
    kept: list[tuple[int, str]]
    takes_any: bool

    def start_early_accept(self, poller: Poller, expected: Expected) -> None: ...

    def stop_early_accept(self) -> None: ...

    def refuse(self, address: str, peer: str) -> None: ...


class EarlyAcceptor:
    """Accepts at a listener until its command comes. The listener keeps the connections."""

    __slots__ = ("_expected", "_listener", "_poller")

    def __init__(self, listener: EarlyListener, poller: Poller, expected: Expected) -> None:
        self._listener = listener
        self._poller = poller
        self._expected = expected
        poller.add(listener.sock.fileno(), READ, self)

    def on_ready(self, _: int) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted = accept_at_once(self._listener.sock)
            except ConnectionError:
                continue  # it was reset while it queued
            except OSError:  # no descriptor is left: the command will say so
                self._listener.stop_early_accept()
                return
            if accepted is None:
                return
            fd, address = accepted
            if not self._is_expected(address):
                close_quietly(fd)
                self._listener.refuse(plain(address), self._expected[0])
                continue
            self._listener.kept.append((fd, address))
            if len(self._listener.kept) >= self._most:
                self._listener.stop_early_accept()
                return

    def _is_expected(self, address: str) -> bool:
        expected = self._expected
        return self._listener.takes_any or address in expected or plain(address) in expected

    @property
    def _most(self) -> int:
        return 1 if self._expected[1] is None else _KEPT

    def end(self) -> None:
        self._poller.remove(self._listener.sock.fileno())


class EarlyAcceptors:
    """Starts an early acceptor for each listener whose command does not come soon."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._newer: list[tuple[EarlyListener, int, Poller, Expected]] = []
        self._older = self._newer.copy()
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, listener: EarlyListener, poller: Poller, peer: str, proxy: str | None) -> None:
        """A listener has just been assigned. Only the client and its proxy may connect to it."""
        self._newer.append((listener, listener.assignment, poller, (peer, proxy)))
        if self._timer is None:
            self._wait()

    def _wait(self) -> None:
        loop = self._loop or asyncio.get_running_loop()
        self._timer = loop.call_later(_MOMENT, self._look)

    def _look(self) -> None:
        """Watch the listeners that were assigned before the last look, and still are."""
        waiting, self._older, self._newer = self._older, self._newer, []
        for listener, assignment, poller, expected in waiting:
            if listener.assignment == assignment:
                listener.start_early_accept(poller, expected)
        self._timer = None
        if self._older:
            self._wait()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._newer.clear()
        self._older.clear()
