"""A worker's leases. Once a tick it reports how many bytes it wants; the supervisor grants them.

All pools report in one message. Nothing is sent where no shared limit applies. If the supervisor is
silent, a worker goes on with its share of the limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ftpcluster.ipc.messages import Grants, Reports, ToldRates, UserLimits
from ftpcluster.ipc.portions import portions
from ftpcluster.quota.leases import Lease, Pool, ProcessLeases
from ftpcluster.quota.limit_tree import STALE, TICK, Report
from ftpcluster.quota.rates import Rates, SpeedLimits

_MOST_SPEED = 10**15
_SOON = 0.005
"""Seconds between two early reports, at least: a transfer that waits does not wait for the tick."""
_SILENCE = 4 * TICK
"""Seconds without a grant after which the worker does not wait for the supervisor any more."""


class RemoteLeases(ProcessLeases):
    """The pools of a worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        workers: int,
        limits: SpeedLimits,
        send: Callable[[Reports | UserLimits], None],
    ) -> None:
        """``limits``: those of the configuration. ``workers``: how many share them."""
        super().__init__(limits.server)
        self._loop = loop
        self._workers = workers
        self._groups = dict(limits.groups)
        self.group_of = dict(limits.group_of)
        self._send = send
        self._ordered: dict[str, Rates] = {}  # by the supervisor; above the account's
        self._used: dict[Pool, None] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._due = 0.0  # when the tick should come
        self._soon: asyncio.Handle | None = None
        self._last_heard = 0.0
        self._asked: float | None = None  # when the unanswered report was sent
        self.contended = (False, False)
        self.grants = 0
        self.waited = 0.0
        """The number of waits for an answer, and their seconds in all."""

    # ------------------------------------------------------------------ limits

    @property
    def limits_others(self) -> bool:
        """Whether a user without a limit of its own may be limited: by the server's, a group's, or
        an administrator's."""
        return bool(self._ordered or self._groups) or self.server.is_limited

    def _limits_of(self, login: str, rates: Rates, group: str | None) -> tuple[Rates, ...]:
        of_user = self._ordered.get(login, rates)
        of_group = self._groups.get(group) if group is not None else None
        return (self.server, of_user) if of_group is None else (self.server, of_group, of_user)

    def order(self, login: str | None, rates: Rates | None, group: str | None = None) -> None:
        """The supervisor has changed the server's limits (login None), or a user's.

        ``rates`` None: the user manager's limits hold again. ``group``: the user's group in the
        configuration, which a reload may have changed.
        """
        if login is None:
            self.server = rates or Rates()
            return
        if group is None:
            self.group_of.pop(login, None)
        else:
            self.group_of[login] = group
        if rates is not None:
            self._ordered[login] = rates
        elif self._ordered.pop(login, None) is not None:
            for pool in self._known_pools(login):
                if pool.has_reported:
                    self.tell_limits(pool)

    def order_group(self, name: str, rates: Rates) -> None:
        """The supervisor has changed a group's limits."""
        self._groups[name] = rates

    # ------------------------------------------------------------------ reports and grants

    def is_contended(self, pool: Pool) -> bool:
        return self.contended[pool.direction]

    def wait(self, pool: Pool, lease: Lease, now: float) -> asyncio.Future[None]:
        lease.waiter = waiter = self._loop.create_future()
        if pool.wants_soon:
            self._report_soon()
        return waiter

    def on_use(self, pool: Pool, now: float) -> None:
        if pool in self._used:
            return
        self._used[pool] = None
        if self._tick is None:
            self._last_heard = now
            self._tick_later()

    def _tick_later(self) -> None:
        self._due = self._loop.time() + TICK
        self._tick = self._loop.call_at(self._due, self._on_tick)

    def tell_limits(self, pool: Pool) -> None:
        """Send the limits of a pool's user: the supervisor forgets users without transfers."""
        up, down = (
            rate and min(max(rate, 1), _MOST_SPEED)
            for rate in (pool.rates.upload, pool.rates.download)
        )
        self._send(UserLimits(pool.login, ToldRates(upload=up, download=down)))

    def _report_soon(self) -> None:
        """A transfer waits: the supervisor should know before the tick."""
        if self._soon is None:
            self._soon = self._loop.call_soon(self._report_now)

    def _report_now(self) -> None:
        if self._asked is None:
            self._asked = self._loop.time()
        self._say([pool.report_in_haste() for pool in self._used if pool.wants_soon])
        self._soon = self._loop.call_later(_SOON, self._on_soon)

    def _on_soon(self) -> None:
        self._soon = None
        if any(pool.wants_soon for pool in self._used):
            self._report_soon()

    def _on_tick(self) -> None:
        self._tick = None
        pools = tuple(self._used)
        if self._loop.time() - self._due > STALE:
            # this process stood still: the supervisor may have forgotten its users
            for pool in pools:
                pool.has_reported = False
        if not any(pool.has_reported for pool in pools):
            self._last_heard = self._loop.time()  # nothing was asked, so no answer is missing
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
        self.contended = message.contended
        for grant in message.grants:
            pool = self._pools.get((grant.login, grant.direction))
            if pool is not None:
                pool.grant(grant.size)
                self.on_use(
                    pool, now
                )  # if it has no transfer any more, the next tick returns the grant

    def _look_for_silence(self) -> None:
        """If the supervisor is silent, grant waiting pools this worker's share of the limits."""
        waiting = [pool for pool in self._used if pool.is_waiting]
        if not waiting or self._loop.time() - self._last_heard < _SILENCE:
            return
        for pool in waiting:
            among = [other for other in waiting if other.direction == pool.direction]
            if (rate := self._rate_in_silence(pool, among)) is not None:
                pool.grant(max(1, int(rate * TICK / self._workers)))

    def _rate_in_silence(self, pool: Pool, among: Sequence[Pool]) -> float | None:
        """A user's part of the limits. The server's limit is divided by all users that wait, the
        group's by those of the group."""
        found: list[float] = []
        server, user = self.server.of(pool.direction), self._users_rate(pool)
        if server is not None:
            found.append(server / len(among))
        if user is not None:
            found.append(user)
        if pool.group is not None and pool.group in self._groups:
            group = self._groups[pool.group].of(pool.direction)
            if group is not None:
                found.append(group / sum(other.group == pool.group for other in among))
        return min(found, default=None)

    def _users_rate(self, pool: Pool) -> int | None:
        return self._ordered.get(pool.login, pool.rates).of(pool.direction)
