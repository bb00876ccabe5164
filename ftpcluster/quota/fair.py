"""Max-min fairness: nobody gets more while somebody who wants more has less. Pure.

What there is, is spread in two steps: over users, then over each user's transfers. Transfers of one
user in one worker are told in two sorts: *hungry* ones, which were held back by us and would take
more, and *slow* ones, which their clients or disks hold back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple, TypeVar

import msgspec

Size = Annotated[int, msgspec.Meta(ge=0)]
K = TypeVar("K")


class Demand(NamedTuple):
    """What transfers want in a tick: ``hungry`` ones ``appetite`` bytes together, ``slow`` ones
    ``want`` bytes."""

    hungry: Size = 0
    appetite: Size = 0
    slow: Size = 0
    want: Size = 0

    @property
    def total(self) -> int:
        return self.appetite + self.want

    def at(self, cut: float) -> float:
        """Bytes where no transfer gets more than ``cut``."""
        if cut == math.inf:
            return self.total
        return min(self.appetite, self.hungry * cut) + min(self.want, self.slow * cut)


class Claim(NamedTuple):
    """Somebody who wants up to ``most``, and counts ``weight`` times."""

    most: float
    weight: float = 1.0


def level(tokens: float, claims: Iterable[Claim]) -> float:
    """What each unit of weight gets of ``tokens``: who wants less than that leaves the rest.

    Infinite where there is enough for all.
    """
    rest = tokens
    ordered = sorted(claims, key=lambda claim: claim.most / claim.weight)
    weight = sum(claim.weight for claim in ordered)
    for claim in ordered:
        if claim.most * weight > rest * claim.weight:
            return rest / weight
        rest -= claim.most
        weight -= claim.weight
    return math.inf


def share(tokens: float, demands: Mapping[K, Demand]) -> dict[K, int]:
    """Spread ``tokens`` over a user's transfers, wherever they run: whole bytes for each key."""
    claims = [
        Claim(most, count)
        for demand in demands.values()
        for most, count in ((demand.appetite, demand.hungry), (demand.want, demand.slow))
        if most and count
    ]
    cut = level(tokens, claims)
    return {key: int(demand.at(cut)) for key, demand in demands.items()}
