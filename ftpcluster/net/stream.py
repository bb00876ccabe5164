"""One non-blocking stream, for control and data connections alike.

It is a raw descriptor, as sendfile and splice need, without the cost of a socket object. Reading
and writing never block and never buffer: after BlockingIOError the caller awaits ``readable()`` or
``writable()``. A descriptor stays watched between two waits, since most waits are followed by
another one; when it becomes ready and nobody waits, the watch ends.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from typing import TYPE_CHECKING

from ftpcluster.native import NATIVE
from ftpcluster.net.poller import Poller
from ftpcluster.protocol.address import with_interface

if TYPE_CHECKING or not NATIVE:
    from ftpcluster.net.watching import Watched
else:
    from ftpcluster._native.watching import Watched


class Stream(Watched):
    """A connected stream socket."""

    __slots__ = ()
    _poller: Poller

    is_plain = True
    """Whether bytes travel as they are, so that the kernel may copy them."""

    def local_address(self) -> tuple[str, int]:
        """Address and port at this end; a link-local address with its interface."""
        sock = socket.socket(fileno=self.fd)
        try:
            host, port, *ipv6 = sock.getsockname()
        finally:
            sock.detach()
        return with_interface(host, ipv6[1] if ipv6 else 0), port

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


def accept(listener: socket.socket) -> tuple[int, str, int]:
    """Accept a connection: its descriptor, and the peer's address and port.

    ``socket.accept()`` would look up family, type and name for an object that nobody needs.
    """
    fd, address = listener._accept()  # type: ignore[attr-defined]
    return fd, address[0], address[1]


def pause(loop: asyncio.AbstractEventLoop, seconds: float) -> asyncio.Future[None]:
    """Done after some seconds."""
    waiter = loop.create_future()
    loop.call_later(seconds, _succeed, waiter)
    return waiter


def _succeed(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
