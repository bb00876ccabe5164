"""Who may move how many bytes: the book of all shared speed limits, kept by the supervisor. Pure.

For each direction there is a bucket of the server and one of each limited user; they fill at the
limit and hold no more than a moment's worth. Workers report what their transfers want in a tick,
and once a tick what is in the buckets is spread over that by max-min fairness: over users, then
over transfers. What was granted is a *lease*: what isn't used of it comes back with a later report.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple, Protocol, TypeVar

import msgspec

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


MOST_NAME = 255
"""Characters of a user's name in a message."""


class Report(NamedTuple):
    """What the transfers of a user want in one direction, and what comes back of their lease."""

    login: Annotated[str, msgspec.Meta(max_length=MOST_NAME)]
    direction: Direction
    demand: Demand
    returned: Size = 0


class Grant(NamedTuple):
    """A lease: bytes for the transfers of a user in one direction."""

    login: str
    direction: Direction
    size: Size


_PORTION = 48 * 1024
_NUMBERS = 60
"""Bytes of a message, of 64 KiB at the most; and of a report or grant in it without its login."""


class _OfAUser(Protocol):
    @property
    def login(self) -> str: ...


_Entry = TypeVar("_Entry", bound=_OfAUser)


def portions(entries: Sequence[_Entry]) -> Iterator[tuple[_Entry, ...]]:
    """Reports, grants or logins, in as many messages as they need to fit the channel's bounds."""
    start = size = 0
    for number, entry in enumerate(entries):
        login = entry.login
        length = _NUMBERS + (len(login) if login.isascii() else 4 * len(login))
        if size + length > _PORTION and number > start:
            yield tuple(entries[start:number])
            start, size = number, 0
        size += length
    if len(entries) > start:
        yield tuple(entries[start:])


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


class _Wanted:
    """What a user's transfers want, by epoch, and all together."""

    __slots__ = ("demands", "total")

    def __init__(self) -> None:
        self.demands: dict[int, Demand] = {}
        self.total = 0

    def put(self, epoch: int, demand: Demand) -> None:
        self.drop(epoch)
        self.demands[epoch] = demand
        self.total += demand.total

    def drop(self, epoch: int) -> None:
        demand = self.demands.pop(epoch, None)
        if demand is not None:
            self.total -= demand.total


