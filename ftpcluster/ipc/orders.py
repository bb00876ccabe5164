"""Messages between the supervisor, its fork server, and a worker that begins.

The supervisor sends the fork server one end of a socket pair for each worker to fork. There the
worker sends its pid, and gets its order: what it runs, pickled, and the descriptors for that. The
pickle goes in a file in memory, since it may be larger than a datagram.
"""

from __future__ import annotations

import array
import errno
import os
import pickle
import socket
from collections.abc import Callable, Sequence
from multiprocessing import context
from multiprocessing.reduction import ForkingPickler

from ftpcluster.descriptors import close_quietly

_MOST = 64 * 1024
_DESCRIPTORS = 16
_ROOM = socket.CMSG_SPACE(array.array("i").itemsize * _DESCRIPTORS)
_taken: list[int] = []


class NoOrder(Exception):
    """The other end is gone."""


class Cut(Exception):
    """A message has come without its descriptors: this process may open no more."""


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> None:
    """Raises OSError; BlockingIOError where the other end does not read."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
    sock.sendmsg([data], [rights] if fds else [], socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """A message and its descriptors. Raises NoOrder, Cut, OSError."""
    try:
        data, ancillary, flags, _ = sock.recvmsg(_MOST, _ROOM, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # the other end was closed before it had read all
        raise NoOrder from None
    if not data:
        raise NoOrder
    fds = array.array("i")
    for _, _, rights in ancillary:
        fds.frombytes(rights[: len(rights) - len(rights) % fds.itemsize])
    if flags & socket.MSG_CTRUNC:
        for fd in fds:
            close_quietly(fd)
        raise Cut(os.strerror(errno.EMFILE))
    return data, list(fds)


def give(sock: socket.socket, *parts: Callable[[], object]) -> None:
    """Send the results of functions, with the descriptors in them (``DupFd``). Raises OSError."""
    giving = _Giving()
    with open(os.memfd_create("order", os.MFD_CLOEXEC), "w+b") as file:
        context.set_spawning_popen(giving)  # type: ignore[arg-type]
        try:
            for part in parts:
                ForkingPickler(file).dump(part())
        finally:
            context.set_spawning_popen(None)
        file.seek(0)
        send(sock, b"order", [file.fileno(), *giving.fds])


class Order:
    """An order that was received; ``next`` unpickles its next part."""

    def __init__(self, sock: socket.socket) -> None:
        """Waits for the order. Raises NoOrder, Cut, OSError."""
        _, (file, *_taken[:]) = receive(sock)
        self._file = os.fdopen(file, "rb")

    def next(self) -> object:
        return pickle.load(self._file)  # noqa: S301 (the supervisor's own)

    def close(self) -> None:
        self._file.close()


class _Giving:
    """Collects the descriptors that ``multiprocessing`` pickles."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def duplicate_for_child(self, fd: int) -> int:
        self.fds.append(fd)
        return len(self.fds) - 1

    DupFd = staticmethod(lambda index: _Given(index))


class _Given:
    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        return _taken[self._index]
