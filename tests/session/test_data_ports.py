"""A range of data ports (protocol.md, “Data connections”): shared out, run out, come back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from ftpcluster.config import Config, Data, WorkerConfig
from ftpcluster.net import passive
from tests.session.conftest import Maker
from tests.support.cluster import Cluster
from tests.support.dialogue import DEADLINE, Dialogue
from tests.support.ports import HOST, bind_range, bound

CONTENT = os.urandom(200_000)
AUTHORITY = trustme.CA()

Reserve = Callable[[int], list[int]]


@pytest.fixture
def reserve() -> Iterator[Reserve]:
    """Ports that nobody else gets while the test runs."""
    with contextlib.ExitStack() as stack:

        def reserve(count: int) -> list[int]:
            return [stack.enter_context(bound(0)).getsockname()[1] for _ in range(count)]

        yield reserve


@pytest.fixture
def reserve_range() -> Iterator[Callable[[int], tuple[int, str]]]:
    """The same for ports next to each other: the first one, and what ``--data-ports`` takes."""
    with contextlib.ExitStack() as stack:

        def reserve(count: int) -> tuple[int, str]:
            first = bind_range(stack, count)
            return first, f"{first}-{first + count - 1}"

        yield reserve


def in_cluster(directory: Path, span: str) -> Cluster:
    arguments = ("--workers", "2", "--root", str(directory), "--user", "user:12345", "--writable")
    return Cluster(*arguments, "--data-ports", span, hosts=(HOST,))


# ---------------------------------------------------------------------- shared out


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [8, 9, 10, 100])
def test_workers_share_the_range_and_no_port_of_it(workers: int, count: int) -> None:
    """“spread over the workers so that they never race for one”"""
    config = Config(workers=workers, data=Data(ports=(50_000, 50_000 + count - 1)))
    places = [WorkerConfig(index=index, config=config) for index in range(workers)]
    shares = [list(place.data_ports or ()) for place in places]
    assert sorted(port for share in shares for port in share) == list(range(50_000, 50_000 + count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_a_range_workers_have_none() -> None:
    assert WorkerConfig(index=0, config=Config(workers=1)).data_ports is None


def test_with_a_small_range_all_transfers_of_parallel_clients_complete(
    tmp_path: Path, reserve_range: Callable[[int], tuple[int, str]]
) -> None:
    """“wait a moment for one”: eight clients at a time, two ports for each worker."""
    directory = tmp_path / "served"
    directory.mkdir()
    (directory / "file").write_bytes(CONTENT)
    first, span = reserve_range(4)
    begin = threading.Barrier(8)
    used: set[int] = set()

    def work(number: int) -> None:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            begin.wait(DEADLINE)
            for turn in range(10):
                port = client.epsv()
                used.add(port)
                with socket.create_connection((HOST, port), DEADLINE) as data:
                    if turn % 2:
                        client.says("RETR file", 150)
                        assert b"".join(iter(lambda: data.recv(1 << 16), b"")) == CONTENT
                    else:
                        client.says(f"STOR new-{number}-{turn}", 150)
                        data.sendall(CONTENT)
                client.expects(226)
            client.says("QUIT", 221)

    with in_cluster(directory, span) as cluster, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert used == set(range(first, first + 4))
    expected = hashlib.sha256(CONTENT).digest()
    stored = [path for path in directory.iterdir() if path.name != "file"]
    assert len(stored) == 40
    assert all(hashlib.sha256(path.read_bytes()).digest() == expected for path in stored)
    assert "Traceback" not in cluster.log


def test_a_worker_whose_share_others_hold_ends_the_session_and_the_other_one_serves(
    tmp_path: Path, reserve_range: Callable[[int], tuple[int, str]]
) -> None:
    """“an empty range, or one whose ports others hold: 421”: a worker takes none of another's."""
    first, span = reserve_range(4)
    with contextlib.ExitStack() as stack:
        for port in (first, first + 2):  # all that the first worker has
            stack.enter_context(socket.create_server((HOST, port)))
        cluster = stack.enter_context(in_cluster(tmp_path, span))
        clients = [stack.enter_context(Dialogue(cluster.port)) for _ in range(2)]
        assert len({cluster.worker_of(client.sock) for client in clients}) == 2
        outcomes = []
        for client in clients:
            client.logs_in()
            client.send("EPSV")
            code, _ = client.reply()
            outcomes.append((code, code == 421 and client.is_closed()))
            if code == 229:
                assert client.epsv() in (first + 1, first + 3)
        assert sorted(outcomes) == [(229, False), (421, True)]


