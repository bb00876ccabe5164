"""What the poller and streams do for each event. The compiled twin is ``_native/watching.pyx``."""

from __future__ import annotations

import asyncio
import logging
import os
import select
from collections.abc import Callable, Generator
from contextvars import Context
from socket import SOCK_NONBLOCK
from time import monotonic
from typing import Any, Protocol

from ftpcluster.descriptors import close_quietly

log = logging.getLogger(__name__)

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
FAILURE = select.EPOLLERR
"""Asks for errors only. (Errors are reported to other watchers as well.)"""
BROKEN = select.EPOLLERR | select.EPOLLHUP
"""The events of a broken connection. A FIN of the peer alone is none of them."""

_ROUNDS = 8
"""Calls of epoll_wait(2) in one turn of the loop. Another call finds new events for a tenth of the
cost of another turn. The loop's other callbacks wait no longer than after one call for all these
events."""
_EVENTS_PER_ROUND = 16
TURN = 0.002
"""Seconds after which a turn makes no further call: the loop has timers and messages. Also the
seconds for which a caller of ``turn`` may go on."""


class Watcher(Protocol):
    """Called when its descriptor is ready. That may have changed by then."""

    def on_ready(self, events: int) -> None:
        """``events``: READ and WRITE, or others where the connection failed."""


def log_failure() -> None:
    """A watcher has raised an exception."""
    log.exception("a connection's handler failed: this is a bug")


