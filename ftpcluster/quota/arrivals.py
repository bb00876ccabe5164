"""Which addresses may connect, and how often. Pure bookkeeping; ``now`` is an argument."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import ip_network

from ftpcluster.protocol.address import Bits, Networks, plain, site, without_zone
from ftpcluster.quota.ledger import Refusal

_MOST_SITES = 65_536
"""Sites whose new connections are counted. Beyond that the one is forgotten that has not connected
for the longest time, and it may connect as often as a new one. An attacker with so many addresses
is hindered by no limit on each of them; ``ConnectionLimits`` holds for all together."""
_FORGOTTEN_AT_ONCE = 8
"""Sites that one connection clears away at the most, so that none waits for thousands."""
_NOBODY = Networks(())


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalRules:
    """``most`` new connections of a site within ``period`` s; None: any number.

    Networks in ``deny`` are turned away, those in ``allow`` are not counted. Where both have an
    address, the narrower network decides.
    """

    most: int | None = None
    period: float = 60.0
    allow: Networks = field(default=_NOBODY)
    deny: Networks = field(default=_NOBODY)

    def __post_init__(self) -> None:
        if (self.most is not None and self.most < 1) or self.period <= 0:
            raise ValueError("new connections: their number and time have to be more than 0")


class Arrivals:
    """Judges new connections.

    A site has a bucket of ``most`` connections, which fills within ``period``: so many may come at
    once, and then one each ``period / most`` seconds. Only those that were let in count: a client
    that tries too often gets as many through as one that waits.
    """

    def __init__(self, rules: ArrivalRules, *, most_sites: int = _MOST_SITES) -> None:
        self.rules = rules
        self._most_sites = most_sites
        self._full_at: OrderedDict[Bits, float] = OrderedDict()
        """The time at which the bucket of a site is full, if nothing more is taken from it."""

    def set_rules(self, rules: ArrivalRules, now: float) -> None:
        """Use other rules from now on. What was counted stays, but no site waits for longer than
        its new period.
        """
        if rules.period < self.rules.period:
            latest = now + rules.period
            for bits, until in self._full_at.items():
                self._full_at[bits] = min(until, latest)
        self.rules = rules

    def __len__(self) -> int:
        return len(self._full_at)

    def denied(self, address: str) -> str | None:
        """The network of ``deny`` for which an address is turned away."""
        host = plain(address)
        length = self.rules.deny.longest(host)
        if length < 0 or length <= self.rules.allow.longest(host):
            return None
        return str(ip_network(f"{without_zone(host)}/{length}", strict=False))

    def find(self, address: str, now: float) -> Refusal | None:
        """Why a new connection is turned away. Raises ValueError for what is no address."""
        if self.rules.deny and self.denied(address) is not None:
            return Refusal.DENIED
        if self.rules.most is None or plain(address) in self.rules.allow:
            return None
        bits = site(address)
        return None if self._wait(bits, now) <= 0 else Refusal.TOO_OFTEN

    def count(self, address: str, now: float) -> None:
        """A connection was let in."""
        rules = self.rules
        if rules.most is None or plain(address) in rules.allow:
            return
        bits = site(address)
        self._make_room(bits, now)
        self._full_at[bits] = self._until(bits, now) + rules.period / rules.most
        self._full_at.move_to_end(bits)

    def _until(self, bits: Bits, now: float) -> float:
        return max(self._full_at.get(bits, now), now)

    def _wait(self, bits: Bits, now: float) -> float:
        """Seconds until there is one in the bucket; less than 0: there is more than one."""
        assert self.rules.most is not None
        each = self.rules.period / self.rules.most
        # a thousandth: sums of fractions are not exact, and the last one of ``most`` must get in
        return self._until(bits, now) + each * 0.999 - now - self.rules.period

    def _make_room(self, bits: Bits, now: float) -> None:
        """Forget sites whose buckets are full. Those that were touched last are at the end."""
        for _ in range(min(_FORGOTTEN_AT_ONCE, len(self._full_at))):
            oldest, until = next(iter(self._full_at.items()))
            is_needed = until > now and (
                bits in self._full_at or len(self._full_at) < self._most_sites
            )
            if is_needed or oldest == bits:
                return
            del self._full_at[oldest]
