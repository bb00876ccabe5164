"""Limits on connections over all workers: never one more, and never one less."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import re
import selectors
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cluster import DEADLINE, Cluster, until
from tests.support.dialogue import Dialogue
from tests.support.proc_net import connections

SERVER, ADDRESS, USER = 210, 70, 30
A, B, C, D, E = (f"127.0.0.{number}" for number in range(1, 6))
DIED = re.compile(r"died; (\d+) sessions ended with it")


@dataclass
class Scene:
    """A cluster, and on each of its workers a session of ours that stays."""

    cluster: Cluster
    anchors: list[Dialogue]

    def settle(self) -> None:
        """Come back when the supervisor knows of all sessions that have ended.

        What a worker told it stands before what the anchor's login makes the worker ask.
        """
        until(lambda: established(self.cluster.port) == len(self.anchors))
        for anchor in self.anchors * 2:
            anchor.logs_in("anchor", binary=False)


@pytest.fixture(scope="module", params=[1, 4], ids=lambda count: f"{count} workers")
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """One for all tests: each leaves it empty."""
    workers = request.param
    root = tmp_path_factory.mktemp("root")
    anchors: list[Dialogue] = []
    with Cluster(*arguments(root, workers, SERVER + workers)) as cluster:
        try:
            for _ in range(workers):
                anchors.append(Dialogue(cluster.port, "::1"))
                anchors[-1].logs_in("anchor")
            serving = {cluster.worker_of(anchor.sock) for anchor in anchors}
            assert serving == set(cluster.workers())
            yield Scene(cluster, anchors)
        finally:
            for anchor in anchors:
                anchor.sock.close()
    assert "Traceback" not in cluster.log, cluster.log


def arguments(root: Path, workers: int, server: int) -> list[str]:
    return [
        *("--workers", str(workers), "--root", str(root)),
        *(
            part
            for user in ("anchor", "alice", "bob", "carol")
            for part in ("--user", f"{user}:12345")
        ),
        *("--max-connections", str(server)),
        *("--max-connections-per-address", str(ADDRESS)),
        *("--max-connections-per-user", str(USER)),
    ]


def established(port: int) -> int:
    """The control connections that the server holds open."""
    return sum(
        # an inode: the descriptor is open; 0A is what listens
        int(fields[1].rpartition(":")[2], 16) == port and fields[9] != "0" and fields[3] != "0A"
        for fields in connections()
    )


class Client:
    """A client that sends its whole login at once and notes the codes of the replies."""

    def __init__(self, port: int, address: str, login: str | None) -> None:
        self.login = login
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.bind((address, 0))
        self.sock.connect_ex(("127.0.0.1", port))
        self._unsent = f"USER {login}\r\nPASS 12345\r\n".encode() if login else b""
        self._text = b""
        self._is_closed = False

    @property
    def codes(self) -> list[int]:
        return [int(line[:3]) for line in self._text.split(b"\r\n")[:-1]]

    @property
    def is_in(self) -> bool:
        """Let in, or logged in where it wanted that."""
        return self.codes[-1:] == ([230] if self.login else [220])

    @property
    def is_answered(self) -> bool:
        return self._is_closed or len(self.codes) == (3 if self.login else 1)

    def go_on(self) -> None:
        """The greeting, or the next reply, has come."""
        try:
            data = self.sock.recv(4096)
            if self._unsent:
                self.sock.send(self._unsent)
                self._unsent = b""
        except ConnectionError:
            data = b""
        self._text += data
        self._is_closed = not data


@contextlib.contextmanager
def crowd(port: int, *groups: tuple[str, str | None, int]) -> Iterator[list[Client]]:
    """Clients that come all at the same time: (address, who logs in, how many) for each group.

    When all have been answered, to the end of the block.
    """
    clients: list[Client] = []
    try:
        for turn in range(max(count for _, _, count in groups)):
            for address, login, count in groups:
                if turn < count:
                    clients.append(Client(port, address, login))
        with selectors.DefaultSelector() as selector:
            for client in clients:
                selector.register(client.sock, selectors.EVENT_READ, client)
            while selector.get_map():
                events = selector.select(DEADLINE)
                assert events, f"{len(selector.get_map())} clients had no answer"
                for key, _ in events:
                    client = key.data
                    client.go_on()
                    if client.is_answered:
                        selector.unregister(client.sock)
        yield clients
    finally:
        for client in clients:
            client.sock.close()


def let_in(clients: list[Client], *, login: str | None = None) -> int:
    return sum(client.is_in for client in clients if login in (None, client.login))


def test_of_300_connections_at_once_as_many_are_let_in_as_the_server_may_have(
    scene: Scene,
) -> None:
    for _ in range(2):
        with crowd(
            scene.cluster.port, *((address, None, 60) for address in (A, B, C, D, E))
        ) as all_:
            assert let_in(all_) == SERVER
            assert {client.codes[0] for client in all_ if not client.is_in} == {421}
        scene.settle()


def test_of_200_connections_at_once_each_address_has_as_many_as_it_may(scene: Scene) -> None:
    for _ in range(2):
        with crowd(scene.cluster.port, (A, None, 130), (B, None, ADDRESS)) as clients:
            addresses = collections.Counter(
                client.sock.getsockname()[0] for client in clients if client.is_in
            )
            assert addresses == {A: ADDRESS, B: ADDRESS}
            assert {client.codes[0] for client in clients if not client.is_in} == {421}
        scene.settle()


def test_of_200_logins_at_once_each_user_has_as_many_as_he_may(scene: Scene) -> None:
    for _ in range(2):
        with crowd(
            scene.cluster.port,
            *((address, "alice", 30) for address in (A, B, C)),
            *((address, "bob", 20) for address in (A, B, C, D)),
            (E, "carol", USER),
        ) as clients:
            assert len(clients) == 200
            assert [let_in(clients, login=login) for login in ("alice", "bob", "carol")] == [
                USER
            ] * 3
            assert {client.codes[-1] for client in clients if not client.is_in} == {530}
        scene.settle()


def test_a_user_who_comes_and_goes_never_has_more_sessions_than_allowed(scene: Scene) -> None:
    port = scene.cluster.port
    held = most = refused = 0
    lock, everybody = threading.Lock(), threading.Barrier(2 * USER)

    def come_and_go(number: int) -> None:
        nonlocal held, most, refused
        for turn in range(6):
            with Dialogue(port, greeting=None) as client:
                if client.reply()[0] == 421:
                    continue  # connections of this address that have just ended still count
                client.says("USER alice", 331)
                client.send("PASS 12345")
                code, _ = client.reply()
                with lock:  # counted later than taken, and no longer before given back
                    held += code == 230
                    refused += code == 530
                    most = max(most, held)
                if turn == 0:
                    everybody.wait(DEADLINE)
                if code == 230:
                    client.says("NOOP", 200)
                    with lock:
                        held -= 1
                    client.says("QUIT", 221)

    with concurrent.futures.ThreadPoolExecutor(2 * USER) as pool:
        list(pool.map(come_and_go, range(2 * USER)))
    scene.settle()
    assert most == USER
    assert refused >= USER
    with crowd(port, (A, "alice", ADDRESS)) as clients:
        assert let_in(clients) == USER
    scene.settle()


def test_what_a_killed_worker_held_comes_back_once(tmp_path: Path) -> None:
    with Cluster(*arguments(tmp_path, 2, SERVER)) as cluster:
        with crowd(cluster.port, (A, "alice", USER), (B, None, ADDRESS)) as held:
            assert let_in(held) == USER + ADDRESS
            serving = [cluster.worker_of(client.sock) for client in held]
            victim = serving[0]
            lost = [client for client, pid in zip(held, serving, strict=True) if pid == victim]
            assert 0 < len(lost) < len(held)
            os.kill(victim, signal.SIGKILL)
            died = cluster.wait_for(DIED)
            assert int(died[1]) == len(lost)
            with crowd(cluster.port, (C, "alice", USER), (B, None, ADDRESS)) as newcomers:
                of_alice = sum(client.login == "alice" for client in lost)
                assert let_in(newcomers, login="alice") == of_alice
                assert let_in(newcomers) == len(lost)
                assert {client.codes[0] for client in newcomers[1::2]} == {220, 421}
    assert "Traceback" not in cluster.log, cluster.log
