"""Waiting for speed: the only place that does, and the only one that calls ``asyncio.sleep``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ftpcluster.quota.bucket import Limit

_TICK = 0.05
"""Seconds' worth of bytes that are moved at once, which keeps a limited transfer smooth."""
_LEAST = 512
_MOST = 1 << 20


class Pace:
    """The limits on one transfer, shared with others from ``begin`` to ``end``.

    ``piece`` is how many bytes to move at once; ``spend`` waits as long as they cost.
    """

    __slots__ = ("_clock", "_limits")

    def __init__(self, clock: Callable[[], float], limits: Iterable[Limit]) -> None:
        self._clock = clock
        self._limits = tuple(limits)

    def begin(self) -> None:
        now = self._clock()
        for limit in self._limits:
            limit.begin(now)

    def end(self) -> None:
        for limit in self._limits:
            limit.end()

    @property
    def piece(self) -> int:
        limits = [limit.limit for limit in self._limits if limit.limit]
        return max(_LEAST, min(_MOST, int(min(limits) * _TICK))) if limits else _MOST

    async def spend(self, count: int) -> None:
        """``count`` bytes were moved; wait until the next may be."""
        now = self._clock()
        due = max([limit.spend(count, now) for limit in self._limits], default=now)
        if due > now:
            await asyncio.sleep(due - now)
