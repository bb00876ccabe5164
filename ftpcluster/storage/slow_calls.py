"""Calls of storage that may not answer: in threads, bounded in number and time.

A call that does not end in time fails for whoever waits for it (451). Its thread goes on with it,
and counts against its directory and device until it ends: however many sessions come, no more
threads hang than these may have. Other directories have their own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ftpcluster.expiry import Expiry
from ftpcluster.protocol.errors import StorageSilent
from ftpcluster.storage.threads import Threads

log = logging.getLogger(__name__)

T = TypeVar("T")
EACH = 4
"""Calls of one directory that run at the same time."""
_SILENCE = 60.0
"""Seconds between two warnings of one directory."""


class Device:
    """How many calls may run at the same time on one device; its directories take turns."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.running = self.overdue = 0
        self._queue: deque[SlowCalls] = deque()

    @property
    def is_full(self) -> bool:
        return self.running >= self.most

    def enqueue(self, calls: SlowCalls) -> None:
        """Tell a directory when there is a place."""
        if calls not in self._queue:
            self._queue.append(calls)

    def call_next(self) -> None:
        """Give free places to those that wait for one."""
        while self._queue and not self.is_full:
            self._queue.popleft().go_on()

    @property
    def has_queue(self) -> bool:
        return bool(self._queue)


class SlowCalls:
    """The calls of one directory, which ``path`` names in logs."""

    def __init__(
        self,
        path: str,
        loop: asyncio.AbstractEventLoop,
        threads: Threads,
        device: Device,
        patience: float,
    ) -> None:
        """``patience``: seconds in which a call has to end."""
        self.path = path
        self.loop = loop
        self.patience = patience
        self._threads = threads
        self._device = device
        self._waiting: deque[_Call[Any]] = deque()
        self._running = self._overdue = 0
        self._warned: float | None = None
        self._is_told = False

    @property
    def is_stuck(self) -> bool:
        """Whether all threads that it may have are held by calls that are overdue."""
        return self._overdue >= EACH or self._device.overdue >= self._device.most

    def add(self, call: _Call[Any]) -> None:
        """Run a call, now or when there is a place."""
        if self.is_stuck:
            call.fail()
        self._waiting.append(call)
        if self._device.has_queue:
            self._device.enqueue(self)  # others came first
        self.go_on()

    def go_on(self) -> None:
        """Begin what waits, as far as there are places."""
        while self._waiting:
            if self._waiting[0].is_pointless:
                self._waiting.popleft().leave()
            elif self._running >= EACH:
                return
            elif self._device.is_full:
                self._device.enqueue(self)
                return
            else:
                self._start(self._waiting.popleft())

    def _start(self, call: _Call[Any]) -> None:
        self._running += 1
        self._device.running += 1
        call.start()
        try:
            self._threads.begin(call)
        except RuntimeError as error:  # the process may have no more threads
            log.error("a call of the storage at %s failed: %s", self.path, error)
            call.error = StorageSilent()
            call.ended()

    def on_end(self, call: _Call[Any]) -> None:
        """A call has ended, in whatever way."""
        self._running -= 1
        self._device.running -= 1
        if call.is_overdue:
            self._overdue -= 1
            self._device.overdue -= 1
            if self._is_told and not self._overdue:
                self._is_told = False
                text = "the storage at %s answers again: %s has taken %.0f s"
                log.warning(text, self.path, call.name, self.loop.time() - call.began)
        if self._waiting and self._device.has_queue:
            self._device.enqueue(self)
        self._device.call_next()
        self.go_on()

    def on_overdue(self, call: _Call[Any]) -> None:
        """A call that runs has taken too long."""
        self._overdue += 1
        self._device.overdue += 1
        now = self.loop.time()
        if not self._is_told and (self._warned is None or now - self._warned >= _SILENCE):
            self._warned, self._is_told = now, True
            log.warning(
                "the storage at %s does not answer: %s has taken %.0f s; its users are told so"
                " (451), and others are served as before",
                self.path, call.name, now - call.began,
            )  # fmt: skip


