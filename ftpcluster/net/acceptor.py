"""The accept loop of the listening sockets.

It is our own, since those of asyncio and libuv misbehave when file descriptors run out: they report
hundreds of errors a second, or close connections silently. Here a reserve descriptor lets one more
connection in. That one gets 421, and the loop pauses.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ftpcluster.descriptors import close_quietly
from ftpcluster.net.stream import accept
from ftpcluster.protocol.reply import Code, Reply

log = logging.getLogger(__name__)

_ACCEPTS_PER_TURN = 64
_PAUSE = 0.2
"""Seconds without accepting after descriptors ran out."""
_COMPLAINT_INTERVAL = 1.0
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
OVERLOADED = "The server is overloaded; try again later."
_TCP_INFO = struct.Struct("=128xQ8xI8xI")
"""Fields of the kernel's tcp_info: bytes received, bytes not sent yet, segments with data sent."""


Target = TypeVar("Target")


class Acceptor(Generic[Target]):
    """Accepts connections as long as ``choose()`` names a target for one, and hands them on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        choose: Callable[[], Target | None],
        on_connection: Callable[[Target, socket.socket, int, str, int], None],
    ) -> None:
        """Takes over the listening ``sockets``. It begins paused."""
        self._loop = loop
        self._sockets = list(sockets)
        self._choose = choose
        self._on_connection = on_connection
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._accepting = False
        # one at first: an accept that finds nothing costs half as much as one that succeeds
        self._expected = 1
        self._pause: asyncio.TimerHandle | None = None
        self._last_complaint = -_COMPLAINT_INTERVAL

    def resume(self) -> None:
        """Accept (again), unless descriptors have run out just now."""
        if not self._accepting and self._pause is None:
            self._accepting = True
            try:
                for sock in self._sockets:
                    self._loop.add_reader(sock.fileno(), self._on_readable, sock)
            except OSError as error:  # memory, or the user's epoll watches, have run out
                self._complain(error)
                self.pause()
                self._pause = self._loop.call_later(_PAUSE, self._end_pause)

    def pause(self) -> None:
        """Leave connections in the kernel's queue for a while."""
        if self._accepting:
            self._accepting = False
            for sock in self._sockets:
                self._loop.remove_reader(sock.fileno())

    def listen_on(self, sockets: Sequence[socket.socket]) -> None:
        """Take over other listening sockets; those that are not among them are closed."""
        was_accepting = self._accepting
        self.pause()
        for sock in self._sockets:
            if sock not in sockets:
                close_quietly(sock.detach())
        self._sockets = list(sockets)
        if was_accepting:
            self.resume()

    def close(self) -> None:
        """Close the listening sockets; harmless when repeated."""
        self.pause()
        if self._pause is not None:
            self._pause.cancel()
        while self._sockets:
            close_quietly(self._sockets.pop().detach())
        if self._reserve >= 0:
            close_quietly(self._reserve)
            self._reserve = -1

    def _on_readable(self, listener: socket.socket) -> None:
        for _ in range(self._expected):
            if not self._accepting:
                return
            target = self._choose()
            if target is None:
                self.pause()
                return
            try:
                fd, peer, port = accept(listener)
            except BlockingIOError:
                self._expected = 1
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._turn_away(listener, error)
                    return
                continue  # the client was gone before it was accepted
            self._on_connection(target, listener, fd, peer, port)
        # there may be more: they stay in the kernel's queue, and the next turn accepts more at once
        self._expected = min(self._expected * 2, _ACCEPTS_PER_TURN)

    def _turn_away(self, listener: socket.socket, error: OSError) -> None:
        """No descriptor is left: spend the reserve on an answer, and pause."""
        self._complain(error)
        if self._reserve >= 0:
            close_quietly(self._reserve)
            self._reserve = -1
        try:
            refuse(accept(listener)[0], OVERLOADED)
        except OSError:
            pass  # there is no descriptor even now: only the pause helps
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            pass  # somebody was faster; the next time there is no answer, but still a pause
        self.pause()
        self._pause = self._loop.call_later(_PAUSE, self._end_pause)

    def _complain(self, error: OSError) -> None:
        now = self._loop.time()
        if now - self._last_complaint >= _COMPLAINT_INTERVAL:
            self._last_complaint = now
            log.error("cannot accept connections: %s", error.strerror)

    def _end_pause(self) -> None:
        self._pause = None
        self.resume()


def refuse(fd: int, why: str, close: Callable[[int], None] = close_quietly) -> None:
    """Say 421, if the socket takes it at once, and close the connection."""
    reply = Reply(Code.SERVICE_NOT_AVAILABLE, why)
    sock = socket.socket(fileno=fd)
    try:
        sock.send(reply.encode(), socket.MSG_DONTWAIT)
    except OSError:
        pass  # the client is gone already
    finally:
        sock.detach()
        close(fd)


def is_untouched(fd: int) -> bool:
    """Whether no process has read from an accepted connection, or sent on it.

    Then another process can serve it from its beginning. Its client only notices a delay.
    """
    sock = socket.socket(fileno=fd)
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        received, unsent, segments = _TCP_INFO.unpack(info)
        count = fcntl.ioctl(fd, termios.FIONREAD, bytes(4))
    except (OSError, struct.error):
        return False
    finally:
        sock.detach()
    read = received - int.from_bytes(count, sys.byteorder)
    return not (segments or unsent) and read <= 1  # the end of a stream counts as a byte
