"""Shared speed limits: when the supervisor grants bytes, and to which workers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from ftpcluster.ipc.messages import Grants, Reports, SetGroupLimits, SetLimits, UserLimits
from ftpcluster.ipc.portions import portions
from ftpcluster.quota.fair import Demand
from ftpcluster.quota.limit_store import LimitStore, LocalStore
from ftpcluster.quota.limit_tree import FORGET, STALE, TICK, LimitTree, Report
from ftpcluster.quota.rates import DOWNLOAD, UPLOAD, LimitKey, Rates, SpeedLimits
from ftpcluster.supervisor.worker_handle import Plan

_MANY = 1 << 40


def _most_users(sessions: int) -> int:
    """The most users that a worker may report.

    A worker reports that a user wants nothing any more at its next tick only. By then the user's
    session may have ended and another user's may have begun, so that the worker honestly has
    reported more users than it has sessions.
    """
    return 2 * sessions + 16


def _most_generous(told: Iterable[Rates]) -> Rates:
    """The highest of the limits that workers reported; None, no limit, is the highest."""
    ups, downs = zip(*((each.upload, each.download) for each in told), strict=True)
    return Rates(upload=_highest(ups), download=_highest(downs))


def _highest(rates: Sequence[int | None]) -> int | None:
    return max(map(int, filter(None, rates))) if all(rates) else None


class SharedSpeed:
    """Runs a ``LimitTree``: once a tick, as long as there is any demand."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: SpeedLimits,
        grant: Callable[[int, Grants], None],
        *,
        knows_all_users: bool = False,
        store: LimitStore = LocalStore(),
    ) -> None:
        """``grant(epoch, message)`` sends grants to a worker. ``knows_all_users``: ``limits`` has
        all users; else workers report further ones. ``store`` returns this host's share of each
        limit."""
        self._loop = loop
        self._tree = LimitTree(limits.server, loop.time(), is_shared=store.interval is not None)
        self._grant = grant
        self._limits = limits
        self._set_groups(SpeedLimits())
        self._is_all_configured = knows_all_users
        self._store = store
        self._exchanging: asyncio.Task[Mapping[LimitKey, float]] | None = None
        self._exchanged = -math.inf
        self._has_told = False  # whether the store knows of a demand here
        # limits that workers reported, by user and epoch; at most ``_most_users`` of each worker
        self._told: dict[str, dict[int, Rates]] = {}
        self._leased: dict[int, list[int]] = {}
        self._orders: dict[str | None, Rates] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._next = 0.0
        self._forgotten = 0.0

    @property
    def orders(self) -> tuple[SetLimits, ...]:
        """The limits that were changed while the server ran: a new worker gets them."""
        return tuple(self._order(login, rates) for login, rates in self._orders.items())

    @property
    def server_rates(self) -> Rates:
        """The whole server's limits."""
        return self._tree.server_rates

    def held_by(self, login: str, direction: str) -> str:
        """The name of the shared limit that a waiting transfer waits for."""
        which = UPLOAD if direction == "upload" else DOWNLOAD
        level = self._tree.held_by(login, which)
        if level is None:
            level = "user" if self.server_rates.of(which) is None else "server"
        return f"{level} limit"

    def set_limits(self, login: str | None, rates: Rates) -> SetLimits:
        """Set limits from now on; returns the message for the workers."""
        if login is None:
            self._tree.set_server(rates, self._loop.time())
        else:
            self._set_user(login, rates)
        self._orders[login] = rates
        return self._order(login, rates)

    def _order(self, login: str | None, rates: Rates | None) -> SetLimits:
        group = None if login is None else self._limits.group_of.get(login)
        return SetLimits(login, rates, group)

    def reset(self, plan: Plan) -> list[SetLimits | SetGroupLimits]:
        """Set the limits of a new plan. They replace the limits that an administrator has set
        meanwhile.

        Returns the messages for the old workers.
        """
        now = self._loop.time()
        before, limits = self._limits, plan.speeds
        self._limits = limits
        self._is_all_configured = plan.knows_all_users
        self._tree.set_server(limits.server, now)
        messages: list[SetLimits | SetGroupLimits] = [SetLimits(None, limits.server)]
        messages += self._set_groups(before)
        for login, rates in limits.users.items():
            is_moved = limits.group_of.get(login) != before.group_of.get(login)
            if is_moved or login in self._orders or before.users.get(login) != rates:
                messages.append(self._order(login, rates))
                if is_moved or self._tree.knows(login):
                    self._set_user(login, rates)
        for ordered in self._orders:
            if ordered is not None and ordered not in limits.users:
                # workers know this user's own limits, and send them again (UserLimits)
                messages.append(self._order(ordered, None))
                self._tree.forget_user(ordered)
        self._orders.clear()
        return messages

    def update(self, plan: Plan) -> list[SetLimits | SetGroupLimits]:
        """Set the limits of users and groups that a plan has changed; all others stay, also those
        that an administrator has set. Returns the messages for the workers.
        """
        before, limits = self._limits, plan.speeds
        self._limits = limits
        messages: list[SetLimits | SetGroupLimits] = [*self._set_groups(before)]
        for login, rates in limits.users.items():
            group = limits.group_of.get(login)
            if rates == before.users.get(login) and group == before.group_of.get(login):
                continue
            self._orders.pop(login, None)
            messages.append(self._order(login, rates))
            if self._tree.knows(login):
                self._set_user(login, rates)
        for login in before.users.keys() - limits.users.keys():
            self._orders.pop(login, None)
            messages.append(SetLimits(login, None))
            self._tree.forget_user(login)
        return messages

    def _set_groups(self, before: SpeedLimits) -> list[SetGroupLimits]:
        """Set the limits of groups that have changed; a group that is gone has none."""
        now, groups = self._loop.time(), self._limits.groups
        changed = []
        for name in {**before.groups, **groups}:
            rates = groups.get(name, Rates())
            if rates != before.groups.get(name):
                self._tree.set_group(name, rates, now)
                changed.append(SetGroupLimits(name, rates))
        return changed

    def _set_user(self, login: str, rates: Rates) -> None:
        group = self._limits.group_of.get(login)
        self._tree.set_user(login, rates, self._loop.time(), group=group)

    def on_user_limits(
        self, message: UserLimits, epoch: int = 0, sessions: int = 1, *, is_old: bool = False
    ) -> None:
        """A worker with ``sessions`` sessions reports a user's limits, and may lie.

        Limits set by an administrator or the configuration come first. Other limits only a user
        manager knows: the highest one that a worker reports holds. So a lie cannot slow a user
        down. It gains nothing either: a worker that was taken over could move data without asking.
        ``is_old``: the worker has an old plan; the limits of workers with the new plan come first.
        """
        login = message.login
        rates = Rates(upload=message.rates.upload, download=message.rates.download)
        if login in self._orders:
            rates = self._orders[login]
        elif login in self._limits.users and (is_old or self._is_all_configured):
            rates = self._limits.users[login]
        elif self._is_all_configured or (is_old and self._tree.knows(login)):
            return
        else:
            told = self._told.get(login, {})
            if epoch not in told and self._count_told(epoch) >= _most_users(sessions):
                return
            self._told.setdefault(login, told)[epoch] = rates
            rates = _most_generous(told.values())
        self._set_user(login, rates)

    def _count_told(self, epoch: int) -> int:
        return sum(epoch in told for told in self._told.values())

    def on_reports(self, epoch: int, message: Reports, sessions: int = _MANY) -> None:
        """A worker with ``sessions`` sessions reports the demands of its transfers."""
        now = self._loop.time()
        reports = [self._believed(epoch, report, sessions) for report in message.reports]
        self._tree.report(epoch, filter(None, reports), now)
        if self._tick is not None:
            self._distribute(now, only=epoch)
        elif self._tree.is_wanted:
            self._next = now
            self._on_tick()

    def _believed(self, epoch: int, report: Report, sessions: int) -> Report | None:
        """A report, reduced to what can be true; None: nothing can.

        There are not more transfers than sessions, not many more users, and no more bytes come back
        than were leased.
        """
        login, direction, demand, returned = report
        is_known = login in self._limits.users or login in self._orders
        if self._is_all_configured and not is_known:
            return None
        leased = self._leased.setdefault(epoch, [0, 0])
        returned = min(returned, leased[direction])
        leased[direction] -= returned
        if not demand.total or (
            not self._tree.wants(epoch, login, direction)
            and self._tree.users_of(epoch, direction) >= _most_users(sessions)
        ):
            return Report(login, direction, Demand(), returned)
        if demand.waiting + demand.slow > sessions:
            waiting = min(demand.waiting, sessions)
            slow = min(demand.slow, sessions - waiting)
            demand = demand._replace(waiting=waiting, slow=slow)
        return Report(login, direction, demand, returned)

    def _on_tick(self) -> None:
        self._tick = None
        now = self._loop.time()
        self._distribute(now)
        if now - self._forgotten > FORGET:
            self._forgotten = now
            self._tree.forget_idle(now)
            self._told = {
                login: each for login, each in self._told.items() if self._tree.knows(login)
            }
        self._look_at_store(now)
        if self._tree.is_wanted:
            # on a schedule of its own, however late this one came
            self._next = max(self._next + TICK, now + TICK / 2)
            self._tick = self._loop.call_at(self._next, self._on_tick)

    def _look_at_store(self, now: float) -> None:
        """Send the store this host's demands, once in a while. No tick waits for its answer.

        The end of all demand is sent at once: other hosts can use this share.
        """
        if self._store.interval is None or self._exchanging is not None:
            return
        is_due = now - self._exchanged >= self._store.interval
        if is_due if self._tree.is_wanted else self._has_told:
            self._exchanged, self._has_told = now, self._tree.is_wanted
            self._exchanging = self._loop.create_task(self._exchange())
            self._exchanging.add_done_callback(self._on_shares)

    async def _exchange(self) -> Mapping[LimitKey, float]:
        return await self._store.exchange(self._tree.demands())

    def _on_shares(self, exchange: asyncio.Task[Mapping[LimitKey, float]]) -> None:
        self._exchanging = None
        if exchange.cancelled():
            return
        now = self._loop.time()
        self._tree.set_shares(exchange.result(), now)
        self._distribute(now)
        self._look_at_store(now)

    def _distribute(self, now: float, only: int | None = None) -> None:
        if now - self._next > STALE:
            self._tree.resume(now)  # the workers went on with their shares: these bytes are spent
        for epoch, grants in self._tree.distribute(now, only).items():
            leased = self._leased.setdefault(epoch, [0, 0])
            for grant in grants:
                leased[grant.direction] += grant.size
            for some in portions(grants):
                self._grant(epoch, Grants(some, self._tree.contended))

    def release_worker(self, epoch: int) -> None:
        self._tree.release_process(epoch)
        self._leased.pop(epoch, None)
        for told in self._told.values():
            told.pop(epoch, None)

    def close(self) -> None:
        """Distribute no more; harmless when repeated."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if self._exchanging is not None:
            self._exchanging.cancel()
