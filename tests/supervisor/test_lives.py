"""The supervisor and its workers' lives: hearts that stop beating, replacements, new generations.

The workers are fakes at the other end of the channel.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import os
import socket
import threading
import time
from typing import Any

import pytest

from ftpcluster.ipc.channel import Channel
from ftpcluster.ipc.messages import (
    Adopt,
    Adopted,
    Declined,
    Drain,
    EndSession,
    Failed,
    Heartbeat,
    LoggedIn,
    Login,
    Outdated,
    Ready,
    SetLimits,
    SlotAnswer,
    TakeSlot,
    ToldRates,
    ToSupervisor,
    UserLimits,
)
from ftpcluster.net.listeners import Listener, listen
from ftpcluster.quota.ledger import ConnectionLimits, Refusal
from ftpcluster.quota.rates import DOWNLOAD, Rates, SpeedLimits
from ftpcluster.supervisor import processes, restart, supervisor
from ftpcluster.supervisor import worker_lives as module
from ftpcluster.supervisor.process import ProcessLike
from ftpcluster.supervisor.restart import Recycling
from ftpcluster.supervisor.worker_handle import Phase, Plan
from ftpcluster.supervisor.worker_lives import BootFailure
from tests.support.fake_workers import FakeWorker, Supervised, supervised, until

TIMEOUT = 0.5
BEAT = Heartbeat(1_000_000)


def beating(scene: Supervised, *workers: FakeWorker) -> asyncio.Task[None]:
    """Let workers' hearts beat until the task is cancelled."""

    async def beat() -> None:
        while True:
            for worker in workers:
                worker.say(BEAT)
            await asyncio.sleep(TIMEOUT / 20)

    return asyncio.create_task(beat())


# ---------------------------------------------------------------------- heartbeat


async def test_a_worker_whose_heart_stops_gets_no_connections_until_it_beats_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with supervised(2, worker_timeout=10.0) as scene:
        silent, well = await scene.ready(2)
        handles = scene.supervisor.workers
        for handle in handles:
            handle.pulse.interval = 0.01
        heart = asyncio.create_task(well_beats(well))
        await until(lambda: handles[0].is_suspect)
        for _ in range(4):
            await scene.connect()
            await well.adopt()
        silent.say(BEAT)
        await until(lambda: not handles[0].is_suspect)
        heart.cancel()
        handles[0].pulse.interval = handles[1].pulse.interval = 1.0
        await scene.connect()
        await silent.adopt()
    assert f"worker 1 (pid {silent.pid}) does not answer: it gets no new connections" in caplog.text
    assert f"worker 1 (pid {silent.pid}) answers again" in caplog.text


async def well_beats(worker: FakeWorker) -> None:
    while True:
        worker.say(BEAT)
        await asyncio.sleep(0.002)


async def test_a_worker_that_stays_silent_is_aborted_then_killed_and_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_KILL_AFTER", 0.1)
    async with supervised(2, worker_timeout=TIMEOUT) as scene:
        silent, well = await scene.ready(2)
        heart = beating(scene, well)
        await scene.connect()
        await silent.adopt()
        await until(lambda: silent.aborted)
        assert scene.supervisor.ledger.held_by(silent.epoch) == 1  # it may be alive
        third = await scene.worker(2)
        assert (silent.killed, well.aborted, third.index) == (True, False, 0)
        assert scene.supervisor.ledger.connections == 0
        heart.cancel()
    assert f"worker 1 (pid {silent.pid}) did not answer for 0.5 s: it is aborted" in caplog.text
    assert f"{silent.pid}) did not answer for 0.5 s; 1 sessions ended with it" in caplog.text


