"""Ports that nobody else gets while a test runs: bound, but not listened on.

The kernel does not hand them out, and SO_REUSEADDR lets a server bind them beside us.
"""

from __future__ import annotations

import contextlib
import random
import socket

HOST = "127.0.0.1"


def bound(port: int) -> socket.socket:
    """``port``, or with 0 a free one, which no other socket had.

    SO_REUSEADDR is set after bind(): set before, it would let two tests reserve one port, and two
    HAProxys, which set SO_REUSEPORT, would share its connections.
    """
    sock = socket.socket()
    try:
        sock.bind((HOST, port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError:
        sock.close()
        raise
    return sock


def bind_range(stack: contextlib.ExitStack, count: int) -> int:
    """So many ports next to each other: the first one. ``stack`` closes them."""
    while True:
        first = random.randrange(20_000, 30_000)
        with contextlib.ExitStack() as attempt, contextlib.suppress(OSError):
            for port in range(first, first + count):
                attempt.enter_context(bound(port))
            stack.enter_context(attempt.pop_all())
            return first
