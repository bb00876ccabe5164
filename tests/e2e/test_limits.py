"""What holds for the whole server, however many processes it has."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import (
    Cluster,
    begin_download,
    children,
    fill,
    loop_of,
    open_files,
    restore,
    starve,
    until,
)
from tests.support.dialogue import Dialogue, reset
from tests.support.tree import make_file


@pytest.fixture
def arguments(root: Path) -> tuple[str, ...]:
    make_file(root / "file", 16 << 20)
    (root / "small").write_bytes(b"content")
    return "--workers", "2", "--root", str(root), "--user", "user:12345", "--writable"


@pytest.fixture
def cluster(arguments: tuple[str, ...]) -> Iterator[Cluster]:
    with Cluster(*arguments) as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


def test_of_60_connections_at_once_exactly_20_are_let_in(arguments: tuple[str, ...]) -> None:
    with Cluster(*arguments, "--max-connections", "20") as cluster:
        socks = [socket.socket() for _ in range(60)]
        try:
            for sock in socks:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", cluster.port))
            codes = [first_line(sock)[:3] for sock in socks]
            assert sorted(codes) == [b"220"] * 20 + [b"421"] * 40
            for sock, code in zip(socks, codes, strict=True):
                assert code == b"220" or sock.recv(1) == b""
        finally:
            for sock in socks:
                sock.close()
        for client in fill(cluster.port, 20):
            client.sock.close()


def test_the_log_tells_of_every_connection_that_was_refused(arguments: tuple[str, ...]) -> None:
    """Also of those that came within the second after it told of the first one."""
    refused = re.compile(r"refused (\d+) connections? \(address full\)")
    with Cluster(*arguments, "--max-connections-per-address", "1") as cluster:
        with Dialogue(cluster.port):
            for _ in range(6):
                with Dialogue(cluster.port, greeting=421):
                    pass
            until(lambda: sum(map(int, refused.findall(cluster.log))) == 6)


def first_line(sock: socket.socket) -> bytes:
    sock.settimeout(20)
    line = b""
    while not line.endswith(b"\n"):
        data = sock.recv(4096)
        assert data, line
        line += data
    return line


def test_300_connections_of_all_kinds_leave_no_descriptor_behind(
    cluster: Cluster, root: Path
) -> None:
    processes = (cluster.pid, *cluster.workers())

    def kinds_of_sessions(count: int) -> None:
        for number in range(count):
            with Dialogue(cluster.port, ("127.0.0.1", "::1")[number % 2]) as client:
                if number % 8 == 0:
                    continue  # leaves without a word
                client.logs_in()
                assert client.downloads("RETR small") == b"content"
                client.uploads("STOR other", b"x" * 10)
                if number % 8 == 1:
                    begin_download(client, "file").close()
                    client.expects(426)
                elif number % 8 == 2:
                    client.says("EPSV", 229)  # and never uses it
                elif number % 8 == 3:
                    reset(begin_download(client, "file"))
                    reset(client.sock)
                elif number % 8 == 4:
                    client.downloads("MLSD")
                    client.says("RETR missing", 550)
                else:
                    client.says("QUIT", 221)

    def counts() -> list[int]:
        return [len(open_files(pid)) for pid in processes]

    kinds_of_sessions(40)
    settle(cluster)
    idle = counts()
    kinds_of_sessions(300)
    settle(cluster)
    until(lambda: all(now <= then for now, then in zip(counts(), idle, strict=True)))


def settle(cluster: Cluster) -> None:
    """Come back when no session is left, and the workers' pools of data ports are full."""
    until(lambda: not established(cluster.port))
    for host in ("127.0.0.1", "::1"):
        with Dialogue(cluster.port, host) as one, Dialogue(cluster.port, host) as other:
            serving = {cluster.worker_of(client.sock) for client in (one, other)}
            assert serving == set(cluster.workers())
            for client in (one, other):
                client.logs_in()
                for _ in range(40):  # 32 are kept
                    client.downloads("RETR small")
                client.says("QUIT", 221)
    until(lambda: not established(cluster.port))


def established(port: int) -> list[str]:
    """The control connections that the server holds open."""
    lines = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            listens = fields[3] == "0A"
            if int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0" and not listens:
                lines.append(line)
    return lines


def test_workers_without_descriptors_cost_a_421_and_no_slot(
    arguments: tuple[str, ...],
) -> None:
    with Cluster(*arguments, "--max-connections", "10") as cluster:
        workers = cluster.workers()
        for worker in workers:
            starve(worker)
        for _ in range(30):
            with Dialogue(cluster.port, greeting=421) as client:
                assert client.is_closed()
        for worker in workers:
            restore(worker)
        for client in fill(cluster.port, 10):
            client.sock.close()
        assert set(cluster.workers()) == set(workers)


def test_no_process_but_supervisor_workers_and_the_fork_server_is_started(cluster: Cluster) -> None:
    """Each more would be one more to die: a manager process of multiprocessing above all."""
    others = set(children(cluster.pid)) - set(cluster.workers())
    assert [Path(f"/proc/{pid}/comm").read_text() for pid in others] == ["ftp-fork-server\n"]


@pytest.mark.parametrize("before_retr", [True, False])
def test_a_data_connection_from_another_address_gets_nothing(
    cluster: Cluster, root: Path, before_retr: bool
) -> None:
    with Dialogue(cluster.port) as client:
        client.logs_in()
        match = re.search(r"\(\|\|\|(\d+)\|\)", client.says("EPSV", 229))
        assert match is not None
        where = ("127.0.0.1", int(match[1]))
        if not before_retr:
            client.says("RETR small", 150)
        with socket.create_connection(where, 20, source_address=("127.0.0.2", 0)) as intruder:
            if before_retr:
                client.says("RETR small", 150)
            assert is_dropped(intruder)
            with socket.create_connection(where, 20) as data:
                assert data.makefile("rb").read() == b"content"
        client.expects(226)


def is_dropped(sock: socket.socket) -> bool:
    assert select.select([sock], [], [], 20)[0]
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_loop_that_was_asked_for_serves(
    arguments: tuple[str, ...], root: Path, loop: str
) -> None:
    content = (root / "file").read_bytes()
    with Cluster(*arguments, "--loop", loop) as cluster:
        for pid in (cluster.pid, *cluster.workers()):
            assert loop_of(pid) == loop
        for host in ("127.0.0.1", "::1"):
            with Dialogue(cluster.port, host) as client:
                client.logs_in()
                assert client.downloads("RETR file") == content
                client.uploads("STOR copy", content)
                assert (root / "copy").read_bytes() == content
                client.says("QUIT", 221)
        assert cluster.stop() == 0
    assert "Traceback" not in cluster.log, cluster.log
