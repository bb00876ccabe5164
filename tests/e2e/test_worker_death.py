"""Workers that are killed: what they held is lost, and nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import argon2
import pytest

from tests.support.cluster import SPAWNED, Cluster, begin_download, fill, until
from tests.support.configured import configured
from tests.support.dialogue import Dialogue
from tests.support.driver import Driven
from tests.support.tree import digest, make_file

SIZE = 16 << 20
TRANSFERS = 50
LIMIT = 70
DIED = re.compile(r"worker \d+ \(pid (\d+)\) died; (\d+) sessions ended with it")


@pytest.fixture
def cluster(root: Path) -> Iterator[Cluster]:
    make_file(root / "file", SIZE)
    arguments = ("--root", str(root), "--user", "user:12345", "--max-connections", str(LIMIT))
    with Cluster("--workers", "2", *arguments) as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


def read_all(data: socket.socket) -> tuple[int, str]:
    """How much came until the connection ended, however it did, and its SHA-256."""
    count, sha = 0, hashlib.sha256()
    try:
        while block := data.recv(1 << 20):
            count += len(block)
            sha.update(block)
    except ConnectionResetError:
        pass
    return count, sha.hexdigest()


def newcomer(cluster: Cluster, known: set[int]) -> int:
    """The worker that was not there before, once it is."""
    return until(lambda: next(iter(set(cluster.workers()) - known), None))


def test_a_killed_worker_ends_its_own_transfers_and_no_others(cluster: Cluster, root: Path) -> None:
    expected = digest(root / "file")
    transfers: list[tuple[Dialogue, socket.socket]] = []
    for _ in range(TRANSFERS):
        client = Dialogue(cluster.port)
        client.logs_in()
        transfers.append((client, begin_download(client, "file")))
    serving = [cluster.worker_of(client.sock) for client, _ in transfers]
    victim, survivor = cluster.workers()
    assert serving.count(victim) == serving.count(survivor) == TRANSFERS // 2

    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    with Dialogue(cluster.port) as client:
        client.logs_in()
        assert client.says("SIZE file", 213).split()[1] == str(SIZE)
    assert time.monotonic() - killed < 20

    for (client, data), worker in zip(transfers, serving, strict=True):
        if worker == victim:
            assert client.is_closed()
            with data:
                assert read_all(data)[0] < SIZE
            client.sock.close()
    # exactly once: the survivor's half still counts, the victim's does not
    held = fill(cluster.port, LIMIT - TRANSFERS // 2)
    for (client, data), worker in zip(transfers, serving, strict=True):
        if worker == survivor:
            with data:
                assert read_all(data) == (SIZE, expected)
            client.expects(226)
            client.says("QUIT", 221)
            client.sock.close()
    for client in held:
        client.sock.close()
    for client in fill(cluster.port, LIMIT):
        client.sock.close()
    died = DIED.search(cluster.log)
    assert died is not None
    assert died.groups() == (str(victim), str(TRANSFERS // 2))


def test_a_new_worker_takes_the_place_of_a_killed_one(cluster: Cluster) -> None:
    before = cluster.workers()
    os.kill(before[0], signal.SIGKILL)
    new = newcomer(cluster, set(before))

    def it_serves() -> bool:
        clients = [Dialogue(cluster.port) for _ in range(2)]
        try:
            return new in [cluster.worker_of(client.sock) for client in clients]
        finally:
            for client in clients:
                client.says("QUIT", 221)
                client.sock.close()

    assert until(it_serves)
    assert cluster.log.count("ready on") == 1


def test_a_worker_that_dies_again_and_again_is_restarted_later_each_time(cluster: Cluster) -> None:
    steady, victim = cluster.workers()
    delays = []
    for _ in range(4):
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        with Dialogue(cluster.port) as client:  # the other one serves all the while
            client.logs_in()
        victim = newcomer(cluster, {steady, victim})
        delays.append(time.monotonic() - killed)
    # a timer does not fire early, but a slow machine may start the process late
    least = (0.075, 0.15, 0.3, 0.6)  # chance takes up to a quarter off
    assert all(delay >= bound for delay, bound in zip(delays, least, strict=True))
    until(lambda: len(DIED.findall(cluster.log)) == 4)
    with Dialogue(cluster.port) as client:
        client.logs_in()
        assert len(client.downloads("RETR file")) == SIZE


def test_connections_are_served_when_all_workers_die_at_once(cluster: Cluster) -> None:
    for worker in cluster.workers():
        os.kill(worker, signal.SIGKILL)
    with Dialogue(cluster.port) as client:
        client.logs_in()
        client.says("QUIT", 221)


def test_a_connection_given_to_a_stopped_worker_is_served_by_another_when_that_dies(
    cluster: Cluster,
) -> None:
    stopped, other = cluster.workers()
    os.kill(stopped, signal.SIGSTOP)
    clients = [Dialogue(cluster.port, greeting=None) for _ in range(4)]
    # two of the four wait where nobody answers; the others are greeted
    until(lambda: sum(is_greeted(client) for client in clients) == 2)
    os.kill(stopped, signal.SIGKILL)
    for client in clients:
        client.expects(220)
        client.says("NOOP", 200)
        client.sock.close()
    assert other in cluster.workers()


def is_greeted(client: Dialogue) -> bool:
    return bool(select.select([client.sock], [], [], 0)[0])


def test_workers_that_cannot_start_end_the_server_with_the_reason(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'spawn_main' in ' '.join(sys.orig_argv):\n"
        "    os.write(2, b'something is broken here\\n')\n"
        "    os._exit(3)\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), **SPAWNED}
    cluster = Cluster("--root", str(root), "--workers", "2", env=environment)
    try:
        assert cluster.wait() == 1
    finally:
        cluster.process.kill()
        cluster.wait()
    assert "something is broken here\n" in cluster.log
    assert cluster.log.count("ended before it could serve; the reason stands above") == 1
    assert "Traceback" not in cluster.log
    until(lambda: not cluster.processes())


def many_users(directory: Path) -> str:
    """A configuration that is larger than what a pipe takes."""
    password = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")
    return "".join(
        f'[[user]]\nlogin = "user{number}"\npassword = "{password}"\nroot = "{directory}"\n'
        for number in range(1000)
    )


def before_it_reads(directory: Path, does: str) -> dict[str, str]:
    """Let workers begin with ``does``, from when on there is a file ``flaw`` in the directory."""
    flaw = str(directory / "flaw")
    (directory / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        f"if 'spawn_main' in ' '.join(sys.orig_argv) and os.path.exists({flaw!r}):\n"
        f"    {does}\n"
    )
    return {"PYTHONPATH": str(directory), **SPAWNED}


def test_workers_that_die_before_they_read_a_large_configuration_end_the_boot(
    root: Path, tmp_path: Path
) -> None:
    environment = before_it_reads(tmp_path, "os._exit(3)")
    (tmp_path / "flaw").touch()
    file = tmp_path / "ftpcluster.toml"
    file.write_text(many_users(root))
    cluster = Cluster("-c", str(file), "--workers", "2", env=environment)
    try:
        assert cluster.wait() == 1
    finally:
        cluster.process.kill()
        cluster.wait()
    assert "ended before it could serve" in cluster.log


def test_a_worker_that_stops_before_it_reads_a_large_configuration_keeps_nobody_waiting(
    root: Path, tmp_path: Path
) -> None:
    environment = before_it_reads(tmp_path, "os.kill(os.getpid(), signal.SIGSTOP)")
    with configured(tmp_path, many_users(root), env=environment) as cluster:
        (tmp_path / "flaw").touch()
        victim, other = cluster.workers()
        os.kill(victim, signal.SIGKILL)
        stopped = newcomer(cluster, {victim, other})
        until(lambda: state(stopped) == "T")
        with Dialogue(cluster.port) as client:
            assert cluster.worker_of(client.sock) == other
            os.kill(stopped, signal.SIGCONT)
            until(lambda: server_of_another(cluster) == stopped)


def state(pid: int) -> str:
    """That of a process, as ps shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def server_of_another(cluster: Cluster) -> int:
    """The worker that gets the next connection."""
    with Dialogue(cluster.port) as client:
        return cluster.worker_of(client.sock)


def test_one_worker_is_drained_and_replaced_alone(tmp_path: Path) -> None:
    content = os.urandom(16 << 20)
    (tmp_path / "file").write_bytes(content)
    arguments = ["--workers", "2", "--root", str(tmp_path), "--user", "user:12345"]
    with Driven(*arguments) as cluster:
        with Dialogue(cluster.port) as one, Dialogue(cluster.port) as other:
            for client in (one, other):
                client.logs_in()
            drained, steady = cluster.worker_of(one.sock), cluster.worker_of(other.sock)
            with begin_download(one, "file") as data:
                begin = data.recv(1000)
                assert cluster.drain(1)
                new = newcomer(cluster, {drained, steady})
                cluster.wait_for(re.compile(rf"worker 1 \(pid {drained}\) is replaced: on order"))
                until(lambda: new in {server_of_another(cluster) for _ in range(2)})
                assert drained not in {server_of_another(cluster) for _ in range(4)}
                assert begin + b"".join(iter(lambda: data.recv(1 << 16), b"")) == content
            one.expects(226)
            one.says("QUIT", 221)
            until(lambda: sorted(cluster.workers()) == sorted([steady, new]))
            other.says("NOOP", 200)
