"""The tree of shared speed limits, which decides how many bytes each user may move. Pure.

For each direction there is a bucket of the server, one of each limited group and one of each
limited user. A bucket fills at the speed of its limit, and holds the bytes of a moment at most.
Processes report the demands of their transfers. Once a tick the bytes in the buckets are spread
over these demands by max-min fairness: over groups, then over users, then over transfers. The bytes
granted are a *lease*: unused bytes come back with a later report.

A user of a group is a part of that group's branch where the group has a limit; all others are parts
of the server's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, NamedTuple

import msgspec

from ftpcluster.quota.bucket import BUSY_DEPTH
from ftpcluster.quota.direction_limits import DirectionLimits, Wanted
from ftpcluster.quota.fair import (
    Branch,
    Demand,
    Share,
    Size,
    UserDemand,
    distribute,
)
from ftpcluster.quota.rates import DOWNLOAD, UPLOAD, Direction, Level, LimitKey, Rates

TICK = 0.05
"""Seconds between two distributions, and between two reports of a process."""
STALE = 4 * TICK
"""Seconds without a report after which a process's demands end: it is stopped, or hangs."""
FORGET = 2.0
"""Seconds without use after which a user's bucket is forgotten."""
MOST_NAME = 255
"""Characters of a user's name in a message."""


class Report(NamedTuple):
    """A user's demand in one direction, and the bytes of the lease that come back."""

    login: Annotated[str, msgspec.Meta(max_length=MOST_NAME)]
    direction: Direction
    demand: Demand
    returned: Size = 0


class Grant(NamedTuple):
    """A lease: bytes for the transfers of a user in one direction."""

    login: str
    direction: Direction
    size: Size


class _OneWay:
    """The reports and grants of one direction."""

    def __init__(self, limits: DirectionLimits) -> None:
        self.limits = limits
        self.wanted: dict[str, Wanted] = {}
        self.users_of: Counter[int] = Counter()
        """The number of users of a process that want something, by epoch."""
        self._heard: dict[int, float] = {}
        # by epoch: the users whose latest reports were not served yet
        self._news: dict[int, dict[str, None]] = {}
        # as of the last tick
        self._is_server_short = False  # whether the server's limit was reached
        self._short_groups: frozenset[str] = frozenset()  # the groups whose limit was reached
        self.held_by: dict[str, Level] = {}  # by login: the limit that kept the user from more

    @property
    def is_contended(self) -> bool:
        """Whether a user got less than wanted in the last tick."""
        return self._is_server_short or bool(self.held_by)

    def report(self, epoch: int, report: Report, now: float) -> None:
        login, _, demand, returned = report
        self._heard[epoch] = now
        if returned:
            for bucket in self.limits.above(login):
                bucket.give_back(returned)
        wanted = self.wanted.get(login)
        if demand.total:
            if wanted is None:
                wanted = self.wanted[login] = Wanted()
            if epoch not in wanted.demands:
                self.users_of[epoch] += 1
            wanted.put(epoch, demand)
            self._news.setdefault(epoch, {})[login] = None
        elif wanted is not None:
            self._drop(epoch, login, wanted)

    def _drop(self, epoch: int, login: str, wanted: Wanted) -> None:
        if epoch in wanted.demands:
            self.users_of[epoch] -= 1
        wanted.drop(epoch)
        if not wanted.demands:
            del self.wanted[login]

    def distribute(self, now: float) -> Iterator[tuple[int, str, int]]:
        """Spread the bytes in the buckets over all demands: epoch, login, bytes."""
        self._news.clear()
        for epoch in [epoch for epoch, when in self._heard.items() if now - when >= STALE]:
            self.release_process(epoch)
        tree = self.limits.tree(self.wanted.items(), now, is_busy=self.is_contended)
        self._is_server_short = tree.tokens < tree.want
        self._short_groups = frozenset(
            part.name for part in tree.parts if isinstance(part, Branch) and part.tokens < part.want
        )
        held_by: dict[str, Level] = {}
        for share in distribute(tree):
            if share.held_by is not None:
                held_by[share.user.name] = _level_of(share)
            yield from self._grant(share)
        self.held_by = held_by

    def serve(self, now: float, epoch: int) -> Iterator[tuple[int, str, int]]:
        """Between two ticks: spread the bytes in the buckets over what a process has just reported.

        If there is not enough for everybody, the process has to wait for the tick.
        """
        news = self._news.pop(epoch, None)
        if news is None or self._is_server_short:
            return
        users = []
        for login in news:
            wanted = self.wanted.get(login)
            demand = wanted.demands.get(epoch) if wanted is not None else None
            if demand is not None and not self._waits_for_the_tick(login):
                only = Wanted()
                only.put(epoch, demand)
                users.append((login, only))
        tree = self.limits.tree(users, now, is_busy=self.is_contended)
        for share in distribute(tree):
            yield from self._grant(share)

    def _waits_for_the_tick(self, login: str) -> bool:
        """Whether a limit of this user was reached in the last tick."""
        is_group_short = self._short_groups and self.limits.group_of(login) in self._short_groups
        return bool(is_group_short) or self.held_by.get(login) == "user"

    def _grant(self, share: Share) -> Iterator[tuple[int, str, int]]:
        self.limits.take(share)
        for epoch, size in share.granted.items():
            if size:
                yield epoch, share.user.name, size

    def release_process(self, epoch: int) -> None:
        self._heard.pop(epoch, None)
        self._news.pop(epoch, None)
        for login, wanted in tuple(self.wanted.items()):
            self._drop(epoch, login, wanted)
        del self.users_of[epoch]

    def demands(self) -> Iterator[tuple[Level, str, Demand]]:
        """The demand beneath each limit, bounded by the whole limit, not by this host's share."""
        limits, users = self.limits, self.limits.users
        at_server: list[float] = []
        in_groups: dict[str, list[float]] = {}
        for login, wanted in self.wanted.items():
            most: float = wanted.total
            if login in users and (limit := users[login].limit) is not None:
                yield "user", login, _sum(wanted.demands.values())
                most = min(most, limit * BUSY_DEPTH)
            group = limits.group_of(login)
            (at_server if group is None else in_groups.setdefault(group, [])).append(most)
        for name, wants in in_groups.items():
            yield "group", name, Demand(len(wants), int(sum(wants)))
            at_server.append(min(sum(wants), (limits.groups[name].limit or 0.0) * BUSY_DEPTH))
        if limits.server.limit is not None and at_server:
            yield "server", "", Demand(len(at_server), int(sum(at_server)))

    def forget_idle(self, now: float) -> None:
        """Forget the buckets that no transfer has used for ``FORGET`` seconds: they are full."""
        users = self.limits.users
        for login in tuple(users):
            if login not in self.wanted and now - users[login].looked_at > FORGET:
                del users[login]


