"""Passive data connections: a pool of listeners per worker, and one accept from the right peer.

To make, poll and close a listener for each transfer would cost a third of a small transfer, so
listeners are kept. A listener goes back to the pool only after its one accept. An abandoned
listener is closed, since a late client could still connect to it. When a listener is assigned
again, the connections in its queue are closed, so nobody can have connected in advance.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import random
import socket
from collections import deque
from collections.abc import Callable, Iterable

from ftpcluster.descriptors import close_quietly
from ftpcluster.expiry import expire
from ftpcluster.native import NATIVE
from ftpcluster.net.early_accept import EarlyAcceptor, EarlyAcceptors, Expected
from ftpcluster.net.listeners import set_keepalive
from ftpcluster.net.poller import READ, Poller, Watcher
from ftpcluster.net.refused import RefusedConnections
from ftpcluster.protocol.address import interface_of, is_ipv6, plain, socket_address
from ftpcluster.protocol.errors import NoAvailablePort, NoDataConnection

if NATIVE:
    from ftpcluster._native.sockets import accept_at_once, is_queued
else:
    from ftpcluster.net.sockets import accept_at_once, is_queued

log = logging.getLogger(__name__)

_BACKLOG = 512
"""Connections that may queue before the early acceptor starts. Any address could hold the memory
of a longer queue."""
_DRAINED = 64
"""Connections that are thrown away one by one. A listener with more of them is closed instead."""
_POOLED = 32
"""Listeners that are kept open per local address; below that number new ones are made first, so
that ports stay hard to guess."""
_WAIT_FOR_PORT = 2.0
"""Seconds that PASV waits for a port of the range when other sessions hold all of them."""
_COMPLAINT_INTERVAL = 60.0
"""Seconds between two lines that say that other programs hold all ports."""


class PassiveListener:
    """A listener on a data port, assigned to one session at a time."""

    __slots__ = (
        "_early_acceptor",
        "_pool",
        "_watched_by",
        "assignment",
        "host",
        "kept",
        "port",
        "refused_address",
        "sock",
        "takes_any",
    )

    def __init__(self, pool: PassivePorts, host: str, sock: socket.socket) -> None:
        self._pool = pool
        self._watched_by: Poller | None = None
        self._early_acceptor: EarlyAcceptor | None = None
        self.kept: list[tuple[int, str]] = []
        """Connections that the early acceptor has accepted, each with its address."""
        self.assignment = 0
        """A new number for each session that the listener is assigned to."""
        self.refused_address: str | None = None
        """The last other address from which a connection came to the session."""
        self.takes_any = False
        """Whether the session's connection may come from any address."""
        self.host = host
        self.sock = sock
        self.port: int = sock.getsockname()[1]

    def drain(self) -> bool:
        """Throw away connections that were made before the listener was assigned.

        False: there are too many of them.
        """
        for _ in range(_DRAINED):
            try:
                accepted = accept_at_once(self.sock)
            except ConnectionError:
                continue
            if accepted is None:
                return True
            close_quietly(accepted[0])
        return False

    def accept(self, peer: str, on_other: Callable[[int, str], None] | None = None) -> int | None:
        """The descriptor, with SOCK_NONBLOCK, of the connection that came from ``peer``, if it is
        there.

        ``on_other(fd, address)`` takes over all connections that have come. Without it, those from
        other addresses are closed, unless ``takes_any``.
        """
        if self._early_acceptor is not None:
            self.stop_early_accept()
        while True:
            try:
                accepted = self.kept.pop(0) if self.kept else accept_at_once(self.sock)
            except ConnectionError:
                continue  # it was reset while it queued
            if accepted is None:
                return None
            fd, address = accepted
            if on_other is not None:
                on_other(fd, address)
            elif address == peer or self.takes_any or plain(address) == peer:
                return fd
            else:
                close_quietly(fd)
                self.refuse(plain(address), peer)

    def refuse(self, address: str, peer: str) -> None:
        """A connection from another address was closed: note it for the log, and for a 425."""
        self.refused_address = address
        self._pool.refused.add(f"{address}, where a client at {peer} was expected")

    def nobody_came(self) -> NoDataConnection:
        """The error for a session whose data connection has not come."""
        if self.refused_address is None:
            return NoDataConnection("No data connection was made.")
        return NoDataConnection(
            "No data connection was made from your address; one from another address was refused."
        )

    def start_early_accept(self, poller: Poller, expected: Expected) -> None:
        """Accept early from the expected addresses, unless the command has come meanwhile."""
        if self._watched_by is None and self._early_acceptor is None:
            try:
                self._early_acceptor = EarlyAcceptor(self, poller, expected)
            except OSError:
                pass  # it cannot be watched: connections wait in the queue for the command

    def stop_early_accept(self) -> None:
        """Leave the listener to the command. Harmless where nothing accepts early."""
        early_acceptor, self._early_acceptor = self._early_acceptor, None
        if early_acceptor is not None:
            early_acceptor.end()

    def forget(self) -> None:
        """The session gives the listener up: close what was kept for it."""
        self.assignment += 1
        self.refused_address, self.takes_any = None, False
        if self._early_acceptor is not None:
            self.stop_early_accept()
        while self.kept:
            close_quietly(self.kept.pop()[0])

    def watch(self, poller: Poller, watcher: Watcher) -> None:
        """Tell ``watcher`` of connections, until ``unwatch`` or the listener's end."""
        self.stop_early_accept()
        poller.add(self.sock.fileno(), READ, watcher)
        self._watched_by = poller

    def unwatch(self) -> None:
        """Harmless when repeated, also after a close, when the descriptor may be another file's."""
        poller, self._watched_by = self._watched_by, None
        if poller is not None:
            poller.remove(self.sock.fileno())

    def give_back(self) -> None:
        """After the accept: the next session may have it."""
        self._pool.give_back(self)

    def abandon(self) -> None:
        """Close the listener: no connection came, or none is wanted any more."""
        self._pool.abandon(self)