def test_the_log_says_once_that_other_programs_hold_all_data_ports(
    tmp_path: Path, reserve_range: Callable[[int], tuple[int, str]]
) -> None:
    """What the administrator has to know, since clients only see sessions that end."""
    port, span = reserve_range(1)
    arguments = ("--workers", "1", "--root", str(tmp_path), "--data-ports", span)
    with (
        socket.create_server(("0.0.0.0", port)),
        Cluster(*arguments, hosts=(HOST,)) as cluster,
    ):
        for _ in range(3):
            with Dialogue(cluster.port) as client:
                client.logs_in("anonymous", "")
                client.says("EPSV", 421)
                assert client.is_closed()
        cluster.stop()
        assert cluster.log.count("other programs hold all data ports") == 1
        line = next(line for line in cluster.log.splitlines() if "other programs" in line)
        assert "WARNING" in line
        assert span in line


def test_ports_that_old_sessions_hold_cost_nobody_a_session(
    tmp_path: Path, reserve_range: Callable[[int], tuple[int, str]]
) -> None:
    """After a reload the workers before still have their sessions, and these their ports."""
    _, span = reserve_range(2)
    with contextlib.ExitStack() as stack, in_cluster(tmp_path, span) as cluster:
        old = [stack.enter_context(Dialogue(cluster.port)) for _ in range(2)]
        for client in old:
            client.logs_in()
            client.epsv()
        assert " reloaded: " in cluster.hang_up()
        new = [stack.enter_context(Dialogue(cluster.port)) for _ in range(2)]
        for client in new:
            client.logs_in()
            client.says("EPSV", 425)
            client.says("NOOP", 200)
        lines = [line for line in cluster.log.splitlines() if "hold all data ports" in line]
        assert len(lines) == 2  # one of each worker
        for line in lines:
            assert "WARNING" in line
            assert "sessions of workers that were replaced hold all data ports" in line
        for client in new:
            client.send("EPSV")
        for client in old:
            client.says("QUIT", 221)
        for client in new:
            client.expects(229)


# ---------------------------------------------------------------------- run out