def _sum(demands: Iterable[Demand]) -> Demand:
    """Several demands as one."""
    return Demand(*(sum(column) for column in zip(*demands, strict=True)))


def _level_of(share: Share) -> Level:
    """The level of the limit that keeps a user from more."""
    if isinstance(share.held_by, UserDemand):
        return "user"
    return "server" if share.held_by is share.path[0] else "group"


class LimitTree:
    """All shared speed limits of a server, and the demands for them."""

    def __init__(self, server: Rates, now: float, *, is_shared: bool = False) -> None:
        """``is_shared``: other hosts share the limits; ``set_shares`` sets the part of this one."""
        self._group_of = group_of = dict[str, str]()
        self._group_set: dict[str, float] = {}  # by login: when its group was set
        self._directions = tuple(
            _OneWay(DirectionLimits(server.of(direction), now, group_of, is_shared=is_shared))
            for direction in (UPLOAD, DOWNLOAD)
        )

    # ------------------------------------------------------------------ limits

    @property
    def server_rates(self) -> Rates:
        """The server's limits."""
        up, down = (each.limits.server.limit for each in self._directions)
        return Rates(
            upload=None if up is None else int(up), download=None if down is None else int(down)
        )

    def set_server(self, rates: Rates, now: float) -> None:
        """Set the server's limits, from now on."""
        self._set("server", "", rates, now)

    def set_group(self, name: str, rates: Rates, now: float) -> None:
        """Set a group's limits, from now on."""
        self._set("group", name, rates, now)

    def set_user(self, login: str, rates: Rates, now: float, *, group: str | None = None) -> None:
        """Set a user's limits and group, from now on."""
        if group is not None:
            self._group_of[login] = group
            self._group_set[login] = now
        else:
            self._leave_group(login)
        self._set("user", login, rates, now)

    def _set(self, level: Level, name: str, rates: Rates, now: float) -> None:
        for direction in (UPLOAD, DOWNLOAD):
            self._directions[direction].limits.set(level, name, rates.of(direction), now)

    def forget_user(self, login: str) -> None:
        """A user's limits are not known any more, until they are set again."""
        self._leave_group(login)
        for each in self._directions:
            each.limits.users.pop(login, None)

    def _leave_group(self, login: str) -> None:
        self._group_of.pop(login, None)
        self._group_set.pop(login, None)

    def knows(self, login: str) -> bool:
        """Whether there are limits of a user."""
        return any(login in each.limits.users for each in self._directions)

    def forget_idle(self, now: float) -> None:
        """Forget users who have had no transfer for ``FORGET`` seconds; ``set_user`` adds them
        again."""
        for each in self._directions:
            each.forget_idle(now)
        wanted = [each.wanted for each in self._directions]
        for login in tuple(self._group_of):
            # a user's limits come first, and the demand in a later message: between the two
            # messages a user without a bucket looks idle
            is_new = now - self._group_set[login] <= FORGET
            if not (is_new or self.knows(login) or any(login in each for each in wanted)):
                self._leave_group(login)

    # ------------------------------------------------------------------ hosts

    def demands(self) -> dict[LimitKey, Demand]:
        """The demand beneath each limit in a tick, by the number of parts that share it."""
        found: dict[LimitKey, Demand] = {}
        for direction in (UPLOAD, DOWNLOAD):
            for level, name, demand in self._directions[direction].demands():
                found[LimitKey(level, name, direction)] = demand
        return found

    def set_shares(self, shares: Mapping[LimitKey, float], now: float) -> None:
        """Set the share of each limit, in bytes per second; 0 where ``shares`` has none."""
        for direction in (UPLOAD, DOWNLOAD):
            for level, name, bucket in self._directions[direction].limits.all():
                bucket.set_share(shares.get(LimitKey(level, name, direction), 0.0), now)

    # ------------------------------------------------------------------ demands

    @property
    def is_wanted(self) -> bool:
        """Whether there is any demand."""
        return any(each.wanted for each in self._directions)

    @property
    def contended(self) -> tuple[bool, bool]:
        """For each direction, whether a user got less than wanted in the last distribution."""
        up, down = self._directions
        return up.is_contended, down.is_contended

    def held_by(self, login: str, direction: Direction) -> Level | None:
        """The level whose limit kept a user from more at the last distribution, or None."""
        return self._directions[direction].held_by.get(login)

    def wants(self, epoch: int, login: str, direction: Direction) -> bool:
        """Whether a process's last report has a demand of a user."""
        wanted = self._directions[direction].wanted.get(login)
        return wanted is not None and epoch in wanted.demands

    def users_of(self, epoch: int, direction: Direction) -> int:
        """The number of users of a process that want something."""
        return self._directions[direction].users_of[epoch]

    def report(self, epoch: int, reports: Iterable[Report], now: float) -> None:
        """The demands of a process's users from now on; each holds until the next one."""
        for report in reports:
            self._directions[report.direction].report(epoch, report, now)

    def release_process(self, epoch: int) -> None:
        """A process is gone: forget its demands. (Its leases may be used: they do not return.)"""
        for each in self._directions:
            each.release_process(epoch)

    # ------------------------------------------------------------------ grants

    def distribute(self, now: float, only: int | None = None) -> dict[int, list[Grant]]:
        """Spread the bytes in the buckets; returns the leases by epoch.

        ``only``: a process that has just reported, between two ticks. If there is not enough for
        everybody, it has to wait for the tick.
        """
        found: dict[int, list[Grant]] = {}
        for direction in (UPLOAD, DOWNLOAD):
            one = self._directions[direction]
            for epoch, login, size in one.distribute(now) if only is None else one.serve(now, only):
                found.setdefault(epoch, []).append(Grant(login, direction, size))
        return found

    def resume(self, now: float) -> None:
        """Empty the buckets after a long time without a distribution: the processes have spent
        those bytes."""
        for each in self._directions:
            limits = each.limits
            for bucket in (limits.server, *limits.groups.values(), *limits.users.values()):
                bucket.empty(now)
