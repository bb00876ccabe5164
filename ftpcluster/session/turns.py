"""One password of an address is checked at a time.

Else whoever guesses over many connections at once would have all of them hashed at once, and keep
everybody else's logins waiting: so an address's storm costs one thread, and, as soon as it is
banned, no more hashes. Where a check need not wait, neither does anybody here.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ftpcluster.passwords import TooManyLogins

_MOST_WAITING = 32
"""Of one address; what waits longer than that would meet its login deadline."""


class Turns:
    """Turns by key, first come, first served."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def take(self, key: str) -> None:
        """Wait for one's turn; it lasts until ``give``. Raises TooManyLogins."""
        queue = self._waiting.get(key)
        if queue is None:
            self._waiting[key] = deque()
            return
        if len(queue) >= _MOST_WAITING:
            raise TooManyLogins
        turn: asyncio.Future[None] = self._loop.create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in queue:
                queue.remove(turn)
            elif not turn.cancelled():
                self.give(key)  # it came too late: the next one's
            raise

    def give(self, key: str) -> None:
        """The turn is over: whoever waits next has it."""
        queue = self._waiting[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]