async def test_a_worker_that_cannot_die_is_given_up_and_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "_KILL_AFTER", 0.1)
    monkeypatch.setattr(processes, "_TIME_TO_DIE", 0.1)
    async with supervised(2, worker_timeout=TIMEOUT) as scene:
        silent, well = await scene.ready(2)
        heart = beating(scene, well)
        silent.is_stuck = True
        await scene.connect()
        await silent.adopt()
        third = await scene.worker(2)
        assert (silent.killed, silent.left, third.index) == (True, True, 0)
        assert scene.supervisor.ledger.connections == 0
        heart.cancel()
        silent.is_stuck = False
        silent.die()  # at last: that is no news for the one that took its place
        third.say(Ready())
        await until(lambda: scene.supervisor.is_complete)
        assert len(scene.workers) == 3
    assert caplog.text.count(f"pid {silent.pid} cannot be killed") == 1
    assert f"pid {silent.pid}, which could not be killed, has ended" in caplog.text


@pytest.mark.parametrize("is_hurried", [False, True])
async def test_a_stop_ends_though_a_worker_cannot_die(
    monkeypatch: pytest.MonkeyPatch, is_hurried: bool
) -> None:
    monkeypatch.setattr(module, "_KILL_AFTER", 0.1)
    monkeypatch.setattr(processes, "_TIME_TO_DIE", 0.1)
    async with supervised(2, grace=0.1) as scene:
        stuck, well = await scene.ready(2)
        stuck.is_stuck = True
        scene.supervisor.stop()
        if is_hurried:
            scene.supervisor.stop()
        well.die()
        async with asyncio.timeout(20):
            await scene.run
        assert stuck.left
        stuck.is_stuck = False


