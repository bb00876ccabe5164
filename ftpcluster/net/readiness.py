"""Waiting for a stream: a future that takes no turn of the loop.

A future of asyncio calls back in the loop's next turn. By then the poller has looked at the same
descriptor again, and has stopped watching it, since nobody seemed to wait. Here the coroutine that
waits goes on within the poller's call. A coroutine with or without a task awaits a Readiness like
any future.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any


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
