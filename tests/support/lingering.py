"""Sockets whose last close(2) blocks: SO_LINGER is set, and the peer reads nothing."""

from __future__ import annotations

import contextlib
import socket
import struct

from ftpcluster.ipc.closing import Closer

LINGER = 60
"""Seconds."""
CLOSER = Closer()
"""For all supervisors' ends of channels that tests make."""


def lingering_connection() -> tuple[socket.socket, socket.socket]:
    """Two ends. The last close of the second one blocks until the first one ends, or for LINGER."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.getsockname())
        accepted, _ = server.accept()
    make_linger(accepted.fileno())
    return client, accepted


def make_linger(fd: int) -> None:
    """Fill the send buffer of an accepted socket, and set SO_LINGER."""
    sock = socket.socket(fileno=fd)
    try:
        sock.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(bytes(65536))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER))
    finally:
        sock.detach()


def lingers(fd: int) -> bool:
    """Whether SO_LINGER is set."""
    sock = socket.socket(fileno=fd)
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)[0])
    finally:
        sock.detach()
