"""When a worker that died is started again. Pure: time is an argument."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
SETTLED = 10.0
"""Seconds of life after which a death no longer counts as one of a series."""


@dataclass(slots=True)
class RestartPolicy:
    """Back-off for one worker's place: 0.1 s, doubled with each early death, up to 5 s."""

    _deaths: int = 0
    _started: float = 0.0

    def started(self, now: float) -> None:
        self._started = now

    def delay(self, now: float) -> float:
        """The worker has died: seconds to wait before the next is started."""
        self._deaths = 1 if now - self._started >= SETTLED else self._deaths + 1
        exponent = min(self._deaths - 1, 16)
        return float(min(FIRST_DELAY * 2**exponent, LONGEST_DELAY))