class _OneWay:
    """The book of one direction."""

    def __init__(self, rate: int | None, now: float) -> None:
        self.server = Bucket(rate or None, now)
        self.users: dict[str, Bucket] = {}
        self.wanted: dict[str, _Wanted] = {}
        self.users_of: Counter[int] = Counter()
        """How many users of a worker have transfers that want something, by epoch."""
        self._heard: dict[int, float] = {}
        # the users of whom workers have reported what was not served yet
        self._news: dict[int, dict[str, None]] = {}
        self._is_scarce = False  # as of the last tick: the server's bucket,
        self._scarce: set[str] = set()  # and these users'
        self._held: set[str] = set()  # who got less for the server's sake

    @property
    def is_contended(self) -> bool:
        """Whether the last tick left somebody wanting."""
        return self._is_scarce or bool(self._scarce)

    def is_scarce(self, login: str) -> bool:
        return login in self._scarce and login not in self._held

    def set_server(self, rate: int | None, now: float) -> None:
        self.server.set_rate(rate or None, now)

    def set_user(self, login: str, rate: int | None, now: float) -> None:
        rate = rate or None
        bucket = self.users.get(login)
        if bucket is not None:
            if bucket.rate != rate:
                bucket.set_rate(rate, now)
        elif rate is not None:
            self.users[login] = Bucket(rate, now)

    def report(self, epoch: int, report: Report, now: float) -> None:
        login, _, demand, returned = report
        self._heard[epoch] = now
        if returned:
            self.server.give_back(returned)
            if login in self.users:
                self.users[login].give_back(returned)
        wanted = self.wanted.get(login)
        if demand.total:
            if wanted is None:
                wanted = self.wanted[login] = _Wanted()
            if epoch not in wanted.demands:
                self.users_of[epoch] += 1
            wanted.put(epoch, demand)
            self._news.setdefault(epoch, {})[login] = None
        elif wanted is not None:
            self._drop(epoch, login, wanted)

    def _drop(self, epoch: int, login: str, wanted: _Wanted) -> None:
        if epoch in wanted.demands:
            self.users_of[epoch] -= 1
        wanted.drop(epoch)
        if not wanted.demands:
            del self.wanted[login]

    def distribute(self, now: float) -> Iterable[tuple[int, str, int]]:
        """Spread what is there over all: epoch, login, bytes."""
        self._news.clear()
        for epoch in [epoch for epoch, when in self._heard.items() if now - when >= STALE]:
            self.release_worker(epoch)
        is_busy = self.is_contended
        scarce = set()
        claims: list[tuple[str, float, _Wanted]] = []
        for login, wanted in self.wanted.items():
            most: float = wanted.total
            bucket = self.users.get(login)
            if bucket is not None and (there := bucket.available(now, is_busy=is_busy)) < most:
                most = there
                scarce.add(login)
            claims.append((login, most, wanted))
        cut = self._cut(now, [most for _, most, _ in claims])
        self._is_scarce, self._scarce = cut < math.inf, scarce
        self._held = {login for login, most, _ in claims if most > cut}
        for login, most, wanted in claims:
            yield from self._grant(login, min(most, cut), wanted.demands)

    def serve(self, now: float, epoch: int) -> Iterable[tuple[int, str, int]]:
        """Between two ticks: spread what is there over what a worker has just reported.

        Where there is not enough for all it has to wait for the tick.
        """
        news = self._news.pop(epoch, ())
        if self._is_scarce:
            return
        claims: list[tuple[str, float, Demand]] = []
        for login in news:
            wanted = self.wanted.get(login)
            demand = wanted.demands.get(epoch) if wanted is not None else None
            if demand is not None and login not in self._scarce:
                most: float = demand.total
                bucket = self.users.get(login)
                if bucket is not None:
                    most = min(most, bucket.available(now, is_busy=self.is_contended))
                claims.append((login, most, demand))
        cut = self._cut(now, [most for _, most, _ in claims])
        for login, most, demand in claims:
            yield from self._grant(login, min(most, cut), {epoch: demand})

    def _cut(self, now: float, wanted: Iterable[float]) -> float:
        """What a user gets at most of the server's bucket, where users want so much each."""
        there = self.server.available(now, is_busy=self.is_contended)
        return level(there, map(Claim, wanted))

    def _grant(
        self, login: str, tokens: float, demands: dict[int, Demand]
    ) -> Iterable[tuple[int, str, int]]:
        granted = share(tokens, demands)
        taken = sum(granted.values())
        self.server.take(taken)
        bucket = self.users.get(login)
        if bucket is not None:
            bucket.take(taken)
        for epoch, size in granted.items():
            if size:
                yield epoch, login, size

    def forget_idle(self, now: float) -> None:
        """Let go of the buckets of users for whom nothing has moved for long: they are full."""
        for login in tuple(self.users):
            if login not in self.wanted and now - self.users[login].looked_at > FORGET:
                del self.users[login]

    def release_worker(self, epoch: int) -> None:
        self._heard.pop(epoch, None)
        self._news.pop(epoch, None)
        for login, wanted in tuple(self.wanted.items()):
            self._drop(epoch, login, wanted)
        del self.users_of[epoch]


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
            direction.set_server(rate, now)

    @property
    def server_rates(self) -> Rates:
        """The server's limits."""
        read, write = (direction.server.rate for direction in self._directions)
        return Rates(None if read is None else int(read), None if write is None else int(write))

    def is_scarce(self, login: str, direction: Direction) -> bool:
        """Whether it was a user's own limit that left the user wanting at the last distribution."""
        return self._directions[direction].is_scarce(login)

    def knows(self, login: str) -> bool:
        """Whether there are limits of a user."""
        return any(login in direction.users for direction in self._directions)

    def wants(self, epoch: int, login: str, direction: Direction) -> bool:
        """Whether a worker's last report says that transfers of a user want something."""
        wanted = self._directions[direction].wanted.get(login)
        return wanted is not None and epoch in wanted.demands

    def users_of(self, epoch: int, direction: Direction) -> int:
        """How many users of a worker have transfers that want something."""
        return self._directions[direction].users_of[epoch]

    def set_user(self, login: str, rates: Rates, now: float) -> None:
        """A user's limits, from now on."""
        for direction, rate in zip(self._directions, rates, strict=True):
            direction.set_user(login, rate, now)

    def forget_user(self, login: str) -> None:
        """A user's limits are not known any more, until somebody tells them."""
        for direction in self._directions:
            direction.users.pop(login, None)

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
            one = self._directions[which]
            for epoch, login, size in one.distribute(now) if only is None else one.serve(now, only):
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
