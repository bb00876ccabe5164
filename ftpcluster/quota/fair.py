"""Max-min fairness over a tree: nobody gets more while somebody who wants more has less. Pure.

A server has groups and users, a group has users, and a user has transfers. At each level the bytes
are divided in equal parts. A user or group that wants less, or may have less, leaves the rest to
the others.

Transfers of one user in one process are of two kinds. *Waiting* transfers had to wait for a limit,
and would take more. *Slow* transfers are held back by their clients or disks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple, TypeVar

import msgspec

Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
"""More than a transfer moves in a tick, but so little that sums still fit in messages."""
K = TypeVar("K")


class Demand(NamedTuple):
    """The demand of some transfers in a tick: the number of each kind, and their bytes together."""

    waiting: Size = 0
    waiting_bytes: Size = 0
    slow: Size = 0
    slow_bytes: Size = 0

    @property
    def total(self) -> int:
        """Bytes wanted. Bytes without a transfer do not count: a report may be nonsense."""
        return (self.waiting_bytes if self.waiting else 0) + (self.slow_bytes if self.slow else 0)


class UserDemand(NamedTuple):
    """A leaf of the tree: what the transfers of a user want, by the process that they run in.

    ``tokens``: bytes that the user's own limit allows now. ``want``: the total of ``demands``.
    """

    name: str
    tokens: float
    want: int
    demands: Mapping[int, Demand]

    @property
    def most(self) -> float:
        """Bytes that this part may and would take."""
        return min(self.tokens, self.want)


class Branch(NamedTuple):
    """A server or a group: ``tokens`` bytes may go to all of its parts together.

    ``want``: what its parts may and would take, without regard to its own limit.
    """

    name: str
    tokens: float
    want: float
    parts: Sequence[Branch | UserDemand]

    @classmethod
    def over(cls, name: str, tokens: float, parts: Sequence[Branch | UserDemand]) -> Branch:
        """The branch that holds ``parts``."""
        return cls(name, tokens, math.fsum(part.most for part in parts), parts)

    @property
    def most(self) -> float:
        """Bytes that this part may and would take."""
        return min(self.tokens, self.want)


class Share(NamedTuple):
    """A user's part: whole bytes for each process.

    ``path``: the branches above the user, outermost first. ``held_by``: whose limit keeps the user
    from more, if any does.
    """

    user: UserDemand
    granted: dict[int, int]
    path: tuple[Branch, ...]
    held_by: Branch | UserDemand | None


def distribute(tree: Branch) -> Iterator[Share]:
    """Spread what a tree's limits allow over what is wanted, level by level."""
    return _spread(tree, tree.tokens, tree, ())


def _spread(
    branch: Branch, tokens: float, holder: Branch, above: tuple[Branch, ...]
) -> Iterator[Share]:
    """``holder``: the branch whose limit left ``tokens`` for this one."""
    parts = branch.parts
    cut = level(tokens, [(most, most, 1.0) for most in [part.most for part in parts]])
    path = (*above, branch)
    for part in parts:
        is_held, got = part.most > cut, min(part.most, cut)
        if isinstance(part, Branch):
            yield from _spread(part, got, holder if is_held else part, path)
        else:
            held_by = holder if is_held else part if part.tokens < part.want else None
            yield Share(part, share(got, part.demands), path, held_by)


Part = tuple[float, float, float]
"""Bytes wanted for each unit of weight, by which parts are sorted; bytes wanted in all; weight."""


def level(tokens: float, parts: list[Part]) -> float:
    """The bytes of ``tokens`` for each unit of weight. A part that wants less leaves the rest.

    Infinite where there is enough for all. ``parts`` are sorted by it.
    """
    parts.sort()
    rest, heads = tokens, 0.0
    for _, _, weight in parts:
        heads += weight
    for each, most, weight in parts:
        if each * heads > rest:
            return rest / heads
        rest -= most
        heads -= weight
    return math.inf


def share(tokens: float, demands: Mapping[K, Demand]) -> dict[K, int]:
    """Spread ``tokens`` over a user's transfers, wherever they run: whole bytes for each key."""
    parts: list[Part] = []
    for waiting, waiting_bytes, slow, slow_bytes in demands.values():
        if waiting and waiting_bytes:
            parts.append((waiting_bytes / waiting, waiting_bytes, waiting))
        if slow and slow_bytes:
            parts.append((slow_bytes / slow, slow_bytes, slow))
    cut = level(tokens, parts)
    if cut == math.inf:
        return {key: demand.total for key, demand in demands.items()}
    return {
        key: int(min(waiting_bytes, waiting * cut) + min(slow_bytes, slow * cut))
        for key, (waiting, waiting_bytes, slow, slow_bytes) in demands.items()
    }
