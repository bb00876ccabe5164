"""Simulates a cluster under speed limits in virtual time, larger than a test machine could run.

The workers' ``RemoteLeases``, the supervisor's ``SharedSpeed`` and the bytes of their messages are
real. The clock, the channel between them and the transfers are simulated: a client takes bytes out
of a send buffer at its own speed, as TCP does, and the server fills the buffer in the pieces that
the lease allows.

    nice python -m tests.support.simulation

prints what the supervisor has to do for 64 workers and 20,000 transfers (some minutes).
"""

from __future__ import annotations

import argparse
import array
import asyncio
import gc
import heapq
import itertools
import random
import socket
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from ftpcluster.ipc.channel import MAX_MESSAGE, pair
from ftpcluster.ipc.messages import Grants, Message, Reports, ToSupervisor, ToWorker, UserLimits
from ftpcluster.quota.leases import Pause, Pool
from ftpcluster.quota.rates import DOWNLOAD, Rates, SpeedLimits
from ftpcluster.supervisor.speed import SharedSpeed
from ftpcluster.worker.remote_leases import RemoteLeases

LATENCY = 0.0002
"""Seconds from one process's send to the other's turn."""
LEAST, MOST = 512, 1 << 20
"""The smallest and the largest piece that a session moves at once."""


# ---------------------------------------------------------------------- time


class Timer:
    """A handle, as the loop gives for ``call_later``."""

    __slots__ = ("call", "is_cancelled")

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled


class VirtualLoop:
    """The methods of an event loop that limits need. Time passes only in ``run``."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._due: list[tuple[float, int, Timer]] = []

    @property
    def as_loop(self) -> asyncio.AbstractEventLoop:
        return cast(asyncio.AbstractEventLoop, self)

    def time(self) -> float:
        return self.now

    def call_at(
        self, when: float, call: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer:
        timer = Timer((lambda: call(*args)) if args else call)
        heapq.heappush(self._due, (max(when, self.now), next(self._numbers), timer))
        return timer

    def call_later(
        self, delay: float, call: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer:
        return self.call_at(self.now + delay, call, *args)

    def call_soon(
        self, call: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer:
        return self.call_at(self.now, call, *args)

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=self.as_loop)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self.as_loop)

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise AssertionError(context)

    @property
    def is_idle(self) -> bool:
        """Whether no timer is left."""
        return all(timer.is_cancelled for _, _, timer in self._due)

    def run(self, seconds: float) -> None:
        """Let so much time pass, and run all timers that become due."""
        end = self.now + seconds
        due = self._due
        while due and due[0][0] <= end:
            self.now, _, timer = heapq.heappop(due)
            if not timer.is_cancelled:
                timer.call()
        self.now = end

    def stand_still(self, seconds: float) -> None:
        """Let time pass as in a stopped process: timers that were due meanwhile are due now."""
        self.now += seconds
        self._due = [(max(when, self.now), number, timer) for when, number, timer in self._due]
        heapq.heapify(self._due)


# ---------------------------------------------------------------------- the supervisor


@dataclass
class Work:
    """What the supervisor had to do."""

    received: int = 0
    reports: int = 0
    sent: int = 0
    grants: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    largest: int = 0
    ticks: int = 0
    contended: int = 0
    message_cpu: int = 0  # ns
    tick_cpu: int = 0


class SupervisorSide:
    """``SharedSpeed``, with its messages as bytes, and the CPU time that both take.

    It is also the loop of ``SharedSpeed``, so that it can measure and delay its ticks.
    """

    def __init__(self, simulation: Simulation, limits: SpeedLimits) -> None:
        self._simulation = simulation
        self._loop = simulation.loop
        self._decode = msgspec.msgpack.Decoder(ToSupervisor).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self.work = Work()
        self.speed = SharedSpeed(cast(asyncio.AbstractEventLoop, self), limits, self._grant)
        self._stopped_until = 0.0

    # as a loop

    def time(self) -> float:
        return self._loop.now

    def call_at(self, when: float, call: Callable[[], object]) -> Timer:
        return self._loop.call_at(when, self._tick, call)

    def call_later(self, delay: float, call: Callable[[], object]) -> Timer:
        return self.call_at(self._loop.now + delay, call)

    def stop(self, seconds: float) -> None:
        """As SIGSTOP: all that becomes due meanwhile runs afterwards, in order."""
        self._stopped_until = self._loop.now + seconds

    def _tick(self, call: Callable[[], object]) -> None:
        if self._loop.now < self._stopped_until:
            self._loop.call_at(self._stopped_until, self._tick, call)
            return
        before = time.thread_time_ns()
        call()
        work = self.work
        work.tick_cpu += time.thread_time_ns() - before
        work.ticks += 1
        work.contended += self.speed._tree.contended[DOWNLOAD]

    def on_datagram(self, epoch: int, data: bytes) -> None:
        if self._loop.now < self._stopped_until:
            self._loop.call_at(self._stopped_until, self.on_datagram, epoch, data)
            return
        work = self.work
        before = time.thread_time_ns()
        message = self._decode(data)
        if isinstance(message, Reports):
            self.speed.on_reports(epoch, message)
            work.reports += len(message.reports)
        elif isinstance(message, UserLimits):
            self.speed.on_user_limits(message)
        work.message_cpu += time.thread_time_ns() - before
        work.received += 1
        work.bytes_received += len(data)
        work.largest = max(work.largest, len(data))

    def _grant(self, epoch: int, grants: Grants) -> None:
        data = self._encode(grants)
        work = self.work
        work.sent += 1
        work.grants += len(grants.grants)
        work.bytes_sent += len(data)
        work.largest = max(work.largest, len(data))
        worker = self._simulation.workers.get(epoch)
        if worker is not None:
            self._loop.call_later(LATENCY, worker.on_datagram, data)


# ---------------------------------------------------------------------- workers and transfers


class WorkerSide:
    """A worker's leases, at the other end of the channel."""

    def __init__(self, simulation: Simulation, epoch: int, limits: SpeedLimits) -> None:
        self._simulation = simulation
        self.epoch = epoch
        self._decode = msgspec.msgpack.Decoder(ToWorker).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self.transfers: set[Transfer] = set()
        self.leases = RemoteLeases(
            simulation.loop.as_loop,
            simulation.scene.workers,
            limits,
            self._send,
        )

    def _send(self, message: Message) -> None:
        if self.epoch in self._simulation.workers:
            data = self._encode(message)
            supervisor = self._simulation.supervisor
            self._simulation.loop.call_later(LATENCY, supervisor.on_datagram, self.epoch, data)

    def on_datagram(self, data: bytes) -> None:
        if self.epoch in self._simulation.workers:
            message = self._decode(data)
            assert isinstance(message, Grants)
            self.leases.on_grants(message)


