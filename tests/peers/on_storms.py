"""Attempts to keep a server busy, so that others wait: patterns, digests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack

from tests.peers.target import UNKNOWN, Broken, Client, Lacking, Target
from tests.support.dialogue import reset
from tests.support.latency import felt_time

TIMES = 3
"""By how much others may wait longer."""
LOOKS = 10
"""A server that lets others wait does so each time; a machine that is busy does not."""


def disturbs(
    storm: Callable[[], AbstractContextManager[None]], nothing: float, other: Callable[[], object]
) -> bool:
    """Whether what somebody does takes longer within a storm than before it, each time.

    ``nothing``: seconds that are no delay on a busy machine.
    """
    quiet = nothing / TIMES
    for _ in range(LOOKS):
        quiet = max(quiet, felt_time(other))
        with storm():
            if felt_time(other) < TIMES * quiet:
                return False
    return True


# ---------------------------------------------------------------------- patterns

WIDE = "ĀĂĄĆĈĊČĎĐĒĔĖĘĚĜĞĠĢĤĦĨĪĬĮİĲĴĶĹĻĽĿ"
COSTLY = "".join(f"[{WIDE[each % 28 :][:4]}]" for each in range(390))
"""4 KB that take long to compile; with a number in front they are another pattern each time."""
AT_A_TIME = 16


def costly_patterns(target: Target) -> None:
    """“patterns that are costly to compile”: sixteen at once, and somebody else says NOOP"""
    (target.root / "file1").touch()
    with target.session() as client:
        found = [client.moves(f"{verb} file[0-9]")[1] for verb in ("LIST", "NLST")]
        if not any(b"file1" in each for each in found):
            raise Lacking("has no patterns")
    with ExitStack() as stack:  # somebody at least in each process of the server
        others = [stack.enter_context(target.session()) for _ in range(4)]
        greedy = stack.enter_context(target.session())
        if disturbs(lambda: asking(greedy), 0.05, lambda: [other.asks("NOOP") for other in others]):
            raise Broken("others wait for somebody's patterns")


@contextlib.contextmanager
def asking(greedy: Client) -> Iterator[None]:
    """Somebody sends sixteen such commands at once, again and again."""
    stop = threading.Event()

    def ask() -> None:
        number = 0
        while not stop.is_set():
            numbers = range(number, number + AT_A_TIME)
            greedy.send("\r\n".join(f"STAT missing/{each}{COSTLY}" for each in numbers))
            for _ in numbers:
                greedy.final()
            number += AT_A_TIME

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# ---------------------------------------------------------------------- digests

HUGE = 4 << 30
GREEDY = 32


def digests_of_one_reader(target: Target) -> None:
    """“32 HASH of a sparse 4 GB file”, and somebody else's RETR meanwhile"""
    (target.root / "small").write_bytes(b"x" * 1_000_000)
    with (target.root / "huge").open("wb") as file:
        file.truncate(HUGE)
    with target.session() as honest:
        verbs = [
            verb for verb in ("HASH", "XMD5") if honest.asks(f"{verb} small")[0] not in UNKNOWN
        ]
        if not verbs:
            raise Lacking("has no digests")
        command = f"{verbs[0]} huge"
        if disturbs(lambda: computing(target, command), 0.01, lambda: honest.moves("RETR small")):
            raise Broken("others wait for somebody's digests")


@contextlib.contextmanager
def computing(target: Target, command: str) -> Iterator[None]:
    """Somebody has asked for the same in many sessions."""
    with ExitStack() as stack:
        for _ in range(GREEDY):
            client = stack.enter_context(target.session())
            stack.callback(reset, client.sock)  # behind a FIN it would be computed to its end
            client.send(command)
        yield