class PassivePorts:
    """The data ports of one worker (or of a single-process server).

    Without a ``loop`` it is the running one. ``ports`` is the range to use, None for any port that
    the kernel has free. ``keepalive``: what connections inherit, see ``set_keepalive``.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None,
        ports: Iterable[int] | None = None,
        keepalive: float | None = None,
    ) -> None:
        self._loop = loop
        self._keepalive = keepalive
        self._idle: dict[str, list[PassiveListener]] = {}
        self._assigned: set[PassiveListener] = set()
        self._ports = None if ports is None else sorted(ports)
        self._unbound = None if self._ports is None else self._ports.copy()
        self._next_complaint = -math.inf
        self.early_acceptors = EarlyAcceptors(loop)
        self.refused = RefusedConnections(loop, _log_refused)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_contended = False
        self._is_closed = False

    def qsize(self) -> int:
        """Ports of the range that no session holds."""
        return len(self._unbound or ()) + sum(map(len, self._idle.values()))

    def acquire_at_once(self, host: str) -> PassiveListener | None:
        """``acquire`` where no port has to be waited for; None where one has to."""
        listener = self._find(host)
        if listener is not None:
            self._assigned.add(listener)
        return listener

    def set_contended(self, contended: bool) -> None:  # noqa: FBT001
        """Whether sessions of this server in other processes may hold the ports of the range."""
        self._is_contended = contended
        while not contended and self._waiting:
            self._wake_one()

    async def acquire(self, host: str) -> PassiveListener:
        """A listener on the local address ``host``, which has no connection yet.

        Raises NoDataConnection (425) where other sessions hold every port of the range and none
        comes back in time, NoAvailablePort (421) where there is no port to be had at all.
        """
        while (listener := self.acquire_at_once(host)) is None:
            if not self._assigned:
                self._complain()
                if not (self._is_contended and self._ports):
                    raise NoAvailablePort
            await self._port_given_back()
        return listener

    def _complain(self) -> None:
        """Log that no port is left; once in a while, since the cause lasts until a person acts."""
        now = (self._loop or asyncio.get_running_loop()).time()
        if now < self._next_complaint:
            return
        self._next_complaint = now + _COMPLAINT_INTERVAL
        if self._ports and self._is_contended:
            log.warning(
                "sessions of workers that were replaced hold all data ports that this process has "
                "(%d, of %d-%d), or other programs do: clients that ask for one get 425 until "
                "those sessions end (timeouts.drain)",
                len(self._ports), self._ports[0], self._ports[-1],
            )  # fmt: skip
        elif self._ports:
            log.warning(
                "other programs hold all data ports that this process has (%d, of %d-%d), so "
                "sessions that ask for one end with 421: end those programs, or configure other "
                "data ports", len(self._ports), self._ports[0], self._ports[-1],
            )  # fmt: skip
        else:
            log.warning("the range of data ports is empty, so sessions that ask for one end")

    async def _port_given_back(self) -> None:
        loop = self._loop or asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        error = NoDataConnection("All data ports are in use; try again later.")
        timer = expire(loop, waiter, _WAIT_FOR_PORT, error)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # the port came to this one: the next one may have it
            raise
        finally:
            timer.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _find(self, host: str) -> PassiveListener | None:
        idle = self._idle.get(host)
        if idle is None:
            idle = self._idle[host] = []
        if not idle or len(idle) + len(self._assigned) < _POOLED:
            made = self._bind(host)
            if made is not None:
                return made
        if not idle:
            return self._rebind(host)
        choice = int(random.random() * len(idle))
        idle[choice], idle[-1] = idle[-1], idle[choice]
        listener = idle.pop()
        try:
            if not is_queued(listener.sock) or listener.drain():
                return listener
        except OSError:
            self._close(listener)
            raise
        self._close(listener)
        return self._find(host)

    def _bind(self, host: str) -> PassiveListener | None:
        """A new listener; None where no free port of the range can be bound."""
        if self._unbound is None:
            return PassiveListener(self, host, _listen(host, 0, self._keepalive))
        untried = self._unbound.copy()
        while untried:
            port = untried.pop(random.randrange(len(untried)))
            try:
                sock = _listen(host, port, self._keepalive)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    continue  # somebody else has it
                raise
            self._unbound.remove(port)
            return PassiveListener(self, host, sock)
        return None

    def _rebind(self, host: str) -> PassiveListener | None:
        """Take a port of the range from another local address, where one lies idle there."""
        for other in self._idle.values():
            if other:
                self._close(other.pop())
                return self._bind(host)
        return None

    def give_back(self, listener: PassiveListener) -> None:
        if listener not in self._assigned:
            return
        self._assigned.discard(listener)
        listener.forget()
        idle = self._idle[listener.host]
        if len(idle) < _POOLED and not self._is_closed:
            idle.append(listener)
        else:
            self._close(listener)
        if self._waiting:
            self._wake_one()

    def abandon(self, listener: PassiveListener) -> None:
        if listener not in self._assigned:
            return
        self._assigned.discard(listener)
        listener.forget()
        self._close(listener)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _close(self, listener: PassiveListener) -> None:
        listener.unwatch()
        close_quietly(listener.sock.detach())
        if self._unbound is not None:
            self._unbound.append(listener.port)

    def open(self) -> None:
        """Keep listeners again, after ``close``."""
        self._is_closed = False

    def close(self) -> None:
        """Close every listener that no session holds; the others close with their session."""
        self._is_closed = True
        self.early_acceptors.close()
        self.refused.close()
        for idle in self._idle.values():
            while idle:
                self._close(idle.pop())


def _log_refused(number: str, last: str) -> None:
    log.info("refused %s to data ports from other addresses, the last one of %s", number, last)


def _listen(host: str, port: int, keepalive: float | None) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if is_ipv6(host) else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        set_keepalive(sock, keepalive)
        sock.bind(socket_address(host, port, interface_of(host)))
        sock.listen(_BACKLOG)
        sock.settimeout(0)
    except OSError:
        sock.close()
        raise
    return sock