def waiter_of(pause: Pause) -> asyncio.Future[None]:
    """The future that a worker's transfer waits for."""
    assert isinstance(pause.until, asyncio.Future)
    return pause.until


class Transfer:
    """A download: the session's part and its client's."""

    __slots__ = (
        "_buffered", "_lease", "_looked", "_most", "_simulation", "_window",
        "is_over", "last", "left", "longest_pause", "moved", "pool", "speed", "worker",
    )  # fmt: skip

    def __init__(
        self, simulation: Simulation, worker: WorkerSide, pool: Pool, size: float, speed: float
    ) -> None:
        self._simulation = simulation
        self.worker = worker
        self.pool = pool
        self.left = size
        self.speed = speed
        self.moved = 0
        self.last = simulation.loop.now
        self.longest_pause = 0.0
        self.is_over = False
        # twice the bytes on the way with a round trip of 50 ms, as Linux tunes its buffers
        self._window = min(max(speed * 0.1, 16 * 1024), 1 << 20)
        self._buffered = 0.0
        self._looked = simulation.loop.now
        worker.transfers.add(self)
        self._lease = pool.open(self.last)
        self._wait(self._lease.spend(0, self.last))

    def _wait(self, pause: Pause | None) -> None:
        if pause is None:
            self._go_on()
        else:
            waiter_of(pause).add_done_callback(self._go_on)

    def _go_on(self, _: object = None) -> None:
        self._most = max(LEAST, min(MOST, self._lease.in_hand))
        self._pump()

    def _pump(self) -> None:
        now = self._simulation.loop.now
        while not self.is_over:
            self._buffered = max(0.0, self._buffered - self.speed * (now - self._looked))
            self._looked = now
            room = self._window - self._buffered
            if room < self._window / 3:
                # the kernel says "writable" when a part has become free
                delay = (self._window / 2 - room) / self.speed
                self._simulation.loop.call_later(delay, self._pump)
                return
            count = int(min(self._most, room, self.left))
            self._buffered += count
            self.left -= count
            self._note(now, count)
            pause = self._lease.spend(count, now)
            if self.left < 1:
                self.end()
            elif pause is not None:
                waiter_of(pause).add_done_callback(self._go_on)
                return
            self._most = max(LEAST, min(MOST, self._lease.in_hand))

    def _note(self, now: float, count: int) -> None:
        simulation = self._simulation
        self.longest_pause = max(self.longest_pause, now - self.last)
        self.last = now
        self.moved += count
        simulation.moved[int(now * 100)] = simulation.moved.get(int(now * 100), 0) + count

    def end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._lease.close()
            self.worker.transfers.discard(self)

    def restart_clocks(self) -> None:
        self.moved = 0
        self.last = self._simulation.loop.now
        self.longest_pause = 0.0


# ---------------------------------------------------------------------- a scene


