"""What supervisor and worker tell each other: one tagged union for each direction."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from ftpcluster.protocol.protection import Protection
from ftpcluster.quota.limit_tree import MOST_NAME, Grant, Report
from ftpcluster.quota.rates import Rates


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all messages."""


# ---------------------------------------------------------------------- supervisor → worker


class Adopt(Message, frozen=True, tag=1):
    """Take over the accepted socket that comes with this message. Answered by Adopted or Declined.

    The peer's address is the one that accept() gave: after a reset getpeername() fails. For a
    proxied connection it is the proxy's, and the worker reads the client's from the header.
    ``any_address``: see ``net.listeners.Listener``.
    """

    session: int
    peer: str
    peer_port: int
    tls: Protection = Protection.EXPLICIT
    is_proxied: bool = False
    any_address: bool | None = None


class SlotAnswer(Message, frozen=True, tag=2):
    """Answer to TakeSlot, Identified, BeginTry. ``refused``: None, or a value of
    ``quota.Refusal``."""

    session: int
    refused: str | None


class Drain(Message, frozen=True, tag=3):
    """End: idle sessions after ``patience`` seconds, all sessions after ``grace`` seconds."""

    grace: float
    patience: float = 0.0


class TellLogins(Message, frozen=True, tag=4):
    """Report all logins: those that exist by LoggedIn, new ones by TakeSlot. Users without a limit
    are not reported otherwise; a new configuration may limit them. And ask for each login try, by
    BeginTry: a reload may change the rules for bans."""


class Grants(Message, frozen=True, tag=5):
    """Leases: bytes that the worker's transfers may move. ``contended``: for each direction,
    whether transfers want more than there is."""

    grants: tuple[Grant, ...]
    contended: tuple[bool, bool]


class SetLimits(Message, frozen=True, tag=6):
    """Speed limits of a user, or of the server (login None), from now on, also for running
    transfers. ``rates`` None: the limits of the user manager hold again. ``group``: the user's
    group in the configuration.
    """

    login: str | None
    rates: Rates | None
    group: str | None = None


class SetGroupLimits(Message, frozen=True, tag=11):
    """Speed limits of a group from now on, also for running transfers."""

    group: str
    rates: Rates


class Describe(Message, frozen=True, tag=8):
    """Report what the sessions do now, by Described with the same number."""

    number: int


class OldWorkers(Message, frozen=True, tag=12):
    """Whether replaced workers still live: their sessions may hold this worker's data ports."""

    live: bool


class LookedUp(Message, frozen=True, tag=13):
    """Answer to LookUp: the addresses of a host name. ``failure``: why there are none."""

    name: str
    addresses: tuple[str, ...]
    failure: str = ""


class WriteLog(Message, frozen=True, tag=10):
    """Write the log, or that of transfers, to the file that comes with this message."""

    is_transfers: bool


class ChangeAccounts(Message, frozen=True, tag=14):
    """Accounts have changed. ``content`` is for the worker's code alone, which knows accounts."""

    content: bytes


class EndSession(Message, frozen=True, tag=7):
    """End a session now; ``reason`` is the last reply to its client.

    ``only_unauthenticated``: unless it has logged in; the supervisor may not know of that login.
    """

    session: int
    reason: str
    only_unauthenticated: bool = False


class LoginDelay(Message, frozen=True, tag=9):
    """Answer to LoginFailed: the least number of seconds that the client waits for its reply."""

    session: int
    seconds: float


# ---------------------------------------------------------------------- worker → supervisor

# A worker may have been taken over. The types bound each field in size and in value, so that no
# message can fill the supervisor's memory, or break its numbers. The ledger checks that a session
# belongs to the worker that names it.

Session = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Sessions = Annotated[tuple[Session, ...], Meta(max_length=1000)]
Name = Annotated[str, Meta(max_length=MOST_NAME)]
Count = Annotated[int, Meta(ge=0, le=2**62)]
Amount = Annotated[float, Meta(ge=0, le=1e18)]
"""Seconds, or bytes a second; neither infinite nor NaN."""
Speed = Annotated[int, Meta(ge=0, le=10**15)]
Direction = Literal["download", "upload", "listing"]
Result = Literal["complete", "failed"]
Doing = Literal["download", "upload", "listing", ""]
HeldBy = Literal["client", "disk", "connection limit", "shared limit", ""]
MOST_REASON = 8192
MOST_COMMAND = 512


def sendable(name: str) -> str:
    """A user's name as it can be sent. Bytes that are no text become escapes. If a name is too
    long, a digest replaces its end."""
    text = name.encode("utf-8", "backslashreplace").decode()
    if len(text) <= MOST_NAME:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return f"{text[: MOST_NAME - len(digest)]}{digest}"


def quantity(number: float) -> float:
    """A number within the bounds of the messages: an honest worker never sends another one."""
    return min(max(number, 0), 2**62 - 1)


class Ready(Message, frozen=True, tag=1):
    """The worker serves."""


class Outdated(Message, frozen=True, tag=30):
    """The confined worker may not open a directory that is served now, since it was replaced or
    mounted. A new worker may open it."""