@pytest.mark.parametrize("command", ["PASV", "EPSV"])
def test_ports_that_others_hold_do_not_count_as_pending(
    serve: Maker, reserve: Reserve, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """“Every port of the range pending for other sessions: wait a moment for one, then 425”: also
    where somebody else has the rest of the range."""
    monkeypatch.setattr(passive, "_WAIT_FOR_PORT", 0.1)
    free, busy = reserve(2)
    with socket.create_server((HOST, busy)):
        port = serve(data_ports=[free, busy])
        with Dialogue(port) as holder, Dialogue(port) as other:
            for client in (holder, other):
                client.logs_in()
            assert holder.epsv() == free
            other.says(command, 425)
            other.says("PWD", 257)
            other.says("LIST", 425)
            assert holder.downloads("NLST") == b""
            assert other.downloads("NLST") == b""


def test_all_who_wait_get_a_port_one_after_the_other(
    serve: Maker, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """“wait a moment for one”: in the order in which they came."""
    monkeypatch.setattr(passive, "_WAIT_FOR_PORT", DEADLINE)
    port = serve(data_ports=reserve(1))
    with contextlib.ExitStack() as stack:
        holder, *others = (stack.enter_context(Dialogue(port)) for _ in range(4))
        for client in (holder, *others):
            client.logs_in()
        holder.epsv()
        for client in others:
            client.send("NOOP\r\nEPSV")
            client.expects(200)  # and then it waits
        holder.says("ABOR", 225, 226)
        for client in others:
            client.expects(229)
            client.says("ABOR", 225, 226)


def test_one_who_leaves_while_it_waits_takes_no_port(
    serve: Maker, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passive, "_WAIT_FOR_PORT", DEADLINE)
    port = serve(data_ports=reserve(1))
    with Dialogue(port) as holder, Dialogue(port) as gone, Dialogue(port) as other:
        for client in (holder, gone, other):
            client.logs_in()
        holder.epsv()
        for client in (gone, other):
            client.send("NOOP\r\nEPSV")
            client.expects(200)
        gone.sock.close()
        holder.says("ABOR", 225, 226)
        other.expects(229)


def test_a_session_whose_own_port_is_the_last_gets_it_again(serve: Maker, reserve: Reserve) -> None:
    """“A new PASV/EPSV/PORT drops the old.”: it does not wait for itself."""
    port = serve(data_ports=reserve(1))
    with Dialogue(port) as client:
        client.logs_in()
        assert len({client.epsv(), client.pasv()[1], client.epsv()}) == 1


# ---------------------------------------------------------------------- come back


def test_port_drops_the_passive_one(serve: Maker, reserve: Reserve) -> None:
    """“A new PASV/EPSV/PORT drops the old.”: nobody listens there, and others may have it."""
    port = serve(data_ports=reserve(1))
    with Dialogue(port) as client, Dialogue(port) as other:
        for each in (client, other):
            each.logs_in()
        data_port = client.epsv()
        with socket.create_server((HOST, 0)) as listener:
            listener.settimeout(DEADLINE)
            where = listener.getsockname()[1]
            client.says(f"PORT 127,0,0,1,{where >> 8},{where & 255}", 200)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, data_port), DEADLINE)
            assert other.epsv() == data_port
            client.says("NLST", 150)
            listener.accept()[0].close()
            client.expects(226)


def test_every_port_of_the_range_comes_back(serve: Maker, reserve: Reserve) -> None:
    """library.md: “a port returns when its listener is no longer needed”: not one is lost."""
    ports = reserve(3)
    port = serve(data_ports=ports)
    with Dialogue(port) as client:
        client.logs_in()
        for _ in range(12):
            client.downloads("NLST")
            client.epsv()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Dialogue(port)) for _ in range(3)]
        for client in clients:
            client.logs_in()
        assert {client.epsv() for client in clients} == set(ports)


@pytest.mark.parametrize("end", ["transfer", "rubbish", "timeout", "EPSV", "ABOR", "QUIT", "REIN"])
def test_a_port_of_a_protected_data_connection_comes_back(
    serve: Maker, reserve: Reserve, end: str
) -> None:
    """The same where the connection is accepted before the command (“On a protected data
    connection the handshake begins when the connection is accepted”)."""
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost").configure_cert(server_side)
    client_side = ssl.create_default_context()
    AUTHORITY.configure_trust(client_side)
    port = serve(data_ports=reserve(1), tls=server_side, data_timeout=0.5)
    with Dialogue(port) as holder, Dialogue(port) as other:
        other.logs_in()
        holder.says("AUTH TLS", 234)
        holder.sock = client_side.wrap_socket(holder.sock, server_hostname="localhost")
        holder.says("PBSZ 0", 200)
        holder.says("PROT P", 200)
        holder.logs_in()
        data_port = holder.epsv()
        if end == "transfer":
            with socket.create_connection((HOST, data_port), DEADLINE) as data:
                with client_side.wrap_socket(data, server_hostname="localhost") as protected:
                    holder.says("NLST", 150)
                    assert protected.recv(100) == b""
            holder.expects(226)
        elif end == "rubbish":
            with socket.create_connection((HOST, data_port), DEADLINE) as data:
                data.sendall(b"this is no handshake\r\n")
                holder.says("NLST", 150)
                holder.expects(425)
        elif end == "timeout":
            holder.says("NLST", 150)
            holder.expects(425)
        elif end == "EPSV":
            assert holder.epsv() == data_port
            holder.says("ABOR", 225, 226)
        else:
            holder.says(end, 220, 221, 225, 226)
        assert other.downloads("NLST") == b""
