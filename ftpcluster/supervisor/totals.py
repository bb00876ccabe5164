"""The counters of all workers, including those that are gone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ftpcluster.ipc.messages import Counted


@dataclass(slots=True)
class Sums:
    """Counters by their labels."""

    logins: Counter[str] = field(default_factory=Counter)
    replies: Counter[int] = field(default_factory=Counter)
    transfers: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    moved: Counter[tuple[str, bool]] = field(default_factory=Counter)
    grants: int = 0
    waited: float = 0.0

    def add(self, told: Counted) -> None:
        self.logins["ok"] += told.logins
        self.logins["failed"] += told.failed_logins
        for code, count in told.replies.items():
            self.replies[code] += count
        for direction, result, protected, count in told.transfers:
            self.transfers[direction, result, protected] += count
        for direction, protected, count in told.moved:
            self.moved[direction, protected] += count
        self.grants += told.grants
        self.waited += told.waited


class Totals:
    """Workers report their sums again and again; the last report outlives its worker."""

    def __init__(self) -> None:
        self._gone = Sums()
        self._living: dict[int, Counted] = {}

    def on_counted(self, epoch: int, message: Counted) -> None:
        """A worker's sums."""
        self._living[epoch] = message

    def on_gone(self, epoch: int) -> None:
        """A worker has ended."""
        told = self._living.pop(epoch, None)
        if told is not None:
            self._gone.add(told)

    def sums(self) -> Sums:
        """The sums of all workers since the server's start."""
        found = Sums(
            self._gone.logins.copy(),
            self._gone.replies.copy(),
            self._gone.transfers.copy(),
            self._gone.moved.copy(),
            self._gone.grants,
            self._gone.waited,
        )
        for told in self._living.values():
            found.add(told)
        return found
