"""One epoll for all connections, on both loops. What streams do with it is in test_stream.py."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ftpcluster.net.poller import READ, Poller
from tests.support.clocks import set_clock

Run = Callable[[Callable[["Bench"], Coroutine[Any, Any, None]]], None]


class Player:
    """Reads a ball when it comes, and says so."""

    def __init__(self, fd: int, on_ball: Callable[[], None]) -> None:
        self.fd = fd
        self._on_ball = on_ball

    def on_ready(self, _: int) -> None:
        assert os.read(self.fd, 1) == b"o"
        self._on_ball()


class Bench:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.poller = Poller(loop)
        self._open: list[socket.socket] = []

    def player(self, on_ball: Callable[[], None]) -> int:
        """Where a ball has to be written for the player to get it."""
        ours, theirs = socket.socketpair()
        self._open += [ours, theirs]
        self.poller.add(ours.fileno(), READ, Player(ours.fileno(), on_ball))
        return theirs.fileno()

    def close(self) -> None:
        self.poller.close()
        for sock in self._open:
            sock.close()


def test_what_happens_in_a_turn_of_the_loop_is_told_in_the_same_turn(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        turn = bench.loop.create_future()

        def passes() -> None:
            bench.loop.call_soon(turn.cancel)  # in the next turn
            os.write(second, b"o")

        second = bench.player(lambda: turn.set_result(None))
        first = bench.player(passes)
        os.write(first, b"o")
        await turn

    run(scenario)


def test_the_loop_s_other_callbacks_get_their_turn_however_much_happens(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        passed = 0

        def again() -> None:
            nonlocal passed
            passed += 1
            os.write(player, b"o")

        player = bench.player(again)
        os.write(player, b"o")
        for _ in range(10):
            await asyncio.sleep(0)
        assert 0 < passed < 100

    run(scenario)


def test_a_player_may_close_the_poller(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        closed = asyncio.Event()

        def close() -> None:
            bench.poller.close()
            closed.set()

        os.write(bench.player(close), b"o")
        await closed.wait()

    run(scenario)


def test_of_those_that_take_long_one_goes_on_in_each_turn_of_the_loop(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        went: list[str] = []

        async def goes_on(name: str) -> None:
            for _ in range(2):
                await bench.poller.turn()
                went.append(name)

        tasks = [asyncio.ensure_future(goes_on(name)) for name in "abc"]
        seen = []
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            seen.append(len(went))
        assert went == list("abcabc")
        assert set(seen) >= set(range(6))

    run(scenario)


def test_whoever_is_cancelled_while_it_waits_for_its_turn_holds_nobody_up(run: Run) -> None:
    async def scenario(bench: Bench) -> None:
        first, second = bench.poller.turn(), bench.poller.turn()
        first.cancel()
        await second
        assert first.cancelled()

    run(scenario)


def test_a_turn_of_the_loop_is_late_after_two_milliseconds(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    set_clock(monkeypatch, lambda: now)

    async def scenario(bench: Bench) -> None:
        nonlocal now
        assert bench.poller.is_late  # nobody was called in this turn
        await bench.poller.turn()
        assert not bench.poller.is_late
        now += 0.0021
        assert bench.poller.is_late

    run(scenario)


def test_no_further_look_is_had_when_a_turn_has_lasted_long_enough(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock: the loop's own time stands still during a turn of uvloop's."""
    clock = itertools.count(0.0, 0.01)
    set_clock(monkeypatch, clock.__next__)

    async def scenario(bench: Bench) -> None:
        passed = 0

        def again() -> None:
            nonlocal passed
            passed += 1
            os.write(player, b"o")

        player = bench.player(again)
        os.write(player, b"o")
        turns = 0
        while passed < 5:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= passed - 1

    run(scenario)
