"""The limits of one direction, each with its bucket, and the tree that they form. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from ftpcluster.quota.bucket import Bucket
from ftpcluster.quota.fair import Branch, Demand, Share, UserDemand
from ftpcluster.quota.rates import Level

_SERVER = "server"


class Wanted:
    """A user's demands, by epoch, and their total."""

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


class DirectionLimits:
    """The buckets of the server, its groups and its users, in one direction."""

    def __init__(
        self, rate: int | None, now: float, group_of: dict[str, str], *, is_shared: bool = False
    ) -> None:
        """``is_shared``: this host may use its share of each limit, once that is known."""
        self._is_shared = is_shared
        self.server = self._new(rate, now)
        self.groups: dict[str, Bucket] = {}
        self.users: dict[str, Bucket] = {}
        self._group_of = group_of

    def _new(self, limit: int | None, now: float) -> Bucket:
        bucket = Bucket(limit, now)
        if self._is_shared:
            bucket.set_share(0.0, now)
        return bucket

    def _change(self, bucket: Bucket, limit: int | None, now: float) -> None:
        share = bucket.rate
        bucket.set_limit(limit, now)
        if self._is_shared:
            bucket.set_share(share or 0.0, now)

    def group_of(self, login: str) -> str | None:
        """The group whose limit a user shares, if there is one."""
        if not self.groups:
            return None
        group = self._group_of.get(login)
        return group if group in self.groups else None

    def above(self, login: str) -> Iterator[Bucket]:
        """All buckets that limit a user."""
        yield self.server
        if (group := self.group_of(login)) is not None:
            yield self.groups[group]
        if (user := self.users.get(login)) is not None:
            yield user

    def tree(self, users: Iterable[tuple[str, Wanted]], now: float, *, is_busy: bool) -> Branch:
        """The tree of values: the bytes in the buckets now, and these users' demands."""
        mine: list[Branch | UserDemand] = []
        groups: dict[str, list[Branch | UserDemand]] = {}
        for login, wanted in users:
            bucket = self.users.get(login)
            tokens = math.inf if bucket is None else bucket.available(now, is_busy=is_busy)
            leaf = UserDemand(login, tokens, wanted.total, wanted.demands)
            group = self.group_of(login) if self.groups else None
            (mine if group is None else groups.setdefault(group, [])).append(leaf)
        for name, parts in groups.items():
            there = self.groups[name].available(now, is_busy=is_busy)
            mine.append(Branch.over(name, there, parts))
        return Branch.over(_SERVER, self.server.available(now, is_busy=is_busy), mine)

    def take(self, share: Share) -> None:
        """Take the bytes granted to a user from all buckets that limit that user."""
        taken = sum(share.granted.values())
        for bucket in self.above(share.user.name):
            bucket.take(taken)

    def set(self, level: Level, name: str, rate: int | None, now: float) -> None:
        """Set a limit, from now on."""
        if level == "server":
            self._change(self.server, rate, now)
            return
        buckets = self.groups if level == "group" else self.users
        bucket = buckets.get(name)
        if bucket is None:
            if rate is not None:
                buckets[name] = self._new(rate, now)
        elif bucket.limit != rate:
            self._change(bucket, rate, now)
        if level == "group" and rate is None:
            buckets.pop(name, None)

    def all(self) -> Iterator[tuple[Level, str, Bucket]]:
        """All limits, each with its level, name and bucket."""
        if self.server.limit is not None:
            yield "server", "", self.server
        for name, bucket in self.groups.items():
            yield "group", name, bucket
        for login, bucket in self.users.items():
            if bucket.limit is not None:
                yield "user", login, bucket
