"""Host names that workers ask the supervisor for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ftpcluster.ipc.messages import LookedUp, LookUp
from ftpcluster.net import lookups
from ftpcluster.supervisor import name_lookups
from tests.support.fake_workers import supervised
from tests.support.programs import TIMEOUT

NAMES = frozenset(("ftp.example", "other.example"))


_REAL = socket.getaddrinfo


class Resolver:
    """It hangs for names in ``held``, until it is let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.held: set[str] = set()
        self.released = threading.Event()

    def getaddrinfo(self, name: str, *others: Any) -> list[Any]:
        if not name.endswith("example"):  # the addresses of the tests' own sockets
            return _REAL(name, *others)
        self.asked.append(name)
        if name in self.held:
            self.released.wait(TIMEOUT)
        if name == "other.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in ("203.0.113.7", "203.0.113.8")]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    yield resolver
    resolver.released.set()


async def test_all_workers_share_one_lookup(resolver: Resolver) -> None:
    async with supervised(2, names=NAMES) as scene:
        workers = await scene.ready(2)
        for worker in workers:
            worker.say(LookUp("ftp.example"))
        for worker in workers:
            answer = await worker.hear(LookedUp)
            assert answer == LookedUp("ftp.example", ("203.0.113.7", "203.0.113.8"))
        assert resolver.asked.count("ftp.example") == 1


async def test_a_name_is_looked_up_again(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_lookups, "_KEPT", 0.0)
    async with supervised(1, names=NAMES) as scene:
        (worker,) = await scene.ready(1)
        for count in (1, 2):
            worker.say(LookUp("ftp.example"))
            await worker.hear(LookedUp)
            assert resolver.asked.count("ftp.example") == count


async def test_a_failure_is_an_answer(resolver: Resolver) -> None:
    async with supervised(1, names=NAMES) as scene:
        (worker,) = await scene.ready(1)
        worker.say(LookUp("other.example"))
        answer = await worker.hear(LookedUp)
        assert answer == LookedUp("other.example", (), "Name or service not known")


async def test_a_resolver_that_hangs_holds_nobody_up(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "_PATIENCE", 0.5)
    resolver.held = {"ftp.example"}
    async with supervised(1, names=NAMES) as scene:
        (worker,) = await scene.ready(1)
        for _ in range(3):
            worker.say(LookUp("ftp.example"))
        worker.say(LookUp("other.example"))
        assert (await worker.hear(LookedUp)).name == "other.example"
        await scene.connect()
        await worker.adopt()
        answer = await worker.hear(LookedUp)
        said = "the name service has not answered for 0.5 s"
        assert answer == LookedUp("ftp.example", (), said)
        assert resolver.asked.count("ftp.example") == 1


@pytest.mark.parametrize("name", ["x.example", "", "ftp.example."])
async def test_a_worker_that_asks_for_other_names_is_ended(
    resolver: Resolver, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervised(1, names=NAMES) as scene:
        (worker,) = await scene.ready(1)
        worker.say(LookUp(name))
        async with asyncio.timeout(TIMEOUT):
            while not worker.killed:
                await asyncio.sleep(0)
        assert "sent a bad message (it asked for a host name that is not configured)" in caplog.text
        assert name not in resolver.asked
