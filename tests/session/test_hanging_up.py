"""Clients that close the control connection while something of theirs runs, or waits.

protocol.md, “Half-closed clients”: what had arrived is obeyed, a transfer that runs goes on and
counts as it ends, and nothing of it is held for longer than the client moves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import argon2
import pytest

from ftpcluster import PathIO, User
from ftpcluster.session import control_connection, deadlines
from ftpcluster.session.counts import Counts
from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.configured import configured
from tests.support.dialogue import Dialogue, reset, rest_of
from tests.support.kinds import KINDS, Running, running

CONTENT = bytes(range(256)) * 12_000  # 3 MB
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("12345")


def close(sock: socket.socket) -> None:
    sock.close()


def half_close(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


ENDS = pytest.mark.parametrize("end", [close, half_close, reset])
End = Callable[[socket.socket], None]


def is_there(path: Path, content: bytes) -> None:
    until(lambda: path.exists() and path.read_bytes() == content)


def says_until_nobody_reads(client: Dialogue, line: bytes) -> None:
    """Say the same again and again, and read no replies, until the server reads no more, either."""
    client.sock.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        while True:
            client.sock.sendall(line * 1000)


# ---------------------------------------------------------------------- uploads


@ENDS
@pytest.mark.parametrize("size", [0, 20_000, len(CONTENT)])
@pytest.mark.parametrize("command", ["STOR file", "APPE file"])
def test_an_upload_whose_client_closes_both_connections_at_once_is_whole(
    port: int, root: Path, end: End, size: int, command: str
) -> None:
    content = CONTENT[:size]
    for _ in range(3):
        (root / "file").write_bytes(b"old" * 1000)
        with Dialogue(port) as client:
            client.logs_in()
            with client.begins(command) as data:
                data.sendall(content)
                data.close()
            end(client.sock)
            old = b"old" * 1000 if command.startswith("APPE") else b""
            is_there(root / "file", old + content)


@ENDS
def test_stou_is_whole_too(port: int, root: Path, end: End) -> None:
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOU new") as data:
            data.sendall(CONTENT)
        end(client.sock)
        until(lambda: any(path.read_bytes() == CONTENT for path in root.glob("new.*")))


@ENDS
def test_an_upload_goes_on_whose_client_did_not_wait_for_150(
    port: int, root: Path, end: End
) -> None:
    with Dialogue(port) as client:
        client.logs_in()
        with client.passive() as data:
            client.send("STOR file")
            data.sendall(CONTENT[:100_000])
        end(client.sock)
        is_there(root / "file", CONTENT[:100_000])


@ENDS
def test_what_comes_after_the_end_of_the_control_connection_counts(
    port: int, root: Path, end: End
) -> None:
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR file") as data:
            data.sendall(CONTENT[:1000])
            end(client.sock)
            until(lambda: (root / "file").stat().st_size == 1000)
            data.sendall(CONTENT[1000:])
        is_there(root / "file", CONTENT)


def test_who_half_closes_and_listens_is_told_what_came_of_it(client: Dialogue, root: Path) -> None:
    with client.begins("STOR file") as data:
        client.sock.shutdown(socket.SHUT_WR)
        data.sendall(CONTENT)
    client.expects(226)
    assert client.is_closed()


def test_an_upload_that_is_cut_is_no_whole_file(port: int, root: Path) -> None:
    """The data connection says for itself whether its end is in good order."""
    with Dialogue(port) as client:
        client.logs_in()
        data = client.begins("STOR file")
        data.sendall(CONTENT[:1000])
        until(lambda: (root / "file").stat().st_size == 1000)
        client.sock.shutdown(socket.SHUT_WR)
        reset(data)
        client.expects(426)
        assert client.is_closed()


@ENDS
def test_it_counts_as_complete_in_log_and_metrics(serve: Maker, end: End) -> None:
    port = serve(durable_uploads=True, atomic_uploads=True)
    server = serve.made[-1].server
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR file") as data:
            data.sendall(CONTENT)
        end(client.sock)
        until(lambda: server.ledger.connections == 0)
    assert (serve.directory / "file").read_bytes() == CONTENT
    assert server._services is not None
    expected = Counts()
    expected.transfer("upload", len(CONTENT), whole=True, protected=False)
    assert server._services.counts.transfers == expected.transfers


def test_it_is_complete_in_the_log_of_transfers(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    text = "[log]\ntransfers = 'xferlog'\n[[user]]\nlogin = 'user'\npassword = 'plain:12345'\n"
    with configured(tmp_path, text + "root = 'root'") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            with client.begins("STOR file") as data:
                data.sendall(CONTENT)
            client.sock.close()
        line = until((tmp_path / "xferlog").read_text)
    assert line.split()[-1] == "c", line
    assert (tmp_path / "root" / "file").read_bytes() == CONTENT


# ---------------------------------------------------------------------- downloads


@ENDS
@pytest.mark.parametrize("command", ["RETR file", "MLSD directory"])
def test_a_download_goes_on_while_its_client_reads(
    port: int, root: Path, big_directory: Path, end: End, command: str
) -> None:
    (root / "file").write_bytes(CONTENT * 10)
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins(command, window=65536) as data:
            end(client.sock)
            received = rest_of(data)
    if command.startswith("RETR"):
        assert received == CONTENT * 10
    else:
        assert received.count(b"\r\n") == 14_000


# ---------------------------------------------------------------------- bounds


@pytest.fixture(scope="module", params=KINDS)
def one(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A server whose user may have one session, and whose transfers soon count as stalled."""
    options = {"socket_timeout": 2} if request.param != "cluster" else {}
    text = "[timeouts]\nstalled = 2" if request.param == "cluster" else ""
    directory = tmp_path_factory.mktemp("one")
    with running(request.param, directory, connections=1, text=text, **options) as server:
        server.emptied()
        yield server


