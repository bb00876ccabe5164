"""TLS and commands of one's own: AUTH and CCC that are overridden, data that are waited for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ftpcluster
from tests.conftest import LOOPS, InProcess
from tests.support.dialogue import DEADLINE, Dialogue, rest_of
from tests.tls.conftest import Files
from tests.tls.support import Client, hello, plain, reads

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
            server = InProcess(
                request.param, lambda: kind(users, tls=context, wait_future_timeout=0.05)
            )
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


class Waiting(ftpcluster.Server):
    """A command that waits for a data connection, and gives up before long."""

    @ftpcluster.ConnectionConditions(
        ftpcluster.ConnectionConditions.data_connection_made, wait=True
    )
    async def await_(self, connection: Any, rest: str) -> bool:
        connection.response("200", "it has come")
        return True


def test_a_protected_connection_that_a_command_has_waited_for_is_there_for_the_next(
    serving: Serving, trusting: ssl.SSLContext, root: Path
) -> None:
    (root / "file").write_bytes(b"content")
    with Client(serving(Waiting), trusting) as client:
        client.secures(protected=True)
        port = client.epsv()
        client.says("AWAIT", 503)
        client.says("RETR file", 150)
        with client.wraps(socket.create_connection(("127.0.0.1", port), DEADLINE)) as data:
            assert reads(data) == b"content"
        client.expects(226)
        client.says("RETR file", 425)  # it was for one transfer


def test_a_new_listener_for_a_protected_connection_is_not_closed_with_the_one_before(
    serving: Serving, trusting: ssl.SSLContext, root: Path
) -> None:
    (root / "file").write_bytes(b"content")
    with Client(serving(Waiting), trusting) as client:
        client.secures(protected=True)
        client.epsv()
        client.says("AWAIT", 503)
        assert client.fetches("RETR file") == b"content"
