"""Clients that reset the control connection in the very step in which a command answers them."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

import ftpcluster
from tests.library.client import DEADLINE
from tests.library.loops import on_both_loops
from tests.support.dialogue import reset


class Bare:
    """A control connection that can be reset at once, from within the server's own code."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
        self.sock.settimeout(0)
        self.is_reset = asyncio.Event()

    async def says(self, line: str) -> None:
        """Send a line, and read a reply to something said before."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE):
            await loop.sock_recv(self.sock, 4096)
            await loop.sock_sendall(self.sock, line.encode() + b"\r\n")

    def fails_with(self, connection: Any, kind: type[Exception]) -> None:
        """What a command does: the client is gone when it is told something."""
        reset(self.sock)
        self.is_reset.set()
        connection.response("200", "is anybody there?")
        raise kind("behind the end")


KINDS = pytest.mark.parametrize("kind", [ConnectionResetError, RuntimeError])


def bugs(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.ERROR]


async def until_nobody_is_left(server: ftpcluster.Server) -> None:
    async with asyncio.timeout(DEADLINE):
        while server.ledger.connections:
            await asyncio.sleep(0)
    gc.collect()  # an error that nobody has heard is told now


@KINDS
@on_both_loops
async def test_an_error_of_a_command_whose_client_has_reset_is_logged_where_it_is_a_bug(
    root: Path, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    async def xfail(connection: Any, rest: str) -> bool:
        await asyncio.sleep(0)
        client.fails_with(connection, kind)
        return True

    server = ftpcluster.Server([ftpcluster.User(base_path=root)])
    server.commands_mapping["xfail"] = xfail
    async with server:
        client = Bare(server.server_port)
        await client.says("XFAIL")
        async with asyncio.timeout(DEADLINE):
            await client.is_reset.wait()
        await until_nobody_is_left(server)
    expected = [True] if kind is RuntimeError else []
    assert ["behind the end" in line for line in bugs(caplog)] == expected


@KINDS
@on_both_loops
async def test_an_error_of_a_path_layer_whose_client_has_reset_is_logged_where_it_is_a_bug(
    root: Path, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    class Layer(ftpcluster.PathIO):
        async def is_dir(self, path: Path) -> bool:
            await asyncio.sleep(0)
            client.fails_with(self.connection, kind)
            raise AssertionError

    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=Layer)
    async with server:
        client = Bare(server.server_port)
        for line in ("USER anonymous", "PASS x", "MLST /"):
            await client.says(line)
        async with asyncio.timeout(DEADLINE):
            await client.is_reset.wait()
        await until_nobody_is_left(server)
    expected = [True] if kind is RuntimeError else []
    assert ["behind the end" in line for line in bugs(caplog)] == expected
