"""The ports that tests reserve (tests/support/ports.py) are one test's alone."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.support.ports import HOST, bind_range, bound


def test_a_reserved_port_is_nobody_else_s() -> None:
    with contextlib.ExitStack() as stack:
        first = bind_range(stack, 3)
        for port in range(first, first + 3):
            with pytest.raises(OSError, match="in use"):
                bound(port).close()


def test_a_server_can_listen_on_a_reserved_port() -> None:
    with contextlib.ExitStack() as stack:
        port = bind_range(stack, 1)
        socket.create_server((HOST, port)).close()
