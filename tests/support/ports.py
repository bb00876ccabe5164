"""Ports that are reserved for a test: bound, but not listened on.

The kernel gives them to nobody else. SO_REUSEADDR lets the server of the test bind them, too.
"""

from __future__ import annotations

import contextlib
import random
import socket

HOST = "127.0.0.1"


def bound(port: int) -> socket.socket:
    """A socket that is bound to ``port``, or with 0 to a free one.

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
    """Reserve ``count`` adjacent ports. Returns the first one. ``stack`` closes them."""
    while True:
        first = random.randrange(20_000, 30_000)
        with contextlib.ExitStack() as attempt, contextlib.suppress(OSError):
            for port in range(first, first + count):
                attempt.enter_context(bound(port))
            stack.enter_context(attempt.pop_all())
            return first
