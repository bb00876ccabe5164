"""Waiting for speed: the only place that does, and the only one that calls ``asyncio.sleep``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ftpcluster.quota.bucket import Limit
from ftpcluster.quota.quotas import Lease, SharedLimit, Waiter
from ftpcluster.session.waits import Cause, Waits

_TICK = 0.05
"""Seconds' worth of bytes that are moved at once, which keeps a limited transfer smooth."""
_LEAST = 512
_MOST = 1 << 20


class Pace:
    """The limits on one transfer, shared with others from ``begin`` to ``end``.

    ``piece`` is how many bytes to move at once; ``spend`` waits as long as they cost.
    """

    __slots__ = ("_clock", "_leases", "_limits", "_shared", "_waits")

    def __init__(
        self, clock: Callable[[], float], limits: Iterable[Limit | SharedLimit], waits: Waits
    ) -> None:
        limits = tuple(limits)
        self._clock = clock
        self._waits = waits
        self._limits = tuple(limit for limit in limits if isinstance(limit, Limit))
        self._shared = tuple(limit for limit in limits if not isinstance(limit, Limit))
        self._leases: tuple[Lease, ...] = ()

    def begin(self) -> None:
        now = self._clock()
        for limit in self._limits:
            limit.begin(now)
        self._leases = tuple(shared.open() for shared in self._shared)

    def end(self) -> None:
        """Who waits in ``spend`` for others is let go."""
        for limit in self._limits:
            limit.end()
        for lease in self._leases:
            lease.close()
        self._leases = ()

    @property
    def piece(self) -> int:
        most = _MOST
        for limit in self._limits:
            if limit.limit:
                most = min(most, int(limit.limit * _TICK))
        most = max(most, _LEAST)
        for lease in self._leases:  # not one byte more than was granted
            most = min(most, max(lease.in_hand, 1))
        return most

    async def prepare(self) -> None:
        """Wait until something may be moved, where that is for others to say."""
        for lease in self._leases:
            if (waiter := lease.spend(0)) is not None:
                await self._shared_wait(waiter)

    async def spend(self, count: int) -> None:
        """``count`` bytes were moved; wait until the next may be."""
        for lease in self._leases:
            if (waiter := lease.spend(count)) is not None:
                await self._shared_wait(waiter)
        if self._limits:
            now = self._clock()
            due = max(limit.spend(count, now) for limit in self._limits)
            if due > now:
                self._waits.begin(Cause.CONNECTION_LIMIT)
                await asyncio.sleep(due - now)
                self._waits.end()

    async def _shared_wait(self, waiter: Waiter) -> None:
        self._waits.begin(Cause.SHARED_LIMIT)
        await waiter
        self._waits.end()
