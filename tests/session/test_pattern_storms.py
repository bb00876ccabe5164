"""Patterns that are made to be expensive: others do not wait, and nothing of them is kept."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ftpcluster.protocol.pattern import Pattern, is_pattern
from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.memory import anonymous

MIB = 1 << 20
WIDE = "ĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĲĴĶĹĻĽĿ"
SAMPLES = 300


def classes(number: int, size: int) -> str:
    """Another pattern for each number: ``[…][…]`` up to so many bytes, with no character twice."""
    text = ""
    while len(text.encode()) < size - 16:
        start = (number + len(text)) % (len(WIDE) - 4)
        text += f"[{WIDE[start : start + 4]}]"
    return f"{text}{number}*"


ATTACKS = {
    "in a directory that is missing": lambda number: f"STAT nx/{classes(number, 4000)}",
    "brackets that nothing closes": lambda number: f"STAT nx/{number}{'[' * 4000}",
    "as long as a name": lambda number: f"STAT many/{classes(number, 240)}",
    "that nearly fits": lambda number: f"STAT many/*{'a?' * 110}{number}[b]",
    "of many stars": lambda number: f"STAT many/{'*a' * 110}{number}",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One worker, and a directory of long names."""
    root = tmp_path_factory.mktemp("served")
    (root / "many").mkdir()
    for number in range(500):
        os.mknod(root / "many" / f"{number:03}{'a' * 250}")
    arguments = ("--workers", "1", "--root", str(root), "--user", "user:12345")
    with Cluster(*arguments) as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


@contextlib.contextmanager
def flood(cluster: Cluster, command: Callable[[int], str]) -> Iterator[None]:
    """Somebody sends sixteen such commands at once, again and again, and reads the replies."""
    stop = threading.Event()
    begun = threading.Event()

    def attack() -> None:
        with Dialogue(cluster.port) as attacker:
            attacker.logs_in()
            number = 0
            while not stop.is_set():
                lines = [command(number + each) for each in range(16)]
                number += 16
                attacker.send("\r\n".join(lines))
                for _ in lines:
                    attacker.reply()
                begun.set()

    thread = threading.Thread(target=attack)
    thread.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def latency(client: Dialogue) -> float:
    """The median of what NOOP takes."""
    samples = []
    for _ in range(SAMPLES):
        begin = time.perf_counter()
        client.says("NOOP", 200)
        samples.append(time.perf_counter() - begin)
    return statistics.median(samples)


def ordinary(number: int) -> str:
    return f"STAT nx/{number}"


@pytest.mark.alone
@pytest.mark.parametrize("attack", ATTACKS)
def test_expensive_patterns_hold_others_up_no_more_than_ordinary_commands(
    cluster: Cluster, attack: str
) -> None:
    """It was 33 ms and 42 MB where such a flood of ordinary commands takes 0.3 ms."""
    (worker,) = cluster.workers()
    with Dialogue(cluster.port) as client:
        client.logs_in()
        with flood(cluster, ordinary):
            quiet = latency(client)
        before = anonymous(worker)
        with flood(cluster, ATTACKS[attack]):
            attacked = latency(client)
        # the rest is one turn of matching, which a slow machine makes longer than a NOOP
        assert attacked < 3 * quiet + 0.005, (attacked, quiet)
    assert anonymous(worker) - before < 8 * MIB


@pytest.mark.parametrize("pattern", ["*.txt", "x[ab]?*", "[ĀĂ]*", "*a?b*"])
def test_nothing_of_a_pattern_is_kept(pattern: str) -> None:
    """``re`` keeps what it compiles, up to 512 times."""
    re.purge()
    is_pattern(pattern)
    for number in range(10):
        Pattern(f"{pattern}{number}").matches("xab.txt")
    assert len(re._cache) == 0  # type: ignore[attr-defined]


def test_a_pattern_that_is_longer_than_any_name_is_not_looked_at(client: Dialogue) -> None:
    client.says(f"STAT nx/{'[' * 4000}", 550)
    client.says(f"STAT {'[a]' * 1000}", 550, 553)
    client.says(f"STAT {'[a]' * 85}", 213)
