"""Clients that end TLS, or the connection, on the control connection while something runs."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from ftplib import FTP_TLS
from pathlib import Path

import pytest

from tests.support.cluster import until
from tests.support.dialogue import Dialogue, reset, rest_of
from tests.tls.conftest import Shared
from tests.tls.support import Running

CONTENT = bytes(range(256)) * 4000  # 1 MB


def notify(sock: ssl.SSLSocket) -> None:
    """Say close_notify, and wait for nobody's."""
    sock.setblocking(False)
    with contextlib.suppress(ssl.SSLError):  # a reply may have come before it
        sock.unwrap()
    sock.setblocking(True)


def notify_and_close(sock: ssl.SSLSocket) -> None:
    notify(sock)
    sock.close()


def close(sock: ssl.SSLSocket) -> None:
    sock.close()


ENDS = pytest.mark.parametrize("end", [notify_and_close, close, reset])
End = Callable[[ssl.SSLSocket], None]


def logged_in(port: int, context: ssl.SSLContext) -> FTP_TLS:
    client = FTP_TLS(context=context)
    client.connect("localhost", port, timeout=20)
    client.login("user", "12345")
    client.prot_p()
    client.voidcmd("TYPE I")
    return client


@ENDS
@pytest.mark.parametrize("size", [0, 20_000, len(CONTENT)])
def test_a_protected_upload_whose_client_closes_all_at_once_is_whole(
    shared: Shared, trusting: ssl.SSLContext, end: End, size: int
) -> None:
    path = shared.root / "file"
    for _ in range(3):
        path.write_bytes(b"old" * 1000)
        client = logged_in(shared.port, trusting)
        data = client.transfercmd("STOR file")
        assert isinstance(data, ssl.SSLSocket)
        assert isinstance(client.sock, ssl.SSLSocket)
        data.sendall(CONTENT[:size])
        notify_and_close(data)
        end(client.sock)
        client.close()
        until(lambda: path.read_bytes() == CONTENT[:size])


def test_a_protected_upload_goes_on_whose_client_did_not_wait_for_150(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    """Its handshake may be over for the client alone."""
    path = shared.root / "hasty"
    client = logged_in(shared.port, trusting)
    host, port = client.makepasv()
    with socket.create_connection((host, port), 20) as plain:
        plain.setblocking(True)
        assert client.sock is not None
        client.sock.sendall(b"STOR hasty\r\n")
        data = trusting.wrap_socket(plain, server_hostname="localhost")
        data.sendall(CONTENT)
        notify_and_close(data)
    reset(client.sock)
    client.close()
    until(lambda: path.exists() and path.read_bytes() == CONTENT)


@pytest.mark.parametrize("strict", [False, True])
def test_an_end_without_close_notify_is_what_the_settings_say(
    serve: Callable[..., Running], root: Path, trusting: ssl.SSLContext, strict: bool
) -> None:
    running = serve(strict_tls_eof=strict, atomic_uploads=True)
    with logged_in(running.port, trusting) as client:
        data = client.transfercmd("STOR file")
        data.sendall(CONTENT)
        assert isinstance(client.sock, ssl.SSLSocket)
        notify(client.sock)
        data.close()
        with socket.socket(fileno=client.sock.detach()) as beneath:
            rest_of(beneath)
    assert (root / "file").exists() is not strict


def protect(client: Dialogue, context: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """Begin TLS on a bare connection: what is to be sent is in the buffer."""
    client.says("AUTH TLS", 234)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            tls.do_handshake()
            return tls, outgoing
        except ssl.SSLWantReadError:
            client.sock.sendall(outgoing.read())
            incoming.write(client.sock.recv(1 << 16))


def test_what_arrived_before_close_notify_is_obeyed_and_nothing_behind_it(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    for name in ("first", "second", "third"):
        with contextlib.suppress(FileNotFoundError):
            (shared.root / name).rmdir()
    with (shared.root / "large").open("wb") as file:
        file.truncate(30_000_000)
    with Dialogue(shared.port) as client:
        tls, outgoing = protect(client, trusting)
        tls.write(b"USER user\r\nPASS 12345\r\nMKD first\r\nXMD5 large\r\nMKD second\r\nMKD thi")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        client.sock.sendall(outgoing.read() + b"rd\r\nMKD third\r\n")
        rest_of(client.sock)
    assert (shared.root / "first").is_dir()
    assert (shared.root / "second").is_dir()
    assert not (shared.root / "third").exists()
