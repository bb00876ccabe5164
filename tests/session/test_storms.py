"""More logins than can be checked: some are told to come back, all are answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import argon2
import pytest

from ftpcluster import MemoryUserManager, User, passwords
from tests.session.conftest import Maker
from tests.support.dialogue import CLOCK, Dialogue, reset

BUSY = "421 Too many logins at this moment; try again later."
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("12345")


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No hash is ready before this is set."""
    go_on = threading.Event()

    def verify(stored: str, password: str) -> bool:
        assert go_on.wait(20)
        return password == "12345"

    monkeypatch.setattr(passwords, "verify", verify)
    yield go_on
    go_on.set()


def replies(clients: list[Dialogue]) -> Counter[str]:
    return Counter(client.reply()[1] for client in clients)


def test_of_one_address_33_logins_are_checked_and_the_rest_is_told_to_come_back(
    serve: Maker, stuck: threading.Event
) -> None:
    users = [User("user", HASH, base_path=serve.directory)]
    port = serve(users=users)
    with ExitStack() as stack:
        clients = [stack.enter_context(Dialogue(port)) for _ in range(40)]
        other = stack.enter_context(Dialogue(port, source="127.0.0.2"))
        for client in (*clients, other):
            client.says("USER user", 331)
            client.send("PASS 12345")
        refused = clients[33:]
        assert replies(refused) == {BUSY: 7}
        assert all(client.is_closed() for client in refused)
        stuck.set()
        assert replies([*clients[:33], other]) == {"230 Login successful.": 34}


def test_of_addresses_that_nobody_knows_48_logins_are_checked_and_the_rest_is_told_to_come_back(
    serve: Maker, stuck: threading.Event
) -> None:
    users = [User("user", HASH, base_path=serve.directory)]
    port = serve(users=users)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Dialogue(port, source=f"127.0.0.{number + 1}"))
            for number in range(70)
        ]
        for number, client in enumerate(clients):
            client.says(f"USER {'user' if number % 2 else 'nobody'}", 331)
            client.send("PASS 12345")
        assert replies(clients[48:]) == {BUSY: 22}
        stuck.set()
        assert replies(clients[:48])["230 Login successful."] == 24


def test_whoever_is_told_to_come_back_is_told_so_late_and_has_not_failed(
    serve: Maker, stuck: threading.Event
) -> None:
    users = [User("user", HASH, base_path=serve.directory)]
    port = serve(users=users, login_delay=0.5, ban_failures=50, ban_allow=())
    with ExitStack() as stack:
        clients = [stack.enter_context(Dialogue(port)) for _ in range(34)]
        for client in clients:
            client.says("USER user", 331)
            begin = time.monotonic()
            client.send("PASS 12345")
        assert clients[-1].expects(421) == BUSY
        assert time.monotonic() - begin >= 0.5 - CLOCK
        stuck.set()
        assert replies(clients[:-1]) == {"230 Login successful.": 33}
    services = serve.made[-1].server._services
    assert services is not None
    assert services.counts.failed_logins == 0


def test_sessions_that_end_while_they_wait_leave_their_places_to_others(
    serve: Maker, stuck: threading.Event
) -> None:
    users = [User("user", HASH, base_path=serve.directory)]
    port = serve(users=users)
    for _ in range(3):
        clients = [Dialogue(port) for _ in range(33)]
        for client in clients:
            client.says("USER user", 331)
            client.send("PASS 12345")
        with Dialogue(port) as late:
            late.says("USER user", 331)
            late.send("PASS 12345")
            late.expects(421)
        for client in clients:
            reset(client.sock)
    stuck.set()
    with Dialogue(port) as client:
        client.logs_in()


def test_a_wrong_password_costs_a_hash_whether_the_user_s_own_is_one_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where some passwords are hashes, the time of the others would tell that they exist."""
    compared: list[str] = []

    def verify(stored: str, password: str) -> bool:
        compared.append(stored)
        return False

    monkeypatch.setattr(passwords, "verify", verify)
    plain = User("plain", "secret")
    manager = MemoryUserManager([plain, User("hashed", HASH)])
    assert not asyncio.run(manager.authenticate(plain, "wrong"))
    assert compared == ["secret", HASH]
