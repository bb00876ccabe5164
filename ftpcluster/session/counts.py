"""What the sessions of a process have done: counters, for the metrics."""

from __future__ import annotations

from collections import defaultdict


class Counts:
    """Counters that only grow. Labels are in tuples: direction, result, whether with TLS."""

    __slots__ = ("failed_logins", "logins", "moved", "replies", "transfers")

    def __init__(self) -> None:
        self.logins = 0
        self.failed_logins = 0
        self.replies: defaultdict[int, int] = defaultdict(int)
        self.transfers: defaultdict[tuple[str, str, bool], int] = defaultdict(int)
        self.moved: defaultdict[tuple[str, bool], int] = defaultdict(int)

    def transfer(self, direction: str, size: int, *, whole: bool, protected: bool) -> None:
        """A transfer has ended."""
        self.transfers[direction, "complete" if whole else "failed", protected] += 1
        self.moved[direction, protected] += size
