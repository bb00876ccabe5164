"""Waiting for speed: the only place that does, and the only one that calls ``asyncio.sleep``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ftpcluster.quota.leases import MOST_AT_ONCE, Lease, Pause, SessionLimits
from ftpcluster.quota.rates import Direction
from ftpcluster.session.transfer_waits import Cause, TransferWaits


class Pace:
    """The limits on one transfer, shared with others from ``begin`` to ``end``.

    ``piece`` is how many bytes to move at once; ``spend`` says what has to be awaited for them.
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
        """Give the share back. A transfer that still waits in ``spend`` goes on."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()

    @property
    def piece(self) -> int:
        return MOST_AT_ONCE if self._lease is None else self._lease.piece

    def prepare(self) -> Coroutine[Any, Any, None] | None:
        """What to await before the first byte may be moved, if anything."""
        return self.spend(0)

    def spend(self, count: int) -> Coroutine[Any, Any, None] | None:
        """``count`` bytes were moved. Returns what to await before the next, if anything."""
        lease = self._lease
        if lease is None:
            return None
        now = self._clock()
        pause = lease.spend(count, now)
        return None if pause is None else self._wait_out(lease, pause, now)

    async def _wait_out(self, lease: Lease, pause: Pause | None, now: float) -> None:
        while pause is not None:
            now = await self._wait(pause, now)
            pause = lease.spend(0, now)

    async def _wait(self, pause: Pause, now: float) -> float:
        """Wait; returns the time afterwards, which is never before ``pause.until``."""
        self._waits.begin(Cause.SHARED_LIMIT if pause.is_shared else Cause.CONNECTION_LIMIT)
        if isinstance(pause.until, float):
            await asyncio.sleep(pause.until - now)
            now = max(self._clock(), pause.until)
        else:
            await pause.until
            now = self._clock()
        self._waits.end()
        return now
