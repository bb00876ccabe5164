"""Active mode and REIN: protocol.md, "Data connections" and "Login"."""

from __future__ import annotations

import ftplib
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.session.conftest import Maker
from tests.support.dialogue import Dialogue
from tests.support.programs import drive


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where the client waits for the data connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener


def port_argument(listener: socket.socket, host: str = "127.0.0.1") -> str:
    port = listener.getsockname()[1]
    return f"{host.replace('.', ',')},{port >> 8},{port & 255}"


def test_the_server_connects_when_the_transfer_starts(
    client: Dialogue, root: Path, listener: socket.socket
) -> None:
    (root / "file").write_bytes(b"content")
    client.says(f"PORT {port_argument(listener)}", 200)
    client.says("RETR file", 150)
    data, peer = listener.accept()
    with data:
        assert peer[0] == "127.0.0.1"
        assert data.recv(100) == b"content"
        assert data.recv(100) == b""
    client.expects(226)
    client.says("RETR file", 425)


def test_uploads_and_listings_go_over_it_too(
    client: Dialogue, root: Path, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    client.says(f"EPRT |1|127.0.0.1|{port}|", 200)
    client.says("STOR file", 150)
    with listener.accept()[0] as data:
        data.sendall(b"content")
    client.expects(226)
    assert (root / "file").read_bytes() == b"content"
    client.says(f"EPRT |1|127.0.0.1|{port}|", 200)
    client.says("NLST", 150)
    with listener.accept()[0] as data:
        assert data.recv(100) == b"file\r\n"
    client.expects(226)


def test_a_port_where_nobody_listens_is_425(client: Dialogue, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        argument = port_argument(gone)
    client.says(f"PORT {argument}", 200)
    client.says("RETR file", 150)
    client.expects(425)
    client.says("NOOP", 200)


@pytest.mark.parametrize(
    "argument",
    [
        "127,0,0,2,200,200",  # somebody else
        "10,0,0,1,200,200",
        "127,0,0,1,0,80",  # a port where a service could be
        "127,0,0,1,3,255",
        "127,0,0,1,256,1",
        "127,0,0,1,1",
        "127,0,0,1,1,1,1",
        "127.0.0.1,200,200",
        "a,b,c,d,e,f",
        "-1,0,0,1,200,200",
        "١٢٧,0,0,1,200,200",
    ],
)
def test_port_to_others_to_low_ports_or_malformed_is_501(client: Dialogue, argument: str) -> None:
    client.says(f"PORT {argument}", 501)
    client.says("LIST", 425)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("|1|127.0.0.2|50000|", 501),
        ("|2|::1|50000|", 501),
        ("|1|127.0.0.1|80|", 501),
        ("|1|127.0.0.1|0|", 501),
        ("|1|127.0.0.1|65536|", 501),
        ("|1|127.0.0.1|50000", 501),
        ("|1|::1|50000|", 501),
        ("|1||50000|", 501),
        ("|", 501),
        ("|3|127.0.0.1|50000|", 522),
        ("|1|127.0.0.1|5x|", 501),
    ],
)
def test_eprt_to_others_to_low_ports_or_malformed_is_refused(
    client: Dialogue, argument: str, code: int
) -> None:
    client.says(f"EPRT {argument}", code)


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "0:0:0:0:0:ffff:7f00:1"])
def test_an_ipv4_address_may_be_written_as_ipv6(
    client: Dialogue, root: Path, listener: socket.socket, host: str
) -> None:
    """EPRT addresses are compared as addresses, not as text."""
    client.says(f"EPRT |2|{host}|{listener.getsockname()[1]}|", 200)
    client.says("NLST", 150)
    listener.accept()[0].close()
    client.expects(226, 426)


def test_ipv6_has_active_mode_too(serve: Maker) -> None:
    (serve.directory / "file").write_bytes(b"content")
    port = serve(host="::1")
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listener,
        Dialogue(port, host="::1") as client,
    ):
        listener.settimeout(20)
        client.logs_in()
        client.says(f"EPRT |2|0:0:0:0:0:0:0:1|{listener.getsockname()[1]}|", 200)
        client.says("RETR file", 150)
        with listener.accept()[0] as data:
            assert data.recv(100) == b"content"
        client.expects(226)


def test_epsv_all_refuses_the_others(client: Dialogue, root: Path) -> None:
    client.says("EPSV ALL", 200)
    client.says("PASV", 503)
    client.says("PORT 127,0,0,1,200,200", 503)
    client.says("EPRT |1|127.0.0.1|50000|", 503)
    client.downloads("NLST")


def test_abor_ends_the_wait_for_a_client_that_does_not_answer(
    client: Dialogue, root: Path, listener: socket.socket
) -> None:
    """Here it answers, but never reads: 426, then 226."""
    (root / "file").write_bytes(os.urandom(20_000_000))
    client.says(f"PORT {port_argument(listener)}", 200)
    client.says("RETR file", 150)
    with listener.accept()[0]:
        client.send("ABOR")
        client.expects(426)
        client.expects(226)


def test_rein_begins_anew(client: Dialogue, root: Path) -> None:
    """USER or REIN while logged in logs out."""
    client.says("EPSV ALL", 200)
    client.says("REIN", 220)
    client.says("PWD", 530)
    client.logs_in(binary=False)
    client.says("PASV", 227)
    client.says("SIZE file", 550)  # TYPE is A again


def test_acct_is_superfluous(client: Dialogue) -> None:
    client.says("ACCT x", 202)
    client.says("ACCT", 501)


@pytest.mark.parametrize("program", ["ftplib", "curl", "lftp"])
def test_real_clients_in_active_mode(port: int, root: Path, tmp_path: Path, program: str) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "up").write_bytes(content)
    if program == "ftplib":
        with ftplib.FTP() as ftp:
            ftp.connect("127.0.0.1", port, timeout=20)
            ftp.login("user", "12345")
            ftp.set_pasv(False)
            ftp.storbinary("STOR file", io.BytesIO(content))
            with open(tmp_path / "down", "wb") as down:
                ftp.retrbinary("RETR file", down.write)
    elif program == "curl":
        url = f"ftp://user:12345@127.0.0.1:{port}/file"
        drive("curl", "-sS", "-P", "127.0.0.1", "-T", tmp_path / "up", url, home=tmp_path)
        drive("curl", "-sS", "-P", "127.0.0.1", "-o", tmp_path / "down", url, home=tmp_path)
    else:
        script = (
            "set ftp:passive-mode no; set net:max-retries 1; set net:timeout 20; "
            f"open -u user,12345 ftp://127.0.0.1:{port}; "
            f"put {tmp_path}/up -o file; get file -o {tmp_path}/down"
        )
        drive("lftp", "-c", script, home=tmp_path)
    assert (root / "file").read_bytes() == content
    assert (tmp_path / "down").read_bytes() == content


def test_a_server_that_makes_no_connections_has_neither_port_nor_eprt(
    serve: Maker, listener: socket.socket
) -> None:
    with Dialogue(serve.with_settings(active=False)) as client:
        client.says(f"PORT {port_argument(listener)}", 530)
        client.logs_in()
        client.says(f"PORT {port_argument(listener)}", 502)
        client.says(f"EPRT |1|127.0.0.1|{listener.getsockname()[1]}|", 502)
        assert " EPRT" not in client.says("FEAT", 211).splitlines()
        assert client.downloads("NLST") == b""
