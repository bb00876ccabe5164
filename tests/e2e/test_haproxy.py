"""HAProxy in front of ``run --workers 2 --proxy-protocol``: the client stays who it is."""

from __future__ import annotations

import contextlib
import csv
import ftplib
import io
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import DEADLINE, Cluster, until
from tests.support.dialogue import rest_of
from tests.support.programs import need
from tests.support.tree import digest, make_file

CLIENT = "127.0.0.3"
VERSIONS = ("send-proxy", "send-proxy-v2")

# the listening sockets are inherited: nobody else can take their ports, and clients may come
# before HAProxy has started
CONFIGURATION = """
global
    maxconn 100
    stats socket {control} mode 600
defaults
    mode tcp
    timeout connect 20s
    timeout client 60s
    timeout server 60s
    option tcp-check
    tcp-check expect rstring ^220
    tcp-check send "QUIT\\r\\n"
    tcp-check expect rstring ^221
"""
SECTION = """
listen {version}
    bind fd@{fd}
    server ftp {host}:{port} {version} check inter 200ms
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that is served."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def cluster(served: Path) -> Iterator[Cluster]:
    need("haproxy")
    account = ("--root", str(served), "--user", "user:12345", "--writable")
    with Cluster("--workers", "2", *account, "--proxy-protocol", "127.0.0.1") as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


@dataclass
class HAProxy:
    """One that runs; it has a port for each version of the protocol."""

    ports: dict[str, int]
    control: Path

    def check_status(self, version: str) -> str:
        """What its last health check of the server behind that port said."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(DEADLINE)
            sock.connect(str(self.control))
            sock.sendall(b"show stat\n")
            answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        rows = csv.DictReader(io.StringIO(answer.decode().removeprefix("# ")))
        wanted = (version, "ftp")
        found = next(row for row in rows if (row["pxname"], row["svname"]) == wanted)
        return found["check_status"].removeprefix("* ")  # while another one runs


@pytest.fixture(scope="module")
def haproxy(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    directory = tmp_path_factory.mktemp("haproxy")
    control, log = directory / "control", directory / "log"
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in VERSIONS]
        text = CONFIGURATION.format(control=control)
        for version, listener in zip(VERSIONS, listeners, strict=True):
            text += SECTION.format(
                version=version, fd=listener.fileno(), host="127.0.0.1", port=cluster.port
            )
        (directory / "configuration").write_text(text)
        process = subprocess.Popen(
            [need("haproxy"), "-db", "-f", str(directory / "configuration")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stack.enter_context(log.open("wb")),
            pass_fds=[listener.fileno() for listener in listeners],
        )
        try:
            ports = [listener.getsockname()[1] for listener in listeners]
            for listener in listeners:
                listener.close()  # else who connects to an HAProxy that has died would wait
            until(lambda: control.exists() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield HAProxy(dict(zip(VERSIONS, ports, strict=True)), control)
            assert process.poll() is None, log.read_text()
        finally:
            process.terminate()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(DEADLINE)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(haproxy: HAProxy, version: str) -> Iterator[ftplib.FTP]:
    """A client with an address of its own, which makes its data connections itself."""
    with ftplib.FTP(timeout=DEADLINE, source_address=(CLIENT, 0)) as client:
        client.connect("127.0.0.1", haproxy.ports[version])
        client.login("user", "12345")
        yield client


@pytest.mark.parametrize("mode", ["passive", "active"])
def test_files_come_through_whole(
    client: ftplib.FTP, served: Path, tmp_path: Path, mode: str
) -> None:
    make_file(tmp_path / "up", 5_000_001)
    name = tmp_path.name
    client.set_pasv(mode == "passive")
    with (tmp_path / "up").open("rb") as file:
        client.storbinary(f"STOR {name}", file)
    assert digest(served / name) == digest(tmp_path / "up")
    with (tmp_path / "down").open("wb") as file:
        client.retrbinary(f"RETR {name}", file.write)
    assert digest(tmp_path / "down") == digest(tmp_path / "up")
    assert name in client.nlst()
    (served / name).unlink()


def test_the_session_is_the_client_s(client: ftplib.FTP) -> None:
    assert f"Connected from {CLIENT}\n" in client.sendcmd("STAT")


def test_a_failed_login_is_logged_with_the_client_s_address(
    haproxy: HAProxy, cluster: Cluster, version: str
) -> None:
    start = len(cluster.log)
    with ftplib.FTP(timeout=DEADLINE, source_address=(CLIENT, 0)) as client:
        client.connect("127.0.0.1", haproxy.ports[version])
        client.sendcmd("USER user")
        client.putcmd("PASS wrong")  # it is answered after 3 s, which need not be waited for
        cluster.wait_for(re.compile(rf"failed login of 'user' from {re.escape(CLIENT)}\b"), start)
        assert client.sock is not None
        client.sock.close()
        client.sock = None


def test_a_data_connection_from_the_proxy_s_own_address_gets_nothing(
    client: ftplib.FTP, served: Path
) -> None:
    """Where it does not say for whom it comes."""
    (served / "file").write_bytes(b"content")
    where = client.makepasv()
    with socket.create_connection(where, DEADLINE, ("127.0.0.1", 0)) as intruder:
        intruder.sendall(b"that is no header")
        client.sendcmd("RETR file")
        assert rest_of(intruder) == b""
        with socket.create_connection(where, DEADLINE, (CLIENT, 0)) as data:
            assert data.makefile("rb").read() == b"content"
        client.voidresp()


def test_health_checks_find_the_server_well(haproxy: HAProxy, version: str) -> None:
    """With version 2 they begin with LOCAL: the proxy speaks for itself."""
    until(lambda: haproxy.check_status(version) == "L7OK")


def test_nobody_gets_past_the_proxy(cluster: Cluster) -> None:
    """The server's own port is only for those who say for whom they come."""
    with socket.create_connection(("127.0.0.1", cluster.port), DEADLINE, (CLIENT, 0)) as sock:
        assert sock.recv(100) == b""
