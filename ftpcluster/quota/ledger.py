"""Who holds which slot: connections of the server, of addresses and of users.

Pure bookkeeping. What is counted is keyed by who can die, ``Holder = (worker epoch, session)``:
when a worker dies all that its epoch held comes back, and releasing twice is harmless.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Holder(NamedTuple):
    """A session, as the ledger knows it. An epoch names one life of one worker, never reused."""

    epoch: int
    session: int


class Refusal(Enum):
    """Why a slot was not given."""

    SERVER_FULL = "server full"
    ADDRESS_FULL = "address full"
    USER_FULL = "user full"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds on connections; None is no limit."""

    server: int | None = None
    per_address: int | None = None


@dataclass(slots=True)
class _Held:
    address: str
    login: str | None = None


@dataclass(slots=True)
class Ledger:
    """All slots of one server. Every count equals what the held entries say, at any time."""

    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    _held: dict[Holder, _Held] = field(default_factory=dict)
    _by_epoch: defaultdict[int, set[Holder]] = field(default_factory=lambda: defaultdict(set))
    _addresses: Counter[str] = field(default_factory=Counter)
    _logins: Counter[str] = field(default_factory=Counter)

    @property
    def connections(self) -> int:
        return len(self._held)

    def held_by(self, epoch: int) -> int:
        """Connections that one worker holds."""
        return len(self._by_epoch[epoch]) if epoch in self._by_epoch else 0

    def of_address(self, address: str) -> int:
        return self._addresses[address]

    def of_user(self, login: str) -> int:
        return self._logins[login]

    def refusal(self, address: str) -> Refusal | None:
        """Why a connection from ``address`` could not be admitted now; None where it could."""
        limits = self.limits
        if limits.server is not None and len(self._held) >= limits.server:
            return Refusal.SERVER_FULL
        if limits.per_address is not None and self._addresses[address] >= limits.per_address:
            return Refusal.ADDRESS_FULL
        return None

    def admit(self, holder: Holder, address: str) -> Refusal | None:
        """Take the server's and the address's slot for a new connection, or say why not."""
        if holder in self._held:
            raise ValueError(f"{holder} is held already")
        refused = self.refusal(address)
        if refused is None:
            self._held[holder] = _Held(address)
            self._by_epoch[holder.epoch].add(holder)
            self._addresses[address] += 1
        return refused

    def move(self, holder: Holder, epoch: int) -> Holder:
        """The same connection, held by another worker from now on."""
        held = self._held.pop(holder)
        self._forget_epoch(holder)
        moved = Holder(epoch, holder.session)
        self._held[moved] = held
        self._by_epoch[epoch].add(moved)
        return moved

    def login(self, holder: Holder, login: str, limit: int | None) -> Refusal | None:
        """Take a slot of a user, or say why not. The session lets go of the one that it had."""
        held = self._held.get(holder)
        if held is None:
            raise KeyError(holder)
        self.logout(holder)
        if limit is not None and self._logins[login] >= limit:
            return Refusal.USER_FULL
        held.login = login
        self._logins[login] += 1
        return None

    def logout(self, holder: Holder) -> None:
        """Give the user's slot back, if the session has one."""
        held = self._held.get(holder)
        if held is not None and held.login is not None:
            _decrement(self._logins, held.login)
            held.login = None

    def release(self, holder: Holder) -> bool:
        """Give back all that a session holds. False where it holds nothing (any more)."""
        if holder not in self._held:
            return False
        self.logout(holder)
        held = self._held.pop(holder)
        self._forget_epoch(holder)
        _decrement(self._addresses, held.address)
        return True

    def release_worker(self, epoch: int) -> int:
        """Give back all that a worker's sessions hold; returns how many there were."""
        holders = self._by_epoch.pop(epoch, set())
        for holder in holders:
            self.release(holder)
        return len(holders)

    def _forget_epoch(self, holder: Holder) -> None:
        holders = self._by_epoch.get(holder.epoch)
        if holders is not None:
            holders.discard(holder)
            if not holders:
                del self._by_epoch[holder.epoch]


def _decrement(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
