"""Servers whose hashes are ready when a test says so, and clients that hang up on them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import argon2
import pytest

from ftpcluster import Server, User, passwords
from ftpcluster.session.phases import ENDED
from tests.conftest import InProcess
from tests.support.cluster import until
from tests.support.dialogue import Dialogue, reset

BUSY = "421 Too many logins at this moment; try again later."
HASH = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("12345")
MALLORY, ALICE = "127.0.0.7", "127.0.0.8"


class Hashes:
    """Stands for ``passwords.verify``: all but "quick" are ready when ``go_on`` is set."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go_on = threading.Event()

    def verify(self, stored: str, given: str) -> bool:
        if not passwords.is_hash(stored):
            return stored == given
        self.begun.append(given)
        assert given == "quick" or self.go_on.wait(20)
        return given == "12345"


@contextmanager
def held_hashes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hashes]:
    """As long as the block lasts."""
    hashes = Hashes()
    monkeypatch.setattr(passwords, "verify", hashes.verify)
    use_threads(monkeypatch, 4)
    yield hashes
    hashes.go_on.set()


def use_threads(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    pool = ThreadPoolExecutor(count)
    monkeypatch.setattr(passwords, "_pool", lambda: pool)


class Scene(InProcess):
    """A server that bans an address with its first failed login, unless told otherwise."""

    def __init__(self, loop: str, users: Any, ban_failures: int | None = 1, **options: Any) -> None:
        options = {"login_delay": 0, "ban_failures": ban_failures, "ban_allow": (), **options}
        super().__init__(loop, lambda: Server(users, **options))

    def ended(self) -> list[bool]:
        """Of each session whether its end has been noticed, though it may hold something yet."""
        reception = self.server._reception
        assert reception is not None
        return [session._state is ENDED for session in reception._sessions.values()]

    def hangs_up(self, client: Dialogue) -> None:
        """The client is gone, and the server knows: a FIN says only that no more will come."""
        before = sum(self.call(self.ended))
        reset(client.sock)
        until(lambda: sum(self.call(self.ended)) == before + 1)

    def holds(self, connections: int) -> None:
        """Wait until only so many connections are held."""
        until(lambda: self.call(lambda: self.server.ledger.connections) == connections)

    def counted(self) -> tuple[int, int]:
        """Logins, and failed ones."""
        services = self.server._services
        assert services is not None
        return services.counts.logins, services.counts.failed_logins

    def is_banned(self, source: str) -> bool:
        with Dialogue(self.port, source=source, greeting=None) as client:
            return client.reply()[0] == 421


Start = Callable[..., Scene]


@contextmanager
def starting(loop: str, hashes: Hashes) -> Iterator[Start]:
    """Starts servers on a kind of loop, which end with the block."""
    with ExitStack() as stack:

        def start(users: Any = None, **options: Any) -> Scene:
            scene = Scene(loop, users or [User("user", HASH)], **options)
            stack.callback(scene.stop)
            stack.callback(hashes.go_on.set)
            return scene

        yield start


def tries(scene: Scene, password: str, source: str = MALLORY, name: str = "user") -> Dialogue:
    """A client that has sent a password, and waits."""
    client = Dialogue(scene.port, source=source)
    client.says(f"USER {name}", 331)
    client.send(f"PASS {password}")
    return client
