"""Shared speed in the supervisor: when it is spread, and which worker is told what."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from typing import Any

import msgspec
import pytest

from ftpcluster.ipc.channel import MAX_MESSAGE
from ftpcluster.ipc.messages import (
    EndSession,
    Grants,
    Ready,
    Reports,
    SetGroupLimits,
    SetLimits,
    SlotAnswer,
    TakeSlot,
    ToldRates,
    UserLimits,
)
from ftpcluster.quota.bucket import BUSY_DEPTH, IDLE_DEPTH
from ftpcluster.quota.fair import Demand
from ftpcluster.quota.limit_tree import FORGET, TICK, Grant, Report
from ftpcluster.quota.rates import DOWNLOAD, Rates, SpeedLimits
from ftpcluster.supervisor.speed import SharedSpeed
from ftpcluster.supervisor.worker_handle import Plan
from tests.support.fake_workers import FakeWorker, Supervised, supervised, until
from tests.support.simulation import VirtualLoop

MEGA = 1_000_000
NOTHING = Demand()


def eager(login: str = "alice", count: int = 1, waiting_bytes: int = 1 << 30) -> Reports:
    return Reports((Report(login, DOWNLOAD, Demand(count, waiting_bytes)),))


def satisfied(login: str = "alice") -> Reports:
    return Reports((Report(login, DOWNLOAD, NOTHING),))


class Room:
    """A supervisor's speed in virtual time; the test is its workers."""

    def __init__(self, rates: Rates = Rates(download=MEGA), **limits: Any) -> None:
        self.loop = VirtualLoop()
        self.told: list[tuple[float, int, Grants]] = []
        limited = SpeedLimits(server=rates, **limits)
        self.speed = SharedSpeed(self.loop.as_loop, limited, self._grant)

    def _grant(self, epoch: int, message: Grants) -> None:
        self.told.append((self.loop.now, epoch, message))

    def after(self, seconds: float) -> list[tuple[float, int, Grants]]:
        self.told.clear()
        self.loop.run(seconds)
        return self.told

    @property
    def granted(self) -> dict[int, int]:
        """Bytes by epoch."""
        found: defaultdict[int, int] = defaultdict(int)
        for _, epoch, message in self.told:
            found[epoch] += sum(grant.size for grant in message.grants)
        return found

    def ask(self, seconds: float, *epochs: int, login: str = "alice") -> None:
        """So long these workers want more than there is, and say so every tick."""
        end = self.loop.now + seconds
        while self.loop.now < end - 1e-9:
            for epoch in epochs:
                self.speed.on_reports(epoch, eager(login))
            self.loop.run(TICK)


@pytest.fixture
def room() -> Room:
    return Room()


# ---------------------------------------------------------------------- when


def test_nothing_happens_as_long_as_nobody_wants_anything(room: Room) -> None:
    assert room.after(5.0) == []
    room.speed.on_reports(1, satisfied())
    room.speed.on_user_limits(UserLimits("alice", ToldRates(download=1000)))
    assert room.after(5.0) == []
    assert room.loop.is_idle


def test_the_first_who_wants_something_gets_it_at_once(room: Room) -> None:
    room.speed.on_reports(1, eager(waiting_bytes=1000))
    assert room.told == [(0.0, 1, Grants((Grant("alice", DOWNLOAD, 1000),), (False, False)))]


def test_it_ticks_until_nobody_wants_anything_any_more(room: Room) -> None:
    room.ask(1.0, 1)
    moments = [when for when, _, _ in room.told]
    assert len(moments) >= 20
    assert max(b - a for a, b in itertools.pairwise(moments)) <= TICK * 1.001
    room.speed.on_reports(1, satisfied())
    assert room.after(10.0) == []
    assert room.loop.is_idle


def test_it_begins_again_after_a_pause(room: Room) -> None:
    room.ask(0.2, 1)
    room.speed.on_reports(1, satisfied())
    room.after(10.0)
    room.speed.on_reports(2, eager(waiting_bytes=1000))
    assert room.granted == {2: 1000}


def test_after_a_pause_there_is_no_burst(room: Room) -> None:
    room.ask(0.5, 1)
    room.speed.on_reports(1, satisfied())
    room.after(60.0)
    room.ask(1.0, 1)
    assert room.granted[1] <= MEGA * (1 + 0.1)