class Readiness:
    """A future without a result. It is done when a stream is ready, or cancelled when it closes."""

    __slots__ = ("_asyncio_future_blocking", "_callbacks", "_is_cancelled", "_is_done", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False  # tasks tell an await from a yield by it
        self._callbacks: list[tuple[Callable[[Any], object], Context | None]] = []
        self._is_done = self._is_cancelled = False

    def set_result(self, _: None) -> None:
        """The stream is ready: call back, now. Only the poller calls this, while no task runs."""
        self._is_done = True
        callbacks, self._callbacks = self._callbacks, []
        for callback, context in callbacks:
            if context is None:
                callback(self)
            else:
                context.run(callback, self)

    def cancel(self, msg: object = None) -> bool:
        """Callbacks come in the next turn: the task that cancels may be the one that waits."""
        if self._is_done:
            return False
        self._is_done = self._is_cancelled = True
        callbacks, self._callbacks = self._callbacks, []
        for callback, context in callbacks:
            self._loop.call_soon(callback, self, context=context)
        return True

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        if self._is_done:
            self._loop.call_soon(callback, self, context=context)
        else:
            self._callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        kept = [each for each in self._callbacks if each[0] != callback]
        removed = len(self._callbacks) - len(kept)
        self._callbacks = kept
        return removed

    def done(self) -> bool:
        return self._is_done

    def cancelled(self) -> bool:
        return self._is_cancelled

    def exception(self) -> None:
        self.result()

    def result(self) -> None:
        """Raises CancelledError where the stream was closed."""
        if self._is_cancelled:
            raise asyncio.CancelledError
        if not self._is_done:
            raise asyncio.InvalidStateError("the stream is not ready")

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def __await__(self) -> Generator[Any, None, None]:
        if not self._is_done:
            self._asyncio_future_blocking = True
            yield self
        self.result()


class Watching:
    """The epoll of a Poller."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._watchers: dict[int, Watcher] = {}
        self._ends = 0.0  # by the clock: the loop's time may stand still during a turn
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def add(self, fd: int, events: int, watcher: Watcher) -> None:
        """Raises OSError where the kernel has no memory, or the user watches too much."""
        try:
            self._epoll.register(fd, events)
        except FileExistsError:  # it could not be removed
            self._epoll.modify(fd, events)
        self._watchers[fd] = watcher

    def modify(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """To be called before ``fd`` is closed: a duplicate elsewhere would keep it ready.

        Harmless where ``fd`` is not watched.
        """
        if self._watchers.pop(fd, None) is not None:
            self._unregister(fd)

    def _unregister(self, fd: int) -> None:
        try:
            self._epoll.unregister(fd)
        except (OSError, ValueError):
            pass  # it is tried again at the next event, or its close does it; or this was closed

    def _on_ready(self) -> None:
        watchers = self._watchers
        self._ends = end = monotonic() + TURN
        for _ in range(_ROUNDS):
            if self._epoll.closed or not (ready := self._epoll.poll(0, _EVENTS_PER_ROUND)):
                return
            for fd, events in ready:
                # an earlier watcher of this batch may have closed it
                if (watcher := watchers.get(fd)) is None:
                    self._unregister(fd)
                    continue
                try:
                    watcher.on_ready(events)
                except Exception:
                    # other watchers must go on; and this one would fail again at once, for ever
                    log_failure()
                    if watchers.get(fd) is watcher:
                        self.remove(fd)
            if monotonic() >= end:
                return

    def close(self) -> None:
        """Stop watching; harmless when repeated. Streams may be closed later."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._watchers.clear()


class Watched:
    """A connected stream socket: what is done again and again with one."""

    __slots__ = (
        "_events",
        "_loop",
        "_on_broken",
        "_on_readable",
        "_poller",
        "_read_waiter",
        "_write_waiter",
        "fd",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, poller: Watching, fd: int, flags: int = 0
    ) -> None:
        """Takes over ``fd``, a connected socket, also when it fails.

        ``flags``: SOCK_NONBLOCK where it was made with it.
        """
        if not flags & SOCK_NONBLOCK:
            try:
                os.set_blocking(fd, False)
            except OSError:
                close_quietly(fd)
                raise
        self._loop = loop
        self._poller = poller
        self.fd = fd
        self._events = 0
        self._on_readable: Callable[[], None] | None = None
        self._on_broken: Callable[[], None] | None = None
        self._read_waiter: Readiness | None = None
        self._write_waiter: Readiness | None = None

    @property
    def closed(self) -> bool:
        return self.fd < 0

    def recv(self, count: int) -> bytes:
        """Up to ``count`` bytes; none at the end of the stream."""
        return os.read(self.fd, count)

    def recv_into(self, buffer: memoryview) -> int:
        return os.readv(self.fd, (buffer,))

    def send(self, data: bytes | memoryview) -> int:
        """Send what the socket takes; returns how much that was."""
        return os.write(self.fd, data)

    # ------------------------------------------------------------------ waiting

    @property
    def is_watched(self) -> bool:
        return self._on_readable is not None

    def watch(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever there is something to read, until ``unwatch``."""
        if self._on_broken is not None:
            self.unwatch_for_break()
        self._on_readable = callback
        self._want(READ)

    def unwatch(self) -> None:
        self._on_readable = None
        self._unwant(READ)

    def watch_for_break(self, callback: Callable[[], None]) -> None:
        """Read no more; call ``callback`` once, as soon as the connection is reset.

        Without this a reset would be noticed only when something is sent.
        """
        self._on_broken = callback
        self._want(FAILURE)
        self.unwatch()

    def unwatch_for_break(self) -> None:
        self._on_broken = None
        self._unwant(FAILURE)

    def readable(self) -> Readiness:
        """Done when there is something to read, or the peer is gone."""
        waiter = self._read_waiter = Readiness(self._loop)
        self._want(READ)
        return waiter

    def writable(self) -> Readiness:
        """Done when the socket takes something again, or the peer is gone."""
        waiter = self._write_waiter = Readiness(self._loop)
        self._want(WRITE)
        return waiter

    def on_ready(self, events: int) -> None:
        """Called by the poller."""
        if events == READ and self._on_readable is not None:  # as most are
            self._on_readable()
            return
        if events & BROKEN and self._events & FAILURE:
            on_broken = self._on_broken
            self.unwatch_for_break()
            if on_broken is not None:
                on_broken()
        if events & ~WRITE and self._events & READ:
            if self._on_readable is not None:
                self._on_readable()
            else:
                waiter, self._read_waiter = self._read_waiter, None
                self._wake(waiter, READ)
        if events & ~READ and self._events & WRITE:
            waiter, self._write_waiter = self._write_waiter, None
            self._wake(waiter, WRITE)

    def _wake(self, waiter: Readiness | None, event: int) -> None:
        if waiter is None or waiter.done():
            self._unwant(event)
        else:
            waiter.set_result(None)

    def _want(self, event: int) -> None:
        if not self._events & event:
            if self._events:
                self._poller.modify(self.fd, self._events | event)
            else:
                self._poller.add(self.fd, event, self)
            self._events |= event

    def _unwant(self, event: int) -> None:
        if not self._events & event:
            return
        left = self._events & ~event
        if left:
            try:
                self._poller.modify(self.fd, left)
            except OSError:
                return  # it stays watched: tried again when it is ready
        else:
            self._poller.remove(self.fd)
        self._events = left

    # ------------------------------------------------------------------ the end

    def stop_watching(self) -> None:
        """Call nothing back any more; ``close`` follows. Waits stay pending until then."""
        if self._events:
            self._events = 0
            self._poller.remove(self.fd)
        self._on_readable = self._on_broken = None

    def close(self) -> None:
        """Close the connection; harmless when repeated. Waits are cancelled."""
        fd = self.release()
        if fd >= 0:
            close_quietly(fd)
            self._cancel_waits()

    def _cancel_waits(self) -> None:
        for waiter in (self._read_waiter, self._write_waiter):
            if waiter is not None:
                waiter.cancel()

    def release(self) -> int:
        """Stop watching; the descriptor is the caller's from now on."""
        fd, self.fd = self.fd, -1
        if self._events:
            self._events = 0
            self._poller.remove(fd)
        self._on_readable = self._on_broken = None
        return fd
