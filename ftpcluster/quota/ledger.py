"""The slots that sessions hold: connections of the server, of addresses and of users.

Pure bookkeeping. Each entry belongs to a session of one life of a worker (its epoch). When the
worker dies, all that its epoch held comes back. Releasing twice is harmless.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass, field
from enum import Enum


class Refusal(Enum):
    """Why a slot was not given."""

    SERVER_FULL = "server full"
    ADDRESS_FULL = "address full"
    USER_FULL = "user full"
    GROUP_FULL = "group full"
    UNAUTHENTICATED_FULL = "unauthenticated full"
    BANNED = "banned"
    DENIED = "denied"
    TOO_OFTEN = "too often"

    @property
    def explanation(self) -> str:
        """The text of the reply."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Refusal.SERVER_FULL: "Too many connections; try again later.",
    Refusal.ADDRESS_FULL: "Too many connections from your address.",
    Refusal.USER_FULL: "Too many connections of this user.",
    Refusal.GROUP_FULL: "Too many connections of this group of users.",
    Refusal.UNAUTHENTICATED_FULL: "Too many connections that have not logged in; try again later.",
    Refusal.BANNED: "Banned; try again later.",
    Refusal.DENIED: "Connections from your address are not accepted.",
    Refusal.TOO_OFTEN: "Too many new connections from your address; try again later.",
}


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds on connections; None is no limit.

    ``groups``: how many sessions the users of a group may have together; ``group_of`` has the group
    of each login that is in one.
    """

    server: int | None = None
    per_address: int | None = None
    unauthenticated: int | None = None  # sessions that have not logged in
    groups: Mapping[str, int] = field(default_factory=dict)
    group_of: Mapping[str, str] = field(default_factory=dict)


class _Held:
    __slots__ = ("address", "group", "is_told", "login")

    def __init__(self, address: str | None) -> None:
        self.address = address
        self.is_told = False  # the address came from a worker, which read a proxy's header
        self.login: str | None = None
        self.group: str | None = None


class Ledger:
    """All slots of one server. An epoch names one life of one worker and is never used again.

    Every count equals, at any time, what the held entries say.
    """

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self.connections = 0
        self.unauthenticated = 0
        self._held: dict[int, dict[int, _Held]] = {}
        self._addresses: dict[str, int] = {}
        self._logins: dict[str, int] = {}
        self._groups: dict[str, int] = {}

    def held_by(self, epoch: int) -> int:
        """Connections that one worker holds."""
        return len(self._held.get(epoch, ()))

    def holds(self, epoch: int, session: int) -> bool:
        """Whether a session belongs to that worker."""
        return session in self._held.get(epoch, ())

    def epoch_of(self, session: int) -> int | None:
        """The worker that holds a session."""
        return next((epoch for epoch, held in self._held.items() if session in held), None)

    def address_of(self, epoch: int, session: int) -> str | None:
        """The address that a session comes from; None where that is not known (yet)."""
        held = self._held.get(epoch, {}).get(session)
        return None if held is None else held.address

    @property
    def addresses(self) -> Collection[str]:
        """The addresses of all sessions."""
        return self._addresses.keys()

    def sessions_of(self, addresses: Container[str]) -> list[tuple[int, int]]:
        """The sessions of some addresses, each with the epoch that holds it."""
        return [
            (epoch, session)
            for epoch, sessions in self._held.items()
            for session, held in sessions.items()
            if held.address is not None and held.address in addresses
        ]

    def of_address(self, address: str) -> int:
        return self._addresses.get(address, 0)

    def of_user(self, login: str) -> int:
        return self._logins.get(login, 0)

    def of_group(self, group: str) -> int:
        return self._groups.get(group, 0)

    def admit(self, epoch: int, session: int, address: str | None) -> Refusal | None:
        """Take the server's and the address's slot for a new connection; or return why not.

        None is an address that is not known yet: ``identify`` sets it.
        """
        limits = self.limits
        if limits.server is not None and self.connections >= limits.server:
            return Refusal.SERVER_FULL
        if limits.unauthenticated is not None and self.unauthenticated >= limits.unauthenticated:
            return Refusal.UNAUTHENTICATED_FULL
        if address is not None and self._is_full(address):
            return Refusal.ADDRESS_FULL
        sessions = self._held.setdefault(epoch, {})
        if session in sessions:
            raise ValueError(f"session {session} of worker {epoch} is held already")
        sessions[session] = _Held(address)
        self._count_address(address)
        self.connections += 1
        self.unauthenticated += 1
        return None

    def identify(self, epoch: int, session: int, address: str) -> Refusal | None:
        """Take the slot of a proxied connection's address, now known; or return why not.

        Raises KeyError where there is no such session, or its address is known already.
        """
        held = self._held.get(epoch, {})[session]
        if held.address is not None:
            raise KeyError(session)
        if self._is_full(address):
            return Refusal.ADDRESS_FULL
        held.address = address
        held.is_told = True
        self._count_address(address)
        return None

    def _is_full(self, address: str) -> bool:
        most = self.limits.per_address
        return most is not None and self.of_address(address) >= most

    def _count_address(self, address: str | None) -> None:
        if address is not None:
            self._addresses[address] = self._addresses.get(address, 0) + 1

    def move(self, epoch: int, session: int, new_epoch: int) -> None:
        """Move a connection to another worker, which has not begun to serve it.

        The previous worker's reports of login and address are forgotten: the next one sends its
        own.
        """
        held = self._held[epoch][session]
        sessions = self._held.setdefault(new_epoch, {})
        if session in sessions and new_epoch != epoch:
            raise ValueError(f"session {session} of worker {new_epoch} is held already")
        del self._held[epoch][session]
        sessions[session] = held
        self._logout(held)
        if held.is_told and held.address is not None:
            _decrement(self._addresses, held.address)
            held.address, held.is_told = None, False

    def login(self, epoch: int, session: int, login: str, limit: int | None) -> Refusal | None:
        """Take a slot of a user and of the user's group, or return why not. The session gives back
        those that it had. Raises KeyError where there is no such session.
        """
        held = self._held.get(epoch, {})[session]
        self._logout(held)
        if limit is not None and self.of_user(login) >= limit:
            return Refusal.USER_FULL
        group = self.limits.group_of.get(login)
        if group is not None:
            most = self.limits.groups.get(group)
            if most is not None and self.of_group(group) >= most:
                return Refusal.GROUP_FULL
            self._groups[group] = self.of_group(group) + 1
        held.login, held.group = login, group
        self.unauthenticated -= 1
        self._logins[login] = self.of_user(login) + 1
        return None

    def logout(self, epoch: int, session: int) -> None:
        """Give the user's slot back, if the session has one."""
        held = self._held.get(epoch, {}).get(session)
        if held is not None:
            self._logout(held)

    def release(self, epoch: int, session: int) -> bool:
        """Give back all that a session holds. False where it holds nothing (any more)."""
        held = self._held.get(epoch, {}).pop(session, None)
        if held is None:
            return False
        self._logout(held)
        if held.address is not None:
            _decrement(self._addresses, held.address)
        self.connections -= 1
        self.unauthenticated -= 1
        return True

    def release_worker(self, epoch: int) -> int:
        """Give back all that a worker's sessions hold; returns how many there were."""
        sessions = tuple(self._held.get(epoch, ()))
        for session in sessions:
            self.release(epoch, session)
        self._held.pop(epoch, None)
        return len(sessions)

    def _logout(self, held: _Held) -> None:
        if held.login is not None:
            _decrement(self._logins, held.login)
            if held.group is not None:
                _decrement(self._groups, held.group)
            held.login = held.group = None
            self.unauthenticated += 1


def _decrement(counts: dict[str, int], key: str) -> None:
    count = counts[key] - 1
    if count:
        counts[key] = count
    else:
        del counts[key]