class Failed(Message, frozen=True, tag=6):
    """The worker cannot serve, and a new one could not either: a person has to read why."""

    reason: Annotated[str, Meta(max_length=MOST_REASON)]


class Adopted(Message, frozen=True, tag=2):
    """These sockets have arrived: the supervisor may close its duplicates."""

    sessions: Sessions


class Released(Message, frozen=True, tag=3):
    """These sessions have ended; what they held is free."""

    sessions: Sessions


class TakeSlot(Message, frozen=True, tag=4):
    """A session wants a slot of a user, who may have ``limit`` sessions."""

    session: Session
    login: Name
    limit: Count | None


class Login(NamedTuple):
    session: Session
    login: Name


class LoggedIn(Message, frozen=True, tag=12):
    """These sessions have logged in as these users, who have no limit in this worker."""

    logins: Annotated[tuple[Login, ...], Meta(max_length=1000)]


class GiveSlot(Message, frozen=True, tag=5):
    """A session gives the user's slot back and goes on."""

    session: Session


class Identified(Message, frozen=True, tag=7):
    """The client of a proxied session has this address, and wants one of its slots."""

    session: Session
    address: Annotated[str, Meta(max_length=64)]


class BeginTry(Message, frozen=True, tag=16):
    """A client has sent a password: may it be checked? The answer may take a while.

    The try ends with LoginFailed, TakeSlot, EndTry, or the session.
    """

    session: Session


class EndTry(Message, frozen=True, tag=17):
    """The password was right, or it is not checked after all."""

    session: Session


class LookUp(Message, frozen=True, tag=18):
    """Look up a host name of the configuration. Answered by LookedUp, within a bounded time."""

    name: Name


class LoginFailed(Message, frozen=True, tag=15):
    """A login failed: a wrong password, or no such user. Answered by LoginDelay."""

    session: Session
    login: Name


class ToldRates(NamedTuple):
    """As ``Rates``."""

    upload: Speed | None = None
    download: Speed | None = None


class UserLimits(Message, frozen=True, tag=8):
    """The speed limits of a user who will appear in Reports."""

    login: Name
    rates: ToldRates


class Reports(Message, frozen=True, tag=9):
    """What transfers under shared speed limits want, and what they give back. Once a tick."""

    reports: Annotated[tuple[Report, ...], Meta(max_length=1000)]


class Heartbeat(Message, frozen=True, tag=10):
    """The worker's loop runs. ``memory``: its resident bytes; ``lag``: seconds that this is late;
    ``load``: the part of a core that it has used since the last one."""

    memory: Count
    lag: Amount = 0.0
    load: Amount = 0.0


class Counted(Message, frozen=True, tag=14):
    """What the worker's sessions have done, all in all.

    Replies by code; transfers by direction, result and TLS, bytes by direction and TLS; seconds
    that grants were waited for, and how often.
    """

    logins: Count
    failed_logins: Count
    replies: dict[Annotated[int, Meta(ge=0, le=999)], Count]
    transfers: Annotated[
        tuple[tuple[Direction, Result, bool, Count], ...],
        Meta(max_length=12),
    ]
    moved: Annotated[tuple[tuple[Direction, bool, Count], ...], Meta(max_length=6)]
    grants: Count
    waited: Amount


class SessionReport(NamedTuple):
    """What a session does. Times in seconds, sizes in bytes, speeds a second.

    ``login`` is empty before one, ``direction`` ("download", "upload", "listing") where no data is
    moved.
    ``held_by``: "client", "disk", "connection limit", "shared limit" or nothing.
    """

    session: Session
    login: Name
    is_protected: bool
    age: Amount
    idle: Amount
    command: Annotated[str, Meta(max_length=MOST_COMMAND)]
    direction: Doing
    size: Count | None
    moved: Count
    speed: Amount
    held_by: HeldBy


class Described(Message, frozen=True, tag=13):
    """Some of the sessions; ``is_last`` marks the last such message."""

    number: Count
    sessions: Annotated[tuple[SessionReport, ...], Meta(max_length=100)]
    is_last: bool


class Declined(Message, frozen=True, tag=11):
    """These sockets did not arrive: the worker has no file descriptor left."""

    sessions: Sessions


def heartbeat_interval(timeout: float) -> float:
    """Seconds between heartbeats; after ``timeout`` s without one a worker is lost."""
    return min(1.0, timeout / 10)


ToWorker = (
    Adopt
    | SlotAnswer
    | Drain
    | TellLogins
    | Grants
    | SetLimits
    | SetGroupLimits
    | EndSession
    | Describe
    | LoginDelay
    | WriteLog
    | ChangeAccounts
    | OldWorkers
    | LookedUp
)
ToSupervisor = (
    Ready
    | Failed
    | Outdated
    | Adopted
    | Declined
    | Released
    | TakeSlot
    | LoggedIn
    | GiveSlot
    | Identified
    | BeginTry
    | EndTry
    | LoginFailed
    | LookUp
    | UserLimits
    | Reports
    | Heartbeat
    | Described
    | Counted
)
