"""Passwords of one address are checked one at a time, and those of suspects together so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ftpcluster.passwords import TooManyLogins
from ftpcluster.session.login_queue import LoginQueue

MALLORY, EVE, ALICE = "192.0.2.7", "192.0.2.6", "192.0.2.8"


class Scene:
    """``running`` has had its turn and not given it back."""

    def __init__(self) -> None:
        self.turns = LoginQueue(asyncio.get_running_loop())
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
    assert not scene.turns._places
    assert not scene.turns._unknown_sites


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


# ---------------------------------------------------------------------- networks of IPv6


def storm(number: int) -> str:
    """An address of a /64 of its own, in one /48."""
    return f"2001:db8:0:{number:x}::1"


async def test_all_of_a_48_has_two_turns_and_others_have_their_own(scene: Scene) -> None:
    for number in range(60):
        await scene.begin(f"m{number}", storm(number << 8))
    await scene.begin("alice", ALICE)
    await scene.begin("other", "2001:db8:1::1")
    assert scene.running == ["m0", "m1", "alice", "other"]
    await scene.end("m0")
    assert scene.running == ["m1", "alice", "other", "m2"]


async def test_all_of_a_56_has_one_turn_and_gets_it_in_turn_with_other_56s(scene: Scene) -> None:
    for number in range(6):
        await scene.begin(f"m{number}", storm(number))
    await scene.begin("other", storm(0x100))
    assert scene.running == ["m0", "other"]
    for each in ("late", "later"):
        await scene.begin(each, storm(0x200))
    await scene.end("other")
    assert scene.running == ["m0", "late"]  # though five of the first /56 have come before
    await scene.end("m0")
    assert scene.running == ["late", "m1"]


async def test_within_a_56_sites_have_their_turns_in_turn(scene: Scene) -> None:
    for number in range(3):
        await scene.begin(f"m{number}", storm(0))
    await scene.begin("other", storm(1))
    order = []
    for _ in range(3):
        (name,) = scene.running
        order.append(name)
        await scene.end(name)
    assert order == ["m0", "other", "m1"]


async def test_a_48_may_have_64_who_wait_and_others_have_room(scene: Scene) -> None:
    for number in range(66):
        await scene.begin(str(number), storm(number << 8))
    with pytest.raises(TooManyLogins):
        await scene.turns.take(storm(0xF000))
    await scene.begin("alice", ALICE)
    assert scene.running == ["0", "1", "alice"]


async def test_who_has_logged_in_before_does_not_wait_for_its_neighbours(scene: Scene) -> None:
    scene.turns.trust(storm(0x300))
    for number in range(60):
        await scene.begin(f"m{number}", storm(number << 8 | 1))
    await scene.begin("known", storm(0x300))
    assert scene.running == ["m0", "m1", "known"]
    await scene.begin("again", storm(0x300))
    await scene.end("known")
    assert scene.running == ["m0", "m1", "again"]


async def test_room_is_kept_for_who_has_logged_in_before(scene: Scene) -> None:
    scene.turns.trust(ALICE)
    for number in range(48):
        await scene.begin(str(number), f"198.51.100.{number}")
    with pytest.raises(TooManyLogins):
        await scene.turns.take("198.51.100.99")
    await scene.begin("alice", ALICE)
    assert scene.running[-1] == "alice"
    await scene.end("0")
    await scene.begin("more", "198.51.100.99")
    assert scene.running[-1] == "more"


async def test_who_has_logged_in_before_is_not_among_those_who_failed(scene: Scene) -> None:
    for site in (MALLORY, ALICE):
        scene.turns.suspect(site)
    scene.turns.trust(ALICE)
    await scene.begin("a", MALLORY)
    await scene.begin("b", ALICE)
    assert scene.running == ["a", "b"]


async def test_an_ipv6_address_that_stands_for_an_ipv4_one_has_its_turn(scene: Scene) -> None:
    for name, site in (("a", MALLORY), ("b", "64:ff9b::c000:207"), ("c", "::ffff:192.0.2.7")):
        await scene.begin(name, site)
    await scene.begin("d", "64:ff9b::c000:208")
    assert scene.running == ["a", "d"]


async def test_local_networks_have_the_turns_of_others(scene: Scene) -> None:
    for number in range(3):
        await scene.begin(str(number), f"fe80::{number + 1:x}%eth0")
    assert scene.running == ["0"]


async def test_only_so_many_who_have_logged_in_are_remembered() -> None:
    turns = LoginQueue(asyncio.get_running_loop())
    for number in range(9000):
        turns.trust(storm(number))
    assert len(turns._trusted) == 4096


async def test_only_so_many_suspects_are_remembered() -> None:
    turns = LoginQueue(asyncio.get_running_loop())
    for number in range(5000):
        turns.suspect(f"198.51.{number // 250}.{number % 250}")
    assert len(turns._suspects) == 1024