def test_nothing_is_left_to_run_when_it_is_closed(room: Room) -> None:
    room.speed.on_reports(1, eager())
    room.speed.close()
    room.speed.close()
    assert room.loop.is_idle


# ---------------------------------------------------------------------- how much


@pytest.mark.parametrize("epochs", [(1,), (1, 2), (1, 2, 3, 4)])
def test_workers_together_get_what_the_limit_is(room: Room, epochs: tuple[int, ...]) -> None:
    room.ask(0.5, *epochs)
    room.told.clear()
    room.ask(5.0, *epochs)
    granted = room.granted
    assert 0.98 * 5 * MEGA <= sum(granted.values()) <= 1.02 * 5 * MEGA
    assert max(granted.values()) - min(granted.values()) <= 0.01 * 5 * MEGA


def test_a_worker_with_more_transfers_gets_more(room: Room) -> None:
    for _ in range(20):
        room.speed.on_reports(1, eager(count=3))
        room.speed.on_reports(2, eager(count=1))
        room.loop.run(TICK)
    assert room.granted[1] == pytest.approx(3 * room.granted[2], rel=0.1)


def test_it_says_whether_there_is_enough_for_all(room: Room) -> None:
    room.ask(0.5, 1)
    assert room.told[-1][2].contended == (False, True)
    for _ in range(3):
        room.speed.on_reports(1, eager(waiting_bytes=100))
        room.loop.run(TICK)
    assert room.told[-1][2].contended == (False, False)


def test_who_is_in_a_hurry_waits_for_the_tick_only_where_others_wait(room: Room) -> None:
    room.speed.on_reports(1, eager(waiting_bytes=100))
    room.loop.run(TICK / 5)
    room.told.clear()
    room.speed.on_reports(2, eager("bob", waiting_bytes=100))
    assert [epoch for _, epoch, _ in room.told] == [2]
    room.ask(0.2, 1)
    room.told.clear()
    room.speed.on_reports(2, eager("bob", waiting_bytes=100))
    assert room.told == []
    room.loop.run(TICK)
    assert 2 in room.granted


def test_a_tick_that_comes_late_loses_nothing_and_gives_no_burst(room: Room) -> None:
    """The loop was busy elsewhere: once in a while 80 ms instead of 50."""
    room.ask(0.5, 1)
    room.told.clear()
    start = room.loop.now
    for _ in range(25):
        room.ask(3 * TICK, 1)
        room.loop.now += 0.03  # nothing runs meanwhile
    passed = room.loop.now - start
    assert 0.95 * passed * MEGA <= room.granted[1] <= 1.02 * passed * MEGA


def test_a_worker_that_is_gone_gets_nothing_and_leaves_the_rest_to_the_others(room: Room) -> None:
    room.ask(0.5, 1, 2)
    room.speed.release_worker(1)
    room.told.clear()
    room.ask(1.0, 2)
    assert room.granted.keys() == {2}
    assert room.granted[2] == pytest.approx(MEGA, rel=0.05)


def test_it_stops_ticking_when_the_last_worker_that_wants_something_is_gone(room: Room) -> None:
    room.ask(0.5, 1)
    room.speed.release_worker(1)
    assert room.after(10.0) == []
    assert room.loop.is_idle


def test_a_worker_that_hangs_gets_nothing_after_a_while(room: Room) -> None:
    room.ask(0.5, 1, 2)
    room.ask(0.5, 2)
    room.told.clear()
    room.ask(1.0, 2)
    assert room.granted.keys() == {2}


def test_the_grants_of_many_users_fit_into_messages(room: Room) -> None:
    """A datagram that is too large would cost the worker its life."""
    room = Room(Rates(download=100_000 * MEGA))
    logins = [f"user-{number}@example.org" for number in range(5000)]
    for start in range(0, 5000, 500):
        some = logins[start : start + 500]
        room.speed.on_reports(
            1, Reports(tuple(Report(login, DOWNLOAD, Demand(1, 10**6)) for login in some))
        )
    room.told.clear()
    room.loop.run(TICK)
    told = [grant.login for _, _, message in room.told for grant in message.grants]
    assert sorted(told) == sorted(logins)
    largest = max(len(msgspec.msgpack.encode(message)) for _, _, message in room.told)
    assert largest <= MAX_MESSAGE


