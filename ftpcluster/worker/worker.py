"""A worker: adopts the sockets that the supervisor accepted, and runs their sessions.

It is crash-only: it holds nothing that has to be put in order when it dies. When the supervisor
is gone (end of the channel) it drains and ends.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

from ftpcluster.config import WorkerConfig
from ftpcluster.daemon_calls import call_in_daemon
from ftpcluster.descriptors import close_quietly
from ftpcluster.expiry import Expiry
from ftpcluster.ipc.channel import worker_end
from ftpcluster.ipc.messages import (
    MOST_COMMAND,
    Adopt,
    Adopted,
    ChangeAccounts,
    Counted,
    Declined,
    Describe,
    Described,
    Doing,
    EndSession,
    Grants,
    Heartbeat,
    HeldBy,
    LoginDelay,
    LookedUp,
    OldWorkers,
    Outdated,
    Ready,
    SessionReport,
    SetGroupLimits,
    SetLimits,
    SlotAnswer,
    TellLogins,
    ToWorker,
    WriteLog,
    heartbeat_interval,
    quantity,
    sendable,
)
from ftpcluster.logfile import LogFile
from ftpcluster.protocol.address import Networks
from ftpcluster.quota.admission import counting
from ftpcluster.quota.bans import BanRules
from ftpcluster.session.activity import Activity
from ftpcluster.session.process_sessions import AcceptedConnection, ProcessSessions
from ftpcluster.session.server_pi import shutting_down
from ftpcluster.session.transfer_waits import Cause
from ftpcluster.storage.mounts import MountTable
from ftpcluster.users import MemoryUserManager
from ftpcluster.worker.configured_users import apply_change, unpacked
from ftpcluster.worker.confined_files import AllowedRoots, Identity
from ftpcluster.worker.orphan import ORPHAN_GRACE
from ftpcluster.worker.remote_names import RemoteNames
from ftpcluster.worker.remote_quotas import RemoteQuotas
from ftpcluster.worker.speed_limits import speed_limits
from ftpcluster.worker.worker_services import make_services

log = logging.getLogger(__name__)

_END_OF_TASKS = 5.0
_REPORTED = 20
"""Sessions in one message: their commands may be long."""
_HELD_BY: dict[Cause, HeldBy] = {
    Cause.CLIENT: "client",
    Cause.DISK: "disk",
    Cause.CONNECTION_LIMIT: "connection limit",
    Cause.SHARED_LIMIT: "shared limit",
}
_LOG = LogFile("stderr", 2)
"""Where this process logs, be it a file or not."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class OpenedBeforehand:
    """What a worker opens before it is confined, and could not open any more."""

    def __init__(self) -> None:
        self.memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self.mounts = MountTable()


