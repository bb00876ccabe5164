"""The supervisor counts failed logins over all workers, and keeps banned addresses from them."""

from __future__ import annotations

import asyncio
import dataclasses
import os

import pytest

from ftpcluster.ipc.messages import (
    BeginTry,
    Declined,
    EndSession,
    EndTry,
    Identified,
    LoggedIn,
    LoginDelay,
    LoginFailed,
    Message,
    Ready,
    SlotAnswer,
    TakeSlot,
)
from ftpcluster.net.listeners import Listener
from ftpcluster.protocol.address import Networks
from ftpcluster.quota.arrivals import ArrivalRules
from ftpcluster.quota.bans import BanRules
from ftpcluster.quota.ledger import Refusal
from tests.support.fake_workers import DEADLINE, FakeWorker, Supervised, supervised, until

RULES = BanRules(failures=4, window=600, duration=600, allow=Networks(["127.0.0.1"]))
MALLORY = "127.0.0.7"
REASON = Refusal.BANNED.explanation


async def fails(worker: FakeWorker, session: int, login: str = "bob") -> float:
    """The seconds that a failed login has to wait."""
    worker.say(LoginFailed(session, login))
    answer = await worker.hear(LoginDelay)
    assert answer.session == session
    return answer.seconds


async def sessions_of(scene: Supervised, address: str, *workers: FakeWorker) -> list[int]:
    """A session of an address in each of these workers, who are all there are."""
    found = []
    for _ in workers:
        await scene.connect(address)
    for worker in workers:
        found.append(await worker.adopt())
    return found


async def test_failures_in_different_workers_count_together() -> None:
    async with supervised(2, bans=RULES) as scene:
        one, two = await scene.ready(2)
        a, b = await sessions_of(scene, MALLORY, one, two)
        for worker, session in ((one, a), (two, b), (one, a)):
            await fails(worker, session)
        assert scene.supervisor.bans() == []
        two.say(LoginFailed(b, "alice"))
        for worker, session in ((one, a), (two, b)):
            assert await worker.hear(EndSession) == EndSession(session, REASON, True)
        await two.hear(LoginDelay)
        (ban,) = scene.supervisor.bans()
        assert (ban.network, ban.reason) == (MALLORY, "4 failed logins")


async def test_a_banned_address_is_refused_before_any_worker_is_bothered() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        scene.supervisor.ban(MALLORY, None, "spam")
        for _ in range(5):
            client = await scene.connect(MALLORY)
            assert await client.hears() == f"421 {REASON}\r\n".encode()
            assert await client.hears() == b""
        assert scene.supervisor.ledger.connections == 0
        await sessions_of(scene, "127.0.0.8", worker)
        assert worker.unheard == 0


async def test_a_ban_by_hand_ends_sessions_that_have_logged_in_too() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        (session,) = await sessions_of(scene, MALLORY, worker)
        worker.say(LoggedIn(((session, "bob"),)))
        scene.supervisor.ban("127.0.0.0/29", None, "spam")
        assert await worker.hear(EndSession) == EndSession(session, REASON)


async def test_a_connection_that_waits_for_a_worker_is_ended_by_a_ban() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        banned, other = await scene.connect(MALLORY), await scene.connect("127.0.0.8")
        sessions = [await worker.adopt(confirm=False) for _ in range(2)]
        worker.die()
        next_one = await scene.worker(1)
        scene.supervisor.ban(MALLORY, None, "spam")
        assert await banned.is_turned_away()
        next_one.say(Ready())
        assert await next_one.adopt() == sessions[1]
        assert next_one.unheard == 0
        assert scene.supervisor.ledger.connections == 1
        other.writer.close()


async def test_a_connection_that_was_ended_on_its_way_goes_to_no_other_worker() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        banned, _ = await scene.connect(MALLORY), await scene.connect("127.0.0.8")
        sessions = [await worker.adopt(confirm=False) for _ in range(2)]
        scene.supervisor.ban(MALLORY, None, "spam")
        assert await worker.hear(EndSession) == EndSession(sessions[0], REASON)
        worker.die()  # and never knew of it
        assert await banned.is_turned_away()
        next_one = await scene.worker(1)
        next_one.say(Ready())
        assert await next_one.adopt() == sessions[1]
        assert next_one.unheard == 0


async def test_a_connection_that_was_ended_and_declined_goes_to_no_other_worker() -> None:
    async with supervised(2, bans=RULES) as scene:
        one, two = await scene.ready(2)
        banned = await scene.connect(MALLORY)
        session = await one.adopt(confirm=False)
        assert scene.supervisor.end_session(session, "Kicked.")
        assert await one.hear(EndSession) == EndSession(session, "Kicked.")
        os.close(one.held.pop(session))
        one.say(Declined((session,)))
        assert await banned.hears() == b"421 Kicked.\r\n"
        assert await banned.hears() == b""
        assert two.unheard == 0
        assert scene.supervisor.ledger.connections == 0


