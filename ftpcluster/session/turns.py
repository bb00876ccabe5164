"""One password of an address is checked at a time, and one of all that have failed just now.

Else whoever guesses over many connections would have all of them hashed at once, and keep
everybody else's logins waiting: so a storm costs one thread, and, as soon as its addresses are
banned, no more hashes. Where a check need not wait, neither does anybody here.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ftpcluster.passwords import TooManyLogins

_MOST_WAITING = 32
"""For one turn; what waits longer than that would meet its login deadline."""
_SUSPICION = 60.0
"""Seconds after a failed login."""
_MOST_SUSPECTS = 1024
"""Addresses; whoever is forgotten has turns of its own again, and no more than that."""
_SUSPECTS = ""


class Turns:
    """Turns of addresses, first come, first served."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._suspects: dict[str, float] = {}  # until when; the oldest first

    def suspect(self, site: str) -> None:
        """A login from there has failed."""
        self._suspects.pop(site, None)
        self._suspects[site] = self._loop.time() + _SUSPICION
        if len(self._suspects) > _MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    async def take(self, site: str) -> str:
        """Wait for one's turn, which lasts until it is given back. Raises TooManyLogins."""
        turn = _SUSPECTS if self._suspects.get(site, 0.0) > self._loop.time() else site
        queue = self._waiting.get(turn)
        if queue is None:
            self._waiting[turn] = deque()
            return turn
        if len(queue) >= _MOST_WAITING:
            raise TooManyLogins
        waiter: asyncio.Future[None] = self._loop.create_future()
        queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in queue:
                queue.remove(waiter)
            elif not waiter.cancelled():
                self.give(turn)  # it came too late: the next one's
            raise
        return turn

    def give(self, turn: str) -> None:
        """It is over: whoever waits next has it."""
        queue = self._waiting[turn]
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        del self._waiting[turn]
