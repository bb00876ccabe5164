"""Passwords of one address are checked one at a time, and those of suspects together so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ftpcluster.passwords import TooManyLogins
from ftpcluster.session.turns import Turns

MALLORY, EVE, ALICE = "192.0.2.7", "192.0.2.6", "192.0.2.8"


class Scene:
    """``running`` has had its turn and not given it back."""

    def __init__(self) -> None:
        self.turns = Turns(asyncio.get_running_loop())
        self.running: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def begin(self, name: str, site: str) -> None:
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._check(name, site))
        await self.settle()

    async def _check(self, name: str, site: str) -> None:
        turn = await self.turns.take(site)
        self.running.append(name)
        try:
            await self._ends[name].wait()
        finally:
            self.running.remove(name)
            self.turns.give(turn)

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.tasks[name]
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    for task in scene.tasks.values():
        task.cancel()
    await asyncio.gather(*scene.tasks.values(), return_exceptions=True)
    assert not scene.turns._waiting


async def test_an_address_has_one_turn_at_a_time_and_others_have_their_own(scene: Scene) -> None:
    for name, site in (("a", MALLORY), ("b", MALLORY), ("c", MALLORY), ("d", ALICE)):
        await scene.begin(name, site)
    assert scene.running == ["a", "d"]
    await scene.end("a")
    assert scene.running == ["d", "b"]
    await scene.end("b")
    assert scene.running == ["d", "c"]


async def test_all_who_have_failed_share_one_turn(scene: Scene) -> None:
    for site in (MALLORY, EVE):
        scene.turns.suspect(site)
    for name, site in (("a", MALLORY), ("b", EVE), ("c", ALICE)):
        await scene.begin(name, site)
    assert scene.running == ["a", "c"]
    await scene.end("a")
    assert scene.running == ["c", "b"]


async def test_a_turn_that_began_before_the_failure_is_given_back(scene: Scene) -> None:
    await scene.begin("a", MALLORY)
    await scene.begin("b", MALLORY)
    scene.turns.suspect(MALLORY)
    await scene.end("a")
    assert scene.running == ["b"]


async def test_one_who_leaves_while_it_waits_is_passed_over(scene: Scene) -> None:
    for name in "abc":
        await scene.begin(name, MALLORY)
    scene.tasks["b"].cancel()
    await scene.settle()
    await scene.end("a")
    assert scene.running == ["c"]


async def test_one_who_leaves_as_its_turn_comes_passes_it_on(scene: Scene) -> None:
    for name in "abc":
        await scene.begin(name, MALLORY)
    scene._ends["a"].set()
    while scene.running == ["a"]:
        await asyncio.sleep(0)
    scene.tasks["b"].cancel()  # its turn has come, and it does not know yet
    await scene.settle()
    assert scene.running == ["c"]


async def test_only_so_many_may_wait(scene: Scene) -> None:
    for number in range(33):
        await scene.begin(str(number), MALLORY)
    with pytest.raises(TooManyLogins):
        await scene.turns.take(MALLORY)
    await scene.begin("other", ALICE)
    assert scene.running == ["0", "other"]


async def test_only_so_many_suspects_are_remembered() -> None:
    turns = Turns(asyncio.get_running_loop())
    for number in range(5000):
        turns.suspect(f"198.51.{number // 250}.{number % 250}")
    assert len(turns._suspects) == 1024
