"""Leases from trees of limits in the same process, without a supervisor. Pure.

There is no timer: when a tick is due, the next transfer that asks runs it. A transfer that has to
wait waits until the next tick.

After a wait, the transfer's own time counts, not the clock's: a program's test may replace
``asyncio.sleep`` by a faster function. Users without a common limit must not share that time, so
each topmost limit has a tree of its own.
"""

from __future__ import annotations

import math
from weakref import WeakValueDictionary

from ftpcluster.quota.fair import Demand
from ftpcluster.quota.leases import Lease, Pool, ProcessLeases
from ftpcluster.quota.limit_tree import FORGET, TICK, LimitTree
from ftpcluster.quota.rates import DOWNLOAD, UPLOAD, Direction, Level, Rates

_EPOCH = 0
_Key = tuple[Direction, Level, str]


class LocalPool(Pool):
    """A pool, and the topmost limit of its user now."""

    __slots__ = ("root",)

    def __init__(self, leases: LocalLeases, login: str, direction: Direction) -> None:
        super().__init__(leases, login, direction)
        self.root: _Root | None = None


class _Root:
    """The topmost limit of some users, in one direction: its tree, and their pools in use."""

    def __init__(self, direction: Direction, server: Rates = Rates()) -> None:
        self.tree = LimitTree(server, 0.0)
        self.now = self._forgotten = 0.0
        self.is_contended = False
        self._direction = direction
        self._pools: dict[str, Pool] = {}  # by login; also some that were in use in the last tick
        self._next = -math.inf  # when a tick is due

    def join(self, pool: Pool, now: float) -> None:
        """A transfer begins. A tick that is due comes first: it takes back what pools have left."""
        if self._pools:
            self._look_at_clock(now)
        self._pools[pool.login] = pool

    def leave(self, pool: Pool) -> None:
        """A pool moves to another root. Its bytes go back."""
        if self._pools.pop(pool.login, None) is not None:
            report = pool.report()._replace(demand=Demand())
            pool.has_reported = False
            self.tree.report(_EPOCH, (report,), self.now)

    def wait(self, pool: Pool, lease: Lease, now: float) -> float | None:
        """The time when a transfer has to ask again; None where it has got bytes."""
        self._look_at_clock(now)
        if lease.is_waiting and pool.wants_soon:
            self.tree.report(_EPOCH, (pool.report_in_haste(),), self.now)
            self._distribute(self.now, only=_EPOCH)
        return self._next if lease.is_waiting else None

    def _look_at_clock(self, now: float) -> None:
        self.now = max(now, self.now)
        if self.now >= self._next:
            self._on_tick(self.now)

    def _on_tick(self, now: float) -> None:
        pools = self._pools
        self.tree.report(_EPOCH, [pool.report() for pool in pools.values()], now)
        self._pools = {login: pool for login, pool in pools.items() if pool.transfers}
        self._distribute(now)
        # on a schedule of its own, however late this one came
        self._next = max(self._next + TICK, now + TICK / 2)
        if now - self._forgotten > FORGET:
            self._forgotten = now
            self.tree.forget_idle(now)

    def _distribute(self, now: float, only: int | None = None) -> None:
        grants = self.tree.distribute(now, only).get(_EPOCH, ())
        self.is_contended = self.tree.contended[self._direction]
        for grant in grants:
            self._pools[grant.login].grant(grant.size)


class LocalLeases(ProcessLeases):
    """The pools of a process that has the tree of limits itself."""

    def __init__(self, server: Rates = Rates()) -> None:
        super().__init__(server)
        self._groups: dict[str, Rates] = {}
        self._server_roots = (_Root(UPLOAD, server), _Root(DOWNLOAD, server))
        # those of users and groups, as long as any session of them lives
        self._roots: WeakValueDictionary[_Key, _Root] = WeakValueDictionary()

    # ------------------------------------------------------------------ limits

    def set_server(self, rates: Rates, now: float) -> None:
        """The server's limits, from now on."""
        if rates != self.server:
            self.server = rates
            for root in self._server_roots:
                root.tree.set_server(rates, max(now, root.now))
            self._find_roots(now)

    def set_group(self, name: str, rates: Rates, now: float) -> None:
        """A group's limits, from now on."""
        self._groups[name] = rates
        for root in (*self._server_roots, *self._roots.values()):
            root.tree.set_group(name, rates, max(now, root.now))
        self._find_roots(now)

    def _limits_of(self, login: str, rates: Rates, group: str | None) -> tuple[Rates, ...]:
        of_group = self._groups.get(group) if group is not None else None
        return (self.server, rates) if of_group is None else (self.server, of_group, rates)

    def _make_pool(self, login: str, direction: Direction) -> LocalPool:
        return LocalPool(self, login, direction)

    # ------------------------------------------------------------------ roots

    def _find_roots(self, now: float) -> None:
        """Shared limits have changed: find the topmost limit of each pool again."""
        for pool in tuple(self._pools.values()):
            self._root_of(pool, now)

    def _root_of(self, pool: Pool, now: float) -> _Root:
        """The root of a pool from now on."""
        assert isinstance(pool, LocalPool)
        before, root = pool.root, self._topmost(pool)
        if before is not root:
            pool.root = root
            if before is not None:
                before.leave(pool)
                if pool.transfers:
                    root.join(pool, now)
        return root

    def _topmost(self, pool: Pool) -> _Root:
        direction, group = pool.direction, pool.group
        if self.server.of(direction) is not None:
            return self._server_roots[direction]
        key: _Key = (direction, "user", pool.login)
        if group is not None and self._groups.get(group, Rates()).of(direction) is not None:
            key = (direction, "group", group)
        root = self._roots.get(key)
        if root is None:
            root = self._roots[key] = _Root(direction)
            for name, rates in self._groups.items():
                root.tree.set_group(name, rates, root.now)
        return root

    # ------------------------------------------------------------------ what pools ask

    def is_contended(self, pool: Pool) -> bool:
        assert isinstance(pool, LocalPool)
        return pool.root is not None and pool.root.is_contended

    def tell_limits(self, pool: Pool) -> None:
        assert isinstance(pool, LocalPool)
        if (root := pool.root) is not None:
            root.tree.set_user(pool.login, pool.rates, root.now, group=pool.group)

    def on_use(self, pool: Pool, now: float) -> None:
        self._root_of(pool, now).join(pool, now)

    def wait(self, pool: Pool, lease: Lease, now: float) -> float | None:
        return self._root_of(pool, now).wait(pool, lease, now)