# ---------------------------------------------------------------------- limits that change


def test_a_new_limit_of_the_server_holds_at_once(room: Room) -> None:
    room.ask(0.5, 1)
    room.speed.set_limits(None, Rates(download=MEGA // 10))
    room.told.clear()
    room.ask(1.0, 1)
    assert room.granted[1] <= MEGA // 10 * (1 + IDLE_DEPTH + TICK)
    room.speed.set_limits(None, Rates(download=3 * MEGA))
    room.told.clear()
    room.ask(1.0, 1)
    assert room.granted[1] == pytest.approx(3 * MEGA, rel=0.06)


def test_an_order_counts_more_than_what_workers_tell_of_a_user(room: Room) -> None:
    room.speed.set_limits("alice", Rates(download=100_000))
    room.speed.on_user_limits(UserLimits("alice", ToldRates(download=500_000)))
    room.ask(1.0, 1)
    assert room.granted[1] == pytest.approx(100_000, rel=0.1)


def test_an_order_holds_however_long_the_user_was_away(room: Room) -> None:
    room.speed.set_limits("alice", Rates(download=100_000))
    room.ask(5.0, 1, login="bob")
    room.speed.on_reports(1, satisfied("bob"))
    room.after(10.0)
    room.speed.on_user_limits(UserLimits("alice", ToldRates(download=500_000)))
    room.told.clear()
    room.ask(1.0, 1)
    assert room.granted[1] == pytest.approx(100_000, rel=0.1)


def test_a_limit_that_the_user_manager_has_lifted_is_gone(room: Room) -> None:
    """It stands in no configuration, and no other user is there whose tick would forget it."""
    room.speed.on_user_limits(UserLimits("alice", ToldRates(download=100_000)))
    room.ask(1.0, 1)
    room.speed.on_reports(1, satisfied())
    room.after(4.0)
    room.speed.on_user_limits(UserLimits("alice", ToldRates()))
    room.told.clear()
    room.ask(1.0, 1)
    assert room.granted[1] == pytest.approx(MEGA, rel=0.1)


@pytest.mark.parametrize(("before", "after"), [(None, MEGA), (200_000, 200_000)])
def test_a_new_plan_undoes_what_was_ordered_of_a_user_whom_only_the_user_manager_knows(
    room: Room, before: int | None, after: int
) -> None:
    told = UserLimits("alice", ToldRates(download=before))
    plan = Plan(
        listeners=(),
        workers=1,
        start_process=FakeWorker,
        speeds=SpeedLimits(server=Rates(download=MEGA)),
    )
    room.speed.on_user_limits(told)
    room.speed.set_limits("alice", Rates(download=100_000))
    room.ask(1.0, 1)
    messages = room.speed.reset(plan)
    assert messages == [SetLimits(None, Rates(download=MEGA)), SetLimits("alice", None)]
    room.speed.on_user_limits(told, is_old=True)  # as a worker that is told that answers
    room.ask(0.5, 1)
    room.told.clear()
    room.ask(1.0, 1)
    assert room.granted[1] == pytest.approx(after, rel=0.1)


def test_a_user_s_limit_is_not_forgotten_while_anything_moves(room: Room) -> None:
    room.speed.on_user_limits(UserLimits("alice", ToldRates(download=100_000)))
    room.ask(10.0, 1)
    assert room.granted[1] == pytest.approx(10 * 100_000, rel=0.02)


def test_a_new_worker_is_told_each_limit_that_was_changed_once(room: Room) -> None:
    assert room.speed.orders == ()
    room.speed.set_limits("alice", Rates(upload=1, download=2))
    room.speed.set_limits(None, Rates(upload=3, download=4))
    room.speed.set_limits("alice", Rates(upload=5, download=6))
    assert set(room.speed.orders) == {
        SetLimits("alice", Rates(upload=5, download=6)),
        SetLimits(None, Rates(upload=3, download=4)),
    }


# ---------------------------------------------------------------------- groups

STAFF = {
    "groups": {"staff": Rates(download=MEGA // 10)},
    "group_of": {"alice": "staff", "bob": "staff"},
}


def staffed(room: Room) -> None:
    """A worker's users, of whom the configuration names two as members of a group."""
    for login in ("alice", "bob", "carol"):
        room.speed.on_user_limits(UserLimits(login, ToldRates()))


def ask_for_all(room: Room, seconds: float) -> dict[str, int]:
    """Bytes by user, where each wants more than there is."""
    room.told.clear()
    for _ in range(round(seconds / TICK)):
        for login in ("alice", "bob", "carol"):
            room.speed.on_reports(1, eager(login))
        room.loop.run(TICK)
    found: defaultdict[str, int] = defaultdict(int)
    for _, _, message in room.told:
        for grant in message.grants:
            found[grant.login] += grant.size
    return found


def test_a_groups_limit_is_shared_by_its_users() -> None:
    room = Room(**STAFF)
    staffed(room)
    granted = ask_for_all(room, 5.0)
    assert granted["alice"] == pytest.approx(5 * MEGA / 20, rel=0.03)
    assert granted["bob"] == pytest.approx(5 * MEGA / 20, rel=0.03)
    assert granted["carol"] == pytest.approx(5 * MEGA * 0.9, rel=0.03)
    held = [room.speed.held_by(login, "download") for login in ("alice", "bob", "carol")]
    assert held == ["group limit", "group limit", "server limit"]


def test_a_new_plan_changes_groups_and_tells_the_old_workers() -> None:
    room = Room(**STAFF)
    staffed(room)
    ask_for_all(room, 0.5)
    groups = {"staff": Rates(download=MEGA // 5), "guests": Rates(upload=1)}
    users = {"alice": Rates(), "bob": Rates()}
    speeds = SpeedLimits(
        server=Rates(download=MEGA), groups=groups, users=users, group_of={"bob": "staff"}
    )
    plan = Plan(listeners=(), workers=1, start_process=FakeWorker, speeds=speeds)
    assert room.speed.reset(plan) == [
        SetLimits(None, Rates(download=MEGA)),
        SetGroupLimits("staff", Rates(download=MEGA // 5)),
        SetGroupLimits("guests", Rates(upload=1)),
        SetLimits("alice", Rates()),
        SetLimits("bob", Rates(), "staff"),
    ]
    staffed(room)
    ask_for_all(room, 0.5)
    granted = ask_for_all(room, 5.0)
    assert granted["bob"] == pytest.approx(5 * MEGA / 5, rel=0.03)
    assert granted["alice"] == granted["carol"] == pytest.approx(5 * MEGA * 0.4, rel=0.03)


def test_a_users_group_stays_when_a_tick_comes_before_the_demand() -> None:
    """The first tick, by which idle users are forgotten, came between UserLimits and Reports."""
    room = Room(**STAFF)
    room.loop.run(FORGET + TICK)
    staffed(room)
    room.speed.on_reports(1, eager("carol"))
    assert room.loop.now - room.speed._forgotten < TICK, "nothing was forgotten: no test"
    granted = ask_for_all(room, 5.0)
    assert granted["alice"] + granted["bob"] == pytest.approx(5 * MEGA / 10, rel=0.05)


def test_a_group_that_a_new_plan_has_not_limits_nobody() -> None:
    room = Room(**STAFF)
    plan = Plan(
        listeners=(),
        workers=1,
        start_process=FakeWorker,
        speeds=SpeedLimits(server=Rates(download=MEGA)),
    )
    assert room.speed.reset(plan)[1:] == [SetGroupLimits("staff", Rates())]
    staffed(room)
    granted = ask_for_all(room, 5.0)
    assert granted["alice"] == pytest.approx(5 * MEGA / 3, rel=0.03)


# ---------------------------------------------------------------------- over real channels


async def serving(scene: Supervised, count: int) -> list[FakeWorker]:
    """Workers that have a session each: without one there is nothing to report."""
    workers = await scene.ready(count)
    for worker in workers:
        await scene.connect()
        await worker.adopt()
    return workers


async def hears_grants(worker: FakeWorker, login: str = "alice") -> int:
    grants = (await worker.hear(Grants)).grants
    assert {grant.login for grant in grants} == {login}
    return sum(grant.size for grant in grants)


async def test_two_workers_share_what_there_is() -> None:
    async with supervised(2) as scene:
        workers = await serving(scene, 2)
        scene.supervisor.set_limits(None, Rates(download=10_000))
        for worker in workers:
            assert await worker.hear(SetLimits) == SetLimits(None, Rates(download=10_000))
        # what is in the bucket when the first one speaks is the first one's; then it is even, but
        # for the bytes that come while they speak one after the other
        async with asyncio.timeout(20):
            got = [0, 1]
            while max(got) - min(got) > max(got) / 10:
                for worker in workers:
                    worker.say(eager())
                got = [await hears_grants(worker) for worker in workers]
        assert 0 < sum(got) <= 10_000 * BUSY_DEPTH


async def test_a_worker_that_wants_more_than_there_can_be_ends_and_nobody_else_waits() -> None:
    async with supervised(2) as scene:
        liar, honest = await serving(scene, 2)
        scene.supervisor.set_limits("alice", Rates(download=10_000))
        for worker in (liar, honest):
            await worker.hear(SetLimits)
        honest.say(eager())
        await hears_grants(honest)
        liar.say(Reports((Report("bob", DOWNLOAD, Demand(1, 2**64 - 1, 1, 2**64 - 1)),)))
        await until(lambda: liar.killed)
        for _ in range(3):
            honest.say(eager())
            assert await hears_grants(honest) > 0
        assert not honest.killed


async def test_what_a_dead_worker_wanted_is_for_the_others() -> None:
    async with supervised(2) as scene:
        first, second = await serving(scene, 2)
        scene.supervisor.set_limits(None, Rates(download=10_000))
        for worker in (first, second):
            await worker.hear(SetLimits)
            worker.say(eager())
            await hears_grants(worker)
        first.die()
        third = await scene.worker(2)
        assert await third.hear(SetLimits) == SetLimits(None, Rates(download=10_000))
        third.say(Ready())
        # in a tick there are 500 bytes: beside another no more than 250 were for this one
        async with asyncio.timeout(20):
            while True:
                second.say(eager(waiting_bytes=380))
                if await hears_grants(second) == 380:
                    break


async def test_limits_that_are_changed_reach_all_workers_and_new_ones() -> None:
    async with supervised(2) as scene:
        workers = await scene.ready(2)
        orders = [
            SetLimits(None, Rates(upload=1, download=2)),
            SetLimits("alice", Rates(download=3)),
        ]
        for order in orders:
            scene.supervisor.set_limits(order.login, order.rates)
        for worker in workers:
            assert [await worker.hear(SetLimits) for _ in orders] == orders
        workers[0].die()
        newcomer = await scene.worker(2)
        assert [await newcomer.hear(SetLimits) for _ in orders] == orders
        assert workers[1].unheard == 0


async def holding(scene: Supervised) -> dict[int, FakeWorker]:
    """Three connections, and which worker holds which session."""
    workers = await scene.ready(2)
    sessions = {}
    for _ in range(3):
        await scene.connect()
        inboxes = [asyncio.ensure_future(worker.adopt()) for worker in workers]
        done, pending = await asyncio.wait(inboxes, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        (task,) = done
        sessions[task.result()] = workers[inboxes.index(task)]
    return sessions


async def test_a_session_is_ended_by_the_worker_that_holds_it() -> None:
    async with supervised(2) as scene:
        sessions = await holding(scene)
        assert len(set(sessions.values())) == 2
        for session, worker in sessions.items():
            assert scene.supervisor.end_session(session, "Bye.")
            assert await worker.hear(EndSession) == EndSession(session, "Bye.")
        assert all(worker.unheard == 0 for worker in sessions.values())


async def test_a_session_that_nobody_holds_cannot_be_ended() -> None:
    async with supervised(2) as scene:
        sessions = await holding(scene)
        assert not scene.supervisor.end_session(max(sessions) + 1, "Bye.")
        session, worker = sessions.popitem()
        worker.die()
        while scene.supervisor.ledger.epoch_of(session) is not None:
            await asyncio.sleep(0)
        assert not scene.supervisor.end_session(session, "Bye.")


async def test_ending_a_session_frees_nothing_before_its_worker_says_so() -> None:
    async with supervised(2) as scene:
        session, worker = (await holding(scene)).popitem()
        worker.say(TakeSlot(session, "alice", 1))
        assert await worker.hear(SlotAnswer) == SlotAnswer(session, None)
        scene.supervisor.end_session(session, "Bye.")
        await worker.hear(EndSession)
        assert scene.supervisor.ledger.of_user("alice") == 1
