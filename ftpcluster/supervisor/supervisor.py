"""The supervisor: accepts, admits, counts, and keeps workers alive.

It never reads a byte that a client sent, and it does not trust its workers. Everything that a
worker holds is keyed by that worker's epoch, and comes back when the worker is gone. A message that
does not fit ends the worker that sent it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Iterable, Mapping

from ftpcluster.descriptors import close_quietly
from ftpcluster.ipc.closing import close_aside, forget_linger
from ftpcluster.ipc.messages import (
    Adopt,
    Adopted,
    ChangeAccounts,
    Counted,
    Declined,
    Described,
    EndSession,
    Grants,
    LookUp,
    OldWorkers,
    Released,
    Reports,
    SetGroupLimits,
    SetLimits,
    TellLogins,
    ToSupervisor,
    UserLimits,
    WriteLog,
    sendable,
)
from ftpcluster.net.acceptor import OVERLOADED, Acceptor, refuse
from ftpcluster.net.listeners import set_keepalive
from ftpcluster.net.refused import RefusedConnections, tell_of_no_proxies
from ftpcluster.protocol.address import plain
from ftpcluster.quota.admission import Admission
from ftpcluster.quota.bans import Ban
from ftpcluster.quota.ledger import Ledger, Refusal
from ftpcluster.quota.rates import Rates
from ftpcluster.supervisor.name_lookups import NameLookups
from ftpcluster.supervisor.session_reports import SessionReports
from ftpcluster.supervisor.speed import SharedSpeed
from ftpcluster.supervisor.totals import Totals
from ftpcluster.supervisor.worker_handle import Generation, HandOver, Plan, WorkerHandle
from ftpcluster.supervisor.worker_lives import WorkerLives
from ftpcluster.supervisor.worker_logins import LoginMessage, WorkerLogins

log = logging.getLogger(__name__)

_NOBODY = 0
"""The epoch of connections that wait for another worker."""
_CROWDED = 1.0
"""Seconds for which a worker without free descriptors gets a connection only if no other can."""

_GOODBYES = 0.5
"""Seconds that idle sessions need to end when the server stops."""
_CLEARING_UP = 0.7
"""Seconds that workers have to end their transfers properly, in ``stop_now``."""


class Supervisor:
    """The life of a cluster, from bound sockets to the last worker's end."""

    def __init__(self, plan: Plan) -> None:
        """Takes over the sockets of the plan's listeners. Needs a running loop."""
        self._loop = asyncio.get_running_loop()
        self._plan = plan
        self._listen_on(plan)
        self.ledger = Ledger(plan.limits)
        self.guard = Admission(
            self.ledger,
            plan.bans,
            self._end_unauthenticated,
            self._loop.call_later,
            self._catch_up,
            arrivals=plan.arrivals,
        )
        self._logins = WorkerLogins(self.ledger, self.guard, self._loop.time)
        self.speed = SharedSpeed(
            self._loop, plan.speeds, self._grant, knows_all_users=plan.knows_all_users
        )
        self._lives = WorkerLives(self._loop, self)
        self.totals = Totals()
        self.session_reports = SessionReports(self._loop, self._lives.workers.values)
        self._is_hurried = False
        self._pending: list[HandOver] = []  # connections whose worker died before it served them
        self._sessions = itertools.count(1)
        self._turns = itertools.count(1)
        self._names = NameLookups(self._loop)
        self._no_proxies = RefusedConnections(self._loop, tell_of_no_proxies)
        self._acceptor = Acceptor(
            self._loop, tuple(self._listeners), self._choose, self._on_connection
        )
        self.serving: asyncio.Future[None] = self._loop.create_future()
        """Done when all workers serve; a BootFailure if one failed before it did."""
        self.stopping: asyncio.Future[None] = self._loop.create_future()
        """Done when the server begins to end, by an order or a failure."""
        self._ended: asyncio.Future[None] = self._loop.create_future()

    # ------------------------------------------------------------------ life

    async def run(self) -> None:
        """Serve until ``stop`` has done its work. Raises BootFailure."""
        self.serving.add_done_callback(self._on_booted)
        try:
            self._lives.begin(Generation(self._plan, self.serving))
            await self._ended
            failure = self.serving.exception() if self.serving.done() else None
            if failure := failure or self._lives.failure:
                raise failure
        finally:
            self._acceptor.close()
            self.speed.close()
            self.guard.tell_rest()
            self._no_proxies.close()
            self._names.close()
            self.kill()

    def _on_booted(self, serving: asyncio.Future[None]) -> None:
        if not serving.cancelled() and serving.exception() is not None:
            self.kill()

    async def reload(self, plan: Plan) -> None:
        """Serve with another plan from now on, without refusing a connection.

        Listeners that both plans have go on; other listeners of the old plan are closed. Sessions
        of the old workers go on until these are drained, and count until then. Raises BootFailure
        where the new workers cannot serve, or the server is stopping. Then nothing has changed, and
        the new plan's sockets belong to the caller.
        """
        generation = Generation(plan, self._loop.create_future())
        # the new plan may limit users who have no limit now: workers tell all logins from now on
        self._tell(TellLogins())
        await self._lives.bring_up(generation)
        if not self.serving.done():  # a reload during the boot: the new workers complete it
            self.serving.set_result(None)
        self._plan = plan
        self._listen_on(plan)
        self._acceptor.listen_on(tuple(self._listeners))
        self.ledger.limits = plan.limits
        self.guard.set_rules(plan.bans, plan.arrivals, self._loop.time())
        for message in self.speed.reset(plan):
            self._tell(message)
        self._lives.switch(generation)

    def change_accounts(
        self, plan: Plan, contents: Iterable[bytes], *, counts_logins: bool
    ) -> None:
        """Use a plan that differs in its accounts only. No worker is replaced.

        ``contents``: those of the messages for the workers. ``counts_logins``: sessions of users
        who had no limit before have to be counted, too.
        """
        assert self._lives.current is not None
        self._plan = self._lives.current.plan = plan
        self.ledger.limits = plan.limits
        if counts_logins:
            self._tell(TellLogins())
        for content in contents:
            for worker in self.workers:
                worker.channel.send(ChangeAccounts(content))
        for message in self.speed.update(plan):
            self._tell(message)

    def _listen_on(self, plan: Plan) -> None:
        """Use a plan's listeners. This must not fail: the new workers serve already."""
        self._listeners = {listener.sock: listener for listener in plan.listeners}
        # kept, since a closed socket has no address
        self._where = tuple(listener.where for listener in plan.listeners)
        for sock in self._listeners:  # here, so that a reload that fails has changed none
            try:
                set_keepalive(sock, plan.keepalive)
            except OSError as error:
                log.warning("timeouts.keepalive cannot be set: %s", error.strerror)

    def drain(self, index: int, why: str) -> bool:
        """Replace one worker: another one starts, then this one drains; its sessions have
        ``drain_grace`` seconds.

        ``index`` counts from 0. False where there is none, or it is being replaced already.
        """
        return self._lives.replace(index, why)

    def stop(self) -> None:
        """End the server: at once for idle sessions, after the grace for transfers.

        Called again, it ends everything now.
        """
        if self._lives.is_dismissed:
            self.stop_now()
            return
        log.info("stopping")
        self._lives.dismiss(self._plan.shutdown_grace)
        self._loop.call_later(_GOODBYES, self._tell_who_is_waited_for)

    def _tell_who_is_waited_for(self) -> None:
        count = self.ledger.connections
        if count and not self._is_hurried:
            log.info(
                "waiting for %d session%s, for %g s at most; a second Ctrl-C or SIGTERM, or "
                "`ftpcluster stop --now`, ends all at once",
                count, "s" * (count > 1), self._plan.shutdown_grace,
            )  # fmt: skip

    def stop_now(self) -> None:
        """End the server without waiting for sessions; workers still log transfers that are cut."""
        self._is_hurried = True
        self._lives.dismiss(0.0, kill_after=_CLEARING_UP)

    def kill(self) -> None:
        """Kill every worker."""
        self._lives.kill()

    def on_dismissed(self) -> None:
        if not self.stopping.done():
            self.stopping.set_result(None)
        self._acceptor.close()
        while self._pending:
            self._turn_away(self._pending.pop())

    def on_all_ended(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # ------------------------------------------------------------------ orders

    def set_limits(self, login: str | None, rates: Rates) -> None:
        """Set the speed limits of a user, or of the server where ``login`` is None.

        They hold for running transfers, too, and until the next reload.
        """
        self._tell(self.speed.set_limits(login, rates))

    def _tell(self, message: SetLimits | SetGroupLimits | TellLogins) -> None:
        """Send to all workers that serve, or did; the next generation has its own plan."""
        for worker in self.workers:
            if not self._lives.is_coming(worker):
                worker.channel.send(message)

    def hand_out_log(self, fd: int, *, is_transfers: bool) -> None:
        """Have all workers write the log, or that of transfers, to ``fd``, which has to stay open.

        The next generation gets it, too: it may have inherited the old file.
        """
        for worker in self.workers:
            worker.channel.send(WriteLog(is_transfers), fd)

    def end_session(self, session: int, reason: str) -> bool:
        """End a session wherever it runs; False where there is none of that number."""
        epoch = self.ledger.epoch_of(session)
        if epoch is None:
            return False
        self._end(epoch, EndSession(session, reason))
        return True

    def _end(self, epoch: int, order: EndSession) -> None:
        worker = self._lives.workers.get(epoch)
        if worker is not None:
            worker.end_session(order)
        for connection in tuple(self._pending):
            if connection.session == order.session:
                self._pending.remove(connection)
                self._turn_away(connection, order.reason)

    def ban(self, network: str, seconds: float | None, reason: str) -> Ban:
        """Ban a network or an address, for ever where ``seconds`` is None, and end its sessions.

        A ban lasts over reloads, but not over a new start. Raises ValueError where ``network`` is
        no network, or too many are banned.
        """
        ban = self.guard.ban(network, seconds, reason, self._loop.time())
        for _, session in self.guard.sessions_of(ban):
            self.end_session(session, Refusal.BANNED.explanation)
        return ban

    def unban(self, network: str) -> list[Ban]:
        """Lift the bans of a network or an address; returns those that held. Raises ValueError."""
        return self.guard.unban(network, self._loop.time())

    def find_ban(self, address: str) -> Ban | None:
        """The ban that holds for an address. Raises ValueError where ``address`` is no address."""
        return self.guard.covering(address, self._loop.time())

    def denied(self, address: str) -> str | None:
        """The network of ``[ban] deny`` that keeps an address out."""
        return self.guard.denied(address)

    def bans(self) -> list[Ban]:
        """All bans that hold; their ends are times of the loop's clock."""
        return self.guard.bans(self._loop.time())

    def _end_unauthenticated(self, epoch: int, session: int) -> None:
        self._end(epoch, EndSession(session, Refusal.BANNED.explanation, only_unauthenticated=True))

    # ------------------------------------------------------------------ workers

    def account_of(self, name: str) -> str:
        """The account that a name logs in to: "ftp" is another name for the anonymous user."""
        accounts = self._plan.speeds.users
        is_alias = name == "ftp" and name not in accounts and "anonymous" in accounts
        return "anonymous" if is_alias else sendable(name)

    @property
    def listening(self) -> tuple[str, ...]:
        """The addresses that the server listens on."""
        return self._where

    @property
    def ends(self) -> Mapping[str, int]:
        """How often workers were replaced, by the reason."""
        return self._lives.ends

    @property
    def is_complete(self) -> bool:
        """Whether there is a serving worker in each place."""
        generation = self._lives.current
        return generation is not None and all(
            place.worker is not None and place.worker.takes_connections
            for place in generation.places
        )

    @property
    def workers(self) -> list[WorkerHandle]:
        """The workers that live now."""
        return list(self._lives.workers.values())

    def on_start(self, worker: WorkerHandle) -> None:
        if worker.place.generation is self._lives.current:
            for order in self.speed.orders:
                worker.channel.send(order)
            if self._lives.is_renewed:  # the others got this message when the reload began
                worker.channel.send(TellLogins())

        if self._lives.has_old_workers:
            worker.channel.send(OldWorkers(live=True))

    def on_old_workers(self) -> None:
        for worker in self.workers:
            worker.channel.send(OldWorkers(self._lives.has_old_workers))

    def on_gone(self, worker: WorkerHandle) -> int:
        lost = worker.lose()
        for connection in lost:
            self.ledger.move(worker.epoch, connection.session, _NOBODY)
        released = self.ledger.release_worker(worker.epoch)
        self.guard.end_tries(worker.epoch, self._loop.time())
        self.speed.release_worker(worker.epoch)
        self.session_reports.on_gone(worker.epoch)
        self.totals.on_gone(worker.epoch)
        for connection in lost:
            if connection.ended is not None:
                self._turn_away(connection, connection.ended)
            elif self._lives.is_dismissed:
                self._turn_away(connection)
            else:
                self._pending.append(connection)
        return released

    # ------------------------------------------------------------------ connections

    def _choose(self) -> WorkerHandle | None:
        """The worker with the fewest sessions; of equals, the one that was used longest ago. A
        worker without free descriptors is chosen only if there is no other.
        """
        chosen, least = None, (True, 0, 0)
        now = self._loop.time()
        for worker in self._lives.workers.values():
            if worker.takes_connections:
                held = self.ledger.held_by(worker.epoch)
                load = (worker.crowded_until > now, held, worker.last_used)
                if chosen is None or load < least:
                    chosen, least = worker, load
        return chosen

    def _on_connection(
        self, worker: WorkerHandle, sock: socket.socket, fd: int, address: str, port: int
    ) -> None:
        peer, listener = plain(address), self._listeners[sock]
        is_proxied = listener.proxies is not None
        if listener.proxies is not None and peer not in listener.proxies:
            close_quietly(fd)
            self._no_proxies.add(peer)
            return
        # the proxy's own address takes no slot, and is not banned: the worker reads the client's
        # address
        client = None if is_proxied else peer
        session = next(self._sessions)
        refused = self.guard.admit(worker.epoch, session, client, self._loop.time())
        if refused is not None:
            refuse(fd, refused.explanation)
            return
        adopt = Adopt(session, peer, port, listener.tls, is_proxied, listener.any_address)
        self._give(worker, HandOver(fd, adopt))

    def _give(self, worker: WorkerHandle, connection: HandOver) -> None:
        worker.last_used = next(self._turns)
        worker.hand_over(connection)

    def _place_pending(self) -> None:
        """Give pending connections to other workers."""
        while self._pending:
            worker = self._choose()
            if worker is None:
                return
            self._give_again(self._pending.pop(0), worker)

    def _give_again(self, connection: HandOver, worker: WorkerHandle) -> None:
        forget_linger(connection.fd)
        self.ledger.move(_NOBODY, connection.session, worker.epoch)
        self._give(worker, connection)

    def _turn_away(self, connection: HandOver, reason: str = OVERLOADED) -> None:
        self.ledger.release(_NOBODY, connection.session)
        refuse(connection.fd, reason, close_aside)  # a worker may still have the socket

    # ------------------------------------------------------------------ messages

    def _catch_up(self) -> None:
        """Read what workers have sent. A worker reports a session's end before the client can see
        it. So a client that connects again must not be refused because that report was not read
        yet."""
        for worker in self.workers:
            worker.channel.catch_up()

    def on_message(self, worker: WorkerHandle, message: ToSupervisor) -> None:
        if isinstance(message, Adopted):
            for session in message.sessions:
                worker.confirm(session)
            self.on_capacity()
        elif isinstance(message, Released):
            self._on_released(worker, message)
        elif isinstance(message, LoginMessage):
            self._logins.on_message(worker, message)
        elif isinstance(message, Reports):
            self.speed.on_reports(worker.epoch, message, self.ledger.held_by(worker.epoch))
        elif isinstance(message, UserLimits):
            self.speed.on_user_limits(
                message,
                worker.epoch,
                self.ledger.held_by(worker.epoch),
                is_old=worker.place.generation.is_over,
            )
        elif isinstance(message, Described):
            self.session_reports.on_described(worker.epoch, message, self.ledger)
        elif isinstance(message, Counted):
            self.totals.on_counted(worker.epoch, message)
        elif isinstance(message, Declined):
            self._on_declined(worker, message)
        elif isinstance(message, LookUp):
            self._names.on_message(worker, message)
        else:
            self._lives.on_message(worker, message)

    def on_capacity(self) -> None:
        """A worker takes connections (again)."""
        if self._pending:
            self._place_pending()
        if not self._lives.is_dismissed:
            self._acceptor.resume()

    def _grant(self, epoch: int, grants: Grants) -> None:
        worker = self._lives.workers.get(epoch)
        if worker is not None:
            worker.channel.send(grants)

    def _on_declined(self, worker: WorkerHandle, message: Declined) -> None:
        """The worker has no descriptor left: give its connections to other workers."""
        now = self._loop.time()
        if worker.crowded_until <= now:
            log.warning("%s has no file descriptors left; raise its limit (ulimit -n)", worker)
        worker.crowded_until = now + _CROWDED
        for session in message.sessions:
            connection = worker.take_back(session)
            if connection is None:
                continue
            self._logins.forget(worker, session)
            self.ledger.move(worker.epoch, session, _NOBODY)
            other = self._choose()
            if connection.ended is not None:
                self._turn_away(connection, connection.ended)
            elif other is None or other.crowded_until > now:
                self._turn_away(connection)
            else:
                self._give_again(connection, other)
        self.on_capacity()

    def _on_released(self, worker: WorkerHandle, message: Released) -> None:
        for session in message.sessions:
            worker.confirm(session)
            self.ledger.release(worker.epoch, session)
            self._logins.forget(worker, session)
        self.on_capacity()
