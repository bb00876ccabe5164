"""Active data connections from one port: protocol.md, "Data connections"."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster import Server
from tests.session.conftest import Maker
from tests.support.cluster import Cluster
from tests.support.dialogue import DEADLINE, Dialogue, rest_of
from tests.support.ports import bound
from tests.support.programs import TIMEOUT, need
from tests.support.unprivileged import PACKAGES, python_for_nobody

_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_CAP_NET_BIND_SERVICE = 1 << 10


@pytest.fixture
def reserved() -> Iterator[int]:
    """A port that nobody else gets."""
    with bound(0) as sock:
        yield sock.getsockname()[1]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        yield listener


def accepted(client: Dialogue, listener: socket.socket, command: str) -> tuple[socket.socket, int]:
    """The data connection of a command, and the port that it comes from."""
    client.says(f"EPRT |1|127.0.0.1|{listener.getsockname()[1]}|", 200)
    client.says(command, 150)
    data, (_, port) = listener.accept()
    return data, port


def uploads(client: Dialogue, listener: socket.socket) -> int:
    data, port = accepted(client, listener, "STOR file")
    data.sendall(b"content")
    data.close()
    client.expects(226)
    return port


def downloads(client: Dialogue, listener: socket.socket) -> int:
    data, port = accepted(client, listener, "RETR file")
    assert rest_of(data) == b"content"
    data.close()
    client.expects(226)
    return port


def test_data_connections_come_from_it(
    serve: Maker, reserved: int, listener: socket.socket
) -> None:
    with Dialogue(serve(active_port=reserved)) as client:
        client.logs_in()
        assert [uploads(client, listener) for _ in range(3)] == [reserved] * 3
        assert downloads(client, listener) == reserved


def test_sessions_use_it_at_the_same_time(serve: Maker, reserved: int) -> None:
    port = serve(active_port=reserved)
    with contextlib.ExitStack() as stack:
        for number in range(5):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            client = stack.enter_context(Dialogue(port))
            client.logs_in()
            data, source = accepted(client, listener, f"STOR {number}")
            stack.enter_context(data)
            assert source == reserved


def test_a_port_that_is_still_busy_costs_no_transfer(
    serve: Maker, reserved: int, listener: socket.socket
) -> None:
    """The server closes downloads first, so it is its side that remembers them for a minute."""
    with Dialogue(serve(active_port=reserved)) as client:
        client.logs_in()
        uploads(client, listener)
        assert downloads(client, listener) == reserved
        for _ in range(5):  # from another port, or on a slow machine from the same one
            downloads(client, listener)
    with socket.create_server(("127.0.0.1", 0)) as another, Dialogue(serve.made[0].port) as client:
        client.logs_in()
        assert downloads(client, another) == reserved


def test_a_program_that_listens_there_costs_no_transfer(
    serve: Maker, listener: socket.socket
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        with Dialogue(serve(active_port=other.getsockname()[1])) as client:
            client.logs_in()
            uploads(client, listener)
            downloads(client, listener)


@pytest.mark.parametrize("value", [0, -1, 65536, "ftp-data", 20.5, True])
def test_what_is_no_port_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="active_port: expected a port from 1 to 65535"):
        Server(active_port=value)  # type: ignore[arg-type]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that anybody may reach; pytest's own are for its user."""
    directory = Path(tempfile.mkdtemp(dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def low_port() -> int:
    """A privileged port that nobody uses."""
    first = int(_UNPRIVILEGED.read_text())
    for port in range(700, min(first, 1024)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("0.0.0.0", port))
            return port
    pytest.skip("no port of this machine is for root alone")


@pytest.mark.parametrize("run_as", ["root", "nobody"])
def test_workers_may_use_a_privileged_port(
    place: Path, listener: socket.socket, run_as: str
) -> None:
    python, port = python_for_nobody(), low_port()
    shutil.chown(place, run_as)
    flags = () if run_as == "root" else ("--run-as", run_as)
    accounts = ("--user", "user:12345", "--writable", "--root", str(place))
    env = {"PYTHONPATH": ":".join(PACKAGES), "FTPCLUSTER__DATA__ACTIVE_PORT": str(port)}
    with Cluster("--workers", "2", *flags, *accounts, python=python, env=env) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            assert [uploads(client, listener) for _ in range(3)] == [port] * 3
            assert downloads(client, listener) == port
        if run_as == "nobody":
            for pid in (cluster.pid, *cluster.workers()):
                status = Path(f"/proc/{pid}/status").read_text()
                permitted = status.partition("CapPrm:")[2].split()[0]
                assert int(permitted, 16) == _CAP_NET_BIND_SERVICE
            assert " reloaded: " in cluster.hang_up()
            with Dialogue(cluster.port) as client:
                client.logs_in()
                assert uploads(client, listener) == port


def test_whoever_may_not_use_the_port_is_told_at_the_start(place: Path) -> None:
    python, port = python_for_nobody(), low_port()
    command = [need("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups", python]
    command += ["-m", "ftpcluster", "run", "--port", "0", "--user", "user:12345"]
    command += ["--root", str(place)]
    env = {**os.environ, "PYTHONPATH": ":".join(PACKAGES)}
    env |= {"FTPCLUSTER__DATA__ACTIVE_PORT": str(port), "FTPCLUSTER__ADMIN__ENABLED": "false"}
    done = subprocess.run(
        command, env=env, cwd="/", capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 2, done.stderr
    why = f"port {port} cannot be used: Permission denied; start the server as root"
    assert f"FTPCLUSTER__DATA__ACTIVE_PORT: {why}" in done.stderr
    assert "Traceback" not in done.stderr
