"""Shared speed limits: when the supervisor spreads what is there, and whom it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ftpcluster.ipc.messages import Grants, Reports, SetLimits, UserLimits
from ftpcluster.quota.leases import FORGET, READ, STALE, TICK, WRITE, LeaseBook, Rates, portions
from ftpcluster.supervisor.handle import Plan


class SharedSpeed:
    """Runs a ``LeaseBook``: once a tick, as long as anybody wants anything."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rates: Rates,
        grant: Callable[[int, Grants], None],
    ) -> None:
        """``rates``: the whole server's. ``grant(epoch, message)`` tells a worker."""
        self._loop = loop
        self._book = LeaseBook(rates, loop.time())
        self._grant = grant
        self._accounts: Mapping[str, Rates] = {}
        self._orders: dict[str | None, Rates] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._next = 0.0
        self._forgotten = 0.0

    @property
    def orders(self) -> tuple[SetLimits, ...]:
        """The limits that were changed while the server ran: what a new worker has to be told."""
        return tuple(SetLimits(login, rates) for login, rates in self._orders.items())

    @property
    def server_rates(self) -> Rates:
        """The whole server's limits."""
        return self._book.server_rates

    def who_holds(self, login: str, direction: str) -> str:
        """Which limit a transfer waits for that waits for a shared one."""
        which = READ if direction == "upload" else WRITE
        is_users = self._book.is_scarce(login, which) or self.server_rates[which] is None
        return "user limit" if is_users else "server limit"

    def set_limits(self, login: str | None, rates: Rates) -> SetLimits:
        """Limits from now on; what the workers have to be told."""
        if login is None:
            self._book.set_server(rates, self._loop.time())
        else:
            self._book.set_user(login, rates, self._loop.time())
        self._orders[login] = rates
        return SetLimits(login, rates)

    def reset(self, before: Plan, plan: Plan) -> list[SetLimits]:
        """The limits of a new plan, which undoes what was ordered meanwhile.

        Returns what the old workers have to be told.
        """
        now = self._loop.time()
        self._accounts = plan.accounts
        self._book.set_server(plan.rates, now)
        messages = [SetLimits(None, plan.rates)]
        for login, rates in plan.accounts.items():
            if login in self._orders or before.accounts.get(login) != rates:
                messages.append(SetLimits(login, rates))
                if self._book.knows(login):
                    self._book.set_user(login, rates, now)
        for ordered in self._orders:
            if ordered is not None and ordered not in plan.accounts:
                # what holds instead the workers know, and will tell
                messages.append(SetLimits(ordered, None))
                self._book.forget_user(ordered)
        self._orders.clear()
        return messages

    def on_user_limits(self, message: UserLimits, *, is_old: bool = False) -> None:
        """``is_old``: by a plan that no longer holds; what a new one says counts more."""
        login, rates = message.login, message.rates
        if login in self._orders:
            rates = self._orders[login]
        elif is_old and login in self._accounts:
            rates = self._accounts[login]
        elif is_old and self._book.knows(login):
            return
        self._book.set_user(login, rates, self._loop.time())

    def on_reports(self, epoch: int, message: Reports) -> None:
        now = self._loop.time()
        self._book.report(epoch, message.reports, now)
        if self._tick is not None:
            self._distribute(now, only=epoch)
        elif self._book.is_wanted:
            self._next = now
            self._on_tick()

    def _on_tick(self) -> None:
        self._tick = None
        now = self._loop.time()
        self._distribute(now)
        if now - self._forgotten > FORGET:
            self._forgotten = now
            self._book.forget_idle(now)
        if self._book.is_wanted:
            # on a schedule of its own, however late this one came
            self._next = max(self._next + TICK, now + TICK / 2)
            self._tick = self._loop.call_at(self._next, self._on_tick)

    def _distribute(self, now: float, only: int | None = None) -> None:
        if now - self._next > STALE:
            self._book.resume(now)  # the workers went on without us: what has come is spent
        for epoch, grants in self._book.distribute(now, only).items():
            for some in portions(grants):
                self._grant(epoch, Grants(some, self._book.contended))

    def release_worker(self, epoch: int) -> None:
        self._book.release_worker(epoch)

    def close(self) -> None:
        """Distribute no more; harmless when repeated."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
