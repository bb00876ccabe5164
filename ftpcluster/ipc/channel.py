"""A channel between supervisor and worker. A datagram is one message and at most one descriptor.

SEQPACKET keeps the bounds of messages and ties a descriptor to its message, so there is no
framing here. Sending never blocks: what the socket does not take waits, in order.

Descriptors go to workers only. A worker that sends one is ended, and the descriptor is closed in a
thread (``closing``). Linux refuses to send it since 6.16; older kernels deliver it.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import math
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import msgspec

from ftpcluster.descriptors import close_quietly
from ftpcluster.ipc.messages import MOST_REASON, Failed, Message, ToSupervisor, ToWorker

Incoming = TypeVar("Incoming", bound=Message)

MAX_MESSAGE = 64 * 1024
_MOST_WAITING = 16 << 20
"""Bytes that may wait for a worker that does not read. An honest worker is never so far behind: to
end a hundred thousand sessions at once, as a ban may, takes less."""
_OVERHEAD = 64
"""Bytes that a waiting message takes beyond its own."""
_MESSAGES_PER_TURN = 32
_LONGEST_TURN = 0.002
"""Seconds after which further messages wait for the loop's next turn, so that other workers, and
clients that connect, are served. A single message takes up to some milliseconds."""
_MESSAGES_TO_CATCH_UP, _LONGEST_CATCHING_UP = 1000, 0.01
"""More messages than the socket of an honest worker holds. ``catch_up`` stops there: a worker may
send without end."""
_TRANSIENT = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""No memory, or too many descriptors in flight: the message is not lost, and is tried again."""
_PAUSE = 0.05
"""Seconds until the next attempt. The loop cannot report when there is memory again."""
_TRUNCATED = int(socket.MSG_TRUNC)  # as plain numbers: the enums' operators are slow
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)
_SO_PASSRIGHTS = 83  # SO_PASSRIGHTS, which the socket module has no name for
_ROOM_FOR_TWO = socket.CMSG_SPACE(array.array("i").itemsize * 2)
_ROOM_FOR_ALL = socket.CMSG_SPACE(array.array("i").itemsize * 253)
"""Room for SCM_MAX_FD descriptors. The kernel closes those without room, which may block us."""

_encode = msgspec.msgpack.Encoder().encode
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_to_supervisor: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)