@dataclass(frozen=True)
class Scene:
    """What is simulated."""

    limit: int
    """Bytes per second of the whole server."""
    workers: int = 64
    transfers: int = 20_000
    users: int = 1
    user_limit: int | None = None
    groups: Mapping[str, int] = field(default_factory=dict)
    group_of: Mapping[str, str] = field(default_factory=dict)
    speeds: tuple[float, ...] = (1e6, 10e6, 10e6, 100e6)
    """Bytes per second of clients: each takes one of these at random."""
    life: float = 10.0
    """Seconds that a transfer takes on average where the limit slows it down."""
    probes: int = 1
    """Transfers on each worker that never end: of one user, with clients that are never slow."""
    load: float = 1.0
    """The part of the limit that all new transfers would take on average."""
    seed: int = 1


class Simulation:
    """A cluster in virtual time."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.loop = VirtualLoop()
        self.chance = random.Random(scene.seed)
        self.moved: dict[int, int] = {}
        """Bytes in each hundredth of a second."""
        limits = SpeedLimits(
            server=Rates(download=scene.limit),
            groups={name: Rates(download=limit) for name, limit in scene.groups.items()},
            group_of=scene.group_of,
        )
        self.workers: dict[int, WorkerSide] = {}
        self.supervisor = SupervisorSide(self, limits)
        for epoch in range(1, scene.workers + 1):
            self.workers[epoch] = WorkerSide(self, epoch, limits)
        self.probes = [
            self.begin(worker, "user-0", float("inf"), max(scene.limit, 1e9))
            for worker in self.workers.values()
            for _ in range(scene.probes)
        ]
        self._mean = max(scene.limit * scene.life / max(1, scene.transfers), 2000.0)
        self._coming = scene.load * scene.limit / self._mean
        for _ in range(scene.transfers - len(self.probes)):
            self.loop.call_at(self.chance.random() * 0.5, self._begin_one)
        if scene.transfers > len(self.probes):
            self.loop.call_later(0.5, self._arrive)

    def begin(self, worker: WorkerSide, login: str, size: float, speed: float) -> Transfer:
        scene = self.scene
        group = scene.group_of.get(login)
        pools = worker.leases.pools(login, Rates(download=scene.user_limit), group)
        assert pools is not None
        return Transfer(self, worker, pools[DOWNLOAD], size, speed)

    def _begin_one(self) -> None:
        scene, chance = self.scene, self.chance
        worker = chance.choice(list(self.workers.values()))
        login = f"user-{chance.randrange(scene.users)}"
        # e^(sigma²/2) is what the mean of a log-normal distribution is above its median
        size = max(1.0, self._mean / 1.6487 * chance.lognormvariate(0.0, 1.0))
        self.begin(worker, login, size, chance.choice(scene.speeds))

    def _arrive(self) -> None:
        self._begin_one()
        self.loop.call_later(self.chance.expovariate(self._coming), self._arrive)

    def set_limit(self, limit: int) -> None:
        """The server's, by order of the supervisor."""
        order = self.supervisor.speed.set_limits(None, Rates(download=limit))
        for worker in self.workers.values():
            self.loop.call_later(LATENCY, worker.leases.order, order.login, order.rates)

    def kill(self, epoch: int) -> None:
        """As SIGKILL of a worker."""
        worker = self.workers.pop(epoch)
        for transfer in tuple(worker.transfers):
            transfer.is_over = True  # a killed worker does not close leases
        self.supervisor.speed.release_worker(epoch)

    def restart_clocks(self) -> None:
        """Measure from now on."""
        self.moved.clear()
        self.supervisor.work = Work()
        for probe in self.probes:
            probe.restart_clocks()

    def total(self, seconds: float) -> float:
        """The share of the limit that was used since ``restart_clocks``."""
        return sum(self.moved.values()) / (self.scene.limit * seconds)

    def most_in(self, seconds: float) -> float:
        """The highest share of the limit in any window of so many seconds."""
        if not self.moved:
            return 0.0
        first, last, width = min(self.moved), max(self.moved), round(seconds * 100)
        slots = [self.moved.get(slot, 0) for slot in range(first, last + 1)]
        sums = list(itertools.accumulate(slots, initial=0))
        most = max(
            sums[min(start + width, len(slots))] - sums[start] for start in range(len(slots))
        )
        return most / (self.scene.limit * seconds)


def jain(amounts: Sequence[float]) -> float:
    """Jain's index of fairness: 1 where all have the same, 1/n where one has all."""
    squares = sum(amount * amount for amount in amounts)
    return sum(amounts) ** 2 / (len(amounts) * squares) if squares else 1.0


# ---------------------------------------------------------------------- figures


