"""Who may move how many bytes: the book of all shared speed limits, kept by the supervisor. Pure.

For each direction there is a bucket of the server and one of each limited user; they fill at the
limit and hold no more than a moment's worth. Workers report what their transfers want in a tick,
and once a tick what is in the buckets is spread over that by max-min fairness: over users, then
over transfers. What was granted is a *lease*: what isn't used of it comes back with a later report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from ftpcluster.quota.fair import Claim, Demand, Size, level, share

TICK = 0.05
"""Seconds between two distributions, and between two reports of a worker."""
IDLE_DEPTH = 0.04
BUSY_DEPTH = 0.1
"""Seconds' worth that a bucket holds: little where nobody wants it, which would be a burst later;
more where somebody does, so that nothing is lost when a tick comes late."""
STALE = 4 * TICK
"""Seconds after which a worker that reports no more wants nothing: it is stopped, or hangs."""
Direction = Literal[0, 1]
FORGET = 2.0
"""Seconds without use after which a user's bucket is forgotten."""
READ: Direction = 0
WRITE: Direction = 1
"""What the server receives, and what it sends."""


class Rates(NamedTuple):
    """Bytes per second in each direction; None is no limit."""

    read: int | None = None
    write: int | None = None

    @property
    def is_limited(self) -> bool:
        return bool(self.read or self.write)


class Report(NamedTuple):
    """What the transfers of a user want in one direction, and what comes back of their lease."""

    login: str
    direction: Direction
    demand: Demand
    returned: Size = 0


class Grant(NamedTuple):
    """A lease: bytes for the transfers of a user in one direction."""

    login: str
    direction: Direction
    size: Size


class Bucket:
    """Tokens, one for a byte, that come at a rate. Times are seconds of a monotonic clock."""

    __slots__ = ("_tokens", "_when", "rate")

    def __init__(self, rate: float | None, now: float) -> None:
        self.rate = rate
        self._when = now
        self._tokens = (rate or 0.0) * IDLE_DEPTH

    def available(self, now: float, *, is_busy: bool) -> float:
        """Tokens that are there; infinite where there is no limit."""
        if self.rate is None:
            return math.inf
        come = self.rate * max(0.0, now - self._when)
        self._when = max(now, self._when)
        depth = self.rate * (BUSY_DEPTH if is_busy else IDLE_DEPTH)
        self._tokens = max(self._tokens, min(self._tokens + come, depth))
        return max(0.0, self._tokens)

    @property
    def looked_at(self) -> float:
        """When somebody last wanted to know."""
        return self._when

    def take(self, count: float) -> None:
        """Also below zero is possible: it fills from there."""
        if self.rate is not None:
            self._tokens -= count

    def give_back(self, count: float) -> None:
        if self.rate is not None:
            self._tokens = min(self._tokens + count, self.rate * BUSY_DEPTH)

    def empty(self, now: float) -> None:
        """Nothing that has come so far is left."""
        self._when = max(now, self._when)
        self._tokens = min(self._tokens, 0.0)

    def set_rate(self, rate: float | None, now: float) -> None:
        """From now on."""
        self.available(now, is_busy=True)
        self.rate = rate
        self._tokens = min(self._tokens, (rate or 0.0) * IDLE_DEPTH)


class _Wanted(NamedTuple):
    demand: Demand
    when: float


