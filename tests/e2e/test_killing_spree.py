"""Workers that are killed again and again, under connects, logins and limited transfers."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
from pathlib import Path

import pytest

from tests.support.cluster import open_files, until
from tests.support.dialogue import Dialogue
from tests.support.driver import Driven

WORKERS = 3
NOTHING = {"connections": 0, "unauthenticated": 0, "addresses": 0, "users": 0, "held": 0}


class Crowd:
    """Clients that connect, log in and download, over and over, whatever happens to them."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._live) for _ in range(count)]
        self.greetings: list[int] = []
        self.lost: list[str] = []
        self.whole = 0
        for thread in self._threads:
            thread.start()

    def _live(self) -> None:
        for turn in itertools.count():
            if self._stop.is_set():
                return
            client = Dialogue(self._port, greeting=None)
            with client:
                try:
                    code, _ = client.reply()
                except (OSError, EOFError) as error:
                    self.lost.append(repr(error))
                    continue
                self.greetings.append(code)
                try:
                    self._use(client, turn)
                except (OSError, EOFError, AssertionError):
                    pass  # its worker was killed: not what is looked at here

    def _use(self, client: Dialogue, turn: int) -> None:
        if turn % 4 == 0:
            return  # one who does not even log in
        client.logs_in()
        if turn % 4 == 1:
            client.says("QUIT", 221)
            return
        content = client.downloads("RETR file")
        assert len(content) == 100_000
        self.whole += 1

    def disperse(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def unauthenticated(root: Path, limit: int) -> tuple[str, str]:
    """A limit for those who have not logged in, for which there is no flag."""
    file = root.parent / "unauthenticated.toml"
    file.write_text(f"limits.connections_not_logged_in = {limit}\n")
    return "-c", str(file)


@pytest.mark.parametrize(
    ("kills", "pause"), [(4, 0.7), pytest.param(30, 2.0, marks=pytest.mark.soak)]
)
@pytest.mark.timeout(180)
def test_nothing_is_left_over_after_a_killing_spree(root: Path, kills: int, pause: float) -> None:
    (root / "file").write_bytes(os.urandom(100_000))
    arguments = ("--workers", f"{WORKERS}", "--root", str(root), "--user", "user:12345")
    limits = ("--download-limit", "5MB", "--max-connections-per-user", "50")
    rng = random.Random(kills)
    with Driven(*arguments, *limits, *unauthenticated(root, 100)) as cluster:
        before = len(open_files(cluster.pid))
        processes = len(cluster.processes())
        crowd = Crowd(cluster.port, 8)
        try:
            for _ in range(kills):
                os.kill(rng.choice(until(cluster.workers)), signal.SIGKILL)
                threading.Event().wait(pause)
        finally:
            crowd.disperse()
        assert not crowd.lost  # whom a worker had not greeted yet another one has served
        assert set(crowd.greetings) <= {220, 421}
        assert crowd.greetings.count(220) > 10 * kills
        assert crowd.whole > kills
        until(lambda: cluster.ledger() == NOTHING)
        until(lambda: len(cluster.workers()) == WORKERS)
        until(lambda: len(cluster.processes()) == processes)
        until(lambda: len(open_files(cluster.pid)) == before)
    assert "Traceback" not in cluster.log, cluster.log


def test_unauthenticated_connections_have_a_limit_of_their_own(root: Path) -> None:
    """Who has logged in does not count, and who logs out counts again."""
    arguments = ("--workers", "2", "--root", str(root), "--user", "user:12345")
    with Driven(*arguments, *unauthenticated(root, 3)) as cluster:
        held = [Dialogue(cluster.port) for _ in range(3)]
        with Dialogue(cluster.port, greeting=421) as refused:
            assert refused.is_closed()
        held[0].logs_in()
        held.append(Dialogue(cluster.port))
        with Dialogue(cluster.port, greeting=421) as refused:
            assert refused.is_closed()
        assert cluster.ledger()["unauthenticated"] == 3
        held[1].says("QUIT", 221)
        until(lambda: cluster.ledger()["unauthenticated"] == 2)
        held[0].says("REIN", 220)
        until(lambda: cluster.ledger()["unauthenticated"] == 3)
        with Dialogue(cluster.port, greeting=421) as refused:
            assert refused.is_closed()
        for client in held:
            client.sock.close()
        until(lambda: cluster.ledger() == NOTHING)