async def test_a_ban_that_is_lifted_lets_the_address_in() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        scene.supervisor.ban("127.0.0.0/29", 100, "spam")
        assert await (await scene.connect(MALLORY)).is_turned_away()
        assert [ban.network for ban in scene.supervisor.unban("127.0.0.0/29")] == ["127.0.0.0/29"]
        await sessions_of(scene, MALLORY, worker)


async def test_a_ban_ends() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        scene.supervisor.ban(MALLORY, 0.3, "spam")
        await until(lambda: not scene.supervisor.bans())
        await sessions_of(scene, MALLORY, worker)


async def test_the_first_failures_of_a_name_cost_less_than_the_worker_s_own_delay() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        (session,) = await sessions_of(scene, MALLORY, worker)
        assert 0 < await fails(worker, session) < 3


async def test_guesses_of_one_name_from_many_addresses_are_slowed_down() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        for number in range(60):
            (session,) = await sessions_of(scene, f"127.0.1.{number + 1}", worker)
            delay = await fails(worker, session)
        assert delay == 15
        (session,) = await sessions_of(scene, "127.0.2.1", worker)
        assert await fails(worker, session, "alice") < 3


async def test_an_allowed_address_is_neither_banned_nor_slowed_down() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        (session,) = await sessions_of(scene, "127.0.0.1", worker)
        for _ in range(100):
            assert await fails(worker, session) == 0
        assert scene.supervisor.bans() == []


async def test_a_worker_cannot_speak_of_another_one_s_sessions() -> None:
    async with supervised(2, bans=RULES) as scene:
        one, two = await scene.ready(2)
        a, b = await sessions_of(scene, MALLORY, one, two)
        for _ in range(10):
            two.say(LoginFailed(a, "bob"))
        two.say(LoginFailed(12345, "bob"))
        assert await fails(two, b) < 3  # the first answer: to its own
        assert scene.supervisor.bans() == []


async def test_failures_survive_the_worker_that_told_of_them() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        (session,) = await sessions_of(scene, MALLORY, worker)
        for _ in range(3):
            await fails(worker, session)
        worker.die()
        other = await scene.worker(1)
        other.say(Ready())
        (session,) = await sessions_of(scene, MALLORY, other)
        other.say(LoginFailed(session, "bob"))
        await other.hear(EndSession)


async def test_counts_and_bans_survive_a_reload_and_the_rules_change() -> None:
    async with supervised(1, bans=RULES) as scene:
        (worker,) = await scene.ready(1)
        (session,) = await sessions_of(scene, MALLORY, worker)
        await fails(worker, session)
        scene.supervisor.ban("127.0.0.9", None, "spam")
        listener = scene.plan.listeners[0]
        again = Listener(listener.sock, listener.tls, listener.proxies)
        rules = BanRules(failures=2, allow=Networks(["127.0.0.1"]))
        plan = dataclasses.replace(scene.plan, listeners=[again], bans=rules)
        reload = asyncio.create_task(scene.supervisor.reload(plan))
        (await scene.worker(1)).say(Ready())
        async with asyncio.timeout(DEADLINE):
            await reload
        assert await (await scene.connect("127.0.0.9")).is_turned_away()
        worker.say(LoginFailed(session, "bob"))  # the old generation's sessions count
        await until(lambda: len(scene.supervisor.bans()) == 2)
        assert await (await scene.connect(MALLORY)).is_turned_away()


async def test_behind_a_proxy_the_client_is_what_is_banned() -> None:
    async with supervised(1, bans=RULES, proxies=Networks(["127.0.0.0/8"])) as scene:
        (worker,) = await scene.ready(1)
        scene.supervisor.ban("192.0.2.7", None, "spam")
        scene.supervisor.ban(MALLORY, None, "the proxy itself")
        (session,) = await sessions_of(scene, MALLORY, worker)
        worker.say(Identified(session, "192.0.2.7"))
        assert await worker.hear(SlotAnswer) == SlotAnswer(session, "banned")
        (session,) = await sessions_of(scene, MALLORY, worker)
        worker.say(Identified(session, "192.0.2.8"))
        assert await worker.hear(SlotAnswer) == SlotAnswer(session, None)


async def test_guesses_behind_a_proxy_ban_the_client_and_not_the_proxy() -> None:
    async with supervised(1, bans=RULES, proxies=Networks(["127.0.0.0/8"])) as scene:
        (worker,) = await scene.ready(1)
        (session,) = await sessions_of(scene, MALLORY, worker)
        worker.say(Identified(session, "192.0.2.7"))
        await worker.hear(SlotAnswer)
        for _ in range(4):
            worker.say(LoginFailed(session, "bob"))
        await until(lambda: scene.supervisor.bans())
        assert [ban.network for ban in scene.supervisor.bans()] == ["192.0.2.7"]


