"""Waiting for speed: the only place that does, and the only one that calls ``asyncio.sleep``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ftpcluster.quota.leases import MOST_AT_ONCE, Lease, Pause, SessionLimits
from ftpcluster.quota.rates import Direction
from ftpcluster.session.transfer_waits import Cause, TransferWaits


class Pace:
    """The limits on one transfer, shared with others from ``begin`` to ``end``.

    ``piece`` is how many bytes to move at once; ``spend`` waits as long as they cost.
    """

    __slots__ = ("_clock", "_direction", "_lease", "_limits", "_size", "_waits")

    def __init__(
        self,
        clock: Callable[[], float],
        limits: SessionLimits,
        direction: Direction,
        waits: TransferWaits,
        size: int | None = None,
    ) -> None:
        """``size``: the bytes of the transfer, where they are known."""
        self._clock = clock
        self._limits = limits
        self._direction = direction
        self._waits = waits
        self._size = size
        self._lease: Lease | None = None

    def begin(self) -> None:
        self._lease = self._limits.open(self._direction, self._clock(), self._size)

    def end(self) -> None:
        """A transfer that waits in ``spend`` for others is let go."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()

    @property
    def piece(self) -> int:
        return MOST_AT_ONCE if self._lease is None else self._lease.piece

    async def prepare(self) -> None:
        """Wait until something may be moved."""
        await self.spend(0)

    async def spend(self, count: int) -> None:
        """``count`` bytes were moved; wait until the next may be."""
        lease = self._lease
        if lease is None:
            return
        now = self._clock()
        pause = lease.spend(count, now)
        while pause is not None:
            now = await self._wait(pause, now)
            pause = lease.spend(0, now)

    async def _wait(self, pause: Pause, now: float) -> float:
        """The time afterwards. A transfer that has waited for a time knows that it has come."""
        self._waits.begin(Cause.SHARED_LIMIT if pause.is_shared else Cause.CONNECTION_LIMIT)
        if isinstance(pause.until, float):
            await asyncio.sleep(pause.until - now)
            now = max(self._clock(), pause.until)
        else:
            await pause.until
            now = self._clock()
        self._waits.end()
        return now
