"""CCC (RFC 4217 section 12.3): the control connection becomes plain again, data do not."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable

import pytest

from tests.support.dialogue import Dialogue, rest_of
from tests.tls.conftest import Shared
from tests.tls.support import V12, V13, Client, Running, plain, says_close_notify

Serve = Callable[..., Running]
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])


def leaves(client: Client) -> None:
    """CCC, and the end of TLS by both sides."""
    client.says("CCC", 200)
    client.tls.unwrap()
    client.sock = plain(client.tls)


@VERSIONS
def test_behind_ccc_commands_and_replies_are_plain(
    shared: Shared, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    trusting.maximum_version = version
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        leaves(client)
        for _ in range(3):
            client.says("PWD", 257)  # who had logged in still is
        client.says("CCC", 503)
        client.says("QUIT", 221)
        assert client.is_closed()


@VERSIONS
def test_behind_ccc_data_are_still_protected(
    shared: Shared, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    content = os.urandom(300_000)
    trusting.maximum_version = version
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        session = client.tls.session
        leaves(client)
        client.stores("STOR file", content, session)
        assert (shared.root / "file").read_bytes() == content
        assert client.fetches("RETR file", session) == content


def test_auth_works_again_behind_ccc(shared: Shared, trusting: ssl.SSLContext) -> None:
    with Client(shared.port, trusting) as client:
        for _ in range(3):
            client.secures(protected=True)
            client.fetches("NLST", client.tls.session)
            leaves(client)
        client.says("NOOP", 200)


def test_ccc_works_with_implicit_tls(serve: Serve, trusting: ssl.SSLContext) -> None:
    with Client(serve(implicit=True).port, trusting, implicit=True) as client:
        client.logs_in()
        leaves(client)
        client.fetches("NLST")
        client.secures(protected=True)
        client.fetches("NLST")


def test_ccc_is_503_before_tls_and_501_with_an_argument(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    with Client(shared.port, trusting) as client:
        client.says("CCC", 503)
        client.secures()
        client.says("CCC now", 501)
        client.says("NOOP", 200)


def test_ccc_is_503_where_there_is_no_tls(serve: Serve) -> None:
    with Dialogue(serve(None).port) as client:
        client.says("CCC", 503)


def test_ccc_is_533_where_tls_is_required(serve: Serve, trusting: ssl.SSLContext) -> None:
    with Client(serve(require_tls=True).port, trusting) as client:
        client.secures(protected=True)
        client.says("CCC", 533)
        client.says("PWD", 257)  # still within TLS


@pytest.mark.parametrize("behind", ["same record", "next record", "plain"])
def test_bytes_behind_ccc_end_the_session(
    shared: Shared, trusting: ssl.SSLContext, behind: str
) -> None:
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        tls, incoming, outgoing = in_memory(client)
        if behind == "same record":
            tls.write(b"CCC\r\nMKD injected\r\n")
        else:
            tls.write(b"CCC\r\n")
        if behind == "next record":
            tls.write(b"MKD injected\r\n")
        client.sock.sendall(outgoing.read() + (b"MKD injected\r\n" if behind == "plain" else b""))
        incoming.write(rest_of(client.sock))
        assert tls.read() == b""  # close_notify, and no 200
    assert not (shared.root / "injected").exists()


def in_memory(client: Client) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """The client logs in anew, with TLS whose records can be put together at will."""
    fresh = Client(client.sock.getpeername()[1], client.trusting)
    client.sock.close()
    client.sock = fresh.sock
    client.says("AUTH TLS", 234)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def step(do: Callable[[], bytes | None]) -> bytes | None:
        while True:
            try:
                result = do()
            except ssl.SSLWantReadError:
                client.sock.sendall(outgoing.read())
                received = client.sock.recv(1 << 16)
                assert received
                incoming.write(received)
            else:
                client.sock.sendall(outgoing.read())
                return result

    step(tls.do_handshake)
    for line, code in ((b"USER user\r\n", b"331"), (b"PASS 12345\r\n", b"230")):
        tls.write(line)
        reply = step(lambda: tls.read(4096))
        assert reply is not None
        assert reply[:3] == code
    return tls, incoming, outgoing


@VERSIONS
def test_plain_commands_behind_ccc_without_close_notify_are_never_obeyed(
    shared: Shared, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    trusting.maximum_version = version
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        client.says("CCC", 200)
        client.sock = plain(client.tls)
        client.sock.sendall(b"MKD injected\r\n")
        assert b"257" not in rest_of(client.sock)
    assert not (shared.root / "injected").exists()


def test_plain_commands_right_behind_the_clients_close_notify_are_obeyed(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    """The client need not wait for the server's close_notify, which it has got already."""
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        client.says("CCC", 200)
        tls = client.tls
        says_close_notify(tls)
        client.sock = plain(tls)
        client.sock.sendall(b"PWD\r\n")
        received = b""
        while b"257 " not in received:  # the server's close_notify may come first
            block = client.sock.recv(4096)
            assert block, received
            received += block


def test_who_never_ends_tls_behind_ccc_is_gone_after_the_login_deadline(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    with Client(serve(login_timeout=1.0).port, trusting) as client:
        client.secures()
        client.says("CCC", 200)
        client.sock = plain(client.tls)
        rest_of(client.sock)  # close_notify, and then the end
