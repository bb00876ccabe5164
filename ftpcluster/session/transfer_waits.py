"""What holds a transfer back: for how long it waited, and for whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum

_SHORTEST = 0.2
"""Seconds between two looks, at least: a speed over less time would be chance."""
_LONGEST = 5.0
_NEGLIGIBLE = 0.1
"""A cause is named if the transfer has waited for it for more than this part of the time."""


class Cause(IntEnum):
    CLIENT = 0
    SHARED_LIMIT = 1  # the server's or the user's: only the code that spreads them knows which
    CONNECTION_LIMIT = 2
    DISK = 3


_NONE = (0.0,) * len(Cause)


class TransferWaits:
    """The waits of one transfer. Times are the loop's."""

    __slots__ = ("_at_look", "_cause", "_clock", "_looked", "_moved", "_since", "_totals", "began")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._totals = list(_NONE)
        self._cause: Cause | None = None
        self._since = 0.0
        self.began = self._looked = clock()
        self._at_look: Sequence[float] = _NONE
        self._moved = 0

    def begin(self, cause: Cause) -> None:
        self._cause = cause
        self._since = self._clock()

    def began_to_wait(self, cause: Cause, since: float) -> None:
        """The transfer has begun then, and waits since."""
        self.began = self._looked = self._since = since
        self._cause = cause

    def end(self) -> None:
        if self._cause is not None:
            self._totals[self._cause] += self._clock() - self._since
            self._cause = None

    @property
    def is_for_client(self) -> bool:
        """Whether the transfer waits for its client now."""
        return self._cause is Cause.CLIENT

    def look(self, moved: int) -> tuple[float, Cause | None]:
        """The speed in bytes per second, and what held it back, since the last look.

        ``moved``: bytes until now. A look that follows another one too soon, or too late, counts
        from the transfer's begin.
        """
        now = self._clock()
        totals = self._totals.copy()
        if self._cause is not None:
            totals[self._cause] += now - self._since
        span, before, first = now - self._looked, self._at_look, self._moved
        if not _SHORTEST <= span <= _LONGEST:
            span, before, first = now - self.began, _NONE, 0
        self._looked, self._at_look, self._moved = now, totals, moved
        waited = [total - then for total, then in zip(totals, before, strict=True)]
        longest = max(Cause, key=lambda cause: waited[cause])
        is_held = waited[longest] > _NEGLIGIBLE * span
        return (moved - first) / span if span > 0 else 0.0, longest if is_held else None
