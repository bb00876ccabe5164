"""What is known to be wrong counts, whether anybody still listens or not, and however he left."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftpcluster import AbstractUserManager, MemoryUserManager, User
from tests.session.hung_up import (
    ALICE,
    HASH,
    MALLORY,
    Hashes,
    Scene,
    Start,
    tries,
)
from tests.support.cluster import until
from tests.support.dialogue import Dialogue, reset

# ---------------------------------------------------------------------- ways to leave


def closes(client: Dialogue) -> None:
    client.sock.close()


def resets(client: Dialogue) -> None:
    reset(client.sock)


def shuts_down(client: Dialogue) -> None:
    client.sock.shutdown(socket.SHUT_WR)


def with_more(line: str) -> Callable[[Dialogue], None]:
    def leaves(client: Dialogue) -> None:
        client.send(line)
        client.sock.close()

    leaves.__name__ = line
    return leaves


WAYS = [
    closes,
    resets,
    shuts_down,
    with_more("QUIT"),
    with_more("USER user"),
    with_more("REIN"),
    with_more("ABOR"),
]


class Ours(MemoryUserManager):
    """Somebody else's class, which leaves passwords to ours."""


class Own(MemoryUserManager):
    """One that does not."""

    async def authenticate(self, user: User, password: str) -> bool:
        return await super().authenticate(user, password)


class Elsewhere(AbstractUserManager):
    """Somebody else's, who knows at once."""

    def __init__(self, users: list[User]) -> None:
        super().__init__()
        self._users = {user.login: user for user in users}

    async def get_user(self, login: str) -> Any:
        if login in self._users:
            return self.GetUserResponse.PASSWORD_REQUIRED, self._users[login], ""
        return self.GetUserResponse.ERROR, None, ""

    async def authenticate(self, user: User, password: str) -> bool:
        await asyncio.sleep(0)
        return user.password == password


USERS = [User("plain", "12345"), User("user", HASH)]


@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("manager", "name"),
    [
        (MemoryUserManager, "plain"),
        (MemoryUserManager, "nobody"),
        (Ours, "plain"),
        (Ours, "nobody"),
        (Own, "nobody"),
        (Elsewhere, "plain"),
        (Elsewhere, "nobody"),
    ],
)
def test_what_is_known_to_be_wrong_counts_however_its_client_leaves(
    manager: Any, name: str, leave: Callable[[Dialogue], None], start: Start, hashes: Hashes
) -> None:
    """Where another account has a hash a wrong password waits as long as one, and no longer."""
    scene = start(manager(USERS), ban_failures=2)
    for number in (1, 2):
        client = tries(scene, "wrong", name=name)
        leave(client)
        if leave is not resets:
            hashes.go_on.set()  # behind a FIN what had arrived is obeyed, and judged, first
        until(lambda number=number: scene.counted() == (0, number))
        hashes.go_on.set()
        scene.holds(0)
        hashes.go_on.clear()
        client.sock.close()
    assert scene.is_banned(MALLORY)
    assert not scene.is_banned(ALICE)


@pytest.mark.parametrize("name", ["plain", "nobody"])
def test_what_is_known_to_be_wrong_counts_though_its_turn_has_not_come(
    name: str, start: Start, hashes: Hashes
) -> None:
    scene = start(USERS, ban_failures=None)
    first = tries(scene, "wrong")
    until(lambda: hashes.begun)
    second = tries(scene, "wrong", name=name)  # it waits for its turn
    until(lambda: scene.call(lambda: waiting(scene)) == 1)
    reset(second.sock)
    until(lambda: scene.counted() == (0, 1))
    hashes.go_on.set()
    first.expects(530)
    first.sock.close()


def waiting(scene: Scene) -> int:
    """Logins that wait for their turn."""
    services = scene.server._services
    assert services is not None
    return sum(map(len, services.turns._waiting.values()))


@pytest.mark.parametrize("name", ["plain", "nobody"])
def test_what_is_known_to_be_wrong_counts_where_too_many_wait(
    name: str, start: Start, hashes: Hashes
) -> None:
    scene = start(USERS, ban_failures=None)
    clients = [tries(scene, "wrong") for _ in range(33)]
    until(lambda: scene.call(lambda: waiting(scene)) == 32)
    with tries(scene, "wrong", name=name) as late:
        late.expects(421)
    assert scene.counted() == (0, 1)
    hashes.go_on.set()
    for client in clients:
        client.expects(530)
        client.sock.close()


@pytest.mark.parametrize("manager", [MemoryUserManager, Ours, Own, Elsewhere])
def test_who_hangs_up_on_the_delay_has_failed_once(manager: Any, start: Start) -> None:
    scene = start(manager([User("plain", "12345")]), ban_failures=None, login_delay=30)
    client = tries(scene, "wrong", name="plain")
    until(lambda: scene.counted() == (0, 1))
    reset(client.sock)
    scene.holds(0)
    assert scene.counted() == (0, 1)


def test_who_hangs_up_while_it_waits_for_its_try_has_failed_where_that_is_known(
    start: Start, hashes: Hashes
) -> None:
    scene = start(USERS, ban_failures=1)
    first = tries(scene, "12345")  # while it is judged nobody else of the address is
    until(lambda: hashes.begun)
    second = tries(scene, "wrong", name="user")
    reset(second.sock)
    scene.holds(1)
    assert scene.counted() == (0, 0)  # nobody has looked
    third = tries(scene, "wrong", name="plain")
    reset(third.sock)
    until(lambda: scene.counted() == (0, 1))
    assert scene.is_banned(MALLORY)
    hashes.go_on.set()
    first.sock.close()


@pytest.mark.parametrize("name", ["plain", "nobody"])
def test_who_ends_tls_behind_a_wrong_password_has_failed(
    name: str,
    start: Start,
    hashes: Hashes,
    server_certificate: Path,
    server_context: ssl.SSLContext,
) -> None:
    scene = start(USERS, tls=server_context)
    client = Dialogue(scene.port, source=MALLORY)
    client.says("AUTH TLS", 234)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    client.sock = trusting.wrap_socket(client.sock)
    client.says(f"USER {name}", 331)
    client.send("PASS wrong")
    client.sock.settimeout(0)
    with pytest.raises((ssl.SSLWantReadError, ssl.SSLSyscallError, OSError)):
        client.sock.unwrap()  # sends close_notify, and would wait for the server's
    hashes.go_on.set()
    until(lambda: scene.counted() == (0, 1))
    assert scene.is_banned(MALLORY)
    client.sock.close()
