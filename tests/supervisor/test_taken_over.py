"""A worker that was taken over says and does what it likes: nobody else notices."""

from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.ipc.channel import MAX_MESSAGE
from ftpcluster.ipc.messages import (
    BeginTry,
    Counted,
    Declined,
    Describe,
    Described,
    EndSession,
    EndTry,
    Heartbeat,
    Identified,
    LoggedIn,
    Login,
    LoginFailed,
    Message,
    Ready,
    Released,
    Reports,
    SessionReport,
    SlotAnswer,
    TakeSlot,
    ToldRates,
    ToSupervisor,
    UserLimits,
)
from ftpcluster.protocol.address import Networks
from ftpcluster.quota.bans import BanRules
from ftpcluster.quota.fair import Demand
from ftpcluster.quota.limit_tree import Report
from ftpcluster.quota.rates import DOWNLOAD, Rates, SpeedLimits
from ftpcluster.supervisor import restart
from tests.support.fake_workers import Client, FakeWorker, Supervised, supervised, until
from tests.support.hostile import DATAGRAMS
from tests.support.lingering import LINGER, make_linger

STANDSTILL = 0.05
"""Seconds of CPU for which the supervisor's loop may be busy with one thing."""
_encode = msgspec.msgpack.encode


@dataclass
class Watch:
    """How long the loop was busy with anything that is not the test's own."""

    longest: float = 0.0
    where: str = ""
    stood: float = 0.0
    """Seconds by the clock: a close that waits takes no CPU."""
    failures: list[dict[str, Any]] = field(default_factory=list)


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """CPU time is measured, not time: another process that has the core is no standstill."""
    watch, run = Watch(), asyncio.Handle._run

    def measured(self: asyncio.Handle) -> None:
        callback = self._callback  # type: ignore[attr-defined]
        is_test = isinstance(getattr(callback, "__self__", None), asyncio.Task)
        began, since = time.thread_time(), time.monotonic()
        run(self)
        took = time.thread_time() - began
        if not is_test:
            watch.stood = max(watch.stood, time.monotonic() - since)
        if took > watch.longest and not is_test and "Task" not in type(callback).__name__:
            watch.longest, watch.where = took, repr(callback)

    asyncio.Handle._run = measured  # type: ignore[method-assign]
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: watch.failures.append(context))
    # what all the tests hold is no part of it; the server does the same when it is ready
    gc.collect()
    gc.freeze()
    try:
        yield watch
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]
        loop.set_exception_handler(None)
        gc.unfreeze()
    assert watch.failures == []
    assert watch.longest < STANDSTILL, watch.where
    assert watch.stood < LINGER / 2


class Scene:
    """A supervisor with two workers: one of ours, and whoever is in the other one's place."""

    def __init__(self, scene: Supervised, honest: FakeWorker, alice: int, client: Client) -> None:
        self.scene = scene
        self.supervisor = scene.supervisor
        self.honest = honest
        self.alice = alice
        self.client = client

    async def hostile(self) -> FakeWorker:
        """The one that lives now; it serves, and has a session."""
        index = 1 - self.honest.index
        while True:
            mine = [each for each in self.scene.workers if each.index == index]
            worker = mine[-1]
            if worker.exitcode is None:
                break
            await asyncio.sleep(0.001)
        worker.say(Ready())
        return worker

    async def asks(self) -> None:
        """The honest worker is heard, as are its client, its login, and its user's slot."""
        for question in (BeginTry(self.alice), TakeSlot(self.alice, "alice", None)):
            self.honest.say(question)
            answer = await self.honest.hear(Message)
            while not isinstance(answer, SlotAnswer):
                assert not isinstance(answer, EndSession)
                answer = await self.honest.hear(Message)
            assert answer == SlotAnswer(self.alice, None)
        os.write(self.honest.held[self.alice], b"200 there\r\n")
        assert await self.client.hears() == b"200 there\r\n"

    def is_untouched(self) -> None:
        assert not self.honest.killed
        ledger = self.supervisor.ledger
        assert ledger.epoch_of(self.alice) == self.honest.epoch
        assert ledger.of_user("alice") >= 1
        assert (
            self.supervisor.speed._tree._directions[DOWNLOAD].limits.users["alice"].rate
            == 1_000_000
        )