class Worker:
    """The sessions of one process."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        settings: WorkerConfig,
        transfers: LogFile | None = None,
        opened: OpenedBeforehand | None = None,
    ) -> None:
        """Takes over ``sock`` and ``opened``. Raises ConfigError where custom code is wrong."""
        self._loop = loop
        config = settings.config
        self._quotas = RemoteQuotas(
            loop,
            config.workers,
            speed_limits(config),
            tells_logins=config.limits.connections_not_logged_in is not None
            or any(group.connections is not None for group in config.groups),
            counts=counting(BanRules(allow=Networks(config.ban.allow))),
        )
        opened = opened or OpenedBeforehand()
        self._services = make_services(loop, settings, self._quotas, transfers, opened.mounts)
        self._reception = ProcessSessions(self._services, self._look_whether_drained)
        self._switches: deque[Callable[[], None]] = deque()  # of log files, in their order
        self._arrived: list[AcceptedConnection] = []
        self._draining = False
        self._deadlines: list[Expiry] = []
        self._beaten = loop.time()
        self._spent = time.process_time()
        self._counted: Counted | None = None
        self._resident = 0
        self._memory = opened.memory
        self._heartbeat_interval = heartbeat_interval(config.timeouts.worker)
        self._drained: asyncio.Future[None] = loop.create_future()
        self._channel = worker_end(
            loop, sock, self._on_message, self._on_supervisor_gone, self._adopt
        )
        self._quotas.channel = self._channel
        self._names = RemoteNames(config.data.host_names, self._channel.send)
        self._services.masquerade.look_up = self._names.addresses_of

    def watch_roots(self, allowed: Mapping[str, Identity]) -> None:
        """Have this confined process replaced if it may not open a directory that is served."""
        self._services.files.check = AllowedRoots(allowed, self._tell_outdated).check

    def _tell_outdated(self) -> None:
        """Tell the supervisor; may be called by any thread."""
        self._loop.call_soon_threadsafe(self._channel.send, Outdated())

    async def serve(self) -> None:
        """Serve until the supervisor sends the order to stop, or is gone."""
        self._channel.send(Ready())
        self._beat()
        await self._drained
        if self._services.tasks:  # calls of notify_logout
            await asyncio.wait(self._services.tasks, timeout=_END_OF_TASKS)
        self._quotas.report()
        self._heartbeat.cancel()
        self._count()
        close_quietly(self._memory)
        self._channel.close()
        await self._services.masquerade.close()
        self._services.close()

    def _describe(self, number: int) -> None:
        """Report what the sessions do, in as many messages as that takes."""
        reports = [_report(session, now) for session, now in self._reception.activities()]
        for start in range(0, max(len(reports), 1), _REPORTED):
            some = tuple(reports[start : start + _REPORTED])
            self._channel.send(Described(number, some, start + _REPORTED >= len(reports)))

    def _count(self) -> None:
        """Report the counters, if they have changed."""
        counts, leases = self._services.counts, self._quotas.leases
        told = Counted(
            counts.logins,
            counts.failed_logins,
            dict(counts.replies),
            cast(Any, tuple((*labels, count) for labels, count in counts.transfers.items())),
            cast(Any, tuple((*labels, count) for labels, count in counts.moved.items())),
            leases.grants,
            leases.waited,
        )
        if told != self._counted:
            self._counted = told
            self._channel.send(told)

    def _beat(self) -> None:
        """Send heartbeats until the worker ends: the supervisor takes silence for death."""
        now, spent = self._loop.time(), time.process_time()
        try:
            self._resident = int(os.pread(self._memory, 100, 0).split()[1]) * _PAGE
        except (OSError, IndexError):
            pass  # keep the last value: without a heartbeat this process would count as hung
        since = now - self._beaten + self._heartbeat_interval
        lag = max(0.0, now - self._beaten)
        self._channel.send(Heartbeat(self._resident, lag, quantity((spent - self._spent) / since)))
        self._count()
        self._spent = spent
        self._beaten = now + self._heartbeat_interval
        self._heartbeat = self._loop.call_at(self._beaten, self._beat)

    def drain(self, grace: float, patience: float = 0.0) -> None:
        """End idle sessions after ``patience`` seconds, and all sessions after ``grace`` seconds.

        A session with a running transfer ends after that. A second call replaces the times of the
        first.
        """
        self._draining = True
        self._services.ports.close()  # for the next worker
        for timer in self._deadlines:
            timer.cancel()
        self._deadlines = [Expiry.after(self._loop, grace, self._end_all)]
        if patience:
            self._deadlines.append(Expiry.after(self._loop, patience, self._end_idle))
            self._look_whether_drained()
        else:
            self._end_idle()

    def _end_idle(self) -> None:
        self._reception.drain()
        self._look_whether_drained()

    def _end_all(self) -> None:
        self._end_idle()
        self._reception.end_all(shutting_down())
        self._look_whether_drained()

    def _look_whether_drained(self) -> None:
        is_empty = self._reception.is_empty and not self._arrived
        if self._draining and is_empty and not self._drained.done():
            self._drained.set_result(None)

    def _on_message(self, message: ToWorker, fd: int | None) -> None:
        if isinstance(message, Adopt):
            self._on_adopt(message, fd)
        elif isinstance(message, SlotAnswer | LoginDelay):
            self._quotas.on_answer(message)
        elif isinstance(message, Grants):
            self._quotas.leases.on_grants(message)
        elif isinstance(message, SetLimits):
            self._quotas.leases.order(message.login, message.rates, message.group)
            self._reception.limits_changed(message.login)
        elif isinstance(message, SetGroupLimits):
            self._quotas.leases.order_group(message.group, message.rates)
            self._reception.limits_changed(None)
        elif isinstance(message, Describe):
            self._describe(message.number)
        elif isinstance(message, TellLogins):
            self._quotas.tell_logins()
        elif isinstance(message, LookedUp):
            self._names.on_answer(message)
        elif isinstance(message, OldWorkers):
            self._services.ports.set_contended(message.live)
        elif isinstance(message, WriteLog):
            self._write_log(message, fd)
        elif isinstance(message, ChangeAccounts):
            self._change_accounts(message.content)
        elif isinstance(message, EndSession):
            self._adopt()  # the session may have arrived together with this message
            self._reception.end(
                message.session, message.reason, only_unauthenticated=message.only_unauthenticated
            )
        else:
            self.drain(message.grace, message.patience)

    def _change_accounts(self, content: bytes) -> None:
        manager, change = self._services.users, unpacked(content)
        assert isinstance(manager, MemoryUserManager)
        self._adopt()  # sessions may have arrived together with this message
        for user, reason in apply_change(manager, change):
            self._reception.end_user(user, reason)
        for login in change.logins:
            self._reception.limits_changed(login)

    def _on_adopt(self, message: Adopt, fd: int | None) -> None:
        if fd is None:
            self._channel.send(Declined((message.session,)))
            return
        self._arrived.append(
            AcceptedConnection(
                message.session,
                fd,
                message.peer,
                message.peer_port,
                message.tls,
                message.is_proxied,
                message.any_address,
            )
        )

    def _write_log(self, message: WriteLog, fd: int | None) -> None:
        """A log was rotated. Without a free descriptor for the new file, the old one is used on."""
        file = self._services.transfers if message.is_transfers else _LOG
        if fd is None:
            log.error("no file descriptor is left: a log goes on in its old file")
        elif file is None:
            close_quietly(fd)
        else:
            self._switches.append(functools.partial(file.replace, fd))
            if len(self._switches) == 1:
                self._switch_log()

    def _switch_log(self) -> None:
        """Switch in a thread: to close the old file may hang with its file system."""
        switched = call_in_daemon(self._loop, "log", self._switches[0])
        switched.add_done_callback(self._on_switched_log)

    def _on_switched_log(self, done: asyncio.Future[None]) -> None:
        self._switches.popleft()
        if (error := done.exception()) is not None:
            log.error("a log goes on in its old file: %s", error)
        if self._switches:
            self._switch_log()

    def _adopt(self) -> None:
        """Begin the sessions of the connections that have arrived, and confirm all at once.

        If a worker dies in between, the supervisor sees from each connection whether its client was
        greeted. So every client is greeted exactly once.
        """
        if not self._arrived:
            return
        arrived, self._arrived = self._arrived, []
        for each in arrived:
            self._reception.receive(each)
        self._channel.send(Adopted(tuple(each.session for each in arrived)))
        if self._draining:  # no session's end will check this for those that began none
            self._look_whether_drained()

    def _on_supervisor_gone(self, error: Exception | None) -> None:
        if not self._draining:
            log.error("the supervisor is gone%s; ending", f" ({error})" if error else "")
        self.drain(ORPHAN_GRACE)


def _report(session: int, now: Activity) -> SessionReport:
    command = now.command[:MOST_COMMAND].encode("utf-8", "backslashreplace").decode()
    return SessionReport(
        session,
        sendable(now.user),
        now.is_protected,
        quantity(now.age),
        quantity(now.idle),
        command[:MOST_COMMAND],
        cast(Doing, now.direction),
        None if now.size is None else int(quantity(now.size)),
        int(quantity(now.moved)),
        quantity(now.speed),
        "" if now.held_by is None else _HELD_BY[now.held_by],
    )
