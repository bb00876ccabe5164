"""Passive data connections: a pool of listeners per worker, and one accept from the right peer.

A listener that was made, polled and closed for each transfer would cost a third of a small one,
so listeners are kept. One goes back to the pool only after its one accept: an abandoned one is
closed, since a late client could still knock there. When a listener is handed out again, what
queued up meanwhile is thrown away, so nobody can have connected in advance.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import random
import socket
from collections import deque
from collections.abc import Callable, Iterable

from ftpcluster.net.poller import READ, Poller, Watcher
from ftpcluster.net.proxy import Introduction
from ftpcluster.net.stream import accept, expire
from ftpcluster.protocol.address import interface_of, is_ipv6, plain, socket_address
from ftpcluster.protocol.errors import NoAvailablePort, NoDataConnection
from ftpcluster.protocol.proxy import BadProxyHeader, Origin

log = logging.getLogger(__name__)

_BACKLOG = 64
_POOLED = 32
"""Listeners that are kept open per local address; below that number new ones are made first, so
that ports stay hard to guess."""
_WAIT_FOR_PORT = 2.0
"""Seconds that PASV waits for a port of the range when other sessions hold all of them."""
_COMPLAINT_INTERVAL = 60.0
"""Seconds between two lines that say that other programs hold all ports."""


def _drop(fd: int, _: str) -> None:
    os.close(fd)


class PassiveListener:
    """A listener on a data port, assigned to one session at a time."""

    __slots__ = ("_pool", "_watched_by", "host", "port", "sock")

    def __init__(self, pool: PassivePorts, host: str, sock: socket.socket) -> None:
        self._pool = pool
        self._watched_by: Poller | None = None
        self.host = host
        self.sock = sock
        self.port: int = sock.getsockname()[1]

    def drain(self) -> None:
        """Throw away connections that were made before the listener was assigned."""
        while True:
            try:
                os.close(accept(self.sock)[0])
            except BlockingIOError:
                return
            except ConnectionError:
                continue

    def accept(self, peer: str | None, on_other: Callable[[int, str], None] = _drop) -> int | None:
        """The descriptor of the connection that came from ``peer``, if it is there.

        ``on_other(fd, address)`` takes over who came from another address: as a rule such
        connections are closed.
        """
        while True:
            try:
                fd, address, _ = accept(self.sock)
            except BlockingIOError:
                return None
            except ConnectionError:
                continue  # it was reset while it queued
            if address == peer or plain(address) == peer:
                return fd
            on_other(fd, address)

    def watch(self, poller: Poller, watcher: Watcher) -> None:
        """Tell ``watcher`` of connections, until ``unwatch`` or the listener's end."""
        poller.add(self.sock.fileno(), READ, watcher)
        self._watched_by = poller

    def unwatch(self) -> None:
        """Harmless when repeated, also when the listener is closed: its number may be another's."""
        poller, self._watched_by = self._watched_by, None
        if poller is not None:
            poller.remove(self.sock.fileno())

    def give_back(self) -> None:
        """After the accept: the next session may have it."""
        self._pool.give_back(self)

    def abandon(self) -> None:
        """Nobody came, or nobody is wanted any more."""
        self._pool.abandon(self)


