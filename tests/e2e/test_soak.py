"""Kills, stops, reloads and traffic, for long: nothing is lost, nothing is left over."""

from __future__ import annotations

import collections
import hashlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cluster import open_files, until
from tests.support.dialogue import Dialogue
from tests.support.driver import Driven
from tests.support.memory import resident

NOTHING = {"connections": 0, "unauthenticated": 0, "addresses": 0, "users": 0, "held": 0}
CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).digest()
TIMEOUT = 4
CONFIGURATION = """
workers = {workers}
[limits]
connections = 200
download = "200MB"
[timeouts]
drain = 3
worker = {timeout}
[[user]]
login = "user"
password = "plain:12345"
root = "files"
connections = 150
upload = "{upload}"
"""


class Traffic:
    """Clients that come and go. What they saw is counted by name."""

    def __init__(self, port: int, clients: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.seen: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self._threads = [
            threading.Thread(target=self._live, args=(number,)) for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def _live(self, number: int) -> None:
        chance = random.Random(number)
        for turn in itertools.count():
            if self._stop.is_set():
                return
            with Dialogue(self._port, greeting=None) as client:
                try:
                    code, _ = client.reply()
                except (OSError, EOFError):
                    self.seen["not greeted"] += 1
                    continue
                self.seen[f"greeted {code}"] += 1
                if code != 220:
                    continue
                try:
                    client.logs_in()
                    use = chance.choice((self._download, self._upload, self._linger))
                    use(client, f"{number}.{turn}")
                    client.says("QUIT", 221)
                except (OSError, EOFError, AssertionError):
                    self.seen["ended by a kill or a drain"] += 1

    def _download(self, client: Dialogue, _: str) -> None:
        if hashlib.sha256(client.downloads("RETR file")).digest() != DIGEST:
            self.wrong.append("a download said 226 and was not whole")
        self.seen["downloads"] += 1

    def _upload(self, client: Dialogue, name: str) -> None:
        client.uploads(f"STOR {name}", CONTENT)
        if hashlib.sha256(client.downloads(f"RETR {name}")).digest() != DIGEST:
            self.wrong.append("an upload was told 226 and was not whole")
        client.says(f"DELE {name}", 250)
        self.seen["uploads"] += 1

    def _linger(self, client: Dialogue, _: str) -> None:
        client.says("PWD", 257)
        self._stop.wait(1.0)
        client.says("NOOP", 200)
        self.seen["sessions that waited"] += 1

    def disperse(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


class Trouble:
    """What is done to a cluster."""

    def __init__(self, cluster: Driven, file: Path) -> None:
        self._cluster = cluster
        self._file = file
        self._chance = random.Random(7)
        self.done: collections.Counter[str] = collections.Counter()

    def make(self) -> None:
        """Do one thing of all that there are."""
        kinds: list[Callable[[], None]] = [self._kill, self._stop, self._hang, self._reload]
        kinds += [self._reload_badly, self._kill]
        what = self._chance.choice(kinds)
        what()
        self.done[what.__name__.strip("_")] += 1

    def _victim(self) -> int:
        return self._chance.choice(until(self._cluster.workers))

    def _kill(self) -> None:
        os.kill(self._victim(), signal.SIGKILL)

    def _stop(self) -> None:
        """For a while, which is shorter than the supervisor's patience."""
        victim = self._victim()
        os.kill(victim, signal.SIGSTOP)
        time.sleep(1.5)
        try:
            os.kill(victim, signal.SIGCONT)
        except ProcessLookupError:
            pass  # its generation was drained, and it overran its grace

    def _hang(self) -> None:
        """For longer than that."""
        victim = self._victim()
        os.kill(victim, signal.SIGSTOP)
        until(lambda: victim not in self._cluster.workers())

    def _reload(self) -> None:
        self._file.write_text(configuration(self._chance.choice((2, 3, 4)), "50MB"))
        self._cluster.hang_up()

    def _reload_badly(self) -> None:
        good = self._file.read_text()
        self._file.write_text(good + "\n[limit]\n")
        assert "not reloaded" in self._cluster.hang_up()
        self._file.write_text(good)


def configuration(workers: int, upload: str) -> str:
    return CONFIGURATION.format(workers=workers, upload=upload, timeout=TIMEOUT)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [12, pytest.param(600, marks=pytest.mark.soak)])
@pytest.mark.timeout(780)
def test_trouble_leaves_nothing_behind(tmp_path: Path, seconds: float) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "file").write_bytes(CONTENT)
    file = tmp_path / "ftpcluster.toml"
    file.write_text(configuration(3, "50MB"))
    file.chmod(0o600)

    def megabytes() -> int:
        return resident(cluster.pid) // 1_000_000

    with Driven("-c", str(file)) as cluster:
        quiet = len(open_files(cluster.pid)) - len(cluster.workers())
        memory = megabytes()
        traffic, trouble = Traffic(cluster.port, 12), Trouble(cluster, file)
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                trouble.make()
                time.sleep(1.0)
        finally:
            traffic.disperse()
        file.write_text(configuration(3, "50MB"))
        assert "not reloaded" not in cluster.hang_up()
        until(lambda: cluster.ledger() == NOTHING)
        until(lambda: len(cluster.workers()) == 3)
        # beside the workers there are the supervisor and multiprocessing's resource tracker
        until(lambda: len(cluster.processes()) == 3 + 2)
        until(lambda: len(open_files(cluster.pid)) - len(cluster.workers()) == quiet)
        print(dict(trouble.done), dict(traffic.seen), "MB:", memory, megabytes())
        assert not traffic.wrong
        assert traffic.seen["downloads"] > seconds
        assert traffic.seen["uploads"] > seconds
        assert not traffic.seen["not greeted"]
        assert not [each for each in cluster.log.splitlines() if each.startswith("Traceback")]
