"""A process's leases: bytes that its transfers may move within the limits that they share. Pure.

There is a pool for each user and direction under a shared limit. A transfer takes bytes from it
before it moves any, a piece at a time. If the pool is empty, the transfer waits for the next grant,
which is split evenly. Once a tick each pool reports the bytes that it wants, and gives back those
that it does not need.

The subclass of ``ProcessLeases`` decides where grants come from. ``LocalLeases`` has the tree of
limits in the same process; ``RemoteLeases`` in ``ftpcluster.worker`` asks the supervisor.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol
from weakref import WeakValueDictionary

from ftpcluster.quota.bucket import Bucket
from ftpcluster.quota.fair import Demand
from ftpcluster.quota.limit_tree import TICK, Report
from ftpcluster.quota.rates import (
    DOWNLOAD,
    UPLOAD,
    AccountSpeeds,
    Direction,
    Rates,
    tightest,
)

_LEAST = 512
"""The fewest bytes that a limited transfer moves at once."""
MOST_AT_ONCE = 1 << 20
"""The most bytes that a limited transfer moves at once."""
_SHORTEST = 0.001
"""Seconds of the shortest pause for a connection's limit. A shorter pause is added to the next."""
_PIECE = 64 * 1024
"""Bytes that a transfer takes at once, at least, from a pool that has them."""
_ASKED = 1 << 20
"""Bytes that a transfer asks for after it had to wait, at least. It asks for four times the bytes
that it moved in the tick, where that is more."""
_ASKED_OF_MANY = 16 << 20
"""The same for a transfer that is known to have so many bytes left; but at most a quarter of the
bytes that the limit allows in a tick."""


class Waiter(Protocol):
    """A future of an event loop, on which a transfer waits."""

    def __await__(self) -> Generator[Any, None, Any]: ...
    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...


class Pause(NamedTuple):
    """A wait that a transfer needs: until a time of the clock, or until an awaitable is done.

    ``is_shared``: for a limit that sessions share, else for one of its connection.
    """

    until: float | Waiter
    is_shared: bool


class Lease:
    """One transfer's part: ``in_hand`` bytes that it may move.

    ``connection`` is the limit of its connection, if there is one; ``pool`` has the shared ones.
    ``size``: bytes that it will move, where that is known.
    """

    __slots__ = (
        "_connection",
        "_left",
        "_most",
        "_pool",
        "had_to_wait",
        "in_hand",
        "is_waiting",
        "used",
        "waiter",
    )

    def __init__(
        self, pool: Pool | None, connection: Bucket | None = None, size: int | None = None
    ) -> None:
        self._pool = pool
        self._left = size or 0
        self._connection = connection
        self._most = MOST_AT_ONCE
        if connection is not None and connection.rate is not None:
            self._most = max(_LEAST, min(MOST_AT_ONCE, int(connection.rate * TICK)))
        self.in_hand = 0
        self.used = 0
        self.had_to_wait = self.is_waiting = False
        self.waiter: Waiter | None = None

    @property
    def piece(self) -> int:
        """Bytes to move at once: not more than were granted."""
        return self._most if self._pool is None else min(self._most, max(self.in_hand, 1))

    def spend(self, count: int, now: float) -> Pause | None:
        """``count`` bytes were moved. Returns what to wait for before more are.

        After the wait the caller asks again, with a count of 0. If the wait was for a time, the
        caller's ``now`` is at least that time.
        """
        due = now if self._connection is None else self._connection.spend(count, now)
        pool = self._pool
        if pool is not None:
            self.in_hand -= count
            self.used += count
            self._left -= count
            if self.in_hand <= 0 and (until := pool.take(self, now)) is not None:
                return Pause(until, is_shared=True)
        return Pause(due, is_shared=False) if due > now + _SHORTEST else None

    @property
    def asks_for(self) -> int:
        """Bytes to ask for after a wait: at most one more than are left, so that the transfer does
        not wait again at its end."""
        if self._left <= 0 or self._pool is None:  # unknown, or the size was too low
            return max(_ASKED, 4 * self.used)
        return min(max(self._pool.asks_for_at_once, 4 * self.used), self._left + 1)

    def go_on(self) -> None:
        """End the transfer's wait."""
        self.is_waiting = False
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def close(self) -> None:
        """The transfer has ended: the bytes that it did not use go to the others."""
        pool, self._pool, self._connection = self._pool, None, None
        if pool is not None:
            pool.leave(self)


