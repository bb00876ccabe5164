"""``Server(ssl=context)``: TLS on the control connection from its first byte, and on data."""

from __future__ import annotations

import contextlib
import ftplib
import io
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from ftpcluster import Server, User
from tests.conftest import InProcess
from tests.support.dialogue import Dialogue

AUTHORITY = trustme.CA()


class Client(ftplib.FTP_TLS):
    """ftplib's FTPS client, with implicit TLS and with session resumption on data connections."""

    _plain: socket.socket | None = None

    @property  # type: ignore[override]
    def sock(self) -> socket.socket | None:
        return self._plain

    @sock.setter
    def sock(self, value: socket.socket | None) -> None:
        if value is not None and not isinstance(value, ssl.SSLSocket):
            value = self.context.wrap_socket(value, server_hostname="localhost")
        self._plain = value

    def ntransfercmd(
        self, cmd: str, rest: int | str | None = None
    ) -> tuple[socket.socket, int | None]:
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        assert isinstance(self.sock, ssl.SSLSocket)
        if self._prot_p:  # type: ignore[attr-defined]
            conn = self.context.wrap_socket(
                conn, server_hostname="localhost", session=self.sock.session
            )
        return conn, size


@pytest.fixture(params=["asyncio", "uvloop"])
def port(request: pytest.FixtureRequest, root: Path) -> Iterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost").configure_cert(context)
    users = [User("user", "12345", base_path=root)]
    server = InProcess(request.param, lambda: Server(users, ssl=context, data_timeout=5))
    try:
        yield server.port
    finally:
        server.stop()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def client(request: pytest.FixtureRequest, port: int) -> Iterator[Client]:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    context.maximum_version = request.param
    with Client(context=context) as client:
        client.connect("127.0.0.1", port, timeout=20)
        client.login("user", "12345", secure=False)
        yield client


def test_files_travel_encrypted_both_ways(client: Client, root: Path) -> None:
    content = os.urandom(3_000_000)
    client.prot_p()
    client.storbinary("STOR file", io.BytesIO(content))
    assert (root / "file").read_bytes() == content
    received = io.BytesIO()
    client.retrbinary("RETR file", received.write)
    assert received.getvalue() == content
    assert client.nlst() == ["file"]


def test_a_data_connection_resumes_the_session_and_gets_no_ticket(client: Client) -> None:
    client.prot_p()
    data, _ = client.ntransfercmd("NLST")
    assert isinstance(data, ssl.SSLSocket)
    with data:
        assert data.session_reused
        assert data.recv(1) == b""
        assert data.session is not None
        if data.version() == "TLSv1.3":
            # an unread ticket would answer a client that closes without reading with a reset
            assert data.session.id == client.sock.session.id  # type: ignore[union-attr]
    client.voidresp()


def test_the_handshake_may_come_before_the_command_or_after_150(client: Client, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    client.prot_p()
    for early in (True, False):
        host, port = client.makepasv()
        data = socket.create_connection((host, port), 20)
        if early:
            data = client.context.wrap_socket(data, server_hostname="localhost")
        client.sendcmd("RETR file")
        if not early:
            data = client.context.wrap_socket(data, server_hostname="localhost")
        with data:
            assert data.recv(100) == b"content"
        client.voidresp()


def test_prot_c_sends_data_in_the_clear(client: Client, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    client.prot_c()
    received = io.BytesIO()
    client.retrbinary("RETR file", received.write)
    assert received.getvalue() == b"content"


def test_a_data_connection_without_a_handshake_is_425(client: Client, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    client.prot_p()
    host, port = client.makepasv()
    with socket.create_connection((host, port), 20) as data:
        client.sendcmd("RETR file")
        data.sendall(b"this is no handshake\r\n" * 10)
        with pytest.raises(ftplib.error_temp, match="425"):
            client.voidresp()
    client.voidcmd("NOOP")


def test_a_client_that_speaks_no_tls_is_hung_up_on(port: int) -> None:
    with Dialogue(port, greeting=None) as client:
        client.send("USER user")
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while block := client.sock.recv(4096):
                received += block
        assert b"220" not in received


def test_levels_that_are_not_there_are_refused(client: Client) -> None:
    with pytest.raises(ftplib.error_perm, match="504"):
        client.sendcmd("PROT X")
