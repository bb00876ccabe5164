"""AUTH TLS (RFC 4217): what protocol.md says of it, on every kind of server."""

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

from ftpcluster.net.stream import Stream
from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.programs import drive
from tests.tls.conftest import Files
from tests.tls.support import serving


class Client(ftplib.FTP_TLS):
    """ftplib's client, made to resume the control connection's session on data connections."""

    def ntransfercmd(
        self, cmd: str, rest: int | str | None = None
    ) -> tuple[socket.socket, int | None]:
        conn, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        if self._prot_p:  # type: ignore[attr-defined]
            assert isinstance(self.sock, ssl.SSLSocket)
            conn = self.context.wrap_socket(
                conn, server_hostname="localhost", session=self.sock.session
            )
        return conn, size

    def auth(self) -> str:
        reply: str = self.voidcmd("AUTH TLS")
        assert self.sock is not None
        self.sock = self.context.wrap_socket(self.sock, server_hostname="localhost")
        self.file = self.sock.makefile(encoding=self.encoding)
        return reply


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def client(
    request: pytest.FixtureRequest, explicit: int, trusting: ssl.SSLContext
) -> Iterator[Client]:
    trusting.maximum_version = request.param
    with Client(context=trusting) as client:
        client.connect("127.0.0.1", explicit, timeout=20)
        client.login("user", "12345")
        client.prot_p()
        yield client


def test_files_travel_encrypted_both_ways(client: Client, root: Path) -> None:
    content = os.urandom(2_000_000)
    client.storbinary("STOR file", io.BytesIO(content))
    assert (root / "file").read_bytes() == content
    received = io.BytesIO()
    client.retrbinary("RETR file", received.write)
    assert received.getvalue() == content
    assert [name for name, _ in client.mlsd()] == ["file"]


def test_a_text_file_keeps_its_lines(client: Client, root: Path) -> None:
    client.storlines("STOR file", io.BytesIO(b"one\r\ntwo\r\n"))
    assert (root / "file").read_bytes() == b"one\ntwo\n"
    lines: list[str] = []
    client.retrlines("RETR file", lines.append)
    assert lines == ["one", "two"]


def test_auth_twice_is_503(client: Client) -> None:
    with pytest.raises(ftplib.error_perm, match="503"):
        client.sendcmd("AUTH TLS")


def test_features_name_tls(explicit: int) -> None:
    with Dialogue(explicit) as client:
        features = client.says("FEAT", 211).splitlines()
        assert {" AUTH TLS", " AUTH SSL", " PBSZ", " PROT"} <= set(features)


def test_pbsz_and_prot_before_auth_are_503(explicit: int) -> None:
    with Dialogue(explicit) as client:
        client.says("PBSZ 0", 503)
        client.says("PROT P", 503)
        client.says("AUTH KERBEROS_V4", 504)
        client.says("AUTH", 501)


