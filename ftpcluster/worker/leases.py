"""A worker's leases: bytes that the supervisor granted, spread over the transfers that run here.

There is a pool for each user and direction under a shared limit. A transfer takes from it before it
moves anything, a piece at a time; where it is empty the transfer waits for the next grant, which is
split evenly. Once a tick all pools report what they want, in one message, and give back what they
do not need. Nothing is sent where no shared limit applies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from ftpcluster.ipc.messages import Grants, Reports, ToldRates, UserLimits
from ftpcluster.quota.fair import Demand
from ftpcluster.quota.leases import READ, STALE, TICK, WRITE, Direction, Rates, Report, portions

_LEAST = 512
_MOST_SPEED = 10**15
_PIECE = 64 * 1024
"""Bytes that a transfer takes at once, at least, from a pool that has them."""
_APPETITE = 1 << 20
"""Bytes that a transfer asks for which had to wait, or four times what it moved in the tick."""
_SOON = 0.005
"""Seconds between two reports, at the least, where a transfer waits and the tick is far."""
_SILENCE = 4 * TICK
"""Seconds without a grant after which the supervisor is not to be waited for any longer."""


class Lease:
    """One transfer's part: ``in_hand`` bytes that it may move."""

    __slots__ = ("_pool", "in_hand", "used", "waiter", "was_hungry")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.in_hand = 0
        self.used = 0
        self.was_hungry = False
        self.waiter: asyncio.Future[None] | None = None

    def spend(self, count: int) -> asyncio.Future[None] | None:
        """``count`` bytes were moved. The future, if any, is to be awaited before any more are."""
        self.in_hand -= count
        self.used += count
        if self.in_hand > 0:
            return None
        return self._pool.take(self)

    @property
    def appetite(self) -> int:
        """Bytes that it asks for, having had to wait."""
        return max(_APPETITE, 4 * self.used)

    def close(self) -> None:
        """The transfer has ended: what it did not use is for the others."""
        self._pool.leave(self)


