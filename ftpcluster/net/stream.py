"""One non-blocking stream, for control and data connections alike.

It is a raw descriptor, as sendfile and splice need, without the cost of a socket object. Reading
and writing never block and never buffer: after BlockingIOError the caller awaits ``readable()`` or
``writable()``. A descriptor stays watched between two waits, since most waits are followed by
another one; when it becomes ready and nobody waits, the watch ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import termios
from collections.abc import Callable

from ftpcluster.descriptors import close_quietly
from ftpcluster.net.poller import BROKEN, FAILURE, READ, WRITE, Poller
from ftpcluster.net.readiness import Readiness
from ftpcluster.protocol.address import with_interface

LATE = 0.25
"""Seconds: a timer that comes so late was held up by a call that kept the process."""
TURN = 0.002
"""Seconds until a timer that lets the loop look at its connections before. Libuv's clock counts
milliseconds."""


class Stream:
    """A connected stream socket."""

    __slots__ = (
        "_events",
        "_loop",
        "_on_broken",
        "_on_readable",
        "_poller",
        "_read_waiter",
        "_write_waiter",
        "fd",
    )

    is_plain = True
    """Whether bytes travel as they are, so that the kernel may copy them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, poller: Poller, fd: int) -> None:
        """Takes over ``fd``, a connected socket, also when it fails."""
        try:
            os.set_blocking(fd, False)
        except OSError:
            close_quietly(fd)
            raise
        self._loop = loop
        self._poller = poller
        self.fd = fd
        self._events = 0
        self._on_readable: Callable[[], None] | None = None
        self._on_broken: Callable[[], None] | None = None
        self._read_waiter: Readiness | None = None
        self._write_waiter: Readiness | None = None

    @property
    def closed(self) -> bool:
        return self.fd < 0

    def local_address(self) -> tuple[str, int]:
        """Address and port at this end; a link-local address with its interface."""
        sock = socket.socket(fileno=self.fd)
        try:
            host, port, *ipv6 = sock.getsockname()
        finally:
            sock.detach()
        return with_interface(host, ipv6[1] if ipv6 else 0), port

    # ------------------------------------------------------------------ input and output

    def recv(self, count: int) -> bytes:
        """Up to ``count`` bytes; none at the end of the stream."""
        return os.read(self.fd, count)

    def recv_into(self, buffer: memoryview) -> int:
        return os.readv(self.fd, (buffer,))

    def send(self, data: bytes | memoryview) -> int:
        """Send what the socket takes; returns how much that was."""
        return os.write(self.fd, data)

    def send_last(self, data: bytes) -> int:
        """``send`` right before ``close``: data and FIN leave in one segment.

        Where input is unread, ``close`` resets the connection, and the data are lost.
        """
        # family and kind are given, or Python would look them up; sending needs neither
        sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, self.fd)
        try:
            return sock.send(data, socket.MSG_MORE)
        finally:
            sock.detach()

    def end_output(self) -> None:
        """Send FIN: no more data will come. Raises OSError where the peer is gone."""
        sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, self.fd)
        try:
            sock.shutdown(socket.SHUT_WR)
        finally:
            sock.detach()

    def has_input(self) -> bool:
        """Whether something has arrived that was not read yet; True where that is unknown."""
        try:
            waiting = fcntl.ioctl(self.fd, termios.FIONREAD, b"\0\0\0\0")
        except OSError:
            return True
        return any(waiting)

    def unacknowledged(self) -> int:
        """Bytes that were sent and that the peer has not acknowledged; 0 where that is unknown."""
        if self.fd < 0:
            return 0
        try:
            left = fcntl.ioctl(self.fd, termios.TIOCOUTQ, b"\0\0\0\0")
        except OSError:
            return 0
        return int.from_bytes(left, sys.byteorder)

    # ------------------------------------------------------------------ waiting

    @property
    def is_watched(self) -> bool:
        return self._on_readable is not None

    def watch(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever there is something to read, until ``unwatch``."""
        if self._on_broken is not None:
            self.unwatch_for_break()
        self._on_readable = callback
        self._want(READ)

    def unwatch(self) -> None:
        self._on_readable = None
        self._unwant(READ)

    def watch_for_break(self, callback: Callable[[], None]) -> None:
        """Read no more; call ``callback`` once, as soon as the connection is reset.

        Without this a reset would be noticed only when something is sent.
        """
        self._on_broken = callback
        self._want(FAILURE)
        self.unwatch()

    def unwatch_for_break(self) -> None:
        self._on_broken = None
        self._unwant(FAILURE)

    def readable(self) -> Readiness:
        """Done when there is something to read, or the peer is gone."""
        waiter = self._read_waiter = Readiness(self._loop)
        self._want(READ)
        return waiter

    def writable(self) -> Readiness:
        """Done when the socket takes something again, or the peer is gone."""
        waiter = self._write_waiter = Readiness(self._loop)
        self._want(WRITE)
        return waiter

    def on_ready(self, events: int) -> None:
        """Called by the poller."""
        if events == READ and self._on_readable is not None:  # as most are
            self._on_readable()
            return
        if events & BROKEN and self._events & FAILURE:
            on_broken = self._on_broken
            self.unwatch_for_break()
            if on_broken is not None:
                on_broken()
        if events & ~WRITE and self._events & READ:
            if self._on_readable is not None:
                self._on_readable()
            else:
                waiter, self._read_waiter = self._read_waiter, None
                self._wake(waiter, READ)
        if events & ~READ and self._events & WRITE:
            waiter, self._write_waiter = self._write_waiter, None
            self._wake(waiter, WRITE)

    def _wake(self, waiter: Readiness | None, event: int) -> None:
        if waiter is None or waiter.done():
            self._unwant(event)
        else:
            waiter.set_result(None)

    def _want(self, event: int) -> None:
        if not self._events & event:
            if self._events:
                self._poller.modify(self.fd, self._events | event)
            else:
                self._poller.add(self.fd, event, self)
            self._events |= event

    def _unwant(self, event: int) -> None:
        if not self._events & event:
            return
        left = self._events & ~event
        if left:
            try:
                self._poller.modify(self.fd, left)
            except OSError:
                return  # it stays watched: tried again when it is ready
        else:
            self._poller.remove(self.fd)
        self._events = left

    # ------------------------------------------------------------------ the end

    def stop_watching(self) -> None:
        """Call nothing back any more; ``close`` follows. Waits stay pending until then."""
        if self._events:
            self._events = 0
            self._poller.remove(self.fd)
        self._on_readable = self._on_broken = None

    def close(self) -> None:
        """Close the connection; harmless when repeated. Waits are cancelled."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        if self._events:
            self._events = 0
            self._poller.remove(fd)
        self._close_descriptor(fd)
        self._on_readable = self._on_broken = None
        for waiter in (self._read_waiter, self._write_waiter):
            if waiter is not None:
                waiter.cancel()

    def _close_descriptor(self, fd: int) -> None:
        close_quietly(fd)

    def release(self) -> int:
        """Stop watching; the descriptor is the caller's from now on."""
        fd, self.fd = self.fd, -1
        if self._events:
            self._events = 0
            self._poller.remove(fd)
        self._on_readable = self._on_broken = None
        return fd


def accept(listener: socket.socket) -> tuple[int, str, int]:
    """Accept a connection: its descriptor, and the peer's address and port.

    ``socket.accept()`` would look up family, type and name for an object that nobody needs.
    """
    fd, address = listener._accept()  # type: ignore[attr-defined]
    return fd, address[0], address[1]


def expire(
    loop: asyncio.AbstractEventLoop,
    waiter: asyncio.Future[None],
    seconds: float,
    error: Exception,
) -> asyncio.TimerHandle:
    """Fail ``waiter`` with ``error`` after some seconds, unless it is done or the timer cancelled.

    Unlike ``asyncio.timeout`` this needs no task, so that a command that never waits needs none.
    """
    return loop.call_later(seconds, _expire, loop, loop.time() + seconds, waiter, error)


def _expire(
    loop: asyncio.AbstractEventLoop, due: float, waiter: asyncio.Future[None], error: Exception
) -> None:
    """Fail at once; or, if a call has kept the process meanwhile, after a turn of the loop: libuv
    runs timers before it looks at the connections that have come."""
    if loop.time() - due > LATE:
        loop.call_later(TURN, _fail, waiter, error)
    else:
        _fail(waiter, error)


def pause(loop: asyncio.AbstractEventLoop, seconds: float) -> asyncio.Future[None]:
    """Done after some seconds."""
    waiter = loop.create_future()
    loop.call_later(seconds, _succeed, waiter)
    return waiter


def _succeed(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _fail(waiter: asyncio.Future[None], error: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(error)