def test_a_plain_session_works_where_tls_is_not_required(explicit: int, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    with Dialogue(explicit) as client:
        client.logs_in()
        assert client.downloads("RETR file") == b"content"


def test_auth_ends_a_login(explicit: int, trusting: ssl.SSLContext) -> None:
    with Dialogue(explicit) as client:
        client.logs_in()
        client.says("AUTH TLS", 234)
        client.sock = trusting.wrap_socket(client.sock, server_hostname="localhost")
        client.says("PWD", 530)
        client.logs_in()
        client.says("PWD", 257)


def test_a_reply_that_the_kernel_takes_in_parts_is_whole_before_tls_begins(
    root: Path,
    files: Files,
    tmp_path: Path,
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = Stream.send
    monkeypatch.setattr(Stream, "send", lambda stream, data: send(stream, data[:7]))
    with (
        serving("uvloop", root, files.server, tmp_path) as running,
        Dialogue(running.port) as client,
    ):
        client.says("AUTH TLS", 234)
        client.sock = trusting.wrap_socket(client.sock, server_hostname="localhost")
        client.logs_in()


@pytest.mark.parametrize("behind", [b"NOOP\r\n", b"N", b"\r\n", b"QUIT\r\nNOOP\r\n"])
def test_what_stands_behind_auth_is_never_obeyed(explicit: int, behind: bytes) -> None:
    """Any byte behind AUTH before 234 ends the session, with no reply in the clear or after."""
    with Dialogue(explicit) as client:
        client.sock.sendall(b"AUTH TLS\r\n" + behind)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while block := client.sock.recv(4096):
                received += block
        assert received == b""


def test_plain_commands_after_234_are_never_obeyed(explicit: int) -> None:
    with Dialogue(explicit) as client:
        client.says("AUTH TLS", 234)
        received = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sock.sendall(b"NOOP\r\n" * 10)
            while block := client.sock.recv(4096):
                received += block
        assert b"200" not in received


def test_logins_wait_for_tls_where_it_is_required(
    root: Path, files: Files, trusting: ssl.SSLContext
) -> None:
    arguments = ("--root", str(root), "--user", "user:12345", "--require-tls")
    with (
        Cluster(*arguments, "--tls-cert", str(files.server)) as cluster,
        Dialogue(cluster.port) as client,
    ):
        client.says("USER user", 530)
        client.says("PASS 12345", 503)
        client.says("AUTH TLS", 234)
        client.sock = trusting.wrap_socket(client.sock, server_hostname="localhost")
        client.logs_in()


def test_a_port_of_its_own_begins_with_tls(root: Path, files: Files) -> None:
    (root / "file").write_bytes(os.urandom(300_000))
    arguments = ("--workers", "2", "--root", str(root), "--implicit-tls-port", "0")
    with Cluster(*arguments, "--tls-cert", str(files.server), "--host", "127.0.0.1") as cluster:
        port = cluster.log.split(" implicit TLS")[0].rpartition(":")[2]
        curl = ("curl", "-sS", "--cacert", str(files.authority), "-o", str(root / "copy"))
        drive(*curl, f"ftps://127.0.0.1:{port}/file", home=root)
    assert (root / "copy").read_bytes() == (root / "file").read_bytes()


@pytest.mark.parametrize("program", ["curl", "lftp"])
def test_real_clients_upload_and_download(
    explicit: int, root: Path, files: Files, tmp_path: Path, program: str
) -> None:
    content = os.urandom(6_000_000)
    (tmp_path / "up").write_bytes(content)
    if program == "curl":
        url = f"ftp://user:12345@127.0.0.1:{explicit}"
        curl = ("curl", "-sS", "--ssl-reqd", "--cacert", str(files.authority))
        drive(*curl, "-T", str(tmp_path / "up"), f"{url}/file", home=tmp_path)
        drive(*curl, "-o", str(tmp_path / "down"), f"{url}/file", home=tmp_path)
    else:
        script = (
            f"set ssl:ca-file {files.authority}; set ftp:ssl-force yes; "
            f"set ftp:ssl-protect-data yes; set net:max-retries 1; "
            f"open -u user,12345 ftp://127.0.0.1:{explicit}; "
            f"put {tmp_path}/up -o file; get file -o {tmp_path}/down"
        )
        drive("lftp", "-c", script, home=tmp_path)
    assert (root / "file").read_bytes() == content
    assert (tmp_path / "down").read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--require-tls",), "--require-tls needs --tls-cert"),
        (("--tls-key", "key"), "--tls-key needs --tls-cert"),
        (("--implicit-tls-port", "990"), "--implicit-tls-port needs --tls-cert"),
        (("--tls-cert", "missing.pem"), "missing.pem: No such file or directory"),
        (("--tls-cert", __file__), "expected a certificate and its key in PEM form"),
    ],
)
def test_wrong_certificates_are_named(root: Path, arguments: tuple[str, ...], says: str) -> None:
    cluster = Cluster("--root", str(root), *arguments)
    assert cluster.wait() == 2
    assert len(cluster.log.splitlines()) == 1, cluster.log
    assert says in cluster.log
