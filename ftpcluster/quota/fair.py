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

Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
"""More than anybody moves in a tick, and so little that sums of it can still be sent."""
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
        """Bytes that are wanted by any transfer: a report may be nonsense."""
        return (self.appetite if self.hungry else 0) + (self.want if self.slow else 0)


class Claim(NamedTuple):
    """Somebody who wants up to ``most``, and counts ``weight`` times."""

    most: float
    weight: float = 1.0


_Part = tuple[float, float, float]
"""What is wanted by each unit of weight, what is wanted, and the weight: so they sort."""


def level(tokens: float, claims: Iterable[Claim]) -> float:
    """What each unit of weight gets of ``tokens``: who wants less than that leaves the rest.

    Infinite where there is enough for all.
    """
    return _level(tokens, [(most / weight, most, weight) for most, weight in claims])


def _level(tokens: float, parts: list[_Part]) -> float:
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
    parts: list[_Part] = []
    for hungry, appetite, slow, want in demands.values():
        if hungry and appetite:
            parts.append((appetite / hungry, appetite, hungry))
        if slow and want:
            parts.append((want / slow, want, slow))
    cut = _level(tokens, parts)
    if cut == math.inf:
        return {key: demand.total for key, demand in demands.items()}
    return {
        key: int(min(appetite, hungry * cut) + min(want, slow * cut))
        for key, (hungry, appetite, slow, want) in demands.items()
    }
