"""When a worker is started again, and when one that lives is replaced.

Pure: time and chance are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
JITTER = 0.25
SETTLED = 10.0
"""Seconds of life after which a death no longer counts as early."""
HOPELESS = 4
"""Early deaths in a row, in every place, after which a server that was just started gives up."""
MISSED = 3
"""Heartbeats that a worker may miss before it gets no new connections."""


@dataclass(slots=True)
class RestartPolicy:
    """Back-off for one worker's place: 0.1 s, doubled with each early death, up to 5 s."""

    early_deaths: int = 0
    has_settled: bool = False
    _started: float | None = None
    """When the last worker that has not died yet was started."""

    def started(self, now: float) -> None:
        """A worker is started, in an empty place or to replace one that lives."""
        self._look_whether_settled(now)
        self._started = now

    def delay(self, now: float, luck: float) -> float:
        """The worker has died: seconds to wait before the next is started.

        ``luck``, from 0 to 1, takes up to a quarter off, so that workers that died together do
        not all start together again.
        """
        self._look_whether_settled(now)
        self._started = None
        self.early_deaths += 1
        exponent = min(self.early_deaths - 1, 16)
        return float(min(FIRST_DELAY * 2**exponent, LONGEST_DELAY)) * (1 - JITTER * luck)

    def _look_whether_settled(self, now: float) -> None:
        if self._started is not None and now - self._started >= SETTLED:
            self.has_settled = True
            self.early_deaths = 0


def is_hopeless(policies: Iterable[RestartPolicy]) -> bool:
    """Whether, in every place, the last workers died early, and no worker ever settled."""
    return all(policy.early_deaths >= HOPELESS and not policy.has_settled for policy in policies)


class Health(Enum):
    WELL = "well"
    SUSPECT = "suspect"
    LOST = "lost"


@dataclass(slots=True)
class Pulse:
    """Judges a worker by its heartbeats, which come from its own loop.

    One comes each ``interval`` seconds. A worker that has missed three is suspect. After
    ``timeout`` seconds without any it is lost.
    """

    interval: float
    timeout: float
    last: float

    def beat(self, now: float) -> None:
        self.last = now

    def health(self, now: float) -> Health:
        silence = now - self.last
        if silence >= self.timeout:
            return Health.LOST
        # half an interval more: a beat may be on its way
        return Health.WELL if silence < (MISSED + 0.5) * self.interval else Health.SUSPECT


@dataclass(frozen=True, slots=True)
class Recycling:
    """When a worker is replaced although it works; None: never.

    ``memory`` in bytes, ``age`` in seconds. A worker that exceeds ``memory`` from its start would
    be replaced again and again. So memory counts only after ``settled`` seconds.
    """

    memory: int | None = None
    age: float | None = None
    settled: float = 60.0

    def reason(self, age: float, memory: int) -> str | None:
        """Why a worker of that age with that much memory is to be replaced, if it is."""
        if self.age is not None and age >= self.age:
            return f"it is {age:.0f} s old"
        if self.memory is not None and age >= self.settled and memory > self.memory:
            return f"it has {memory // 1_000_000} MB"
        return None