class Lane:
    """Calls that are made one after the other: those of an open file, or of a directory's scan.

    What comes behind a call that hangs takes no thread.
    """

    __slots__ = ("_current", "_waiting", "calls")

    def __init__(self, calls: SlowCalls) -> None:
        self.calls = calls
        self._current: _Call[Any] | None = None
        self._waiting: deque[_Call[Any]] = deque()

    @property
    def is_busy(self) -> bool:
        """Whether a call has not ended, though nobody may wait for it any more."""
        return self._current is not None

    def run(
        self,
        name: str,
        function: Callable[..., T],
        *arguments: Any,
        patience: float = 0.0,
        discard: Callable[[T], object] | None = None,
        needed: bool = False,
    ) -> asyncio.Future[T]:
        """The result of ``function(*arguments)``, which logs call ``name``.

        Raises StorageSilent where it does not come in time: ``patience`` seconds, or as many as all
        calls have, if these are more. ``discard``: called in the thread with a result that nobody
        waits for any more. ``needed``: call the function even if nobody waits for it any more.
        """
        future: asyncio.Future[T] = self.calls.loop.create_future()
        call = _Call(self, name, functools.partial(function, *arguments), future)
        call.discard, call.is_needed = discard, needed
        call.watch(max(self.calls.patience, patience))
        self._add(call)
        return future

    def detach(self, name: str, function: Callable[..., object], *arguments: Any) -> None:
        """Run ``function`` when its turn comes, and wait for nothing."""
        self._add(_Call(self, name, functools.partial(function, *arguments), None))

    def _add(self, call: _Call[Any]) -> None:
        if self._current is None:
            self._current = call
            self.calls.add(call)
        else:
            self._waiting.append(call)

    def leave(self) -> None:
        """The call whose turn it was has ended."""
        self._current = self._waiting.popleft() if self._waiting else None
        if self._current is not None:
            self.calls.add(self._current)


class _Call(Generic[T]):
    """One call, from when it is asked for until its thread has done with it."""

    __slots__ = (
        *("_function", "_future", "_lane", "_patience", "_result", "_timer"),
        *("began", "discard", "error", "is_needed", "is_overdue", "name"),
    )

    def __init__(
        self,
        lane: Lane,
        name: str,
        function: Callable[[], T],
        future: asyncio.Future[T] | None,
    ) -> None:
        """``future``: None where nobody waits for the result."""
        self.name = name
        self._lane = lane
        self._function: Callable[[], T] | None = function
        self._future = future
        self._patience = lane.calls.patience
        self._timer: Expiry | None = None
        self._result: T | None = None
        self.discard: Callable[[T], object] | None = None
        self.is_needed = future is None
        self.error: BaseException | None = None
        self.began = 0.0
        self.is_overdue = False

    @property
    def is_pointless(self) -> bool:
        """Whether it need not be made: nobody waits for it any more, and it is not needed."""
        return not self.is_needed and self._future is not None and self._future.done()

    def watch(self, patience: float) -> None:
        """Fail where it has not ended in time, also where it still waits for a thread."""
        self._patience = patience
        self._timer = Expiry.after(self._lane.calls.loop, patience, self._on_time)

    def start(self) -> None:
        """A thread has it from now on."""
        self.began = self._lane.calls.loop.time()
        if self._timer is None:
            self.watch(self._patience)

    def _on_time(self) -> None:
        self._timer = None
        self.fail()
        if self.began:
            calls = self._lane.calls
            left = self.began + self._patience - calls.loop.time()
            if left > 0:  # it had waited for a thread
                self._timer = Expiry.after(calls.loop, left, self._on_time)
            else:
                self.is_overdue = True
                calls.on_overdue(self)

    def fail(self) -> None:
        """Tell whoever waits that the storage does not answer."""
        if self._future is not None and not self._future.done():
            self._future.set_exception(StorageSilent())

    def leave(self) -> None:
        """Let the next one in the lane have its turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._lane.leave()

    def run(self) -> None:
        function, self._function = self._function, None
        assert function is not None
        try:
            self._result = function()
        except BaseException as error:
            self.error = error

    def ended(self) -> None:
        self._lane.calls.on_end(self)
        self.leave()
        future, result, self._result = self._future, self._result, None
        if future is None:
            if self.error is not None:
                log.debug("%s at %s: %s", self.name, self._lane.calls.path, self.error)
        elif not future.done():
            if self.error is None:
                future.set_result(result)  # type: ignore[arg-type]
            else:
                future.set_exception(self.error)
        elif self.discard is not None and self.error is None:
            self._lane.detach("close", self.discard, result)

    def forsaken(self) -> None:
        if self.discard is not None and self.error is None:
            self.discard(self._result)  # type: ignore[arg-type]
