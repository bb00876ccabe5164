"""Deadlines that are enforced only after a look at what has come.

Libuv runs timers before it looks at descriptors. After a call that has kept the process, or a stop
of the whole process, a timer would end what waits for input that is there already. So a timer that
comes late waits once more, and the loop looks at its connections and threads meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

LATE = 0.25
"""Seconds: a timer that comes so late was held up."""
_LONGEST_LOOK = 1.0
"""Seconds that a late timer waits at most. What has come is not dealt with in one turn of the loop:
a handshake takes several, and hundreds of connections may be ready."""
_LOOKS = 4
"""How often it waits, where the process is held up again and again."""


class Expiry:
    """Calls back when a time has come, unless it is cancelled."""

    __slots__ = ("_arguments", "_callback", "_due", "_looks", "_loop", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        due: float,
        callback: Callable[..., object],
        *arguments: Any,
    ) -> None:
        """``due``: by the loop's clock."""
        self._loop = loop
        self._callback = callback
        self._arguments = arguments
        self._looks = 0
        self._due = due
        self._timer: asyncio.TimerHandle | None = loop.call_at(due, self._on_time)

    @classmethod
    def after(
        cls,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        callback: Callable[..., object],
        *arguments: Any,
    ) -> Expiry:
        return cls(loop, loop.time() + seconds, callback, *arguments)

    def _on_time(self) -> None:
        self._timer = None
        now = self._loop.time()
        late = now - self._due
        if late > LATE and self._looks < _LOOKS:
            self._looks += 1
            self._due = now + min(late, _LONGEST_LOOK)
            self._timer = self._loop.call_at(self._due, self._on_time)
        else:
            self._callback(*self._arguments)

    def cancel(self) -> None:
        """Do not call back; harmless when it has."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def expire(
    loop: asyncio.AbstractEventLoop,
    waiter: asyncio.Future[None],
    seconds: float,
    error: Exception,
) -> Expiry:
    """Fail ``waiter`` with ``error`` after some seconds, unless it is done or this is cancelled."""
    return Expiry.after(loop, seconds, _fail, waiter, error)


def _fail(waiter: asyncio.Future[None], error: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(error)


async def wait_for(awaited: asyncio.Future[Any], seconds: float | None) -> bool:
    """Wait until a future is done, for some seconds at most; None: however long that takes.

    Returns whether it is. The future goes on, also where this is cancelled. This needs no task, as
    ``asyncio.wait``.
    """
    loop = awaited.get_loop()
    waiter = loop.create_future()
    tell = functools.partial(_succeed, waiter)
    expiry = None if seconds is None else Expiry.after(loop, seconds, _succeed, waiter)
    awaited.add_done_callback(tell)
    try:
        await waiter
    finally:
        awaited.remove_done_callback(tell)
        if expiry is not None:
            expiry.cancel()
    return awaited.done()


def _succeed(waiter: asyncio.Future[None], _: object = None) -> None:
    if not waiter.done():
        waiter.set_result(None)


@contextlib.asynccontextmanager
async def time_limit(seconds: float | None) -> AsyncIterator[None]:
    """A block that ends with TimeoutError after some seconds; None: never.

    As ``asyncio.timeout`` it is for tasks; commands have none.
    """
    async with asyncio.timeout(None) as limit:
        if seconds is None:
            yield
            return
        expiry = Expiry.after(asyncio.get_running_loop(), seconds, limit.reschedule, 0.0)
        try:
            yield
        finally:
            expiry.cancel()
