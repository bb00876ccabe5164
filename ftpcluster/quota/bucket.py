"""The bytes that a limit allows now. Pure: time is an argument, in seconds of a monotonic clock."""

from __future__ import annotations

import math

IDLE_DEPTH = 0.04
BUSY_DEPTH = 0.1
"""A bucket holds the bytes of so many seconds. It holds little while nobody wants bytes: more would
be a burst later. It holds more while somebody does, so that nothing is lost when a tick or a timer
comes late."""


class Bucket:
    """Tokens, one for each byte, that come at a rate. None: no limit.

    The rate is the limit itself, or a part of it that is this host's share.

    The schedule is absolute: the n-th byte is due n/rate after the first. A timer that comes late
    does not change that, as long as the delay is within the bucket's depth.
    """

    __slots__ = ("_tokens", "_when", "limit", "rate")

    def __init__(self, limit: float | None, now: float) -> None:
        self.limit = self.rate = limit
        self._when = now
        self._tokens = (limit or 0.0) * IDLE_DEPTH

    def available(self, now: float, *, is_busy: bool) -> float:
        """The tokens in the bucket; infinite where there is no limit."""
        if self.rate is None:
            return math.inf
        come = self.rate * max(0.0, now - self._when)
        self._when = max(now, self._when)
        depth = self.rate * (BUSY_DEPTH if is_busy else IDLE_DEPTH)
        self._tokens = max(self._tokens, min(self._tokens + come, depth))
        return max(0.0, self._tokens)

    @property
    def looked_at(self) -> float:
        """When the tokens were last asked for."""
        return self._when

    def take(self, count: float) -> None:
        """Take tokens, even more than there are: the bucket then fills from below zero."""
        if self.rate is not None:
            self._tokens -= count

    def spend(self, count: int, now: float) -> float:
        """``count`` bytes were moved. Returns the time of the same clock when the next may be."""
        if self.rate is None:
            return now
        self.available(now, is_busy=True)
        self._tokens -= count
        return self._when - min(0.0, self._tokens) / self.rate

    def give_back(self, count: float) -> None:
        if self.rate is not None:
            self._tokens = min(self._tokens + count, self.rate * BUSY_DEPTH)

    def empty(self, now: float) -> None:
        """Drop the tokens that have come so far. A debt stays."""
        self._when = max(now, self._when)
        self._tokens = min(self._tokens, 0.0)

    def set_limit(self, limit: float | None, now: float) -> None:
        """Set another limit, from now on."""
        self.available(now, is_busy=True)
        self.limit = self.rate = limit
        self._tokens = min(self._tokens, (limit or 0.0) * IDLE_DEPTH)

    def set_share(self, rate: float, now: float) -> None:
        """Set the part of the limit that may be used, from now on."""
        if self.limit is not None:
            self.available(now, is_busy=True)
            self.rate = min(rate, self.limit)
            self._tokens = min(self._tokens, self.rate * BUSY_DEPTH)