@pytest.mark.parametrize("address", ["", "bob", "192.0.2", "192.0.2.1/32"])
async def test_a_worker_that_names_no_address_is_replaced(address: str) -> None:
    async with supervised(1, bans=RULES, proxies=Networks(["127.0.0.0/8"])) as scene:
        (worker,) = await scene.ready(1)
        (session,) = await sessions_of(scene, MALLORY, worker)
        worker.say(Identified(session, address))
        await until(lambda: worker.killed)
        await scene.worker(1)


async def test_a_descriptor_of_a_refused_connection_is_closed() -> None:
    async with supervised(1, bans=RULES) as scene:
        await scene.ready(1)
        scene.supervisor.ban(MALLORY, None, "spam")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            client = await scene.connect(MALLORY)
            assert await client.is_turned_away()
            client.writer.close()
            await client.writer.wait_closed()
        assert len(os.listdir("/proc/self/fd")) <= before + 1


# ---------------------------------------------------------------------- tries


async def test_tries_count_over_all_workers_and_a_worker_s_end_gives_its_own_to_others() -> None:
    async with supervised(2, bans=RULES) as scene:
        one, two = await scene.ready(2)
        for _ in range(12):
            await scene.connect(MALLORY)
        first = [await one.adopt() for _ in range(6)]
        second = [await two.adopt() for _ in range(6)]
        for session in first:
            one.say(BeginTry(session))
        for session in first[:4]:
            assert await one.hear(SlotAnswer) == SlotAnswer(session, None)
        for session in second:
            two.say(BeginTry(session))
        await two.round_trip(second[5])  # it has a login then, and no try
        one.die()
        for session in second[:4]:
            assert await two.hear(SlotAnswer) == SlotAnswer(session, None)
        for session in second[:4]:
            two.say(LoginFailed(session, "bob"))
        heard = [await two.hear(Message) for _ in range(6 + 4 + 1)]
        assert heard.count(SlotAnswer(second[4], "banned")) == 1
        assert not len(scene.supervisor.guard._tries)


async def test_nobody_has_a_try_of_another_worker_s_session() -> None:
    async with supervised(2, bans=RULES) as scene:
        one, two = await scene.ready(2)
        a, b = await sessions_of(scene, MALLORY, one, two)
        one.say(BeginTry(b))
        one.say(EndTry(b))
        await one.round_trip(a)
        assert not len(scene.supervisor.guard._tries)
        assert two.unheard == 0


async def test_a_worker_that_declines_a_session_keeps_neither_its_try_nor_its_count() -> None:
    """It would keep honest logins of that address waiting, with sessions that are others'."""
    async with supervised(2, bans=RULES) as scene:
        one, two = await scene.ready(2)
        handle = scene.supervisor._lives.workers[one.epoch]
        for _ in range(RULES.failures - 1):
            await scene.connect(MALLORY)
            session = await one.adopt(confirm=False)
            one.say(BeginTry(session))
            assert await one.hear(SlotAnswer) == SlotAnswer(session, None)
            one.say(Declined((session,)))
            assert await two.adopt() == session
            handle.crowded_until = 0.0
        await scene.connect(MALLORY)
        session = await one.adopt(confirm=False)
        await fails(one, session)
        one.say(Declined((session,)))
        assert await two.adopt() == session
        assert not len(scene.supervisor.guard._tries)
        assert not handle.failures
        for session in list(two.held)[:3]:
            two.say(BeginTry(session))
            assert await two.hear(SlotAnswer) == SlotAnswer(session, None)


async def test_what_a_reload_denies_is_turned_away_and_its_sessions_go_on() -> None:
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        before = await scene.connect(MALLORY)
        session = await worker.adopt()
        rules = ArrivalRules(most=1, period=3600, deny=Networks([MALLORY]))
        plan = dataclasses.replace(scene.plan, arrivals=rules)
        reload = asyncio.create_task(scene.supervisor.reload(plan))
        new = await scene.worker(1)
        new.say(Ready())
        await reload
        after = await scene.connect(MALLORY)
        assert await after.hears() == f"421 {Refusal.DENIED.explanation}\r\n".encode()
        await scene.connect("127.0.0.8")
        await new.adopt()
        assert await (await scene.connect("127.0.0.8")).is_turned_away()
        worker.say(TakeSlot(session, "alice", None))
        heard = []
        while not isinstance(message := await worker.hear(Message), SlotAnswer):
            heard.append(message)
        assert not any(isinstance(each, EndSession) for each in heard)
        assert not before.reader.at_eof()
        assert scene.supervisor.guard.refused[Refusal.DENIED] == 1
        assert scene.supervisor.guard.refused[Refusal.TOO_OFTEN] == 1
