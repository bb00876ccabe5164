"""A transfer that never has to wait lets others go on after some time, whatever it moves."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.net.poller import Poller
from ftpcluster.session.server_dtp import MOST, DataTransfer
from ftpcluster.users import User
from tests.support.clocks import set_clock
from tests.support.core import serving
from tests.support.dialogue import Dialogue

SIZE = 8 << 20


class Clock:
    """A piece of a transfer takes ``step`` seconds, and no look at the clock takes time."""

    def __init__(self) -> None:
        self.now, self.step = 0.0, 0.0015

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    set_clock(monkeypatch, clock)
    return clock


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> list[int]:
    """The bytes that were moved between two waits."""
    runs = [0]
    moved, turn, writable = DataTransfer.moved, Poller.turn, DataTransfer.writable

    def noted(self: DataTransfer, count: int) -> Any:
        clock.now += clock.step
        runs[-1] += count
        return moved(self, count)

    def next_run(method: Any) -> Any:
        def ended(self: Any) -> Any:
            runs.append(0)
            return method(self)

        return ended

    monkeypatch.setattr(DataTransfer, "moved", noted)
    monkeypatch.setattr(DataTransfer, "writable", next_run(writable))
    monkeypatch.setattr(Poller, "turn", next_run(turn))
    return runs


def reads_all(port: int) -> int:
    with Dialogue(port) as client:
        client.logs_in()
        with socket.socket() as data:
            data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIZE)
            data.connect(("127.0.0.1", client.epsv()))
            client.says("RETR file", 150)
            received = 0
            while block := data.recv(1 << 20):
                received += len(block)
        client.expects(226)
    return received


async def test_a_download_lets_others_go_on(tmp_path: Path, runs: list[int]) -> None:
    """However fast its client reads: two pieces fill a turn of the loop."""
    (tmp_path / "file").write_bytes(bytes(SIZE))
    async with serving(User("user", "12345", base_path=tmp_path)) as port:
        assert await asyncio.to_thread(reads_all, port) == SIZE
    assert sum(runs) == SIZE
    assert max(runs) <= 2 * MOST


async def test_what_is_small_is_never_divided(
    tmp_path: Path, runs: list[int], clock: Clock
) -> None:
    """Also where others have used up the turn: it would cost more than it gives."""
    clock.step = 1.0
    (tmp_path / "file").write_bytes(bytes(200_000))
    async with serving(User("user", "12345", base_path=tmp_path)) as port:
        assert await asyncio.to_thread(reads_all, port) == 200_000
    assert runs == [200_000]
