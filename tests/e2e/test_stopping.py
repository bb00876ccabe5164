"""How a cluster ends: asked to, made to, or with its supervisor."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, begin_download, until
from tests.support.command import command
from tests.support.dialogue import Dialogue
from tests.support.tree import digest, make_file
from tests.support.xferlog import parse_all

SIGNALS = [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
ORPHANS_GONE = 15.0  # seconds; 10 are promised, the rest is for a machine under load


@pytest.fixture
def cluster(root: Path) -> Iterator[Cluster]:
    make_file(root / "file", 16 << 20)
    arguments = ("--workers", "2", "--root", str(root), "--user", "user:12345", "--writable")
    with Cluster(*arguments) as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


def send(cluster: Cluster, number: signal.Signals) -> None:
    """SIGTERM as a service manager sends it, SIGINT as a terminal does: to the whole group."""
    if number == signal.SIGINT:
        os.killpg(cluster.pid, number)
    else:
        os.kill(cluster.pid, number)


@pytest.mark.parametrize(("number", "exit_code"), SIGNALS)
def test_idle_sessions_are_told_421_and_the_server_ends(
    cluster: Cluster, number: signal.Signals, exit_code: int
) -> None:
    clients = [Dialogue(cluster.port, host) for host in ("127.0.0.1", "::1") for _ in range(2)]
    clients[0].logs_in()
    send(cluster, number)
    for client in clients:
        client.expects(421)
        assert client.is_closed()
        client.sock.close()
    assert cluster.wait() == exit_code
    until(lambda: not cluster.processes())


@pytest.mark.parametrize(("number", "exit_code"), SIGNALS)
def test_transfers_that_run_are_finished_before_the_server_ends(
    cluster: Cluster, root: Path, number: signal.Signals, exit_code: int
) -> None:
    with (
        Dialogue(cluster.port) as idle,
        Dialogue(cluster.port) as down,
        Dialogue(cluster.port) as up,
    ):
        down.logs_in()
        up.logs_in()
        data = begin_download(down, "file")
        upload = up.passive()
        up.says("STOR up", 150)
        upload.sendall(b"first ")
        send(cluster, number)
        idle.expects(421)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", cluster.port), 20)
        upload.sendall(b"last")
        upload.close()
        up.expects(226)
        with data:
            content = b"".join(iter(lambda: data.recv(1 << 20), b""))
        assert hashlib.sha256(content).hexdigest() == digest(root / "file")
        down.expects(226)
        for client in (down, up):
            client.expects(421)
            assert client.is_closed()
    assert (root / "up").read_bytes() == b"first last"
    assert cluster.wait() == exit_code


@pytest.mark.parametrize(("number", "exit_code"), SIGNALS)
def test_the_second_signal_does_not_wait_for_transfers(
    cluster: Cluster, number: signal.Signals, exit_code: int
) -> None:
    with Dialogue(cluster.port) as idle, Dialogue(cluster.port) as client:
        client.logs_in()
        with begin_download(client, "file"):
            send(cluster, number)
            idle.expects(421)  # the first has been understood
            begun = time.monotonic()
            send(cluster, number)
            assert cluster.wait() == exit_code
            assert time.monotonic() - begun < 20  # the grace alone is 30
            client.expects(421)
            assert client.is_closed()
    until(lambda: not cluster.processes())


CUT = """
workers = 1
[storage]
atomic_uploads = true
[log]
transfers = "xferlog"
[[user]]
login = "user"
password = "plain:12345"
root = "root"
permissions = [{ path = "/", read = true, write = true }]
"""


@pytest.mark.parametrize("how", ["stop --now", "SIGTERM twice"])
def test_transfers_that_are_not_waited_for_are_logged_and_leave_nothing(
    root: Path, tmp_path: Path, how: str
) -> None:
    make_file(root / "file", 16 << 20)
    file = tmp_path / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(CUT)
    with (
        Cluster("-c", str(file)) as cluster,
        Dialogue(cluster.port) as down,
        Dialogue(cluster.port) as up,
    ):
        down.logs_in()
        up.logs_in()
        with begin_download(down, "file"), up.begins("STOR up") as upload:
            upload.sendall(b"half of it")
            until(lambda: any(path.stat().st_size for path in root.glob(".up.*")))
            if how == "stop --now":
                assert (
                    command("stop", "--now", "--socket", cluster.admin, cwd=tmp_path).returncode
                    == 0
                )
            else:
                cluster.process.terminate()
                cluster.wait_for(re.compile("stopping"))
                cluster.process.terminate()
            assert cluster.wait() == 0
    assert [path.name for path in root.iterdir()] == ["file"]
    for name in ("file", "up"):
        assert re.search(rf'"/{name}".* cut', cluster.log), cluster.log
    transfers = parse_all((tmp_path / "xferlog").read_bytes())
    assert sorted((each.direction, each.completion) for each in transfers) == [
        ("i", "i"),
        ("o", "i"),
    ]


def test_interrupting_while_workers_start_shows_no_traceback(cluster: Cluster) -> None:
    """A worker that is being started hears Ctrl-C before it can say that it will not listen."""
    before = cluster.workers()
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    until(lambda: len(set(cluster.workers()) - set(before)) == 2)
    os.killpg(cluster.pid, signal.SIGINT)
    assert cluster.wait() == 130
    until(lambda: not cluster.processes())


@pytest.mark.parametrize("moment", range(6))
def test_interrupting_at_any_moment_of_the_start_shows_no_traceback(
    root: Path, moment: int
) -> None:
    cluster = Cluster("--workers", "2", "--root", str(root))
    try:
        # from the first worker's birth on, a little later each time
        until(cluster.workers)
        time.sleep(moment * 0.04)
        os.killpg(cluster.pid, signal.SIGINT)
        assert cluster.wait() == 130, cluster.log
        assert "Traceback" not in cluster.log, cluster.log
        until(lambda: not cluster.processes())
    finally:
        if cluster.process.poll() is None:
            cluster.process.kill()
            cluster.wait()


def test_nothing_outlives_a_killed_supervisor(cluster: Cluster, root: Path) -> None:
    with Dialogue(cluster.port) as client:
        client.logs_in()
        cluster.process.kill()
        with Cluster("--root", str(root), "--port", str(cluster.port)) as next_one:
            assert next_one.port == cluster.port
            client.expects(421)
            assert client.is_closed()
    until(lambda: not cluster.processes(), ORPHANS_GONE)


def test_neither_a_transfer_nor_a_stopped_worker_outlives_a_killed_supervisor(
    cluster: Cluster, root: Path
) -> None:
    transferring, stopped = cluster.workers()
    clients = []
    for _ in range(2):
        clients.append(client := Dialogue(cluster.port))
        client.logs_in()
    client = next(each for each in clients if cluster.worker_of(each.sock) == transferring)
    with begin_download(client, "file"):
        os.kill(stopped, signal.SIGSTOP)
        cluster.process.kill()
        killed = time.monotonic()
        with Cluster("--root", str(root), "--port", str(cluster.port)) as next_one:
            assert next_one.port == cluster.port
            assert transferring in cluster.processes()  # the transfer is given its grace
        until(lambda: not cluster.processes(), ORPHANS_GONE - (time.monotonic() - killed))
    for client in clients:
        client.sock.close()
