"""Threads for calls that may not return, of storage and of the name service.

One that hangs in the kernel cannot be ended, not even by a signal. So nobody waits for its
thread: the process may end without it, and no executor joins it. What runs where is decided by the
loop's thread alone, so there is nothing to lock.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

_IDLE = 10.0
"""Seconds after which a thread ends that has nothing to do."""


class Work(Protocol):
    """What a thread runs."""

    def run(self) -> None:
        """In the thread. It must not raise."""

    def ended(self) -> None:
        """Afterwards, in the loop's thread."""

    def forsaken(self) -> None:
        """In place of ``ended``, in the thread: the loop was closed meanwhile."""


class Threads:
    """The threads of one loop: started where they are needed, kept for a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str = "ftpcluster-storage") -> None:
        self._loop = loop
        self._name = name
        self._idle: deque[tuple[float, _Thread]] = deque()
        self._is_closed = False
        self._look: asyncio.TimerHandle | None = None

    def begin(self, work: Work) -> None:
        """Have a thread run ``work``. Raises RuntimeError where none can be started."""
        if self._idle:
            thread = self._idle.pop()[1]
        else:
            thread = _Thread(self._loop, self._name, self._on_end)
            thread.start()
        thread.inbox.put(work)

    def _on_end(self, thread: _Thread, work: Work) -> None:
        if self._is_closed:
            thread.inbox.put(None)
        else:
            self._idle.append((self._loop.time(), thread))
            if self._look is None:
                self._look = self._loop.call_later(_IDLE, self._end_idle)
        work.ended()

    def _end_idle(self) -> None:
        """End the threads that have been idle for long: those on the left."""
        now = self._loop.time()
        self._look = None
        while self._idle and now - self._idle[0][0] >= _IDLE:
            self._idle.popleft()[1].inbox.put(None)
        if self._idle:
            self._look = self._loop.call_at(self._idle[0][0] + _IDLE, self._end_idle)

    def close(self) -> None:
        """End the idle threads now, and the others when their calls end."""
        self._is_closed = True
        if self._look is not None:
            self._look.cancel()
        while self._idle:
            self._idle.pop()[1].inbox.put(None)


class _Thread(threading.Thread):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        on_end: Callable[[_Thread, Work], None],
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.inbox: SimpleQueue[Work | None] = SimpleQueue()
        self._loop = loop
        self._on_end = on_end

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGABRT,))  # the main thread answers to it
        while (work := self.inbox.get()) is not None:
            work.run()
            try:
                self._loop.call_soon_threadsafe(self._on_end, self, work)
            except RuntimeError:  # the loop was closed while the call hung
                work.forsaken()
                return
            del work  # the loop's from here on: the last reference to a file may be in it
