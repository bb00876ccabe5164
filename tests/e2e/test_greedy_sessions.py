"""One client that says much while something of its runs: what that costs others, and in memory."""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import argon2
import pytest

from tests.support.cluster import Cluster, begin_download
from tests.support.configured import configured
from tests.support.dialogue import Dialogue, reset
from tests.support.memory import anonymous

pytestmark = pytest.mark.alone
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("12345")
TIMES = 3
"""By how much a session may take longer while another one does its worst."""
NOTHING = 0.003
"""Seconds that are no delay on a machine that does other things, too."""
A_SESSION = 100 * 1024
"""Bytes that a session may take. The 16 KiB that it has sent and that are not obeyed are among
them; lines as objects would be 1 MB."""
SESSIONS = 100


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One worker, whose user has a hash for a password, and a large file to stall at."""
    directory = tmp_path_factory.mktemp("greedy")
    (directory / "root").mkdir()
    with (directory / "root" / "large").open("wb") as file:
        file.truncate(1 << 30)
    text = "[ban]\nfailures = 1000\n"
    user = f"[[user]]\nlogin = 'user'\npassword = '{HASH}'\nroot = 'root'\n"
    with configured(directory, text + user, workers=("--workers", "1")) as cluster:
        yield cluster


def median_of_noop(client: Dialogue) -> float:
    took = []
    for _ in range(200):
        began = time.perf_counter()
        client.says("NOOP", 200)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


@contextlib.contextmanager
def in_thread(attack: Callable[[threading.Event], None]) -> Iterator[None]:
    """Have it go on until the block ends."""
    over = threading.Event()
    thread = threading.Thread(target=attack, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)


def single_bytes(client: Dialogue) -> Callable[[threading.Event], None]:
    """Lines that take long to look at, and then a byte at a time, for which to look again."""

    def attack(over: threading.Event) -> None:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sock.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            for _ in range(250):
                client.sock.sendall(b"\xff" * 4090 + b"\r\n")
        while not over.wait(0.0005):
            with contextlib.suppress(TimeoutError):
                client.sock.sendall(b"x")

    return attack


def flood(client: Dialogue, line: bytes) -> Callable[[threading.Event], None]:
    """What is answered during a transfer, as fast as it is answered."""

    def attack(over: threading.Event) -> None:
        reader = threading.Thread(target=drain)
        reader.start()
        client.sock.settimeout(0.1)
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                client.sock.sendall(line * 1000)
        client.sock.shutdown(socket.SHUT_RDWR)
        reader.join(20)

    def drain() -> None:
        with contextlib.suppress(OSError):
            while True:
                try:
                    if not client.sock.recv(1 << 20):
                        return
                except TimeoutError:
                    pass

    return attack


ATTACKS: dict[str, Callable[[Dialogue], Callable[[threading.Event], None]]] = {
    "single bytes": single_bytes,
    "NOOP": lambda client: flood(client, b"NOOP\r\n"),
    "STAT": lambda client: flood(client, b"STAT\r\n"),
    "empty lines": lambda client: flood(client, b"\n\r\n" * 100),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_who_says_much_during_a_transfer_does_not_delay_others(
    cluster: Cluster, attack: str
) -> None:
    with Dialogue(cluster.port) as victim, Dialogue(cluster.port) as greedy:
        victim.logs_in()
        greedy.logs_in()
        quiet = median_of_noop(victim)
        with begin_download(greedy, "large"), in_thread(ATTACKS[attack](greedy)):
            time.sleep(0.3)  # the attack's, to have begun
            under = median_of_noop(victim)
    print(f"{attack}: {quiet * 1000:.2f} ms, under attack {under * 1000:.2f} ms")
    assert under < TIMES * max(quiet, NOTHING), (quiet, under)


LINES = {"short": b"PWD\r\n", "of a byte": b"x\n", "long": b"x" * 4000 + b"\r\n"}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_what_waits_behind_pass_takes_little_memory(cluster: Cluster, line: bytes) -> None:
    (worker,) = cluster.workers()
    lines = b"USER user\r\nPASS wrong\r\n" + line * ((1 << 20) // len(line))

    def crowd() -> int:
        """What so many sessions take that fail to log in, and have much to say behind that."""
        clients = [Dialogue(cluster.port) for _ in range(SESSIONS)]
        before = anonymous(worker)
        for client in clients:
            client.sock.settimeout(0.02)
            with contextlib.suppress(TimeoutError):
                client.sock.sendall(lines)
        most, end = 0, time.monotonic() + 1
        while time.monotonic() < end:  # it reads as much as it will ever read
            most = max(most, anonymous(worker))
            time.sleep(0.05)
        for client in clients:
            reset(client.sock)
        return most - before

    first = crowd()
    print(f"{first / SESSIONS / 1024:.0f} KiB a session")
    assert first < SESSIONS * A_SESSION
    assert crowd() < SESSIONS * A_SESSION  # what the first crowd took is free again