@dataclass
class Figures:
    """The results of a scene, over the seconds that were measured."""

    scene: Scene
    seconds: float
    work: Work
    total: float
    most_in_a_second: float
    fairness: float
    longest_pause: float
    probe_rate: float

    @property
    def cpu(self) -> float:
        """Seconds of CPU in a second, without system calls."""
        return (self.work.message_cpu + self.work.tick_cpu) / 1e9 / self.seconds


def measure(scene: Scene, *, warm_up: float, seconds: float) -> Figures:
    """Simulate a scene. The garbage collector is off: it would have to scan the whole scene."""
    simulation = Simulation(scene)
    gc.collect()
    gc.disable()
    try:
        simulation.loop.run(warm_up)
        simulation.restart_clocks()
        simulation.loop.run(seconds)
    finally:
        gc.enable()
    probes = simulation.probes
    return Figures(
        scene,
        seconds,
        simulation.supervisor.work,
        simulation.total(seconds),
        simulation.most_in(min(1.0, seconds)),
        jain([probe.moved for probe in probes]),
        max((probe.longest_pause for probe in probes), default=0.0),
        sum(probe.moved for probe in probes) / max(1, len(probes)) / seconds,
    )


def channel_costs(size: int, count: int = 20_000) -> tuple[float, float]:
    """Microseconds of CPU to receive, and to send, a datagram of this size."""
    ours, theirs = pair()
    room = socket.CMSG_SPACE(array.array("i").itemsize * 2)
    data = bytes(max(1, min(size, MAX_MESSAGE)))
    spent = [0, 0]
    try:
        for _ in range(count):
            start = time.thread_time_ns()
            theirs.send(data)
            middle = time.thread_time_ns()
            ours.recvmsg(MAX_MESSAGE, room)
            spent[0] += time.thread_time_ns() - middle
            spent[1] += middle - start
    finally:
        ours.close()
        theirs.close()
    return spent[0] / count / 1000, spent[1] / count / 1000


GBIT = 125_000_000
SLOW = (100e3, 300e3, 500e3)
SCENES = {
    "1 Gbit/s, 1 user": Scene(GBIT),
    "10 Gbit/s, 1 user": Scene(10 * GBIT),
    "100 Gbit/s, 1 user": Scene(100 * GBIT),
    "1 Gbit/s, 20 users": Scene(GBIT, users=20),
    "10 Gbit/s, 100 users": Scene(10 * GBIT, users=100),
    "10 Gbit/s, 1000 users": Scene(10 * GBIT, users=1000),
    "100 Gbit/s, 5000 users": Scene(100 * GBIT, users=5000),
    "the same, each at most 20 Mbit/s": Scene(100 * GBIT, users=5000, user_limit=2_500_000),
    "100 Gbit/s unreached, 100 users": Scene(
        100 * GBIT, users=100, speeds=SLOW, load=0.5, probes=0
    ),
}
COLUMNS = (
    "in/s", "entries", "out/s", "entries", "µs in", "ms tick", "ms/tick all", "core %",
    "+ calls %", "total %", "1 s %", "Jain", "pause ms", "KB/s each",
)  # fmt: skip


def row(figures: Figures) -> list[str]:
    work, seconds = figures.work, figures.seconds
    received, sent = max(1, work.received), max(1, work.sent)
    receive, _ = channel_costs(work.bytes_received // received)
    _, send = channel_costs(work.bytes_sent // sent)
    calls = (work.received * receive + work.sent * send) / 1e6 / seconds
    ticks = max(1, work.ticks)
    found = [
        f"{work.received / seconds:.0f}",
        f"{work.reports / received:.0f}",
        f"{work.sent / seconds:.0f}",
        f"{work.grants / sent:.0f}",
        f"{work.message_cpu / received / 1e3:.0f}",
        f"{work.tick_cpu / ticks / 1e6:.2f}",
        f"{(work.message_cpu + work.tick_cpu) / ticks / 1e6:.2f}",
        f"{figures.cpu * 100:.1f}",
        f"{(figures.cpu + calls) * 100:.1f}",
        f"{figures.total * 100:.1f}",
        f"{figures.most_in_a_second * 100:.1f}",
    ]
    if figures.scene.probes:
        found += [
            f"{figures.fairness:.4f}",
            f"{figures.longest_pause * 1000:.0f}",
            f"{figures.probe_rate / 1000:.0f}",
        ]
    else:
        found += ["–", "–", "–"]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default="", help="scenes whose names contain this")
    options = parser.parse_args()
    print(f"| 64 workers, 20,000 transfers | {' | '.join(COLUMNS)} |", flush=True)
    print(f"|---|{'---:|' * len(COLUMNS)}", flush=True)
    for name, scene in SCENES.items():
        if options.only in name:
            figures = measure(scene, warm_up=options.warm_up, seconds=options.seconds)
            print(f"| {name} | {' | '.join(row(figures))} |", flush=True)


if __name__ == "__main__":
    main()
