"""Guesses that come together: no more of them are judged than may be wrong (faults.md “Abuse”)."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest

from ftpcluster import AbstractUserManager, MemoryUserManager, User
from tests.session.hung_up import (
    HASH,
    MALLORY,
    Hashes,
    Start,
    tries,
)
from tests.support.dialogue import Dialogue

BANNED = "421 Banned; try again later."


class Slow(AbstractUserManager):
    """As PAM: a right password is known at once, a wrong one only when ``go_on`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.judged = 0

    async def get_user(self, login: str) -> Any:
        return self.GetUserResponse.PASSWORD_REQUIRED, User(login), ""

    async def authenticate(self, user: User, password: str) -> bool:
        self.judged += 1
        if password != "12345":
            await asyncio.get_running_loop().run_in_executor(None, self.go_on.wait, 20)
        return password == "12345"


def last_words(clients: list[Dialogue]) -> Counter[str]:
    return Counter(client.reply()[1] for client in clients)


@pytest.mark.parametrize("name", ["plain", "user", "slow"])
def test_a_right_password_behind_many_wrong_ones_is_refused_as_they_are(
    name: str, start: Start, hashes: Hashes
) -> None:
    """Whether its judge is quick or not, and whether another account's is."""
    slow = Slow()
    users = [User("plain", "12345"), User("user", HASH)]
    manager = slow if name == "slow" else MemoryUserManager(users)
    scene = start(manager, ban_failures=5)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(tries(scene, "wrong" if number < 40 else "12345", name=name))
            for number in range(41)
        ]
        hashes.go_on.set()
        slow.go_on.set()
        seen = last_words(clients)
        assert seen[BANNED] >= 36
        assert seen[BANNED] + seen["530 Login incorrect."] == 41
        assert all(client.is_closed() for client in clients if seen[BANNED] == 41)
    logins, failed = scene.counted()
    assert logins == 0
    # where nobody has to be asked it is known of all of them, and the log says so
    assert 5 <= failed <= (40 if name == "plain" else 5)
    assert slow.judged in (0, 5)


@pytest.mark.parametrize("name", ["plain", "user"])
def test_many_right_passwords_of_one_address_wait_and_are_all_let_in(
    name: str, start: Start, hashes: Hashes
) -> None:
    scene = start([User("plain", "12345"), User("user", HASH)], ban_failures=2)
    hashes.go_on.set()
    with ExitStack() as stack:
        wrong = stack.enter_context(tries(scene, "wrong", name=name))
        wrong.expects(530)
        clients = [stack.enter_context(tries(scene, "12345", name=name)) for _ in range(40)]
        assert last_words(clients) == {"230 Login successful.": 40}


@pytest.mark.parametrize("password", ["12345", "wrong"])
@pytest.mark.parametrize("name", ["plain", "user", "nobody", "anonymous"])
def test_a_session_from_before_the_ban_goes_on_but_has_no_more_tries(
    name: str, password: str, start: Start, hashes: Hashes
) -> None:
    users = [User("plain", "12345"), User("user", HASH), User("anonymous")]
    scene = start(users, ban_failures=2)
    hashes.go_on.set()
    with Dialogue(scene.port, source=MALLORY) as inside:
        inside.logs_in("anonymous", "any")
        for _ in range(2):
            with Dialogue(scene.port, source=MALLORY) as guesser:
                guesser.guesses("plain")
        assert scene.is_banned(MALLORY)
        inside.says("NOOP", 200)
        inside.says("PWD", 257)
        failed = scene.counted()[1]
        inside.says(f"USER {name}", 331)
        inside.send(f"PASS {password}")
        assert inside.expects(421) == BANNED
        assert inside.is_closed()
        assert scene.counted()[1] == failed
