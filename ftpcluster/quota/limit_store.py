"""The interface for speed limits that several hosts share; the supervisor uses it.

Each host has the tree of limits, and spreads its share of each limit over its workers. It sends a
store the demand of its transfers for each limit, and the store returns its share.
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
        """Seconds between two exchanges, at least; None where there is no other host."""

    async def exchange(self, demands: Mapping[LimitKey, Demand]) -> Mapping[LimitKey, float]:
        """Send the demand of this host's transfers for each limit in a tick; returns its shares.

        Shares are bytes per second. A limit without a share allows nothing yet. This never raises:
        if no other host can be reached, the store decides the shares. The old shares hold until it
        returns, so no transfer that has one waits for it.
        """


class LocalStore:
    """The store of a host that shares its limits with no other one."""

    interval = None

    async def exchange(self, _: Mapping[LimitKey, Demand]) -> Mapping[LimitKey, float]:
        """Never called: all limits belong to this host alone."""
        return {}