def is_let_in(client: Dialogue) -> bool:
    client.says("USER user", 331)
    client.send("PASS 12345")
    code, text = client.reply()
    assert code in (230, 530), text
    return code == 230


@contextlib.contextmanager
def logged_in(server: Running) -> Iterator[Dialogue]:
    """A client that has the only slot, which the session before may not have given back yet."""
    with Dialogue(server.port) as client:
        until(lambda: is_let_in(client))
        yield client


def has_slot(server: Running) -> bool:
    with Dialogue(server.port) as client:
        return is_let_in(client)


@ENDS
def test_slots_stay_held_until_a_transfer_stalls(one: Running, end: End) -> None:
    with logged_in(one) as client:
        with client.begins("STOR stalls") as data:
            data.sendall(b"some")
            end(client.sock)
            until(lambda: (one.root / "stalls").stat().st_size == 4)
            assert not has_slot(one)
            until(lambda: has_slot(one))
            assert rest_of(data) == b""
    assert (one.root / "stalls").read_bytes() == b"some"  # for REST


@ENDS
def test_who_never_connects_is_not_waited_for(one: Running, end: End) -> None:
    with logged_in(one) as client:
        client.epsv()
        client.says("STOR unconnected", 150)
        end(client.sock)
        until(lambda: has_slot(one))
    assert not (one.root / "unconnected").exists() or not (one.root / "unconnected").read_bytes()


@ENDS
def test_an_idle_session_ends_at_once(one: Running, end: End) -> None:
    for _ in range(5):
        with logged_in(one) as client:
            client.epsv()
            end(client.sock)
            if end is half_close:
                assert client.is_closed()
            until(lambda: has_slot(one))


@pytest.mark.parametrize(("end", "bound"), [(close, "_HUNG_UP"), (reset, "_RESET")])
@pytest.mark.parametrize("command", ["STOR file", "RETR big"])
def test_a_client_that_is_gone_is_not_waited_for_where_others_are_for_ever(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, end: End, bound: str, command: str
) -> None:
    monkeypatch.setattr(deadlines, "_STALL_CHECK", 0.1)
    monkeypatch.setattr(deadlines, bound, 0.5)
    with (serve.directory / "big").open("wb") as file:
        file.truncate(1 << 30)
    port = serve(socket_timeout=None, idle_timeout=None)
    ledger = serve.made[-1].server.ledger
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins(command, window=4096):
            end(client.sock)
            until(lambda: ledger.connections == 0)