@contextlib.asynccontextmanager
async def beside_an_honest_one(server: Rates = Rates(), **plan: Any) -> AsyncIterator[Scene]:
    # that of the hostile one's clients counts, too, and may be banned
    bans = BanRules(allow=Networks(()))
    plan = {
        "bans": bans,
        "speeds": SpeedLimits(server=server, users={"alice": Rates(download=1_000_000)}),
        "knows_all_users": True,
        **plan,
    }
    async with supervised(2, **plan) as scene:
        first, second = await scene.ready(2)
        client = await scene.connect("127.0.0.2")
        other = await scene.connect()
        alice = await first.adopt()
        await second.adopt()
        assert other is not None
        # the limits of one that moves something now are known
        first.say(UserLimits("alice", ToldRates(download=1_000_000)))
        first.say(Reports((Report("alice", DOWNLOAD, Demand(1, 1000)),)))
        here = Scene(scene, first, alice, client)
        await here.asks()
        yield here
        first.say(Reports((Report("alice", DOWNLOAD, Demand(1, 1000)),)))
        await here.asks()
        here.is_untouched()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are replaced at once."""
    monkeypatch.setattr(restart, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(restart, "LONGEST_DELAY", 0.001)


# ---------------------------------------------------------------------- anything


def send(worker: FakeWorker, data: bytes, times: int = 1, fds: tuple[int, ...] = ()) -> None:
    """As often as it goes: what has no room, and what a kernel refuses, is not sent."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    worker._raw.settimeout(0)
    with contextlib.suppress(OSError):
        for _ in range(times):
            worker._raw.sendmsg([data], rights)


def tamper(here: Scene, worker: FakeWorker) -> None:
    """Have the supervisor wait when it closes its clients' sockets: those that it still has."""
    handle = here.supervisor._lives.workers.get(worker.epoch)
    for session in handle.unconfirmed if handle is not None else ():
        fd = worker.held.pop(session, None)
        if fd is not None:
            with contextlib.suppress(OSError):
                make_linger(fd)
            os.close(fd)


ACTIONS = st.one_of(
    st.tuples(st.just("say"), DATAGRAMS, st.just(1)),
    st.tuples(st.just("say"), DATAGRAMS, st.just(1)),
    st.tuples(st.just("say"), DATAGRAMS, st.sampled_from([10, 300])),
    st.tuples(st.just("attach"), DATAGRAMS, st.sampled_from([1, 3, 253])),
    st.tuples(st.sampled_from(["tamper", "die", "connect", "connect", "stop reading"])),
)


async def act(here: Scene, action: tuple[Any, ...]) -> None:
    worker = await here.hostile()
    match action:
        case ("say", data, times):
            send(worker, data, times)
        case ("attach", data, count):
            with open(os.devnull) as file:
                send(worker, data, 1, (file.fileno(),) * count)
        case ("tamper",):
            tamper(here, worker)
        case ("die",):
            worker.die()
        case ("connect",):
            await here.scene.connect()
        case _:
            worker.stop_reading()


async def try_all(actions: list[tuple[Any, ...]]) -> None:
    async with beside_an_honest_one() as here:
        with watched():
            for action in actions:
                await act(here, action)
                if len(here.scene.clients) < 30:
                    await here.asks()
            await here.asks()


UNHURRIED = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@pytest.mark.slow
@pytest.mark.alone
@settings(UNHURRIED, max_examples=40)
@given(actions=st.lists(ACTIONS, max_size=25))
def test_whatever_a_worker_does_the_others_go_on(
    soon: None, actions: list[tuple[Any, ...]]
) -> None:
    asyncio.run(try_all(actions))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(UNHURRIED, max_examples=3000)
@given(actions=st.lists(ACTIONS, max_size=100))
def test_whatever_a_worker_does_for_long_the_others_go_on(
    soon: None, actions: list[tuple[Any, ...]]
) -> None:
    asyncio.run(try_all(actions))


