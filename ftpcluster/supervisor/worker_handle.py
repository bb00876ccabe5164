"""The workers as the supervisor sees them: a life, the place that it fills, its generation."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from ftpcluster.descriptors import close_quietly
from ftpcluster.ipc.channel import BadMessage, Channel
from ftpcluster.ipc.closing import Closer, forget_linger
from ftpcluster.ipc.messages import Adopt, Drain, EndSession, ToSupervisor
from ftpcluster.net.acceptor import is_untouched
from ftpcluster.net.listeners import Listener
from ftpcluster.quota.arrivals import ArrivalRules
from ftpcluster.quota.bans import BanRules
from ftpcluster.quota.ledger import ConnectionLimits
from ftpcluster.quota.rates import SpeedLimits
from ftpcluster.supervisor.process import ProcessLike
from ftpcluster.supervisor.procstatus import number_in_status
from ftpcluster.supervisor.restart import Pulse, Recycling, RestartPolicy

MAX_UNCONFIRMED = 64
"""Hand-overs that a worker may leave unconfirmed, so that a stopped worker gets no more."""

StartProcess = Callable[[int, int, socket.socket], ProcessLike]
"""``(index, epoch, worker's end of the channel) -> process``: starts a worker."""


class Phase(Enum):
    STARTING = "starting"
    WAITING = "waiting"  # for the rest of its generation
    SERVING = "serving"
    DRAINING = "draining"
    ABORTED = "aborted"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a generation of workers serves, and how. Graces and timeouts in seconds."""

    listeners: Sequence[Listener]
    workers: int
    start_process: StartProcess
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    speeds: SpeedLimits = field(default_factory=SpeedLimits)
    knows_all_users: bool = False
    """Whether ``speeds`` has all users and limits: no ``server`` or ``user_manager`` is set."""
    bans: BanRules | None = field(default_factory=BanRules)
    arrivals: ArrivalRules = field(default_factory=ArrivalRules)
    shutdown_grace: float = 30.0
    drain_grace: float = 30.0
    names: frozenset[str] = frozenset()
    """Host names whose addresses workers may need."""
    keepalive: float | None = None
    """Seconds after which TCP probes a silent client; None, 0: never."""
    worker_timeout: float = 30.0
    start_timeout: float = 15.0
    """Seconds that a starting worker has at least, to import its code and send a heartbeat."""
    recycling: Recycling = field(default_factory=Recycling)


@dataclass(slots=True, eq=False)
class Place:
    """The place of one of a generation's N workers: ``worker`` fills it, ``starting`` is to."""

    generation: Generation
    index: int
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    worker: WorkerHandle | None = None
    starting: WorkerHandle | None = None
    timer: asyncio.TimerHandle | None = None
    has_served: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether a worker fills it, and no other worker is on the way."""
        return self.worker is not None and self.starting is None and self.timer is None


class Generation:
    """All workers that were started for one plan. ``ready``: all of them have served."""

    def __init__(self, plan: Plan, ready: asyncio.Future[None]) -> None:
        self.plan = plan
        self.ready = ready
        self.places = [Place(self, index) for index in range(plan.workers)]
        self.is_first = False
        self.is_over = False


class HandOver(msgspec.Struct, frozen=True):
    """An accepted connection on its way to a worker; ``fd`` is the supervisor's duplicate.

    ``ended``: why its session was ended meanwhile; then no other worker gets it.
    """

    fd: int
    adopt: Adopt
    ended: str | None = None

    @property
    def session(self) -> int:
        return self.adopt.session


def is_filtered(pid: int | None) -> bool:
    """Whether a process has more seccomp filters than this one."""
    # Linux shows the number of filters since 5.9
    ours = number_in_status("self", "Seccomp_filters")
    its = number_in_status(pid, "Seccomp_filters")
    return ours is not None and its is not None and its > ours


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """``epoch`` names this life and is never used again."""

    place: Place
    epoch: int
    process: ProcessLike
    channel: Channel[ToSupervisor]
    closer: Closer
    pulse: Pulse
    started: float
    phase: Phase = Phase.STARTING
    is_suspect: bool = False
    is_filtered: bool = False
    """Whether its filter forbids SO_LINGER, so that no close of ours can block."""
    memory: int = 0  # bytes, by its last heartbeat
    lag: float = 0.0  # seconds
    load: float = 0.0  # of a core
    crowded_until: float = 0.0
    last_used: int = 0
    failure: str | None = None
    unconfirmed: dict[int, HandOver] = field(default_factory=dict)
    failures: Counter[int] = field(default_factory=Counter)
    """Failed logins, by session."""

    def __str__(self) -> str:
        return f"worker {self.place.index + 1} (pid {self.process.pid})"

    @property
    def takes_connections(self) -> bool:
        return (
            self.phase is Phase.SERVING
            and not self.is_suspect
            and len(self.unconfirmed) < MAX_UNCONFIRMED
        )

    def hand_over(self, connection: HandOver) -> None:
        self.unconfirmed[connection.session] = connection
        self.channel.send(connection.adopt, connection.fd)

    def confirm(self, session: int) -> None:
        """The worker has the socket: close our duplicate, else the client would never see an end.
        Raises BadMessage where the socket was not sent yet.
        """
        connection = self.take_back(session)
        if connection is None:
            return
        if self.is_filtered:
            close_quietly(connection.fd)
        else:
            self.closer.close((connection.fd,))

    def take_back(self, session: int) -> HandOver | None:
        """The connection that the worker answers for; None: unknown. Raises BadMessage where it was
        not sent yet."""
        connection = self.unconfirmed.get(session)
        if connection is None:
            return None
        if self.channel.keeps(connection.fd):
            # if it were closed, the message in the queue could send another connection with its
            # number
            raise BadMessage(f"it answered for connection {session}, which it has not got")
        del self.unconfirmed[session]
        return connection

    def end_session(self, order: EndSession) -> None:
        """Order the worker to end a session, even one that it has not confirmed."""
        connection = self.unconfirmed.get(order.session)
        if connection is not None:
            ended = msgspec.structs.replace(connection, ended=order.reason)
            self.unconfirmed[order.session] = ended
        self.channel.send(order)

    def lose(self) -> list[HandOver]:
        """The worker is gone. Returns the connections that another worker can serve from the
        beginning.

        The kernel knows which these are: the worker may have died before it could report its work.
        """
        lost = []
        for connection in self.unconfirmed.values():
            if is_untouched(connection.fd):
                forget_linger(connection.fd)
                lost.append(connection)
            else:
                self.closer.close((connection.fd,))
        self.closer.end()
        self.unconfirmed.clear()
        return lost

    def drain(self, grace: float, patience: float) -> None:
        """Order the worker to end: idle sessions after ``patience`` s, all after ``grace`` s."""
        if self.phase not in (Phase.ABORTED, Phase.GONE):
            self.phase = Phase.DRAINING
            self.channel.send(Drain(grace, patience))
