"""One life of one worker, as the supervisor sees it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from ftpcluster.ipc.channel import Channel
from ftpcluster.ipc.messages import Adopt, Drain, ReloadCertificates, ToSupervisor
from ftpcluster.supervisor.process import ProcessLike

MAX_UNCONFIRMED = 64
"""Hand-overs that a worker may leave unconfirmed; one that is stopped gets no more."""


class Phase(Enum):
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    GONE = "gone"


class HandOver(msgspec.Struct, frozen=True):
    """An accepted connection on its way to a worker; ``fd`` is the supervisor's duplicate."""

    fd: int
    adopt: Adopt

    @property
    def session(self) -> int:
        return self.adopt.session


@dataclass(slots=True, eq=False)
class WorkerHandle:
    """``epoch`` names this life and is never used again; ``index`` is the worker's place."""

    index: int
    epoch: int
    process: ProcessLike
    channel: Channel[ToSupervisor]
    phase: Phase = Phase.STARTING
    last_used: int = 0
    failure: str | None = None
    unconfirmed: dict[int, HandOver] = field(default_factory=dict)

    @property
    def takes_connections(self) -> bool:
        return self.phase is Phase.SERVING and len(self.unconfirmed) < MAX_UNCONFIRMED

    def hand_over(self, connection: HandOver) -> None:
        self.unconfirmed[connection.session] = connection
        self.channel.send(connection.adopt, connection.fd)

    def confirm(self, session: int) -> None:
        """The socket has arrived there: close ours, else the client would never see an end."""
        connection = self.unconfirmed.pop(session, None)
        if connection is not None:
            os.close(connection.fd)

    def reload_certificates(self) -> None:
        self.channel.send(ReloadCertificates())

    def drain(self, grace: float) -> None:
        if self.phase in (Phase.STARTING, Phase.SERVING):
            self.phase = Phase.DRAINING
            self.channel.send(Drain(grace))