@pytest.mark.parametrize("slow", ["write", "close"])
def test_a_client_s_end_does_not_bound_what_storing_takes(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """Of a path layer over a network, say, which has all that the client sent."""
    monkeypatch.setattr(deadlines, "_STALL_CHECK", 0.05)
    monkeypatch.setattr(deadlines, "_RESET", 0.2)

    class Slow(PathIO):
        async def write(self, file: BinaryIO, data: bytes) -> int:
            if slow == "write":
                await asyncio.sleep(1)
            return await super().write(file, data)

        async def close(self, file: BinaryIO) -> None:
            if slow == "close" and file.writable():
                await asyncio.sleep(1)
            await super().close(file)

    port = serve(path_io_factory=Slow, atomic_uploads=True)
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR file") as data:
            data.sendall(b"content")
            reset(client.sock)
    is_there(serve.directory / "file", b"content")


def test_a_command_that_hangs_ends_with_a_client_that_is_gone(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user manager that never answers, say."""
    monkeypatch.setattr(deadlines, "_STALL_CHECK", 0.1)
    monkeypatch.setattr(deadlines, "_HUNG_UP", 0.5)
    port = serve(socket_timeout=None, idle_timeout=None, login_timeout=None, login_delay=1000)
    ledger = serve.made[-1].server.ledger
    with Dialogue(port) as client:
        client.sock.sendall(b"USER user\r\nPASS wrong\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        until(lambda: ledger.connections == 0)


def test_a_server_that_closes_ends_them(serve: Maker) -> None:
    port = serve()
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR file") as data:
            data.sendall(b"some")
            client.sock.close()
            until(lambda: (serve.directory / "file").stat().st_size == 4)
            serve.made[-1].stop()
            serve.made.clear()
            assert rest_of(data) == b""


def test_a_cluster_that_stops_now_ends_them(tmp_path: Path) -> None:
    with running("cluster", tmp_path) as server, Dialogue(server.port) as client:
        client.logs_in()
        with client.begins("STOR file") as data:
            data.sendall(b"some")
            client.sock.close()
            until(lambda: (server.root / "file").stat().st_size == 4)
            cluster = server.cluster
            assert cluster is not None

            def stops() -> bool:
                cluster.process.terminate()  # a second one does not wait for the grace
                return cluster.process.poll() is not None

            until(stops)
            assert rest_of(data) == b""


# ---------------------------------------------------------------------- what else ends a session


def test_who_does_not_read_replies_loses_no_upload(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "_STALL_CHECK", 0.1)
    port = serve(socket_timeout=1)
    ledger = serve.made[-1].server.ledger
    with Dialogue(port) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.logs_in()
        with client.begins("STOR file") as data:
            says_until_nobody_reads(client, b"STAT\r\n")
            end = time.monotonic() + 3
            sent = 0
            while time.monotonic() < end or sent < 10:
                data.sendall(b"x" * 1000)
                sent += 1
                time.sleep(0.1)
        until(lambda: ledger.connections == 0)
    assert (serve.directory / "file").stat().st_size == sent * 1000


def test_a_line_that_never_ends_loses_no_upload(port: int, root: Path) -> None:
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR file") as data:
            data.sendall(CONTENT[:1000])
            client.sock.sendall(b"x" * 70_000)
            client.expects(500)
            data.sendall(CONTENT[1000:])
        is_there(root / "file", CONTENT)
        assert client.is_closed()


def test_a_reply_that_cannot_be_sent_loses_no_upload(port: int, root: Path) -> None:
    with Dialogue(port) as client:
        client.logs_in()
        with client.begins("STOR file") as data:
            client.sock.sendall(b"NOOP\r\n" * 10)
            client.sock.close()
            data.sendall(CONTENT)
        is_there(root / "file", CONTENT)


# ---------------------------------------------------------------------- commands that wait


@pytest.fixture(scope="module", params=KINDS)
def hashed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Path]]:
    """A server whose user has a hash for a password: PASS has to wait."""
    directory = tmp_path_factory.mktemp("hashed")
    root = directory / "root"
    root.mkdir()
    if request.param == "cluster":
        text = f"[[user]]\nlogin = 'user'\npassword = '{HASH}'\nroot = 'root'"
        with configured(directory, text) as cluster:
            yield cluster.port, root
        return
    maker = Maker(request.param, root)
    try:
        yield maker(users=[User("user", HASH, base_path=root)]), root
    finally:
        maker.made[0].stop()


def test_what_arrived_behind_pass_is_obeyed(hashed: tuple[int, Path]) -> None:
    port, _ = hashed
    with Dialogue(port) as client:
        client.sock.sendall(b"USER user\r\nPASS 12345\r\nPWD\r\nSYST\r\nNOOP")
        client.sock.shutdown(socket.SHUT_WR)
        for code in (331, 230, 257, 215):
            client.expects(code)
        assert client.is_closed()  # of NOOP the end had not come


def test_a_wrong_password_is_answered_and_waited_for(hashed: tuple[int, Path]) -> None:
    port, _ = hashed
    with Dialogue(port) as client:
        client.sock.sendall(b"USER user\r\nPASS wrong\r\nPWD\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        for code in (331, 530, 530):
            client.expects(code)
        assert client.is_closed()


def test_more_than_is_held_of_what_arrived_behind_a_long_command_is_obeyed_in_order(
    client: Dialogue, root: Path
) -> None:
    """What waits in the kernel is read as it becomes its turn."""
    with (root / "large").open("wb") as file:
        file.truncate(30_000_000)
    size = root.joinpath("large").stat().st_size
    lines = b"MLST large\r\nXMD5 large\r\n" + b"SIZE large\r\nPWD\r\n" * 2000 + b"QUI"
    assert len(lines) > 2 * control_connection._QUEUED
    client.sock.sendall(lines)
    client.sock.shutdown(socket.SHUT_WR)
    client.expects(250)
    client.expects(250)
    for _ in range(2000):
        assert client.expects(213) == f"213 {size}"
        client.expects(257)
    assert client.is_closed()


def test_a_session_ends_whose_client_is_gone_while_a_command_runs(serve: Maker) -> None:
    """Nobody will ever read what comes of it, nor of the commands behind it."""
    with (serve.directory / "large").open("wb") as file:
        file.truncate(1 << 40)
    port = serve.with_settings(max_digest=None)
    ledger = serve.made[-1].server.ledger
    for queued in (b"", b"XMD5 large\r\n" * 10, b"PWD\r\n" * 10_000):
        with Dialogue(port) as client:
            client.logs_in()
            client.sock.sendall(b"XMD5 large\r\n" + queued)
            until(lambda: ledger.connections == 1)
            reset(client.sock)
            until(lambda: ledger.connections == 0)


def test_replies_that_nobody_reads_end_a_half_closed_session(serve: Maker) -> None:
    port = serve(socket_timeout=1, idle_timeout=None)
    ledger = serve.made[-1].server.ledger
    with Dialogue(port) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        says_until_nobody_reads(client, b"FEAT\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        until(lambda: ledger.connections == 0)