async def test_a_worker_that_takes_long_to_die_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It frees its memory, on a busy machine: nothing holds it in the kernel."""
    monkeypatch.setattr(processes, "_TIME_TO_DIE", 0.05)
    async with supervised(1) as scene:
        (slow,) = await scene.ready(1)
        slow.is_slow = True
        scene.supervisor.stop_now()
        await until(lambda: slow.killed)
        await asyncio.sleep(0.3)
        assert not slow.left
        assert not scene.run.done()
        slow.die()
        async with asyncio.timeout(20):
            await scene.run
    assert "cannot be killed" not in caplog.text


async def test_a_worker_that_never_comes_to_serve_ends_the_boot_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_KILL_AFTER", 0.1)
    async with supervised(1, worker_timeout=0.1, start_timeout=TIMEOUT) as scene:
        worker = await scene.worker(0)
        with pytest.raises(BootFailure, match=r"did not start for (0\.[5-9]|[1-9])"):
            await asyncio.wait_for(asyncio.shield(scene.run), 20)
        assert worker.aborted


async def test_a_supervisor_that_stood_still_takes_no_worker_for_lost() -> None:
    async with supervised(2, worker_timeout=TIMEOUT) as scene:
        workers = await scene.ready(2)
        heart = beating(scene, *workers)
        for _ in range(3):
            time.sleep(2 * TIMEOUT)  # the loop stands, and so do the workers in it: nobody beats
            await asyncio.sleep(TIMEOUT / 4)
        assert not any(worker.aborted for worker in workers)
        heart.cancel()


async def test_nor_does_a_worker_that_starts_have_less_time_for_it() -> None:
    async with supervised(1, worker_timeout=TIMEOUT, start_timeout=60.0) as scene:
        worker = await scene.worker(0)
        time.sleep(TIMEOUT)
        await asyncio.sleep(3 * TIMEOUT)
        assert not worker.aborted


# ---------------------------------------------------------------------- no hope


async def test_a_server_whose_workers_all_die_soon_after_their_start_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.001)
    async with supervised(2) as scene:
        for number in range(8):
            worker = await scene.worker(number)
            worker.say(Ready())
            await until(lambda: Phase.SERVING in phases(scene))
            worker.die()
        with pytest.raises(BootFailure, match="again and again"):
            await asyncio.wait_for(asyncio.shield(scene.run), 20)


async def test_a_server_that_has_served_goes_on_while_no_process_can_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.001)
    async with supervised(1) as scene:
        [worker] = await scene.ready(1)
        worker.die()
        for number in range(1, 8):
            worker = await scene.worker(number)
            worker.pid = None
            worker.die()
        (await scene.worker(8)).say(Ready())
        await until(lambda: Phase.SERVING in phases(scene))
        assert not scene.run.done()
    assert "pid None" not in caplog.text


async def test_a_reloaded_server_does_not_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.001)
    async with supervised(1) as scene:
        await scene.ready(1)
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene)))
        (await scene.worker(1)).say(Ready())
        await asyncio.wait_for(reload, 20)
        for number in range(1, 7):
            worker = await scene.worker(number)
            if number > 1:
                worker.say(Ready())
            await until(lambda: Phase.SERVING in phases(scene))
            worker.die()
        assert not scene.run.done()


async def test_a_server_that_serves_does_not_give_up_when_nobody_can_replace_its_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.001)
    async with supervised(2) as scene:
        old = await scene.ready(2)
        for index in range(2):
            scene.supervisor.drain(index, "somebody wants it")
        for number in range(2, 16):
            (await scene.worker(number)).die()
        assert not scene.run.done()
        for worker in old:
            await scene.connect()
            await worker.adopt()
        assert not any(worker.killed for worker in old)


# ---------------------------------------------------------------------- one for another


async def test_a_worker_is_drained_when_another_one_serves_in_its_place() -> None:
    async with supervised(2, drain_grace=7.0) as scene:
        first, second = await scene.ready(2)
        await scene.connect()
        session = await first.adopt()
        first.say(TakeSlot(session, "alice", 1))
        await first.hear(SlotAnswer)
        assert scene.supervisor.drain(0, "somebody wants it")
        assert not scene.supervisor.drain(0, "again")
        assert not scene.supervisor.drain(2, "nobody")
        third = await scene.worker(2)
        assert third.index == 0
        await first.round_trip(session)  # nothing was said to it yet
        third.say(Ready())
        assert await first.hear(Drain) == Drain(7.0, 7.0)
        for _ in range(4):
            await scene.connect()
        assert [await third.adopt() for _ in range(2)]
        assert [await second.adopt() for _ in range(2)]
        # what the old one holds goes on counting
        assert scene.supervisor.ledger.held_by(first.epoch) == 1
        scene.supervisor.end_session(session, "Bye.")
        await first.hear(EndSession)
        first.die()
        await until(lambda: not scene.supervisor.ledger.held_by(first.epoch))
        assert len(scene.workers) == 3


async def test_workers_that_are_outdated_are_replaced_but_not_again_and_again() -> None:
    """All of them, since all are of one age. One that was taken over could ask without end."""
    async with supervised(2) as scene:
        first, second = await scene.ready(2)
        await scene.connect()
        session = await first.adopt()
        for _ in range(3):
            first.say(Outdated())
        others = [await scene.worker(number) for number in (2, 3)]
        for worker in others:
            worker.say(Ready())
        await first.hear(Drain)
        await second.hear(Drain)
        await scene.connect()
        for _ in range(3):
            others[0].say(Outdated())
        first.say(Outdated())  # it drains: what it may open is nobody's business any more
        await first.round_trip(session)
        await others[0].round_trip(await others[0].adopt())
        assert len(scene.workers) == 4


async def test_a_replacement_that_cannot_serve_leaves_the_old_one_in_its_place() -> None:
    async with supervised(1) as scene:
        (first,) = await scene.ready(1)
        scene.supervisor.drain(0, "somebody wants it")
        (await scene.worker(1)).die()
        third = await scene.worker(2)
        await scene.connect()
        await first.adopt()
        third.say(Ready())
        await first.hear(Drain)
        await scene.connect()
        await third.adopt()


async def test_a_drained_worker_that_overruns_its_grace_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_KILL_AFTER", 0.05)
    async with supervised(1, drain_grace=0.05) as scene:
        (first,) = await scene.ready(1)
        await scene.connect()
        await first.adopt()
        scene.supervisor.drain(0, "somebody wants it")
        (await scene.worker(1)).say(Ready())
        await until(lambda: first.killed)
        await until(lambda: "ended before 1 of its sessions" in caplog.text)


async def test_a_worker_that_grew_too_large_is_replaced_one_at_a_time() -> None:
    recycling = Recycling(memory=100_000_000, settled=0.0)
    async with supervised(2, worker_timeout=TIMEOUT, recycling=recycling) as scene:
        first, second = await scene.ready(2)

        async def beat() -> None:
            while True:
                for worker in scene.workers:
                    is_old = worker in (first, second)
                    worker.say(Heartbeat(100_000_001 if is_old else 1))
                await asyncio.sleep(TIMEOUT / 20)

        heart = asyncio.create_task(beat())
        third = await scene.worker(2)
        await asyncio.sleep(TIMEOUT / 2)
        assert len(scene.workers) == 3  # the other one has to wait
        third.say(Ready())
        fourth = await scene.worker(3)
        assert {third.index, fourth.index} == {0, 1}
        fourth.say(Ready())
        for worker in (first, second):
            assert isinstance(await worker.hear(Drain), Drain)
            worker.die()
        await asyncio.sleep(TIMEOUT / 2)
        assert len(scene.workers) == 4
        heart.cancel()


async def test_a_worker_is_replaced_when_it_is_old() -> None:
    recycling = Recycling(age=0.2)
    async with supervised(1, worker_timeout=10.0, recycling=recycling) as scene:
        (first,) = await scene.ready(1)
        (await scene.worker(1)).say(Ready())
        await first.hear(Drain)


# ---------------------------------------------------------------------- no descriptors


async def test_a_connection_that_a_worker_declines_goes_to_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with supervised(2) as scene:
        full, other = await scene.ready(2)
        await scene.connect()
        session = await full.adopt(confirm=False)
        full.say(Declined((session,)))
        assert await other.adopt() == session
        for _ in range(3):  # for a while the other gets all
            await scene.connect()
            await other.adopt()
        assert full.unheard == 0
        assert scene.supervisor.ledger.held_by(other.epoch) == 4
    assert caplog.text.count("has no file descriptors left") == 1


async def test_where_all_workers_decline_clients_are_told_421(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with supervised(2, server=100) as scene:
        workers = await scene.ready(2)

        async def decline(worker: FakeWorker) -> None:
            while True:
                session = (await worker.hear(Adopt)).session
                os.close(worker.held.pop(session))
                worker.say(Declined((session,)))

        declining = [asyncio.create_task(decline(worker)) for worker in workers]
        for _ in range(20):
            assert await (await scene.connect()).is_turned_away()
        assert scene.supervisor.ledger.connections == 0
        for task in declining:
            task.cancel()
    assert caplog.text.count("has no file descriptors left") < 10


# ---------------------------------------------------------------------- generations


def next_plan(scene: Supervised, **changes: Any) -> Plan:
    """The plan that is served, with changes, and the same socket, as a duplicate."""
    listeners = [
        dataclasses.replace(each, sock=each.sock.dup()) for each in scene.supervisor._plan.listeners
    ]
    return dataclasses.replace(scene.supervisor._plan, listeners=listeners, **changes)


async def test_a_new_generation_serves_when_all_of_it_can_and_the_old_one_drains() -> None:
    async with supervised(2, drain_grace=7.0) as scene:
        old = await scene.ready(2)
        for worker in old:
            await scene.connect()
            await worker.adopt()
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene, workers=3)))
        new = [await scene.worker(number) for number in (2, 3, 4)]
        for worker in new[:2]:
            worker.say(Ready())
        await until(lambda: phases(scene).count(Phase.WAITING) == 2)
        await scene.connect()  # the old ones still serve
        await old[0].adopt()
        new[2].say(Ready())
        await asyncio.wait_for(reload, 20)
        for worker in old:
            await worker.hear(SetLimits)
            assert await worker.hear(Drain) == Drain(7.0, 7.0)
        for _ in new:
            await scene.connect()
        for worker in new:
            await worker.adopt()
            assert worker.knows_of_old_workers
        assert scene.supervisor.ledger.connections == 6
        for worker in old:
            worker.die()
        await until(lambda: scene.supervisor.ledger.connections == 3)
        await until(lambda: not any(worker.knows_of_old_workers for worker in new))
        assert len(scene.workers) == 5  # nobody takes the place of the old ones
        new[1].die()
        (await scene.worker(5)).say(Ready())


def phases(scene: Supervised) -> list[Phase]:
    return [worker.phase for worker in scene.supervisor.workers]


@pytest.mark.parametrize("reason", ["no such class", None])
async def test_a_generation_that_cannot_serve_changes_nothing(reason: str | None) -> None:
    async with supervised(2, server=3) as scene:
        old = await scene.ready(2)
        plan = next_plan(scene, limits=ConnectionLimits(server=1))
        reload = asyncio.create_task(scene.supervisor.reload(plan))
        bad, good = await scene.worker(2), await scene.worker(3)
        good.say(Ready())
        if reason is not None:
            bad.say(Failed(reason))
        bad.die()
        with pytest.raises(BootFailure, match=reason or "worker 1 .*the reason stands above"):
            await asyncio.wait_for(reload, 20)
        for listener in plan.listeners:
            listener.sock.close()
        await until(lambda: good.killed)
        for _ in range(3):
            await scene.connect()
        for worker in (old[0], old[1], old[0]):
            await worker.adopt()
        assert all(worker.unheard == 0 for worker in old)
        assert await (await scene.connect()).is_turned_away()
        assert len(scene.workers) == 4
        assert not scene.supervisor.ends
        old[1].die()  # it is replaced as ever
        assert (await scene.worker(4)).index == 1


async def test_a_reload_that_overtakes_the_boot_ends_it_well() -> None:
    async with supervised(2) as scene:
        quick, slow = await scene.worker(0), await scene.worker(1)
        quick.say(Ready())
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene, workers=1)))
        new = await scene.worker(2)
        assert not scene.supervisor.serving.done()
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        assert scene.supervisor.serving.result() is None
        assert slow.killed
        await quick.hear(SetLimits)
        await quick.hear(Drain)
        quick.die()
        await until(lambda: len(scene.supervisor.workers) == 1)
        await scene.connect()
        await new.adopt()
        assert not scene.run.done()


async def test_a_reload_that_fails_during_the_boot_leaves_it_as_it_was() -> None:
    async with supervised(1) as scene:
        first = await scene.worker(0)
        plan = next_plan(scene)
        reload = asyncio.create_task(scene.supervisor.reload(plan))
        (await scene.worker(1)).die()
        with pytest.raises(BootFailure, match="worker 1 "):
            await asyncio.wait_for(reload, 20)
        for listener in plan.listeners:
            listener.sock.close()
        assert not scene.supervisor.serving.done()
        first.say(Ready())
        await asyncio.wait_for(asyncio.shield(scene.supervisor.serving), 20)


async def test_whatever_went_wrong_with_a_generation_the_next_one_may_serve() -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)

        def start(index: int, epoch: int, sock: socket.socket) -> FakeWorker:
            if index == 1:
                raise RuntimeError("can't start new thread")
            return scene.plan.start_process(index, epoch, sock)  # type: ignore[return-value]

        plan = next_plan(scene, workers=2, start_process=start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await scene.supervisor.reload(plan)
        for listener in plan.listeners:
            listener.sock.close()
        assert scene.workers[1].killed
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene)))
        new = await scene.worker(2)
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        await old.hear(SetLimits)
        await old.hear(Drain)
        await scene.connect()
        await new.adopt()


async def test_new_limits_of_connections_hold_for_sessions_of_old_and_new_workers() -> None:
    async with supervised(1, limits=ConnectionLimits(per_address=2)) as scene:
        (old,) = await scene.ready(1)
        for _ in range(2):
            await scene.connect()
        held = [await old.adopt() for _ in range(2)]
        old.say(TakeSlot(held[0], "alice", 2))
        await old.hear(SlotAnswer)
        reload = asyncio.create_task(
            scene.supervisor.reload(next_plan(scene, limits=ConnectionLimits(per_address=3)))
        )
        new = await scene.worker(1)
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        await scene.connect()
        session = await new.adopt()
        assert await (await scene.connect()).is_turned_away()
        new.say(TakeSlot(session, "alice", 1))  # she may have one from now on, and has it
        assert await new.hear(SlotAnswer) == SlotAnswer(session, Refusal.USER_FULL.value)
        old.die()
        await until(lambda: scene.supervisor.ledger.connections == 1)
        new.say(TakeSlot(session, "alice", 1))
        assert await new.hear(SlotAnswer) == SlotAnswer(session, None)


async def test_users_who_had_no_limit_are_known_when_a_new_plan_limits_them() -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)
        for _ in range(2):
            await scene.connect()
        held = [await old.adopt() for _ in range(2)]
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene)))
        new = await scene.worker(1)
        assert old.tells_logins
        assert not new.tells_logins
        old.say(LoggedIn((Login(held[0], "alice"), Login(held[1], "alice"), Login(99, "alice"))))
        await until(lambda: scene.supervisor.ledger.of_user("alice") == 2)
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        await scene.connect()
        session = await new.adopt()
        new.say(TakeSlot(session, "alice", 2))
        assert await new.hear(SlotAnswer) == SlotAnswer(session, Refusal.USER_FULL.value)


async def test_so_they_are_where_their_worker_was_started_during_the_reload() -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene)))
        new = await scene.worker(1)
        old.die()
        again = await scene.worker(2)
        again.say(Ready())
        await scene.connect()
        await again.round_trip(await again.adopt())  # all that it was told has arrived
        assert again.tells_logins
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        new.die()
        after = await scene.worker(3)
        after.say(Ready())
        await scene.connect()
        await after.round_trip(await after.adopt())
        assert not after.tells_logins


async def test_new_speeds_reach_the_old_workers_and_end_what_was_ordered() -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)
        scene.supervisor.set_limits(None, Rates(upload=1, download=2))
        await old.hear(SetLimits)
        plan = next_plan(scene, speeds=SpeedLimits(server=Rates(upload=5, download=6)))
        reload = asyncio.create_task(scene.supervisor.reload(plan))
        new = await scene.worker(1)
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        assert await old.hear(SetLimits) == SetLimits(None, Rates(upload=5, download=6))
        await old.hear(Drain)
        assert new.unheard == 0  # its plan says all, and nothing of before holds
        assert scene.supervisor.speed.orders == ()


async def test_what_an_old_worker_says_of_a_user_counts_less() -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene)))
        new = await scene.worker(1)
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        new.say(UserLimits("alice", ToldRates(download=5)))
        tree = scene.supervisor.speed._tree
        await until(lambda: tree.knows("alice"))
        old.say(UserLimits("alice", ToldRates(download=7)))
        old.say(UserLimits("bob", ToldRates(download=7)))
        await until(lambda: tree.knows("bob"))
        assert tree._directions[DOWNLOAD].limits.users["alice"].rate == 5


async def test_other_listeners_serve_after_a_reload_and_the_old_ones_are_closed() -> None:
    async with supervised(1) as scene:
        await scene.ready(1)
        there = scene.supervisor._plan.listeners[0].sock
        another = listen("127.0.0.1", 0)
        plan = dataclasses.replace(scene.supervisor._plan, listeners=[Listener(another)])
        reload = asyncio.create_task(scene.supervisor.reload(plan))
        new = await scene.worker(1)
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        assert there.fileno() == -1
        with pytest.raises(ConnectionRefusedError):
            await scene.connect()
        scene.port = another.getsockname()[1]
        await scene.connect()
        await new.adopt()


async def test_a_reload_is_done_though_keepalive_cannot_be_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    async with supervised(1) as scene:
        await scene.ready(1)
        monkeypatch.setattr(supervisor, "set_keepalive", fail)
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene)))
        new = await scene.worker(1)
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        assert "timeouts.keepalive cannot be set: Protocol not available" in caplog.text
        await scene.connect()
        await new.adopt()


async def test_no_process_is_started_for_a_channel_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would know it, and end it."""
    made, real = 0, module.supervisor_end

    def fail_once(*arguments: Any) -> Channel[ToSupervisor]:
        nonlocal made
        made += 1
        if made == 2:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return real(*arguments)

    monkeypatch.setattr(module, "supervisor_end", fail_once)
    async with supervised(1) as scene:
        (first,) = await scene.ready(1)
        before = len(os.listdir("/proc/self/fd"))
        first.die()
        (await scene.worker(1)).say(Ready())
        await scene.connect()
        await scene.workers[1].adopt()
        assert (made, len(scene.workers)) == (3, 2)
        assert "worker 1 cannot be started: Inappropriate ioctl for device" in caplog.text
        assert len(os.listdir("/proc/self/fd")) <= before + 3  # the client's ends