class PassivePorts:
    """The data ports of one worker (or of a single-process server).

    Without a ``loop`` it is the running one. ``ports`` is the range to use, None for any port that
    the kernel has free.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None, ports: Iterable[int] | None = None
    ) -> None:
        self._loop = loop
        self._idle: dict[str, list[PassiveListener]] = {}
        self._assigned: set[PassiveListener] = set()
        self._ports = None if ports is None else sorted(ports)
        self._unbound = None if self._ports is None else self._ports.copy()
        self._next_complaint = -math.inf
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    def qsize(self) -> int:
        """Ports of the range that no session holds."""
        return len(self._unbound or ()) + sum(map(len, self._idle.values()))

    async def acquire(self, host: str) -> PassiveListener:
        """A listener on the local address ``host``, which has no connection yet.

        Raises NoDataConnection (425) where other sessions hold every port of the range and none
        comes back in time, NoAvailablePort (421) where there is no port to be had at all.
        """
        listener = self._find(host)
        while listener is None:
            if not self._assigned:
                self._complain()
                raise NoAvailablePort
            await self._port_given_back()
            listener = self._find(host)
        self._assigned.add(listener)
        return listener

    def _complain(self) -> None:
        """Not for each client: what is wrong stays so until somebody does something about it."""
        now = (self._loop or asyncio.get_running_loop()).time()
        if now < self._next_complaint:
            return
        self._next_complaint = now + _COMPLAINT_INTERVAL
        if self._ports:
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
                self._wake_one()  # it was this one's turn: the port is for the next one
            raise
        finally:
            timer.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _find(self, host: str) -> PassiveListener | None:
        idle = self._idle.setdefault(host, [])
        if not idle or len(idle) + len(self._assigned) < _POOLED:
            made = self._bind(host)
            if made is not None:
                return made
        if not idle:
            return self._rebind(host)
        choice = random.randrange(len(idle))
        idle[choice], idle[-1] = idle[-1], idle[choice]
        listener = idle.pop()
        try:
            listener.drain()
        except OSError:
            self._close(listener)
            raise
        return listener

    def _bind(self, host: str) -> PassiveListener | None:
        """A new listener; None where no free port of the range can be bound."""
        if self._unbound is None:
            return PassiveListener(self, host, _listen(host, 0))
        untried = self._unbound.copy()
        while untried:
            port = untried.pop(random.randrange(len(untried)))
            try:
                sock = _listen(host, port)
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
        idle = self._idle[listener.host]
        if len(idle) < _POOLED and not self._is_closed:
            idle.append(listener)
        else:
            self._close(listener)
        self._wake_one()

    def abandon(self, listener: PassiveListener) -> None:
        if listener not in self._assigned:
            return
        self._assigned.discard(listener)
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
        listener.sock.close()
        if self._unbound is not None:
            self._unbound.append(listener.port)

    def open(self) -> None:
        """Keep listeners again, after ``close``."""
        self._is_closed = False

    def close(self) -> None:
        """Close every listener that no session holds; the others close with their session."""
        self._is_closed = True
        for idle in self._idle.values():
            while idle:
                self._close(idle.pop())


class _Arrival:
    """Waits at a listener for the right peer."""

    __slots__ = ("_listener", "_peer", "fd", "waiter")

    def __init__(self, listener: PassiveListener, peer: str, waiter: asyncio.Future[None]) -> None:
        self._listener = listener
        self._peer = peer
        self.waiter = waiter
        self.fd: int | None = None

    def on_ready(self, _: int) -> None:
        if self.fd is not None or self.waiter.done():
            return
        try:
            self.fd = self._accept()
        except OSError as error:  # no descriptor is left
            self.waiter.set_exception(error)
            return
        if self.fd is not None:
            self.waiter.set_result(None)

    def _accept(self) -> int | None:
        return self._listener.accept(self._peer)

    def end(self) -> None:
        """Nobody else is wanted."""


class _ProxiedArrival(_Arrival):
    """Waits for the right peer itself, and for the proxy that brings it.

    Who knows the port may connect through the proxy, too: each header is read by itself, so that
    none keeps the right one waiting, and the first that names the peer ends the wait.
    """

    __slots__ = ("_introductions", "_loop", "_poller", "_proxy")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        listener: PassiveListener,
        peer: str,
        proxy: str,
    ) -> None:
        super().__init__(listener, peer, loop.create_future())
        self._loop = loop
        self._poller = poller
        self._proxy = proxy
        self._introductions: set[Introduction] = set()

    def _accept(self) -> int | None:
        # a client on the proxy's machine may come through it, and then a header is in front
        directly = None if self._peer == self._proxy else self._peer
        return self._listener.accept(directly, self._on_other)

    def _on_other(self, fd: int, address: str) -> None:
        if plain(address) == self._proxy:
            introduction = Introduction(self._loop, self._poller, fd, self._on_origin)
            self._introductions.add(introduction)
        else:
            os.close(fd)

    def _on_origin(
        self, introduction: Introduction, origin: Origin | BadProxyHeader | None
    ) -> None:
        self._introductions.discard(introduction)
        if isinstance(origin, BadProxyHeader):
            log.warning("a data connection from the proxy %s was closed: %s", self._proxy, origin)
        else:
            source = self._proxy if origin is None else origin.address
            if source == self._peer and not self.waiter.done():
                self.fd = introduction.fd
                self.waiter.set_result(None)
                return
        os.close(introduction.fd)

    def end(self) -> None:
        for introduction in self._introductions:
            introduction.end()
            os.close(introduction.fd)
        self._introductions.clear()


async def await_data_connection(
    loop: asyncio.AbstractEventLoop,
    poller: Poller,
    listener: PassiveListener,
    peer: str,
    timeout: float | None,
    proxy: str | None = None,
) -> int:
    """Wait for the connection from ``peer``: its descriptor. An intruder does not end the wait.

    ``proxy`` may bring it: a connection from that address begins with a PROXY header, which is
    read off it. Raises NoDataConnection after ``timeout`` seconds; with None the caller bounds
    the wait.
    """
    if proxy is None:
        arrival = _Arrival(listener, peer, loop.create_future())
    else:
        arrival = _ProxiedArrival(loop, poller, listener, peer, proxy)
    timer = None
    if timeout is not None:
        error = NoDataConnection("No data connection was made.")
        timer = expire(loop, arrival.waiter, timeout, error)
    listener.watch(poller, arrival)
    try:
        await arrival.waiter
    except BaseException:
        if arrival.fd is not None:
            os.close(arrival.fd)
        raise
    finally:
        if timer is not None:
            timer.cancel()
        listener.unwatch()
        arrival.end()
    assert arrival.fd is not None
    return arrival.fd


def _listen(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if is_ipv6(host) else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(socket_address(host, port, interface_of(host)))
        sock.listen(_BACKLOG)
        sock.settimeout(0)
    except OSError:
        sock.close()
        raise
    return sock