# ---------------------------------------------------------------------- floods

MOST = 2**48
SLOW = ToldRates(upload=1, download=1)
BUSY = SessionReport(1, "x" * 255, True, 1, 1, "y" * 500, "", None, 1, 1, "")
DONE = Counted(1, 1, dict.fromkeys(range(1000), 1), (), (), 1, 0.5)
FLOODS: dict[str, list[Message]] = {
    "limits of other users each": [
        UserLimits(f"{number} " + "x" * 249, SLOW) for number in range(4000)
    ],
    "demands of other users": [
        Reports(
            tuple(Report(f"{number} user {user}", DOWNLOAD, Demand(1, 1000)) for user in range(900))
        )
        for number in range(50)
    ],
    "demands of transfers that it has not got": [
        Reports((Report("alice", DOWNLOAD, Demand(MOST, MOST, MOST, MOST), MOST),) * 900)
    ]
    * 60,
    "sessions that are not its own": [Released(tuple(range(1000, 2000)))] * 300,
    "slots of sessions that are not its own": [TakeSlot(1, "alice", 1)] * 10_000,
    "who has logged in": [LoggedIn((Login(1, "z" * 200),) * 250)] * 400,
    "what it has done": [DONE] * 400,
    "what its sessions do": [Described(1, (BUSY,) * 75, False)] * 400,
    "failed logins": [LoginFailed(2, "x" * 255)] * 4000,
    "tries of its own session": [BeginTry(2)] * 10_000,
    "tries that end at once": [BeginTry(2), EndTry(2)] * 10_000,
    "tries of sessions that are not its own": [BeginTry(n) for n in (1, *range(9, 9000))],
    "ends of tries that are not its own": [EndTry(1)] * 10_000,
    "heartbeats": [Heartbeat(1)] * 10_000,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_is_of_messages_that_the_supervisor_reads(flood: str) -> None:
    """One that it cannot decode ends the worker at once: then the rest tests nothing."""
    first = FLOODS[flood][0]
    data = _encode(first)
    assert len(data) <= MAX_MESSAGE
    assert msgspec.msgpack.decode(data, type=ToSupervisor) == first


@pytest.mark.alone
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_leaves_loop_and_memory_to_others(flood: str, soon: None) -> None:
    async with beside_an_honest_one(server=Rates(download=10_000_000)) as here:
        before = resident()
        with watched():
            waiting = [_encode(message) for message in FLOODS[flood]]
            while waiting:
                worker = await here.hostile()
                worker._raw.settimeout(0)
                try:
                    for _ in range(20):
                        if waiting:
                            worker._raw.send(waiting[-1])
                            waiting.pop()
                except BlockingIOError:
                    pass
                except OSError:
                    waiting.pop()  # it was ended for that
                await here.asks()
        assert resident() - before < 40 << 20  # what waits for who does not read is bounded, too


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---------------------------------------------------------------------- one lie each


async def test_limits_of_users_are_those_configured_whatever_a_worker_says() -> None:
    async with beside_an_honest_one() as here:
        worker = await here.hostile()
        send(worker, _encode([8, "alice", [1, 1]]))
        send(worker, _encode([8, "nobody at all", [1, 1]]))
        await worker.round_trip(2)
        tree = here.supervisor.speed._tree
        assert tree._directions[DOWNLOAD].limits.users["alice"].rate == 1_000_000
        assert not tree.knows("nobody at all")


async def test_a_user_whom_only_a_user_manager_knows_is_not_slowed_down_by_a_lie() -> None:
    async with beside_an_honest_one(knows_all_users=False, speeds=SpeedLimits()) as here:
        worker = await here.hostile()
        send(worker, _encode([8, "alice", [1, 1]]))
        await worker.round_trip(2)
        tree = here.supervisor.speed._tree
        assert tree._directions[DOWNLOAD].limits.users["alice"].rate == 1_000_000
        for number in range(1000):
            send(worker, _encode([8, f"user {number}", [1, 1]]))
            await worker.round_trip(2)
        assert len(tree._directions[DOWNLOAD].limits.users) < 50, "it has a single session"


@pytest.mark.parametrize("rate", [-5, 2**63, 0.5, float("nan")])
async def test_a_limit_that_is_none_ends_the_worker(rate: float) -> None:
    async with beside_an_honest_one() as here:
        worker = await here.hostile()
        send(worker, _encode([8, "alice", [rate, rate]]))
        await until(lambda: worker.killed)


async def test_what_comes_back_is_no_more_than_what_was_leased() -> None:
    async with beside_an_honest_one(server=Rates(download=1_000_000)) as here:
        worker = await here.hostile()
        server = here.supervisor.speed._tree._directions[DOWNLOAD].limits.server
        for _ in range(20):
            send(worker, _encode([9, [["alice", 1, [0, 0, 0, 0], 2**48]]]))
        server.take(10_000_000)
        send(worker, _encode([9, [["alice", 1, [0, 0, 0, 0], 2**48]]]))
        await worker.round_trip(2)
        assert server._tokens < 0


async def test_a_session_that_fails_to_log_in_without_end_ends_the_worker() -> None:
    async with beside_an_honest_one() as here:
        worker = await here.hostile()
        for number in range(101):
            send(worker, _encode([15, 2, f"name {number}"]))
        await until(lambda: worker.killed)


async def test_a_worker_tells_of_its_own_sessions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """`kick bob` would end alice's session otherwise."""
    async with beside_an_honest_one() as here:
        worker = await here.hostile()
        asked = asyncio.create_task(here.supervisor.session_reports.ask())
        number = (await worker.hear(Describe)).number

        def report(session: int) -> SessionReport:
            return SessionReport(session, "bob", True, 1, 1, "NOOP", "", None, 0, 0, "")

        worker.say(Described(number, (report(here.alice), report(2), report(99)), True))
        await here.honest.hear(Describe)
        here.honest.say(Described(number, (), True))
        found = await asked
        assert [each.session for _, reports in found for each in reports] == [2]


async def test_a_reason_cannot_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    async with beside_an_honest_one() as here:
        worker = await here.hostile()
        send(worker, _encode([6, "\x1b[2J\nERROR supervisor: \u202eall is lost"]))
        await worker.round_trip(2)
        worker.die()
        await until(lambda: "all is lost" in caplog.text)
        said = next(text for text in caplog.messages if "all is lost" in text)
        assert said.isprintable()


async def test_sessions_that_are_not_its_own_are_not_released_or_logged_in() -> None:
    async with beside_an_honest_one() as here:
        worker = await here.hostile()
        worker.say(LoggedIn((Login(here.alice, "mallory"),)))
        worker.say(Released((here.alice, 99)))
        await worker.round_trip(2)
        assert here.supervisor.ledger.of_user("mallory") == 0
        here.is_untouched()


async def test_a_connection_that_is_passed_on_is_whose_the_next_worker_says(soon: None) -> None:
    """Else that one, which is never answered, would keep the connection for ever."""
    async with supervised(2, proxies=Networks(["127.0.0.1"])) as scene:
        hostile, honest = await scene.ready(2)
        ledger = scene.supervisor.ledger
        for says in ("declines", "dies"):
            await scene.connect()
            session = await hostile.adopt(confirm=False)
            hostile.say(Identified(session, "192.0.2.1"))
            assert (await hostile.hear(SlotAnswer)).refused is None
            hostile.say(TakeSlot(session, "alice", 1))
            assert (await hostile.hear(SlotAnswer)).refused is None
            if says == "declines":
                hostile.say(Declined((session,)))
            else:
                hostile.die()
            assert await honest.adopt() == session
            assert (ledger.of_address("192.0.2.1"), ledger.of_user("alice")) == (0, 0)
            honest.say(Identified(session, "192.0.2.2"))
            assert await honest.hear(SlotAnswer) == SlotAnswer(session, None)
            assert ledger.of_address("192.0.2.2") == 1
            honest.say(Released((session,)))
            await until(lambda: not ledger.connections)
            for worker in scene.supervisor.workers:
                worker.crowded_until = 0.0
