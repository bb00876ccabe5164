"""Speed limits of one process. Pure: time is an argument, in seconds of a monotonic clock."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakValueDictionary

CREDIT = 0.1
"""Seconds of the past that may be made up for: what a timer oversleeps is not lost."""


class Limit:
    """Bytes per second that everybody who spends from it shares. ``limit`` None is no limit.

    The schedule is absolute: the n-th byte is due n/limit after the first, however late each
    waiter wakes. ``limit`` may be set at any time.
    """

    __slots__ = ("_paid_until", "limit", "users")

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.users = 0
        self._paid_until = 0.0

    def begin(self, now: float) -> None:
        """A transfer begins. Who finds nobody else here has no credit from before."""
        if not self.users:
            self._paid_until = max(self._paid_until, now)
        self.users += 1

    def end(self) -> None:
        self.users -= 1

    def spend(self, count: int, now: float) -> float:
        """``count`` bytes were moved: when the next may be, as a time of the same clock."""
        if not self.limit:
            return now
        self._paid_until = max(self._paid_until, now - CREDIT) + count / self.limit
        return self._paid_until

    def __repr__(self) -> str:
        return f"Limit({self.limit!r})"


class Throttle:
    """A pair of limits: ``read`` for what is received, ``write`` for what is sent."""

    __slots__ = ("__weakref__", "read", "write")

    def __init__(self, read: int | None = None, write: int | None = None) -> None:
        self.read = Limit(read)
        self.write = Limit(write)

    @property
    def is_limited(self) -> bool:
        return bool(self.read.limit or self.write.limit)

    def __repr__(self) -> str:
        return f"Throttle(read={self.read.limit!r}, write={self.write.limit!r})"


class SpeedLimited(Protocol):
    """What is known of a user here. *Read* is what the server receives."""

    login: str | None
    read_speed_limit: int | None
    write_speed_limit: int | None


class UserThrottles:
    """One throttle for all sessions of a user, as long as there are any.

    By login, not by object: a user manager may make a new user for every login.
    """

    def __init__(self) -> None:
        self._throttles: WeakValueDictionary[str, Throttle] = WeakValueDictionary()

    def of(self, user: SpeedLimited) -> tuple[Throttle, ...]:
        """The user's throttle; none where the user has no limit."""
        limits = (user.read_speed_limit, user.write_speed_limit)
        if not any(limits):
            return ()
        throttle = self._throttles.get(user.login or "")
        if throttle is None:
            throttle = self._throttles[user.login or ""] = Throttle()
        throttle.read.limit, throttle.write.limit = limits
        return (throttle,)
