"""The seam behind the supervisor: speed limits that several hosts share.

Each host has the tree of limits and spreads its shares of them over its workers. It tells a store
what its transfers want of each limit, and the store says how much is its share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ftpcluster.quota.fair import Demand
from ftpcluster.quota.rates import LimitKey


class LimitStore(Protocol):
    """The limits that the hosts of one server have in common."""

    @property
    def interval(self) -> float | None:
        """Seconds between two exchanges, at the least; None where no other host is."""

    async def exchange(self, demands: Mapping[LimitKey, Demand]) -> Mapping[LimitKey, float]:
        """Tell what this host's transfers want of each limit in a tick, and hear its shares.

        Shares are bytes per second. Nothing may be used yet of a limit that has no share. It never
        raises: the store decides the shares for times in which no other host can be reached. Until
        it returns the old shares hold, so no transfer that has one waits for it.
        """


class LocalStore:
    """The store of a host that shares its limits with no other one."""

    interval = None

    async def exchange(self, _: Mapping[LimitKey, Demand]) -> Mapping[LimitKey, float]:
        """It is never asked: all limits are this host's alone."""
        return {}