class _OneWay:
    """The book of one direction."""

    def __init__(self, rate: int | None, now: float) -> None:
        self.server = Bucket(rate, now)
        self.users: dict[str, Bucket] = {}
        self.wanted: dict[str, dict[int, _Wanted]] = {}
        self.is_contended = False

    def set_user(self, login: str, rate: int | None, now: float) -> None:
        bucket = self.users.get(login)
        if bucket is not None:
            if bucket.rate != rate:
                bucket.set_rate(rate, now)
        elif rate is not None:
            self.users[login] = Bucket(rate, now)

    def report(self, epoch: int, report: Report, now: float) -> None:
        bucket = self.users.get(report.login)
        self.server.give_back(report.returned)
        if bucket is not None:
            bucket.give_back(report.returned)
        wanted = self.wanted.setdefault(report.login, {})
        if report.demand.total:
            wanted[epoch] = _Wanted(report.demand, now)
        else:
            wanted.pop(epoch, None)
            if not wanted:
                del self.wanted[report.login]

    def distribute(self, now: float, only: int | None) -> Iterable[tuple[int, str, int]]:
        """Spread what is there: epoch, login, bytes. ``only``: over this epoch's demands."""
        demands = self._current(now, only)
        was_contended = self.is_contended
        there = self.server.available(now, is_busy=was_contended)
        claims: dict[str, Claim] = {}
        scarce = False
        for login, wanted in demands.items():
            total = sum(demand.total for demand in wanted.values())
            bucket = self.users.get(login)
            most: float = total
            if bucket is not None:
                most = min(total, bucket.available(now, is_busy=was_contended))
                scarce = scarce or most < total
            claims[login] = Claim(most)
        cut = level(there, claims.values())
        if only is None:
            self.is_contended = scarce or cut < math.inf
        for login, claim in claims.items():
            granted = share(min(claim.most, cut), demands[login])
            taken = sum(granted.values())
            self.server.take(taken)
            if login in self.users:
                self.users[login].take(taken)
            for epoch, size in granted.items():
                if size:
                    yield epoch, login, size

    def _current(self, now: float, only: int | None) -> dict[str, dict[int, Demand]]:
        found: dict[str, dict[int, Demand]] = {}
        for login, wanted in self.wanted.items():
            fresh = {
                epoch: each.demand
                for epoch, each in wanted.items()
                if now - each.when < STALE and (only is None or epoch == only)
            }
            if fresh:
                found[login] = fresh
        return found

    def forget_idle(self, now: float) -> None:
        """Let go of the buckets of users for whom nothing has moved for long: they are full."""
        for login in tuple(self.users):
            if login not in self.wanted and now - self.users[login].looked_at > FORGET:
                del self.users[login]

    def release_worker(self, epoch: int) -> None:
        for login in tuple(self.wanted):
            wanted = self.wanted[login]
            wanted.pop(epoch, None)
            if not wanted:
                del self.wanted[login]


class LeaseBook:
    """All shared speed limits of a server, and who wants what of them."""

    def __init__(self, server: Rates, now: float) -> None:
        self._directions = (_OneWay(server.read, now), _OneWay(server.write, now))

    @property
    def is_wanted(self) -> bool:
        """Whether anybody wants anything."""
        return any(direction.wanted for direction in self._directions)

    @property
    def contended(self) -> tuple[bool, bool]:
        """For each direction, whether the last distribution left somebody wanting."""
        read, write = self._directions
        return read.is_contended, write.is_contended

    def resume(self, now: float) -> None:
        """There was no distribution for so long that the workers spent what came meanwhile."""
        for direction in self._directions:
            for bucket in (direction.server, *direction.users.values()):
                bucket.empty(now)

    def set_server(self, rates: Rates, now: float) -> None:
        """The server's limits, from now on."""
        for direction, rate in zip(self._directions, rates, strict=True):
            direction.server.set_rate(rate, now)

    def set_user(self, login: str, rates: Rates, now: float) -> None:
        """A user's limits, from now on."""
        for direction, rate in zip(self._directions, rates, strict=True):
            direction.set_user(login, rate, now)

    def report(self, epoch: int, reports: Iterable[Report], now: float) -> None:
        """What a worker's transfers want from now on; each holds until the next one."""
        for report in reports:
            self._directions[report.direction].report(epoch, report, now)

    def distribute(self, now: float, only: int | None = None) -> dict[int, list[Grant]]:
        """Spread what is in the buckets: leases by epoch.

        ``only``: a worker that just reported, between two ticks; where there is not enough for all
        it has to wait for the tick.
        """
        found: dict[int, list[Grant]] = {}
        for which in (READ, WRITE):
            direction = self._directions[which]
            if only is None or not direction.is_contended:
                for epoch, login, size in direction.distribute(now, only):
                    found.setdefault(epoch, []).append(Grant(login, which, size))
        return found

    def forget_idle(self, now: float) -> None:
        """Forget users for whom nothing has moved for long; ``set_user`` brings them back."""
        for direction in self._directions:
            direction.forget_idle(now)

    def release_worker(self, epoch: int) -> None:
        """A worker is gone: it wants nothing any more. (What it had leased may have been used.)"""
        for direction in self._directions:
            direction.release_worker(epoch)