async def test_a_worker_that_cannot_be_started_leaves_no_thread_behind() -> None:
    """Its channel is closed in a thread."""

    def fail(*_: object) -> ProcessLike:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def closers() -> int:
        return sum(each.name == "closer" for each in threading.enumerate())

    async with supervised(1) as scene:
        await scene.ready(1)
        before = closers()
        plan = dataclasses.replace(next_plan(scene), start_process=fail)
        with pytest.raises(BootFailure, match="worker 1 cannot be started"):
            await scene.supervisor.reload(plan)
        for listener in plan.listeners:  # they stay ours
            listener.sock.close()
        await until(lambda: closers() == before)


async def test_connections_that_wait_in_the_queue_survive_a_reload() -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)
        for _ in range(64):  # as many as a worker may leave unconfirmed
            await scene.connect()
        sessions = [await old.adopt(confirm=False) for _ in range(64)]
        waiting = [await scene.connect() for _ in range(5)]
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene)))
        new = await scene.worker(1)
        new.say(Ready())
        await asyncio.wait_for(reload, 20)
        for client in waiting:
            session = await new.adopt()
            os.write(new.held[session], b"220 hello\r\n")
            assert await client.hears() == b"220 hello\r\n"
        old.say(Adopted(tuple(sessions)))


async def test_stopping_ends_a_reload() -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)
        plan = next_plan(scene)
        reload = asyncio.create_task(scene.supervisor.reload(plan))
        new = await scene.worker(1)
        scene.supervisor.stop()
        with pytest.raises(BootFailure, match="stopping"):
            await asyncio.wait_for(reload, 20)
        for listener in plan.listeners:
            listener.sock.close()
        await old.hear(Drain)
        old.die()
        await asyncio.wait_for(scene.run, 20)
        assert new.killed


