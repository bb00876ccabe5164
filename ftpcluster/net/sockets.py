"""What a data port does for each connection. The compiled twin is ``_native/sockets.pyx``."""

from __future__ import annotations

import os
import socket

from ftpcluster.descriptors import close_quietly

_QUEUE = slice(24, 28)
"""The field of TCP_INFO that counts the connections in a listener's accept queue."""
_NO_QUEUE = bytes(4)


def accept_at_once(listener: socket.socket) -> tuple[int, str] | None:
    """Accept a connection: its descriptor, which does not block, and the peer's address.

    None where none waits. ``listener`` must not block. Raises OSError.
    """
    try:
        fd, address = listener._accept()  # type: ignore[attr-defined]
    except BlockingIOError:
        return None
    try:
        os.set_blocking(fd, False)
    except OSError:
        close_quietly(fd)
        raise
    return fd, address[0]


def is_queued(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    return listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)[_QUEUE] != _NO_QUEUE
