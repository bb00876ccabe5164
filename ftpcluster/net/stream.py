"""One non-blocking stream, for control and data connections alike, on uvloop and stock asyncio.

It is a raw socket, watched with ``add_reader`` and ``add_writer``: as fast as the loop's own
transports, the same on both loops, and its descriptor is there for sendfile and splice. Reading
and writing never block and never buffer; who gets BlockingIOError awaits ``readable()`` or
``writable()``. A descriptor stays watched between two waits, since most waits are followed by
another one; when it becomes ready and nobody waits, the watch ends.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable


class Stream:
    """A connected stream socket. ``peer`` is the address at its other end."""

    __slots__ = ("_loop", "_read_waiter", "_reading", "_sock", "_write_waiter", "_writing", "fd")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """Takes over ``sock``, which must be connected."""
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self.fd = sock.fileno()
        self._reading = False
        self._writing = False
        self._read_waiter: asyncio.Future[None] | None = None
        self._write_waiter: asyncio.Future[None] | None = None

    @property
    def closed(self) -> bool:
        return self.fd < 0

    @property
    def is_watched(self) -> bool:
        """Whether somebody is called when there is something to read."""
        return self._reading

    @property
    def local_address(self) -> tuple[str, int]:
        """Address and port at this end."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    def recv(self, count: int) -> bytes:
        """Up to ``count`` bytes; none at the end of the stream."""
        return self._sock.recv(count)

    def recv_into(self, buffer: memoryview) -> int:
        return self._sock.recv_into(buffer)

    def send(self, data: bytes | memoryview) -> int:
        """Send what the socket takes; returns how much that was."""
        return self._sock.send(data)

    async def send_all(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.send(rest) :]
            except BlockingIOError:
                await self.writable()

    def watch(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever there is something to read, until ``unwatch``."""
        self._reading = True
        self._loop.add_reader(self.fd, callback)

    def unwatch(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.fd)

    def readable(self) -> asyncio.Future[None]:
        """Done when there is something to read, or the peer is gone."""
        waiter = self._read_waiter = self._loop.create_future()
        if not self._reading:
            self.watch(self._on_readable)
        return waiter

    def writable(self) -> asyncio.Future[None]:
        """Done when the socket takes something again, or the peer is gone."""
        waiter = self._write_waiter = self._loop.create_future()
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self.fd, self._on_writable)
        return waiter

    def _on_readable(self) -> None:
        waiter, self._read_waiter = self._read_waiter, None
        if waiter is None or waiter.done():
            self.unwatch()
        else:
            waiter.set_result(None)

    def _on_writable(self) -> None:
        waiter, self._write_waiter = self._write_waiter, None
        if waiter is None or waiter.done():
            self._unwatch_writing()
        else:
            waiter.set_result(None)

    def _unwatch_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self.fd)

    def close(self) -> None:
        """Close the connection; harmless when repeated. Whoever waits is cancelled."""
        if self.fd < 0:
            return
        self.unwatch()
        self._unwatch_writing()
        self.fd = -1
        self._sock.close()
        for waiter in (self._read_waiter, self._write_waiter):
            if waiter is not None:
                waiter.cancel()

    def end(self) -> None:
        """Close the connection so that the peer sees its end, whoever else holds the socket."""
        if self.fd >= 0:
            try:
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer was faster: there is nothing left to end
            self.close()

    def reset(self) -> None:
        """Close with a TCP reset: the peer must not take what it got for the whole."""
        if self.fd >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close()


_RESET = b"\x01\0\0\0\0\0\0\0"  # struct linger: on, 0 seconds


def expire(
    loop: asyncio.AbstractEventLoop,
    waiter: asyncio.Future[None],
    seconds: float,
    error: Exception,
) -> asyncio.TimerHandle:
    """Fail ``waiter`` with ``error`` after some seconds, unless it is done or the timer cancelled.

    Unlike ``asyncio.timeout`` this needs no task, so that a command that never waits needs none.
    """
    return loop.call_later(seconds, _fail, waiter, error)


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