class Pool:
    """The bytes that the transfers of one user in one direction have together."""

    __slots__ = (
        "__weakref__",
        "_leases",
        "_waiting",
        "balance",
        "direction",
        "group",
        "has_asked",
        "has_reported",
        "login",
        "rates",
        "transfers",
    )

    def __init__(self, leases: ProcessLeases, login: str, direction: Direction) -> None:
        self._leases = leases
        self.login = login
        self.rates = Rates()  # the account's own limits
        self.group: str | None = None
        self.direction = direction
        self.balance = 0
        self.transfers: set[Lease] = set()
        self._waiting: list[Lease] = []
        self.has_reported = False  # whether the source of grants knows a demand of this pool
        self.has_asked = False  # whether it has asked between two ticks, and has no answer yet

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return self._leases.rate(self) is not None

    @property
    def asks_for_at_once(self) -> int:
        """Bytes that a transfer asks for at its beginning, if it has as many."""
        rate = self._leases.rate(self) or 0
        return max(_ASKED, min(_ASKED_OF_MANY, int(rate * TICK / 4)))

    def open(self, now: float, connection: Bucket | None = None, size: int | None = None) -> Lease:
        """A transfer begins; ``size``: its bytes, where they are known."""
        lease = Lease(self, connection, size)
        self.transfers.add(lease)
        self._leases.on_use(self, now)
        return lease

    def leave(self, lease: Lease) -> None:
        if lease in self.transfers:
            self.transfers.remove(lease)
            self.balance += lease.in_hand
            lease.in_hand = 0
            if lease.is_waiting:
                self._waiting.remove(lease)
                lease.go_on()

    def take(self, lease: Lease, now: float) -> float | Waiter | None:
        """Give bytes to a transfer that has none left; or return what it has to wait for."""
        if self.balance > 0 and not self._waiting:
            piece = max(_PIECE, self.balance // len(self.transfers))
            self._give(lease, min(self.balance, piece - lease.in_hand))
            if lease.in_hand > 0:
                return None
        if not lease.is_waiting:
            lease.had_to_wait = lease.is_waiting = True
            self._waiting.append(lease)
        return self._leases.wait(self, lease, now)

    def grant(self, size: int) -> None:
        """``size`` bytes were granted: transfers that wait get equal parts, or what they ask
        for."""
        self.has_asked = False
        self.balance += size
        waiting, self._waiting = self._waiting, []
        while waiting and self.balance > 0:
            part = max(_LEAST, self.balance // len(waiting))
            lease = waiting.pop(0)
            self._give(lease, min(self.balance, part, max(lease.asks_for, 1) - lease.in_hand))
            if lease.in_hand > 0:
                lease.go_on()
            else:
                self._waiting.append(lease)  # the grant has only paid its debt
        self._waiting = waiting + self._waiting

    def _give(self, lease: Lease, size: int) -> None:
        lease.in_hand += size
        self.balance -= size

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    @property
    def wants_soon(self) -> bool:
        """Whether a transfer waits, and a report before the tick would help it."""
        if not self._waiting:
            return False
        if not self.has_reported:
            return True
        return not (self.has_asked or self._leases.is_contended(self))

    def report_in_haste(self) -> Report:
        """The demand of the waiting transfers, between two ticks."""
        self.has_asked = True
        waiting = [lease for lease in self.transfers if lease.had_to_wait]
        return self._report(Demand(len(waiting), sum(lease.asks_for for lease in waiting)), 0)

    def report(self) -> Report:
        """The demand of the transfers in the next tick, judged by the last one."""
        waiting = asked = slow = want = 0
        for lease in self.transfers:
            if lease.had_to_wait:
                waiting += 1
                asked += lease.asks_for
                lease.had_to_wait = lease.is_waiting
            elif lease.used:
                slow += 1
                want += lease.used + lease.used // 4
            else:  # it stands still: others can use its bytes
                self.balance += lease.in_hand
                lease.in_hand = 0
            lease.used = 0
        returned = max(0, self.balance - want)
        self.balance -= returned
        return self._report(Demand(waiting, asked, slow, max(0, want - self.balance)), returned)

    def _report(self, demand: Demand, returned: int) -> Report:
        if demand.total and not self.has_reported:
            self._leases.tell_limits(self)
        self.has_reported = demand.total > 0
        return Report(self.login, self.direction, demand, returned)


class ProcessLeases:
    """All pools of a process."""

    def __init__(self, server: Rates) -> None:
        self.server = server
        # as long as any session of the user lives
        self._pools: WeakValueDictionary[tuple[str, Direction], Pool] = WeakValueDictionary()

    def pools(self, login: str, rates: Rates, group: str | None = None) -> tuple[Pool, Pool] | None:
        """The pools of a user's transfers, up and down; None without a shared limit."""
        if not self.limits(login, rates, group):
            return None
        return (
            self._pool(login, UPLOAD, rates, group),
            self._pool(login, DOWNLOAD, rates, group),
        )

    def _pool(self, login: str, direction: Direction, rates: Rates, group: str | None) -> Pool:
        pool = self._pools.get((login, direction))
        if pool is None:
            pool = self._pools[login, direction] = self._make_pool(login, direction)
        if (pool.rates, pool.group) != (rates, group):
            pool.rates, pool.group = rates, group
            if pool.has_reported:
                self.tell_limits(pool)
        return pool

    def _make_pool(self, login: str, direction: Direction) -> Pool:
        return Pool(self, login, direction)

    def _known_pools(self, login: str) -> list[Pool]:
        """The pools of a user that exist."""
        found = (self._pools.get((login, UPLOAD)), self._pools.get((login, DOWNLOAD)))
        return [pool for pool in found if pool is not None]

    def limits(self, login: str, rates: Rates, group: str | None) -> bool:
        """Whether any shared limit holds for a user whose own are ``rates``."""
        return any(each.is_limited for each in self._limits_of(login, rates, group))

    def rate(self, pool: Pool) -> int | None:
        """The tightest limit, in bytes per second."""
        limits = self._limits_of(pool.login, pool.rates, pool.group)
        return tightest(*(each.of(pool.direction) for each in limits))

    def _limits_of(self, login: str, rates: Rates, group: str | None) -> tuple[Rates, ...]:
        """The limits that hold for a user: the server's first."""
        raise NotImplementedError

    def is_contended(self, pool: Pool) -> bool:
        """Whether a user who shares a limit with this one got less than wanted in the last tick."""
        raise NotImplementedError

    def wait(self, pool: Pool, lease: Lease, now: float) -> float | Waiter | None:
        """A transfer needs a grant. Returns what it waits for; None where it has got one now."""
        raise NotImplementedError

    def on_use(self, pool: Pool, now: float) -> None:
        """A transfer of this pool begins, or a grant has come for it."""
        raise NotImplementedError

    def tell_limits(self, pool: Pool) -> None:
        """Called before a pool's first report, and when the pool's limits have changed.

        Called even for a user without a limit: there may have been one before.
        """
        raise NotImplementedError


class SessionLimits:
    """All limits on a session's transfers: those that it shares, and its connection's own."""

    __slots__ = ("_connection", "_pools")

    def __init__(self, pools: tuple[Pool, Pool] | None, per_connection: Rates, now: float) -> None:
        self._pools = pools
        self._connection = tuple(
            None if rate is None else Bucket(rate, now)
            for rate in (per_connection.of(UPLOAD), per_connection.of(DOWNLOAD))
        )

    def hold(self, direction: Direction) -> bool:
        """Whether there is a limit on this direction."""
        is_shared = self._pools is not None and self._pools[direction].is_limited
        return is_shared or self._connection[direction] is not None

    def open(self, direction: Direction, now: float, size: int | None = None) -> Lease | None:
        """A transfer begins; ``size``: its bytes, where they are known. None: nothing limits it."""
        pool = None if self._pools is None else self._pools[direction]
        connection = self._connection[direction]
        if connection is not None:
            connection.available(now, is_busy=True)  # time since the last transfer pays its debt
            connection.empty(now)  # but an idle connection has saved up nothing
        if pool is not None and pool.is_limited:
            return pool.open(now, connection, size)
        return None if connection is None else Lease(None, connection)


def session_limits(
    leases: ProcessLeases, account: AccountSpeeds, now: float
) -> SessionLimits | None:
    """The limits on the transfers of a session that has logged in; None where there are none."""
    pools = leases.pools(account.login, account.shared, account.group)
    if pools is None and not account.per_connection.is_limited:
        return None
    return SessionLimits(pools, account.per_connection, now)
