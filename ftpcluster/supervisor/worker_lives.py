"""The workers' lives: started, watched, replaced one by one or a whole generation at once.

The boot starts the first generation, a reload the next one. The workers of a new generation wait
until all of them can serve; then they take over, and the old workers drain. If a new worker cannot
serve, its generation ends, and the old one goes on.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from ftpcluster.descriptors import close_quietly
from ftpcluster.ipc.channel import Channel, pair, supervisor_end
from ftpcluster.ipc.closing import Closer
from ftpcluster.ipc.messages import (
    Failed,
    Heartbeat,
    Message,
    Outdated,
    Ready,
    ToSupervisor,
    heartbeat_interval,
)
from ftpcluster.protocol.text import visible
from ftpcluster.supervisor.process import ProcessLike
from ftpcluster.supervisor.processes import Processes
from ftpcluster.supervisor.restart import Health, Pulse, is_hopeless
from ftpcluster.supervisor.worker_handle import Generation, Phase, Place, WorkerHandle, is_filtered

log = logging.getLogger(__name__)

_KILL_AFTER = 2.0
"""Seconds that a worker may take longer than the grace, or than SIGABRT needs, before SIGKILL."""
_RENEWAL = 10.0
"""Seconds, at least, between two replacements that workers ask for."""
STOPPING = "the server is stopping"
"""Why a generation that is starting now will not serve."""


class BootFailure(Exception):
    """A worker ended before it ever served; ``reason`` is the one that it reported, if any."""

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason or f"{self.args[0]}; the reason stands above"


class Owner(Protocol):
    """Gives work to the workers, and does the accounting: the supervisor."""

    def on_message(self, worker: WorkerHandle, message: ToSupervisor) -> None: ...
    def on_start(self, worker: WorkerHandle) -> None:
        """A worker has been started: send it its first messages."""

    def on_old_workers(self) -> None:
        """``has_old_workers`` has changed."""

    def on_gone(self, worker: WorkerHandle) -> int:
        """A worker is gone: free what it held. Returns the number of sessions that ended."""

    def on_capacity(self) -> None:
        """A worker takes connections (again)."""

    def on_dismissed(self) -> None:
        """All workers are about to end, for whatever reason; repeated at each further order."""

    def on_all_ended(self) -> None:
        """All workers were dismissed, and the last process has ended."""


class WorkerLives:
    """The workers of a server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        self._loop = loop
        self._owner = owner
        self.workers: dict[int, WorkerHandle] = {}
        """The workers that live now, by their epochs."""
        self._processes = Processes(loop, self._on_given_up, self._on_fewer_processes)
        self.has_old_workers = False
        """Whether workers that were replaced still live, and may hold data ports."""
        self._epochs = itertools.count(1)
        self._generations: list[Generation] = []  # the generation that serves, and the next, if any
        self._watch_timer: asyncio.TimerHandle | None = None
        self._watch_due = 0.0
        self._renewable = 0.0
        self.ends: Counter[str] = Counter()
        """How often workers were replaced, by the reason."""
        self.is_dismissed = False
        self.failure: BootFailure | None = None
        """Why the workers were dismissed for good."""

    # ------------------------------------------------------------------ generations

    def begin(self, generation: Generation) -> None:
        """Start the workers of a generation. The result is in ``generation.ready``."""
        generation.is_first = not self._generations
        self._generations.append(generation)
        for place in generation.places:
            self._start(place)
        if self._watch_timer is None:
            self._watch_later()

    async def bring_up(self, generation: Generation) -> None:
        """Start the workers of the next generation, and wait until all of them can serve.

        Raises BootFailure; then the generation has been ended.
        """
        if self.is_dismissed:
            raise BootFailure("", STOPPING)
        try:
            self.begin(generation)
            await generation.ready
            if self.is_dismissed:  # dismissed after the last worker was ready
                raise BootFailure("", STOPPING)
        except BaseException:
            self._abandon(generation)
            raise

    @property
    def current(self) -> Generation | None:
        """The generation that serves."""
        return self._generations[0] if self._generations else None

    @property
    def is_renewed(self) -> bool:
        """Whether another generation is coming."""
        return len(self._generations) > 1

    def is_coming(self, worker: WorkerHandle) -> bool:
        """Whether the worker is of a generation that does not serve yet."""
        return worker.place.generation in self._generations[1:]

    def switch(self, generation: Generation) -> None:
        """Let a generation that is ready serve, and drain the old one."""
        old = self._generations.pop(0)
        self._end(old)
        for place in generation.places:
            if place.worker is not None and place.worker.phase is Phase.WAITING:
                place.worker.phase = Phase.SERVING
        for place in old.places:
            for worker in _fillers(place):
                self.ends["reload"] += 1
                self._retire(worker)
            if place.starting is not None:
                self._processes.kill(place.starting.process)  # not needed any more
        self._owner.on_capacity()

    def _abandon(self, generation: Generation) -> None:
        """End a generation that has never served."""
        self._generations.remove(generation)
        self._end(generation)
        for place in generation.places:
            for worker in _fillers(place):
                worker.phase = Phase.DRAINING  # so that its end is not logged
                self._processes.kill(worker.process)

    def _end(self, generation: Generation) -> None:
        generation.is_over = True
        for place in generation.places:
            if place.timer is not None:
                place.timer.cancel()
                place.timer = None

    def replace(self, index: int, why: str) -> bool:
        """Start another worker in a place, and drain the present one as soon as the new one serves.
        False where there is no such place, or a worker is on the way there already.
        """
        generation = self.current
        if generation is None or not 0 <= index < len(generation.places):
            return False
        place = generation.places[index]
        if self.is_dismissed or not place.is_settled:
            return False
        log.info("%s is replaced: %s", place.worker, why)
        self.ends["replaced"] += 1
        self._start(place)
        return True

    def _renew(self, worker: WorkerHandle) -> None:
        """Replace the workers of a generation: they may not open a directory that is served now. At
        most once in ``_RENEWAL`` s: a worker that was taken over could ask for it again and again.
        """
        generation, now = worker.place.generation, self._loop.time()
        if generation is self.current and now >= self._renewable:
            self._renewable = now + _RENEWAL
            for place in generation.places:
                self.replace(place.index, "a directory that is served was replaced or mounted")

    # ------------------------------------------------------------------ lives

    def _start(self, place: Place) -> None:
        place.timer = None
        now = self._loop.time()
        place.restart.started(now)
        plan = place.generation.plan
        epoch = next(self._epochs)
        closer = Closer()

        def end_of(sock: socket.socket) -> Channel[ToSupervisor]:
            return supervisor_end(
                self._loop,
                sock,
                lambda message: self._owner.on_message(worker, message),
                lambda error: self._on_closed(worker, error),
                closer.close,
            )

        try:
            process, channel = _spawn(place, epoch, end_of)
        except OSError as error:
            closer.end()  # it has closed the channel
            self._on_not_started(place, error)
            return
        late = max(0.0, plan.start_timeout - plan.worker_timeout)
        pulse = Pulse(heartbeat_interval(plan.worker_timeout), plan.worker_timeout, now + late)
        worker = place.starting = WorkerHandle(place, epoch, process, channel, closer, pulse, now)
        self.workers[epoch] = worker
        self._processes.add(process)
        self._owner.on_start(worker)

    def _on_not_started(self, place: Place, error: OSError) -> None:
        """Try again, unless this is a reload: then the old generation goes on serving. Also not if
        the first start lacks descriptors: it would fail each time.
        """
        generation = place.generation
        why = f"worker {place.index + 1} cannot be started: {error.strerror or error}"
        lacks_files = error.errno == errno.EMFILE and not place.has_served
        if (generation.is_first and not lacks_files) or place.has_served:
            log.error("%s", why)
            self._start_later(place)
        elif not generation.ready.done():
            if lacks_files:
                why += "; raise the limit (`ulimit -n 4096`, LimitNOFILE= of a service)"
            generation.ready.set_exception(BootFailure("", why))

    def _start_later(self, place: Place) -> None:
        delay = place.restart.delay(self._loop.time(), random.random())
        place.timer = self._loop.call_later(delay, self._start, place)

    def on_message(self, worker: WorkerHandle, message: Message) -> None:
        """Handle messages about a worker's own state."""
        if isinstance(message, Heartbeat):
            self._on_heartbeat(worker, message)
        elif isinstance(message, Ready):
            self._on_ready(worker)
        elif isinstance(message, Outdated):
            self._renew(worker)
        elif isinstance(message, Failed):
            worker.failure = "; ".join(map(visible, message.reason.splitlines()))

    def _on_ready(self, worker: WorkerHandle) -> None:
        if worker.phase is not Phase.STARTING:
            return
        place, generation = worker.place, worker.place.generation
        worker.pulse.beat(self._loop.time())
        worker.phase = Phase.SERVING if generation is self.current else Phase.WAITING
        worker.is_filtered = is_filtered(worker.process.pid)  # before it has a client
        before, place.worker, place.starting = place.worker, worker, None
        place.has_served = True
        if before is not None:
            self._retire(before)
        if all(place.has_served for place in generation.places) and not generation.ready.done():
            generation.ready.set_result(None)
        self._owner.on_capacity()

    def _retire(self, worker: WorkerHandle) -> None:
        """Drain a worker that others have replaced: its sessions have time to end."""
        grace = worker.place.generation.plan.drain_grace
        worker.drain(grace, patience=grace)
        self._look_for_old_workers()
        self._loop.call_later(grace + _KILL_AFTER, self._processes.kill, worker.process)

    def _look_for_old_workers(self) -> None:
        has_old = bool(self._processes.given_up) or any(
            worker.phase in (Phase.DRAINING, Phase.ABORTED) for worker in self.workers.values()
        )
        if has_old != self.has_old_workers:
            self.has_old_workers = has_old
            self._owner.on_old_workers()

    def _on_fewer_processes(self) -> None:
        self._look_for_old_workers()
        self._look_whether_ended()

    def _on_given_up(self, process: ProcessLike) -> None:
        """SIGKILL has not ended the process: go on as if it had."""
        for worker in tuple(self.workers.values()):
            if worker.process is process:
                worker.channel.close()
                self._on_closed(worker, None)

    def _on_closed(self, worker: WorkerHandle, error: Exception | None) -> None:
        """The worker's end of the channel is closed, or the worker sent a bad message."""
        self.workers.pop(worker.epoch, None)
        was, worker.phase = worker.phase, Phase.GONE
        self._processes.kill(worker.process)
        released = self._owner.on_gone(worker)
        self._look_for_old_workers()
        if self.is_dismissed:
            return
        place, generation = worker.place, worker.place.generation
        why = f"sent a bad message ({error})" if error else worker.failure or "died"
        if place.starting is worker and not place.has_served:
            if not (generation.is_over or generation.ready.done()):
                message = f"{worker} ended before it could serve"
                generation.ready.set_exception(BootFailure(message, worker.failure))
        elif worker.process.pid is None:
            pass  # it could not be started, which was logged
        elif was is not Phase.DRAINING:
            self.ends["bad message" if error else "hung" if was is Phase.ABORTED else "died"] += 1
            log.error("%s %s; %d sessions ended with it", worker, why, released)
        elif released:
            log.warning("%s ended before %d of its sessions", worker, released)
        self._vacate(place, worker)
        self._owner.on_capacity()

    def _vacate(self, place: Place, worker: WorkerHandle) -> None:
        if place.worker is worker:
            place.worker = None
        elif place.starting is worker:
            place.starting = None
        else:
            return  # the worker had been replaced
        if place.starting is None and place.timer is None and not place.generation.is_over:
            self._start_later(place)
            if worker.process.pid is not None:  # else the machine had no process for it, this time
                self._look_whether_hopeless(place.generation)

    def _look_whether_hopeless(self, generation: Generation) -> None:
        """End the server if no restart helps, so that the person who started it learns why.

        Only at the boot: a server that has served for a while goes on with the workers that live.
        One living worker is enough to go on, even if each of its replacements dies.
        """
        if not generation.is_first or any(_serving(generation)):
            return
        if is_hopeless(place.restart for place in generation.places):
            self.failure = BootFailure("the workers die soon after their start, again and again")
            self.kill()

    # ------------------------------------------------------------------ watching

    def _watch_later(self) -> None:
        interval = min(
            heartbeat_interval(generation.plan.worker_timeout) for generation in self._generations
        )
        self._watch_due = self._loop.time() + interval
        self._watch_timer = self._loop.call_at(self._watch_due, self._watch)

    def _watch(self) -> None:
        now = self._loop.time()
        for worker in tuple(self.workers.values()):
            if now - self._watch_due > worker.pulse.interval:
                # this process stood still: the heartbeats of that time have not been read yet
                worker.pulse.beat(max(now, worker.pulse.last))  # a starting worker has longer
            self._examine(worker, now)
        self._recycle(now)
        self._watch_later()

    def _examine(self, worker: WorkerHandle, now: float) -> None:
        health = worker.pulse.health(now)
        if health is Health.LOST and worker.phase is not Phase.ABORTED:
            if worker.phase is Phase.STARTING:
                worker.failure = f"did not start for {now - worker.started:.3g} s"
            else:
                worker.failure = f"did not answer for {worker.pulse.timeout:g} s"
            worker.phase = Phase.ABORTED
            log.error("%s %s: it is aborted, and says where it stood", worker, worker.failure)
            worker.process.abort()
            self._loop.call_later(_KILL_AFTER, self._processes.kill, worker.process)
        elif (
            health is Health.SUSPECT
            and worker.phase not in (Phase.STARTING, Phase.ABORTED)
            and not worker.is_suspect
        ):
            worker.is_suspect = True
            log.warning("%s does not answer: it gets no new connections", worker)

    def _on_heartbeat(self, worker: WorkerHandle, message: Heartbeat) -> None:
        worker.pulse.beat(self._loop.time())
        worker.memory, worker.lag, worker.load = message.memory, message.lag, message.load
        if worker.is_suspect:
            worker.is_suspect = False
            log.info("%s answers again", worker)
            self._owner.on_capacity()

    def _recycle(self, now: float) -> None:
        """Replace one worker that is too old or too large, while all others are in their places."""
        if self.is_dismissed or self.is_renewed:
            return
        generation = self._generations[0]
        if not all(place.is_settled for place in generation.places):
            return
        for worker in _serving(generation):
            why = generation.plan.recycling.reason(now - worker.started, worker.memory)
            if why is not None:
                self.replace(worker.place.index, why)
                return

    # ------------------------------------------------------------------ end

    def dismiss(self, grace: float, *, kill_after: float | None = None) -> None:
        """End all workers: their idle sessions now, transfers within ``grace`` seconds.

        Workers that have not ended ``kill_after`` seconds later are killed.
        """
        self._end_all()
        for worker in tuple(self.workers.values()):
            worker.drain(grace, patience=0.0)
        wait = grace + (_KILL_AFTER if kill_after is None else kill_after)
        self._loop.call_later(wait, self.kill)

    def kill(self) -> None:
        """End all workers now."""
        self._end_all()
        self._processes.kill_all()

    def _end_all(self) -> None:
        self.is_dismissed = True
        self._owner.on_dismissed()
        for generation in self._generations:
            self._end(generation)
        for generation in self._generations[1:]:
            if not generation.ready.done():
                generation.ready.set_exception(BootFailure("", STOPPING))
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        self._look_whether_ended()

    def _look_whether_ended(self) -> None:
        if self.is_dismissed and not self._processes:
            self._owner.on_all_ended()


def _spawn(
    place: Place, epoch: int, end_of: Callable[[socket.socket], Channel[ToSupervisor]]
) -> tuple[ProcessLike, Channel[ToSupervisor]]:
    """A new process, and our end of its channel. Raises OSError.

    The channel is made first: an error after the start would leave an unknown process.
    """
    ours, workers_end = pair()
    try:
        try:
            channel = end_of(ours)
        except BaseException:
            close_quietly(ours.detach())
            raise
        try:
            return place.generation.plan.start_process(place.index, epoch, workers_end), channel
        except BaseException:
            channel.close()
            raise
    finally:
        close_quietly(workers_end.detach())


def _fillers(place: Place) -> Iterator[WorkerHandle]:
    if place.worker is not None:
        yield place.worker
    if place.starting is not None:
        yield place.starting


def _serving(generation: Generation) -> Iterator[WorkerHandle]:
    for place in generation.places:
        if place.worker is not None:
            yield place.worker