class BadMessage(Exception):
    """Something came that is no message: the peer cannot be trusted any more."""


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a new channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel(Generic[Incoming]):
    """One end of a channel.

    ``on_message(message, fd)`` is called for each message; ``fd`` is None or belongs to the
    callee. ``on_closed(error)`` is called once: when the other end is gone (None), or when it does
    not read or has sent something that is no message (BadMessage).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        decoder: msgspec.msgpack.Decoder[Any],
        on_message: Callable[[Incoming, int | None], None],
        on_closed: Callable[[Exception | None], None],
        on_turn: Callable[[], None] | None = None,
        most_waiting: float = math.inf,
        close_aside: Callable[[Iterable[int]], None] | None = None,
    ) -> None:
        """Takes over ``sock``. ``on_turn`` ends a batch of messages.

        The channel fails when more than ``most_waiting`` bytes wait for the other end. With
        ``close_aside`` the other end may send no descriptors. That function closes descriptors that
        come anyway, and ``sock``.
        """
        sock.settimeout(0)
        self._close_aside = close_aside
        self._room = _ROOM_FOR_TWO
        if close_aside is not None:
            self._room = _ROOM_FOR_ALL
            with contextlib.suppress(OSError):  # before Linux 6.16
                sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
        self._loop = loop
        self._sock = sock
        self._decode = decoder.decode
        self._on_message = on_message
        self._on_closed = on_closed
        self._on_turn = on_turn
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[bytes, int | None]] = deque()
        self.backlog = 0
        """Bytes that the other end has not taken yet."""
        self.closed = False
        self._is_reading = False
        self._is_behind = False  # the last ``catch_up`` could not read all
        self._retry: asyncio.TimerHandle | None = None
        loop.add_reader(sock.fileno(), self._on_readable)

    def keeps(self, fd: int) -> bool:
        """Whether a descriptor still waits to be sent, so that it cannot have been received."""
        return bool(self._waiting) and any(fd == waiting for _, waiting in self._waiting)

    def send(self, message: Message, fd: int | None = None) -> None:
        """Send a message, with a descriptor, which stays the caller's and must stay open until
        the other end confirms it. Does nothing on a closed channel."""
        if self.closed:
            return
        data = _encode(message)
        if self._waiting or not self._send(data, fd):
            if not self._waiting and self._retry is None:
                self._loop.add_writer(self._sock.fileno(), self._on_writable)
            self._waiting.append((data, fd))
            self.backlog += len(data) + _OVERHEAD
            if self.backlog > self._most_waiting:
                # not at once: the caller may be sending to other channels, too
                self._loop.call_soon(self._fail, BadMessage("it does not read its messages"))

    def _send(self, data: bytes, fd: int | None) -> bool:
        try:
            if fd is None:
                self._sock.send(data)
            else:
                rights = array.array("i", (fd,))
                self._sock.sendmsg((data,), ((socket.SOL_SOCKET, socket.SCM_RIGHTS, rights),))
        except BlockingIOError:
            return False
        except ConnectionError:
            pass  # the other end is gone; the reader will say so
        except OSError as error:
            if error.errno in _TRANSIENT:
                self._try_later()
                return False
            # if a message is lost the two sides disagree: the channel ends, and with it the worker
            self._loop.call_soon(self._fail, error)
        return True

    def _try_later(self) -> None:
        if self._retry is None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._retry = self._loop.call_later(_PAUSE, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock.fileno(), self._on_readable)
        if self._waiting:
            self._loop.add_writer(self._sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        while self._waiting and self._send(*self._waiting[0]):
            data, _ = self._waiting.popleft()
            self.backlog -= len(data) + _OVERHEAD
        if not self._waiting:
            self._loop.remove_writer(self._sock.fileno())

    def catch_up(self) -> None:
        """Read the messages that have come, unless one of this channel is being handled now."""
        if not (self.closed or self._is_reading or self._is_behind):
            self._is_behind = not self._read(_MESSAGES_TO_CATCH_UP, _LONGEST_CATCHING_UP)

    def _on_readable(self) -> None:
        if self._read(_MESSAGES_PER_TURN, _LONGEST_TURN):
            self._is_behind = False
        if self._on_turn is not None and not self.closed:
            self._on_turn()

    def _read(self, most: int, longest: float) -> bool:
        """Read up to ``most`` messages, from a worker for ``longest`` s. False: maybe more."""
        began = time.perf_counter()
        self._is_reading = True
        try:
            for _ in range(most):
                if self.closed or not self._receive():
                    return True
                if self._close_aside is not None and time.perf_counter() - began > longest:
                    return False
        except BadMessage as error:
            self._fail(error)
            return True
        finally:
            self._is_reading = False
        return False

    def _read_rest(self) -> None:
        """Read to the end, a batch per turn: libuv does not watch a socket after an error."""
        self._on_readable()
        if not self.closed:
            self._loop.call_soon(self._read_rest)

    def _receive(self) -> bool:
        """Receive one message; False where there is none (any more)."""
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(MAX_MESSAGE, self._room, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            # the peer ended with our messages unread: the kernel reports that once, before its last
            # ones
            self._loop.call_soon(self._read_rest)
            return False
        except OSError as error:
            if error.errno in _TRANSIENT:
                self._try_later()
            else:
                self._fail(None)
            return False
        descriptors = _descriptors(ancillary)
        if not data and not descriptors:
            self._fail(None)
            return False
        self._on_message(*self._checked(data, descriptors, flags))
        return True

    def _checked(
        self, data: bytes, descriptors: list[int], flags: int
    ) -> tuple[Incoming, int | None]:
        """The message that was received, and its descriptor. Raises BadMessage."""
        try:
            if descriptors and self._close_aside is not None:
                raise BadMessage("it sent descriptors")
            if len(descriptors) > 1 or flags & _TRUNCATED:
                raise BadMessage("a datagram was too large, or held too many descriptors")
            message: Incoming = self._decode(data)
        except (BadMessage, msgspec.MsgspecError, UnicodeDecodeError) as error:
            (self._close_aside or _close_all)(descriptors)
            raise BadMessage(str(error)) from error
        return message, descriptors[0] if descriptors else None

    def _fail(self, error: Exception | None) -> None:
        if not self.closed:
            self.close()
            self._on_closed(error)

    def close(self) -> None:
        """Close this end; harmless when repeated. ``on_closed`` is not called."""
        if not self.closed:
            self.closed = True
            if self._retry is not None:
                self._retry.cancel()
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._close_socket()
            self._waiting.clear()
            self.backlog = 0

    def _close_socket(self) -> None:
        if self._close_aside is None:
            close_quietly(self._sock.detach())
            return
        with contextlib.suppress(OSError):  # the other end is gone
            self._sock.shutdown(socket.SHUT_RDWR)  # at once, whenever it is closed
        self._close_aside((self._sock.detach(),))


def worker_end(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    on_message: Callable[[ToWorker, int | None], None],
    on_closed: Callable[[Exception | None], None],
    on_turn: Callable[[], None],
) -> Channel[ToWorker]:
    """The worker's end: ``on_turn`` lets it confirm all sockets of a batch at once."""
    return Channel(loop, sock, _to_worker, on_message, on_closed, on_turn)


def supervisor_end(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    on_message: Callable[[ToSupervisor], None],
    on_closed: Callable[[Exception | None], None],
    close_aside: Callable[[Iterable[int]], None],
) -> Channel[ToSupervisor]:
    """The supervisor's end: a worker that asks and never reads cannot fill its memory, and no
    worker sends descriptors."""
    return Channel(
        loop,
        sock,
        _to_supervisor,
        lambda message, _: on_message(message),
        on_closed,
        most_waiting=_MOST_WAITING,
        close_aside=close_aside,
    )


def report_failure(sock: socket.socket, reason: str) -> None:
    """Send the last message of a worker that cannot serve."""
    sock.settimeout(None)
    sock.send(_encode(Failed(reason.encode(errors="replace").decode()[:MOST_REASON])))
    sock.close()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _close_all(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        close_quietly(fd)
