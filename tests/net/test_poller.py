"""One epoll for all connections, on both loops. What streams do with it is in test_stream.py."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from ftpcluster.net.poller import READ, Poller

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
