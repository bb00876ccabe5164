"""Many deadlines over one timer of the loop.

A timer costs uvloop as much as a whole command, and every session has deadlines that are hardly
ever met. Here a deadline is an entry in a table. The loop's timer fires only at moments that have
an entry, at most a quarter of a second late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ftpcluster.expiry import Expiry

log = logging.getLogger(__name__)

RESOLUTION = 0.25

Callback = Callable[[], None]


class TimerWheel:
    """Calls back when a time has come, up to RESOLUTION seconds later."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Callback]] = {}
        self._armed: int | None = None
        self._timer: Expiry | None = None

    def add(self, when: float, callback: Callback) -> int:
        """Call ``callback`` once ``when`` has come; returns the slot, which ``discard`` wants."""
        slot = int(when / RESOLUTION) + 1
        waiting = self._slots.get(slot)
        if waiting is None:
            waiting = self._slots[slot] = set()
            if self._armed is None or slot < self._armed:
                self._arm(slot)
        waiting.add(callback)
        return slot

    def discard(self, slot: int, callback: Callback) -> None:
        """Do not call it; harmless where it was called already."""
        waiting = self._slots.get(slot)
        if waiting is not None:
            waiting.discard(callback)

    def _arm(self, slot: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = slot
        self._timer = Expiry(self._loop, slot * RESOLUTION, self._turn)

    def _turn(self) -> None:
        """Call the callbacks whose time has come, and set the timer for the next."""
        self._armed = self._timer = None
        now = int(self._loop.time() / RESOLUTION)
        for slot in sorted(slot for slot in self._slots if slot <= now):
            for callback in self._slots.pop(slot):
                try:
                    callback()
                except Exception:  # the others have only this timer
                    log.exception("a deadline's callback failed: this is a bug")
        remaining = [slot for slot, waiting in self._slots.items() if waiting]
        self._slots = {slot: self._slots[slot] for slot in remaining}
        if remaining:
            self._arm(min(remaining))

    def close(self) -> None:
        """Forget all deadlines; harmless when repeated."""
        self._slots.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._armed = self._timer = None
