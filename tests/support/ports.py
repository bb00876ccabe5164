"""Ports that nobody else gets while a test runs: bound, but not listened on.

SO_REUSEADDR lets a server bind them beside us, and keeps the kernel from handing them out.
"""

from __future__ import annotations

import contextlib
import random
import socket

HOST = "127.0.0.1"


def bound(port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
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
                # listened on for a moment: that fails where somebody else has it
                attempt.enter_context(bound(port)).listen()
            attempt.close()
            for port in range(first, first + count):
                stack.enter_context(bound(port))
            return first