async def test_a_server_that_is_stopping_begins_no_generation() -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)
        plan = next_plan(scene)
        scene.supervisor.stop()
        with pytest.raises(BootFailure, match="stopping"):
            await asyncio.wait_for(scene.supervisor.reload(plan), 20)
        await refuses_connections(scene, plan)
        assert scene.workers == [old]
        old.die()
        await asyncio.wait_for(scene.run, 20)


async def test_stopping_ends_a_generation_that_is_ready_and_does_not_serve_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)
        plan = next_plan(scene)
        reload = asyncio.create_task(scene.supervisor.reload(plan))
        new = await scene.worker(1)
        # called when the last worker is ready, before the reload is woken by it
        monkeypatch.setattr(scene.supervisor, "on_capacity", scene.supervisor.stop)
        new.say(Ready())
        with pytest.raises(BootFailure, match="stopping"):
            await asyncio.wait_for(reload, 20)
        await refuses_connections(scene, plan)
        assert new.killed
        old.die()
        await asyncio.wait_for(scene.run, 20)


async def refuses_connections(scene: Supervised, plan: Plan) -> None:
    """Once the caller has closed what the plan brought."""
    for listener in plan.listeners:
        listener.sock.close()
    with pytest.raises(ConnectionRefusedError):
        await scene.connect()


async def test_a_worker_that_dies_between_generations_is_replaced_in_its_own() -> None:
    async with supervised(1) as scene:
        (old,) = await scene.ready(1)
        reload = asyncio.create_task(scene.supervisor.reload(next_plan(scene, workers=2)))
        new = [await scene.worker(number) for number in (1, 2)]
        new[0].say(Ready())
        await until(lambda: Phase.WAITING in phases(scene))
        new[0].die()  # it could have served: another one is started
        third = await scene.worker(3)
        assert third.index == 0
        new[1].say(Ready())
        await asyncio.wait_for(reload, 20)
        await old.hear(SetLimits)
        await old.hear(Drain)
        third.say(Ready())
        for _ in range(2):
            await scene.connect()
        await third.adopt()
        await new[1].adopt()
