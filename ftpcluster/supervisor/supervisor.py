"""The supervisor: accepts, admits, counts, and keeps workers alive.

It never reads a byte that a client sent, and it does not trust its workers: what a worker holds is
keyed by that worker's epoch and comes back when the worker is gone; a message that does not fit
ends that worker.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ftpcluster.ipc.channel import pair, supervisor_end
from ftpcluster.ipc.messages import (
    Adopt,
    Adopted,
    EndSession,
    Failed,
    GiveSlot,
    Grants,
    Identified,
    Ready,
    Released,
    Reports,
    SlotAnswer,
    TakeSlot,
    ToSupervisor,
    UserLimits,
)
from ftpcluster.net.acceptor import OVERLOADED, Acceptor, refuse
from ftpcluster.net.listeners import Listener
from ftpcluster.protocol.address import plain
from ftpcluster.quota.leases import Rates
from ftpcluster.quota.ledger import ConnectionLimits, Ledger, Refusal
from ftpcluster.supervisor.handle import HandOver, Phase, WorkerHandle
from ftpcluster.supervisor.process import ProcessLike
from ftpcluster.supervisor.restart import RestartPolicy
from ftpcluster.supervisor.speed import SharedSpeed

log = logging.getLogger(__name__)

_KILL_AFTER = 2.0
"""Seconds that a worker may take longer than the grace before it is killed."""
_NOBODY = 0
"""The epoch that holds connections between two workers."""

StartProcess = Callable[[int, int, socket.socket], ProcessLike]
"""``(index, epoch, channel's far end) -> process``: what starts a worker."""


class BootFailure(Exception):
    """A worker ended before it ever served; ``reason`` is what it said, if it said anything."""

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class _Place:
    """One of the N workers: who fills it now, and when the next one may."""

    restart: RestartPolicy
    worker: WorkerHandle | None = None
    timer: asyncio.TimerHandle | None = None
    has_served: bool = False


class Supervisor:
    """The life of a cluster, from bound sockets to the last worker's end."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        workers: int,
        start_process: StartProcess,
        limits: ConnectionLimits,
        shutdown_grace: float,
        rates: Rates = Rates(),
    ) -> None:
        """Takes over the sockets of the ``listeners``. To be made where the loop runs."""
        self._loop = asyncio.get_running_loop()
        self._listeners = {listener.sock: listener for listener in listeners}
        self.ledger = Ledger(limits)
        self.speed = SharedSpeed(self._loop, rates, self._grant)
        self._start_process = start_process
        self._shutdown_grace = shutdown_grace
        self._places = [_Place(RestartPolicy()) for _ in range(workers)]
        self._workers: dict[int, WorkerHandle] = {}
        self._processes: set[ProcessLike] = set()
        self._homeless: list[HandOver] = []
        self._sessions = itertools.count(1)
        self._epochs = itertools.count(1)
        self._turns = itertools.count(1)
        self._acceptor = Acceptor(
            self._loop, tuple(self._listeners), self._choose, self._on_connection
        )
        self._stopping = False
        self.serving: asyncio.Future[None] = self._loop.create_future()
        """Done when all workers serve; a BootFailure where one never did."""
        self._ended: asyncio.Future[None] = self._loop.create_future()

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        """Serve until ``stop`` has done its work. Raises BootFailure."""
        try:
            for index in range(len(self._places)):
                self._start_worker(index)
            await self._ended
            if self.serving.done() and (failure := self.serving.exception()):
                raise failure
        finally:
            self._acceptor.close()
            self.speed.close()
            self.kill()

    def stop(self) -> None:
        """End the server: at once for idle sessions, after the grace for transfers.

        Called again, it ends everything now.
        """
        if self._stopping:
            self.kill()
            return
        log.info("stopping")
        self._begin_stop()
        for worker in tuple(self._workers.values()):
            worker.drain(self._shutdown_grace)
        self._loop.call_later(self._shutdown_grace + _KILL_AFTER, self.kill)

    def reload_certificates(self) -> None:
        """Have the workers read certificates again; whoever calls this has looked at them."""
        for worker in self.workers:
            worker.reload_certificates()

    def set_limits(self, login: str | None, rates: Rates) -> None:
        """Speed limits of a user, or of the server where ``login`` is None, from now on.

        Also for transfers that run.
        """
        message = self.speed.set_limits(login, rates)
        for worker in self.workers:
            worker.channel.send(message)

    def end_session(self, session: int, reason: str) -> bool:
        """End a session wherever it runs; False where there is none of that number."""
        epoch = self.ledger.epoch_of(session)
        if epoch is None or epoch not in self._workers:
            return False
        self._workers[epoch].channel.send(EndSession(session, reason))
        return True

    def kill(self) -> None:
        """End every worker now."""
        self._begin_stop()
        for process in tuple(self._processes):
            process.kill()

    def _begin_stop(self) -> None:
        self._stopping = True
        self._acceptor.close()
        for place in self._places:
            if place.timer is not None:
                place.timer.cancel()
        while self._homeless:
            self._turn_away(self._homeless.pop())
        self._look_whether_ended()

    def _look_whether_ended(self) -> None:
        if self._stopping and not self._processes and not self._ended.done():
            self._ended.set_result(None)

    # ------------------------------------------------------------------ workers

    @property
    def workers(self) -> list[WorkerHandle]:
        """The workers that live now."""
        return list(self._workers.values())

    def _start_worker(self, index: int) -> None:
        place = self._places[index]
        place.timer = None
        place.restart.started(self._loop.time())
        ours, theirs = pair()
        epoch = next(self._epochs)
        try:
            process = self._start_process(index, epoch, theirs)
        except OSError as error:
            log.error("worker %d cannot be started: %s", index + 1, error)
            ours.close()
            self._start_later(index)
            return
        finally:
            theirs.close()
        channel = supervisor_end(
            self._loop,
            ours,
            lambda message, fd: self._on_message(worker, message, fd),
            lambda error: self._on_worker_gone(worker, error),
        )
        worker = place.worker = WorkerHandle(index, epoch, process, channel)
        for order in self.speed.orders:
            channel.send(order)
        self._workers[epoch] = worker
        self._processes.add(process)
        process.on_exit(lambda: self._on_exit(process))

    def _start_later(self, index: int) -> None:
        place = self._places[index]
        delay = place.restart.delay(self._loop.time())
        place.timer = self._loop.call_later(delay, self._start_worker, index)

    def _on_exit(self, process: ProcessLike) -> None:
        self._processes.discard(process)
        self._look_whether_ended()

    def _on_worker_gone(self, worker: WorkerHandle, error: Exception | None) -> None:
        """The worker's end of the channel is closed, or it sent what is no message."""
        self._workers.pop(worker.epoch, None)
        was, worker.phase = worker.phase, Phase.GONE
        worker.process.kill()
        lost = list(worker.unconfirmed.values())
        worker.unconfirmed.clear()
        if not self._stopping:
            for connection in lost:
                self.ledger.move(worker.epoch, connection.session, _NOBODY)
        released = self.ledger.release_worker(worker.epoch)
        self.speed.release_worker(worker.epoch)
        if self._stopping:
            for connection in lost:
                self._turn_away(connection)
            return
        place = self._places[worker.index]
        place.worker = None
        if was is Phase.STARTING and not place.has_served:
            self._fail_boot(worker)
            return
        why = f"sent a bad message ({error})" if error else worker.failure or "died"
        log.error(
            "worker %d (pid %s) %s; %d sessions ended with it",
            worker.index + 1, worker.process.pid, why, released,
        )  # fmt: skip
        self._start_later(worker.index)
        self._homeless += lost
        self._place_homeless()

    def _fail_boot(self, worker: WorkerHandle) -> None:
        if not self.serving.done():
            message = f"worker {worker.index + 1} ended before it could serve"
            self.serving.set_exception(BootFailure(message, worker.failure))
        self.kill()

    # ------------------------------------------------------------------ connections

    def _choose(self) -> WorkerHandle | None:
        """The worker with the fewest sessions; of equals, the one that was not used for longest."""
        chosen, fewest = None, 0
        for worker in self._workers.values():
            if worker.takes_connections:
                held = self.ledger.held_by(worker.epoch)
                if (
                    chosen is None
                    or held < fewest
                    or (held == fewest and worker.last_used < chosen.last_used)
                ):
                    chosen, fewest = worker, held
        return chosen

    def _on_connection(
        self, worker: WorkerHandle, sock: socket.socket, fd: int, address: str, port: int
    ) -> None:
        peer, listener = plain(address), self._listeners[sock]
        is_proxied = listener.proxies is not None
        if listener.proxies is not None and peer not in listener.proxies:
            os.close(fd)
            return
        session = next(self._sessions)
        # a proxy's own address has no slot: the worker reads whom the proxy speaks for
        refused = self.ledger.admit(worker.epoch, session, None if is_proxied else peer)
        if refused is not None:
            refuse(fd, refused.explanation)
            return
        adopt = Adopt(session, peer, port, listener.implicit_tls, is_proxied)
        self._give(worker, HandOver(fd, adopt))

    def _give(self, worker: WorkerHandle, connection: HandOver) -> None:
        worker.last_used = next(self._turns)
        worker.hand_over(connection)

    def _place_homeless(self) -> None:
        """Give connections whose worker died before it confirmed them to other workers."""
        while self._homeless:
            worker = self._choose()
            if worker is None:
                return
            connection = self._homeless.pop(0)
            self.ledger.move(_NOBODY, connection.session, worker.epoch)
            self._give(worker, connection)

    def _turn_away(self, connection: HandOver) -> None:
        self.ledger.release(_NOBODY, connection.session)
        refuse(connection.fd, OVERLOADED)

    # ------------------------------------------------------------------ messages

    def _on_message(self, worker: WorkerHandle, message: ToSupervisor, fd: int | None) -> None:
        if fd is not None:
            os.close(fd)  # no worker has a reason to send one
        if isinstance(message, Adopted):
            for session in message.sessions:
                worker.confirm(session)
            self._on_capacity()
        elif isinstance(message, Released):
            self._on_released(worker, message)
        elif isinstance(message, TakeSlot):
            self._on_take_slot(worker, message)
        elif isinstance(message, Reports):
            self.speed.on_reports(worker.epoch, message)
        elif isinstance(message, UserLimits):
            self.speed.on_user_limits(message)
        elif isinstance(message, Identified):
            self._on_identified(worker, message)
        elif isinstance(message, GiveSlot):
            self.ledger.logout(worker.epoch, message.session)
        elif isinstance(message, Ready):
            self._on_ready(worker)
        elif isinstance(message, Failed):
            worker.failure = message.reason

    def _on_ready(self, worker: WorkerHandle) -> None:
        if worker.phase is not Phase.STARTING:
            return
        worker.phase = Phase.SERVING
        self._places[worker.index].has_served = True
        if all(place.has_served for place in self._places) and not self.serving.done():
            self.serving.set_result(None)
        self._on_capacity()

    def _on_capacity(self) -> None:
        """A worker takes connections (again)."""
        if self._homeless:
            self._place_homeless()
        if not self._stopping:
            self._acceptor.resume()

    def _grant(self, epoch: int, grants: Grants) -> None:
        worker = self._workers.get(epoch)
        if worker is not None:
            worker.channel.send(grants)

    def _on_released(self, worker: WorkerHandle, message: Released) -> None:
        for session in message.sessions:
            unconfirmed = worker.unconfirmed.pop(session, None)
            if unconfirmed is not None:  # it came there without its descriptor
                refuse(unconfirmed.fd, OVERLOADED)
            self.ledger.release(worker.epoch, session)
        self._on_capacity()

    def _on_identified(self, worker: WorkerHandle, message: Identified) -> None:
        try:
            refused = self.ledger.identify(worker.epoch, message.session, message.address)
        except KeyError:
            return
        self._answer(worker, message.session, refused)

    def _on_take_slot(self, worker: WorkerHandle, message: TakeSlot) -> None:
        try:
            refused = self.ledger.login(worker.epoch, message.session, message.login, message.limit)
        except KeyError:
            return  # the session has ended meanwhile, or was never this worker's
        self._answer(worker, message.session, refused)

    @staticmethod
    def _answer(worker: WorkerHandle, session: int, refused: Refusal | None) -> None:
        answer = None if refused is None else refused.value
        worker.channel.send(SlotAnswer(session, answer))
