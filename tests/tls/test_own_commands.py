"""AUTH and CCC that a ``Server`` subclass has overridden, and clients that lose no time."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ftpcluster
from tests.conftest import LOOPS, InProcess
from tests.support.dialogue import Dialogue, rest_of
from tests.tls.conftest import Files
from tests.tls.support import Client, hello, plain

Serving = Callable[[type[ftpcluster.Server]], int]


class Own(ftpcluster.Server):
    """Commands that go on for some turns of the loop behind the built-in ones."""

    async def auth(self, connection: Any, rest: str) -> bool:
        goes_on = await super().auth(connection, rest)
        await _turns()
        return goes_on

    async def ccc(self, connection: Any, rest: str) -> bool:
        goes_on = await super().ccc(connection, rest)
        await _turns()
        return goes_on


class Failing(ftpcluster.Server):
    async def auth(self, connection: Any, rest: str) -> bool:
        await super().auth(connection, rest)
        raise RuntimeError("behind AUTH")


async def _turns() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.fixture(params=list(LOOPS))
def serving(request: pytest.FixtureRequest, root: Path, files: Files) -> Iterator[Serving]:
    """Serve with a class of one's own and explicit TLS: the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.server)
    users = [ftpcluster.User("user", "12345", base_path=root)]
    with contextlib.ExitStack() as stack:

        def serve(kind: type[ftpcluster.Server]) -> int:
            server = InProcess(request.param, lambda: kind(users, tls=context))
            stack.callback(server.stop)
            return server.port

        yield serve


def test_an_overridden_auth_and_ccc_begin_and_end_tls(
    serving: Serving, trusting: ssl.SSLContext
) -> None:
    with Client(serving(Own), trusting) as client:
        for _ in range(10):
            client.secures(protected=True)
            client.says("CCC", 200)
            client.tls.unwrap()
            client.sock = plain(client.tls)
            client.says("PWD", 257)


def test_a_client_hello_right_behind_234_is_no_injected_command(
    serving: Serving, trusting: ssl.SSLContext
) -> None:
    port = serving(Own)
    for _ in range(20):
        first = hello(trusting)  # made before, so that nothing comes between 234 and it
        with Dialogue(port) as client:
            client.says("AUTH TLS", 234)
            client.sock.sendall(first)
            assert client.sock.recv(1) == b"\x16"  # the server's part of the handshake


@pytest.mark.parametrize("behind", [b"NOOP\r\n", b"N", b"QUIT\r\n"])
def test_what_stands_behind_an_overridden_auth_is_never_obeyed(
    serving: Serving, behind: bytes
) -> None:
    with Dialogue(serving(Own)) as client:
        client.sock.sendall(b"AUTH TLS\r\n" + behind)
        assert rest_of(client.sock) == b""  # not even 234


def test_an_auth_that_fails_behind_the_built_in_one_ends_the_session(serving: Serving) -> None:
    with Dialogue(serving(Failing)) as client:
        client.says("AUTH TLS", 451)
        assert client.is_closed()
