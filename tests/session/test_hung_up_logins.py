"""Who hangs up while the password is checked has used up a try, and a turn, all the same."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ftpcluster import AbstractUserManager, MemoryUserManager, User, passwords
from ftpcluster.session.commands import access
from tests.session.hung_up import (
    ALICE,
    BUSY,
    HASH,
    MALLORY,
    Hashes,
    Scene,
    Start,
    tries,
    use_threads,
)
from tests.support.cluster import until
from tests.support.dialogue import reset


class Ours(MemoryUserManager):
    """Somebody else's class, where a name that nobody has costs a hash, too."""


@pytest.mark.parametrize("manager", [MemoryUserManager, Ours])
@pytest.mark.parametrize("name", ["user", "nobody"])
def test_a_wrong_password_counts_though_its_client_hangs_up_meanwhile(
    manager: type[MemoryUserManager], name: str, start: Start, hashes: Hashes
) -> None:
    scene = start(manager([User("user", HASH)]))
    client = tries(scene, "wrong", name=name)
    until(lambda: hashes.begun)
    scene.hangs_up(client)
    hashes.go_on.set()
    scene.holds(0)
    assert scene.counted() == (0, 1)
    assert scene.is_banned(MALLORY)
    assert not scene.is_banned(ALICE)


@pytest.mark.parametrize("manager", [MemoryUserManager, Ours])
def test_a_right_password_whose_client_hangs_up_meanwhile_is_neither_login_nor_failure(
    manager: type[MemoryUserManager], start: Start, hashes: Hashes
) -> None:
    scene = start(manager([User("user", HASH)]))
    client = tries(scene, "12345")
    until(lambda: hashes.begun)
    scene.hangs_up(client)
    hashes.go_on.set()
    scene.holds(0)
    assert scene.counted() == (0, 0)
    assert not scene.is_banned(MALLORY)


def test_a_damaged_hash_counts_though_its_client_hangs_up_meanwhile(
    start: Start, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(stored: str, given: str) -> bool:
        hashes.verify(stored, given)
        raise passwords.BadHash("cut off")

    monkeypatch.setattr(passwords, "verify", verify)
    scene = start()
    client = tries(scene, "12345")
    until(lambda: hashes.begun)
    scene.hangs_up(client)
    hashes.go_on.set()
    scene.holds(0)
    assert scene.is_banned(MALLORY)


def test_the_turn_of_who_hangs_up_lasts_until_its_hash_is_done(
    start: Start, hashes: Hashes
) -> None:
    scene = start(ban_failures=None)
    first = tries(scene, "wrong")
    until(lambda: hashes.begun)
    scene.hangs_up(first)
    with tries(scene, "12345") as second, tries(scene, "quick", ALICE) as third:
        third.expects(530)
        assert hashes.begun == ["wrong", "quick"]
        hashes.go_on.set()
        second.expects(230)


def test_the_place_of_who_hangs_up_is_taken_until_its_hash_is_done(
    start: Start, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_places", threading.BoundedSemaphore(1))
    scene = start(ban_failures=None)
    first = tries(scene, "wrong")
    until(lambda: hashes.begun)
    scene.hangs_up(first)
    with tries(scene, "quick", ALICE) as second:
        assert second.expects(421) == BUSY
    hashes.go_on.set()
    scene.holds(0)
    with tries(scene, "12345", ALICE) as third:
        third.expects(230)


def assert_second_has_not_failed(scene: Scene, hashes: Hashes, first_from: str) -> None:
    """While somebody's hash is computed, MALLORY hangs up who waits behind it."""
    with tries(scene, "12345", first_from) as first:
        until(lambda: hashes.begun)
        second = tries(scene, "wrong")
        reset(second.sock)
        scene.holds(1)
        hashes.go_on.set()
        first.expects(230)
    assert hashes.begun == ["12345"]
    assert scene.counted() == (1, 0)


def test_who_hangs_up_before_its_turn_leaves_at_once_and_has_not_failed(
    start: Start, hashes: Hashes
) -> None:
    assert_second_has_not_failed(start(), hashes, MALLORY)


def test_who_hangs_up_before_a_thread_has_begun_leaves_at_once_and_has_not_failed(
    start: Start, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_threads(monkeypatch, 1)
    assert_second_has_not_failed(start(), hashes, ALICE)


def test_a_server_that_closes_waits_for_the_hash_that_is_computed_and_for_no_other(
    start: Start, hashes: Hashes
) -> None:
    scene = start(ban_failures=None)
    counts, ledger = scene.server._services, scene.server.ledger
    assert counts is not None
    with tries(scene, "wrong") as first:
        until(lambda: hashes.begun)
        with tries(scene, "wrong") as second:
            closing = asyncio.run_coroutine_threadsafe(scene.server.close(), scene.loop)
            assert first.is_closed()
            assert second.is_closed()
            until(lambda: scene.call(lambda: ledger.connections) == 1)
            hashes.go_on.set()
            closing.result(20)
    assert ledger.connections == 0
    assert hashes.begun == ["wrong"]
    assert counts.counts.failed_logins == 1


# ---------------------------------------------------------------------- somebody else's managers


class Directory(AbstractUserManager):
    """Says no when ``go_on`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.asked = threading.Event()
        self.cancelled = threading.Event()

    async def get_user(self, login: str) -> Any:
        return self.GetUserResponse.PASSWORD_REQUIRED, User(login), ""

    async def authenticate(self, user: User, password: str) -> bool:
        self.asked.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return False


def test_a_no_of_a_user_manager_counts_though_the_client_hangs_up_meanwhile(start: Start) -> None:
    directory = Directory()
    scene = start(directory)
    client = tries(scene, "wrong")
    assert directory.asked.wait(20)
    scene.hangs_up(client)
    scene.call(directory.go_on.set)
    scene.holds(0)
    assert scene.counted() == (0, 1)
    assert scene.is_banned(MALLORY)


def test_a_user_manager_that_never_answers_does_not_keep_a_session_from_ending(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_PATIENCE", 0.05)
    directory = Directory()
    scene = start(directory)
    client = tries(scene, "wrong")
    assert directory.asked.wait(20)
    reset(client.sock)
    scene.holds(0)
    assert directory.cancelled.wait(20)
    assert scene.counted() == (0, 0)
    assert not scene.is_banned(MALLORY)