class Pool:
    """What the transfers of one user in one direction have together."""

    __slots__ = (
        "__weakref__",
        "_leases",
        "_waiting",
        "balance",
        "direction",
        "has_asked",
        "has_reported",
        "login",
        "rates",
        "transfers",
    )

    def __init__(self, leases: Leases, login: str, direction: Direction) -> None:
        self._leases = leases
        self.login = login
        self.rates = Rates()  # what the user manager says of the user
        self.direction = direction
        self.balance = 0
        self.transfers: set[Lease] = set()
        self._waiting: list[Lease] = []
        self.has_reported = False  # whether the supervisor knows of a demand
        self.has_asked = False  # and was told in haste since it last gave anything

    @property
    def limit(self) -> bool:
        """Whether there is a limit at all (as of a ``Limit``)."""
        return self._leases.rate(self) is not None

    def open(self) -> Lease:
        """A transfer begins."""
        lease = Lease(self)
        self.transfers.add(lease)
        self._leases.on_use(self)
        return lease

    def leave(self, lease: Lease) -> None:
        if lease in self.transfers:
            self.transfers.remove(lease)
            self.balance += lease.in_hand
            lease.in_hand = 0
            waiter, lease.waiter = lease.waiter, None
            if waiter is not None:
                self._waiting.remove(lease)
                if not waiter.done():
                    waiter.set_result(None)

    def take(self, lease: Lease) -> asyncio.Future[None] | None:
        if self.balance > 0 and not self._waiting:
            piece = max(_PIECE, self.balance // len(self.transfers))
            self._give(lease, min(self.balance, piece - lease.in_hand))
            if lease.in_hand > 0:
                return None
        lease.was_hungry = True
        lease.waiter = self._leases.make_waiter()
        self._waiting.append(lease)
        if self.wants_soon:
            self._leases.report_soon()
        return lease.waiter

    def grant(self, size: int) -> None:
        """The supervisor gave so much: those who wait get equal parts."""
        self.has_asked = False
        self.balance += size
        waiting, self._waiting = self._waiting, []
        while waiting and self.balance > 0:
            part = max(_LEAST, self.balance // len(waiting))
            lease = waiting.pop(0)
            self._give(lease, min(self.balance, part))
            if lease.in_hand > 0:
                waiter, lease.waiter = lease.waiter, None
                if waiter is not None and not waiter.done():
                    waiter.set_result(None)
            else:
                self._waiting.append(lease)  # it had moved more than it had
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
        return not (self.has_asked or self._leases.is_contended[self.direction])

    def report_hunger(self) -> Report:
        """Between two ticks: what those want that wait."""
        self.has_asked = True
        hungry = [lease for lease in self.transfers if lease.was_hungry]
        appetite = sum(lease.appetite for lease in hungry)
        return self._report(Demand(len(hungry), appetite), 0)

    def report(self) -> Report:
        """What the transfers want in the next tick, by what they did in the last one."""
        hungry = appetite = slow = want = 0
        for lease in self.transfers:
            if lease.was_hungry:
                hungry += 1
                appetite += lease.appetite
                lease.was_hungry = lease.waiter is not None
            elif lease.used:
                slow += 1
                want += lease.used + lease.used // 4
            else:  # it stands still: others can use what it has in hand
                self.balance += lease.in_hand
                lease.in_hand = 0
            lease.used = 0
        returned = max(0, self.balance - want)
        self.balance -= returned
        demand = Demand(hungry, appetite, slow, max(0, want - self.balance))
        return self._report(demand, returned)

    def _report(self, demand: Demand, returned: int) -> Report:
        if demand.total and not self.has_reported:
            self._leases.tell_limits(self)
        self.has_reported = demand.total > 0
        return Report(self.login, self.direction, demand, returned)


class Leases:
    """All pools of a worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        workers: int,
        server: Rates,
        send: Callable[[Reports | UserLimits], None],
    ) -> None:
        self._loop = loop
        self._workers = workers
        self._server = server
        self._send = send
        self._ordered: dict[str, Rates] = {}  # by the supervisor, whatever the user manager says
        # as long as any session of the user lives
        self._pools: WeakValueDictionary[tuple[str, Direction], Pool] = WeakValueDictionary()
        self._used: dict[Pool, None] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it should come
        self._soon: asyncio.Handle | None = None
        self._last_heard = 0.0
        self._asked: float | None = None  # since when an answer is waited for
        self.grants = 0
        self.waited = 0.0
        """How often an answer was waited for, and for how many seconds in all."""
        self.is_contended = (False, False)

    # ------------------------------------------------------------------ limits

    def pools(self, login: str, rates: Rates) -> tuple[Pool, Pool] | None:
        """The pools of a user's transfers, to receive and to send; None where nothing limits."""
        if not (self._ordered.get(login, rates).is_limited or self._server.is_limited):
            return None
        return self._pool(login, READ, rates), self._pool(login, WRITE, rates)

    def _pool(self, login: str, direction: Direction, rates: Rates) -> Pool:
        pool = self._pools.get((login, direction))
        if pool is None:
            pool = self._pools[login, direction] = Pool(self, login, direction)
        if pool.rates != rates:
            pool.rates = rates
            if pool.has_reported:
                self.tell_limits(pool)
        return pool

    @property
    def limits_others(self) -> bool:
        """Whether there are limits on users who have none of their own."""
        return bool(self._ordered) or self._server.is_limited

    def order(self, login: str | None, rates: Rates | None) -> None:
        """The supervisor has changed the server's limits (login None), or a user's.

        ``rates`` None ends what it has ordered.
        """
        if login is None:
            self._server = rates or Rates()
        elif rates is not None:
            self._ordered[login] = rates
        elif self._ordered.pop(login, None) is not None:
            pools = (self._pools.get((login, READ)), self._pools.get((login, WRITE)))
            for pool in pools:
                if pool is not None and pool.has_reported:
                    self.tell_limits(pool)

    def _users_rate(self, pool: Pool) -> int | None:
        return self._ordered.get(pool.login, pool.rates)[pool.direction]

    def rate(self, pool: Pool) -> int | None:
        """The tightest limit, in bytes per second."""
        rates = [rate for rate in (self._server[pool.direction], self._users_rate(pool)) if rate]
        return min(rates) if rates else None

    # ------------------------------------------------------------------ reports and grants

    def make_waiter(self) -> asyncio.Future[None]:
        return self._loop.create_future()

    def on_use(self, pool: Pool) -> None:
        """A transfer of this pool begins."""
        if pool in self._used:
            return
        self._used[pool] = None
        if self._tick is None:
            self._last_heard = self._loop.time()
            self._tick_later()

    def _tick_later(self) -> None:
        self._due = self._loop.time() + TICK
        self._tick = self._loop.call_at(self._due, self._on_tick)

    def tell_limits(self, pool: Pool) -> None:
        """Before the first of its reports: the supervisor forgets users for whom nothing moves.

        Also where there is none: there may have been one before.
        """
        read, write = (rate and min(max(rate, 1), _MOST_SPEED) for rate in pool.rates)
        self._send(UserLimits(pool.login, ToldRates(read, write)))

    def report_soon(self) -> None:
        """A transfer waits: the supervisor should know before the tick."""
        if self._soon is None:
            self._soon = self._loop.call_soon(self._report_now)

    def _report_now(self) -> None:
        if self._asked is None:
            self._asked = self._loop.time()
        self._say([pool.report_hunger() for pool in self._used if pool.wants_soon])
        self._soon = self._loop.call_later(_SOON, self._on_soon)

    def _on_soon(self) -> None:
        self._soon = None
        if any(pool.wants_soon for pool in self._used):
            self.report_soon()

    def _on_tick(self) -> None:
        self._tick = None
        pools = tuple(self._used)
        if self._loop.time() - self._due > STALE:
            # this process stood still: meanwhile its users may have been forgotten
            for pool in pools:
                pool.has_reported = False
        if not any(pool.has_reported for pool in pools):
            self._last_heard = self._loop.time()  # nobody was asked: there was nothing to hear
        self._say([pool.report() for pool in pools])
        for pool in pools:
            if not pool.transfers and not pool.has_reported:
                del self._used[pool]
        if self._used:
            self._tick_later()
            self._look_for_silence()

    def _say(self, reports: Sequence[Report]) -> None:
        for some in portions(reports):
            self._send(Reports(some))

    def on_grants(self, message: Grants) -> None:
        """The supervisor has granted leases."""
        self._last_heard = now = self._loop.time()
        if self._asked is not None:
            self.grants += 1
            self.waited += now - self._asked
            self._asked = None
        self.is_contended = message.contended
        for grant in message.grants:
            pool = self._pools.get((grant.login, grant.direction))
            if pool is not None:
                pool.grant(grant.size)
                self.on_use(pool)  # where nobody is left it goes back

    def _look_for_silence(self) -> None:
        """Where the supervisor says nothing, go on with this worker's share of the limits."""
        waiting = [pool for pool in self._used if pool.is_waiting]
        if not waiting or self._loop.time() - self._last_heard < _SILENCE:
            return
        for pool in waiting:
            user = self._users_rate(pool)
            server = self._server[pool.direction]
            among = sum(other.direction == pool.direction for other in waiting)
            rates = [rate for rate in (user, server and server / among) if rate]
            if rates:
                pool.grant(max(1, int(min(rates) * TICK / self._workers)))
