"""What an administrator may ask of a running server, and what it answers: JSON, one a line."""

from __future__ import annotations

import msgspec

MOST_SPEED = 10**15
"""Bytes per second, as in the configuration. (What workers are told has to fit 64 bits.)"""
MOST_SECONDS = 10**9


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all requests."""


class WhoRequest(Request, frozen=True, tag="who"):
    """Answered by Overview."""


class Kick(Request, frozen=True, tag="kick"):
    """End sessions: that of a number, or those of a user, or of an address. Answered by Done."""

    session: int | None = None
    login: str | None = None
    address: str | None = None


class Limit(Request, frozen=True, tag="limit"):
    """Speeds of a user's sessions together, or of the server (``login`` None); None is no limit.

    Bytes per second, from 1 to MOST_SPEED, until the next reload. Answered by Done, or Refused.
    """

    login: str | None
    download: int | None
    upload: int | None


class BanNetwork(Request, frozen=True, tag="ban"):
    """Turn a network or an address away, and end its sessions. Answered by Done, or Refused.

    For so many seconds, from 1 to MOST_SECONDS, or until that is lifted; a reload changes nothing.
    Without a file that keeps bans it ends with the server.
    """

    network: str
    seconds: int | None
    reason: str


class Unban(Request, frozen=True, tag="unban"):
    """Lift the bans of a network or an address. Answered by Done, or Refused if there is none."""

    network: str


class ListBans(Request, frozen=True, tag="bans"):
    """Answered by BanList."""


class DrainWorker(Request, frozen=True, tag="drain"):
    """Replace a worker, counted from 1. Answered by Done, or Refused."""

    worker: int


class Reload(Request, frozen=True, tag="reload"):
    """As SIGHUP. Answered when it is done, by Done, or Refused with what is wrong."""


class ChangedUser(Request, frozen=True, tag="changed_user"):
    """The file of a user was written or removed: use it. Answered when that is done, by Done, or
    Refused with what is wrong."""

    login: str


class Stop(Request, frozen=True, tag="stop"):
    """As SIGTERM, or, ``now``, as two of them. Answered by Done at once."""

    now: bool = False


AnyRequest = (
    WhoRequest
    | Kick
    | Limit
    | BanNetwork
    | Unban
    | ListBans
    | DrainWorker
    | Reload
    | ChangedUser
    | Stop
)


class WorkerView(msgspec.Struct, frozen=True):
    """A worker: ``load`` is a part of a core, ``lag`` and ``age`` are seconds, memory bytes."""

    worker: int
    pid: int | None
    state: str
    sessions: int
    load: float
    lag: float
    memory: int
    age: float


class SessionView(msgspec.Struct, frozen=True):
    """A session. Times in seconds, sizes in bytes, speeds a second.

    ``held_by``: what holds its transfer back, "client", "disk", "connection limit", "user limit",
    "group limit", "server limit", or "": nothing holds it back.
    """

    session: int
    worker: int
    user: str
    address: str
    tls: bool
    age: float
    idle: float
    command: str
    direction: str
    size: int | None
    moved: int
    speed: float
    held_by: str


class Overview(msgspec.Struct, frozen=True, tag="overview"):
    """The server at one moment. Speeds in bytes per second; None is no limit.

    ``connections`` counts all, ``sessions`` has those of the workers that answered in time.
    """

    version: str
    age: float
    listening: tuple[str, ...]
    connections: int
    most_connections: int | None
    download: float
    upload: float
    download_limit: int | None
    upload_limit: int | None
    workers: tuple[WorkerView, ...]
    sessions: tuple[SessionView, ...]


class BanView(msgspec.Struct, frozen=True):
    """A network, or address, that is turned away; ``left`` in seconds, None for no end."""

    network: str
    left: float | None
    by_hand: bool
    reason: str


class BanList(msgspec.Struct, frozen=True, tag="banned"):
    """All bans that hold."""

    bans: tuple[BanView, ...]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It is done; ``text`` says what."""

    text: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """It cannot be done; ``text`` says why."""

    text: str


AnyReply = Overview | BanList | Done | Refused
