"""Failed logins and their consequences: bans of addresses, and delays for names.

Pure bookkeeping; ``now`` is an argument, in seconds of a monotonic clock. Addresses count by
``site``: the addresses of one customer, in IPv6 a /64. Memory is bounded. Each bound says what is
dropped when it is full, and why that helps no attacker.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Generic, NamedTuple, TypeVar

from ftpcluster.protocol.address import (
    Bits,
    Networks,
    may_embed_ipv4,
    plain,
    site,
    without_zone,
)

LOOPBACK = ("127.0.0.0/8", "::1")
_MOST_FAILURES = 65_536
"""Failed logins that are remembered for addresses, and as many for names. Beyond that the oldest is
forgotten. To push one out, an attacker needs so many failed logins within a window, and each
address can make only ``failures`` of them. With so many addresses, the attacker has all these
guesses anyway."""
_MOST_BANS = 65_536
"""Beyond that the oldest ban ends, which has lasted longest. To cause so many bans takes
``failures`` failed logins from each of so many addresses. An attacker who frees an address in this
way has needed a new one for each of these bans."""
_MOST_MANUAL_BANS = 4096
_DELAY_PER_FAILURE = 0.3
_LONGEST_DELAY = 15.0
"""Seconds: less than the login deadline, so that a person who mistyped gets a second try."""

Address = IPv4Address | IPv6Address
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class BanRules:
    """``failures`` failed logins of an address within ``window`` s ban it for ``duration`` s.

    Failed logins from ``allow`` are not counted: these addresses are neither banned nor delayed.
    """

    failures: int = 10
    window: float = 600.0
    duration: float = 1800.0
    allow: Networks = field(default_factory=lambda: Networks(LOOPBACK))

    def __post_init__(self) -> None:
        if self.failures < 1 or self.window <= 0 or self.duration <= 0:
            raise ValueError("bans: failures, window and duration have to be more than 0")


class Ban(NamedTuple):
    """``until``: when it ends; None: never. ``is_manual``: an administrator made it."""

    network: str
    until: float | None
    reason: str
    is_manual: bool = False

    def holds(self, now: float) -> bool:
        return self.until is None or now < self.until


class Verdict(NamedTuple):
    """The result of a failed login: seconds before its reply, and the address's ban."""

    delay: float = 0.0
    ban: Ban | None = None
    is_new: bool = False


class _Tally(Generic[K]):
    __slots__ = ("count", "key")

    def __init__(self, key: K) -> None:
        self.key = key
        self.count = 0


class _Recent(Generic[K]):
    """How often something has happened to each of many keys within the last seconds.

    No more than ``most`` events are remembered, all keys together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._events: deque[tuple[float, _Tally[K]]] = deque()
        self._tallies: dict[K, _Tally[K]] = {}

    def __len__(self) -> int:
        return len(self._events)

    def add(self, key: K, now: float, window: float) -> int:
        """Count an event; returns how many there were within the window, this one included."""
        while self._events and self._events[0][0] <= now - window:
            self._drop_oldest()
        if len(self._events) >= self._most:
            self._drop_oldest()
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally(key)
        tally.count += 1
        self._events.append((now, tally))
        return tally.count

    def count(self, key: K, now: float, window: float) -> int:
        """How many events there were within the window."""
        while self._events and self._events[0][0] <= now - window:
            self._drop_oldest()
        tally = self._tallies.get(key)
        return 0 if tally is None else tally.count

    def forget(self, key: K) -> None:
        """Set the count of a key to 0. Its events stay until they are old, but are not counted."""
        self._tallies.pop(key, None)

    def _drop_oldest(self) -> None:
        _, tally = self._events.popleft()
        tally.count -= 1
        if not tally.count and self._tallies.get(tally.key) is tally:
            del self._tallies[tally.key]


class Bans:
    """The bans, and the failed logins that lead to them. ``rules`` may be replaced at any time.

    Without rules nothing is counted, and only manual bans hold.
    """

    def __init__(
        self,
        rules: BanRules | None = None,
        *,
        most_failures: int = _MOST_FAILURES,
        most_bans: int = _MOST_BANS,
    ) -> None:
        self.rules = rules
        self._most_bans = most_bans
        self._addresses: _Recent[Bits] = _Recent(most_failures)
        # names by their hashes: as clients send them they may be long
        self._names: _Recent[int] = _Recent(most_failures)
        self._automatic: dict[Bits, Ban] = {}  # the oldest first
        self._manual: dict[Bits, Ban] = {}
        self._widths: set[tuple[int, int]] = set()  # versions and prefixes of manual ones

    # ------------------------------------------------------------------ failed logins

    def failed(self, address: str, login: str, now: float) -> Verdict:
        """A login failed. Raises ValueError where ``address`` is no address.

        The delay grows with the failures of that *name* from all addresses: so guesses that many
        addresses share are slowed down, too. It is bounded, and only a wrong password waits: nobody
        can lock out, or slow down, a user who knows the right one.
        """
        rules = self.rules
        if rules is None or plain(address) in rules.allow:
            return Verdict()
        failures = self._names.add(hash(login), now, rules.window)
        delay = min(failures * _DELAY_PER_FAILURE, _LONGEST_DELAY)
        ban = self.find(address, now)
        if ban is not None:  # this login was under way when the ban was made
            return Verdict(delay, ban)
        bits = site(address)
        count = self._addresses.add(bits, now, rules.window)
        if count < rules.failures:
            return Verdict(delay)
        self._addresses.forget(bits)
        ban = Ban(_text(bits), now + rules.duration, f"{count} failed logins")
        self._make_room(now)
        self._automatic[bits] = ban
        return Verdict(delay, ban, is_new=True)

    def has_banned(self, bits: Bits, now: float) -> bool:
        """Whether a site is banned for guesses now."""
        ban = self._automatic.get(bits)
        return ban is not None and ban.holds(now)

    def addresses_of(self, ban: Ban, addresses: Iterable[str]) -> set[str]:
        """The banned addresses among ``addresses``, and the ban's own."""
        network = ip_network(ban.network)
        if network.prefixlen == 32 and network.version == 4:
            # there may be thousands of addresses, and of bans: parse only those that can match
            if ban.is_manual:
                return {ban.network}
            bits = bits_of_network(ban.network)
            others = {each for each in addresses if may_embed_ipv4(each) and site(each) == bits}
            return {ban.network, *others}
        return {each for each in addresses if without_zone(each) in network}

    def room(self, bits: Bits, now: float) -> int:
        """How many more logins of a site may fail before it is banned."""
        rules = self.rules
        assert rules is not None
        return rules.failures - self._addresses.count(bits, now, rules.window)

    def _make_room(self, now: float) -> None:
        while self._automatic:
            bits, oldest = next(iter(self._automatic.items()))
            if oldest.holds(now) and len(self._automatic) < self._most_bans:
                return
            del self._automatic[bits]

    # ------------------------------------------------------------------ bans

    def find(self, address: str, now: float) -> Ban | None:
        """The ban that holds for an address. Raises ValueError where ``address`` is no address.

        Only an administrator can ban an address in ``allow``.
        """
        if not self._automatic and not self._manual:
            return None
        parsed = _parse(address)
        number, length = int(parsed), parsed.max_prefixlen
        for version, prefix in self._widths:
            if version == parsed.version:
                ban = self._manual.get((version, prefix, number >> length - prefix))
                if ban is not None and ban.holds(now):
                    return ban
        bits = site(address)
        ban = self._automatic.get(bits)
        if ban is None or (self.rules is not None and plain(address) in self.rules.allow):
            return None
        if not ban.holds(now):
            del self._automatic[bits]
            return None
        return ban

    def ban(self, network: str, seconds: float | None, reason: str, now: float) -> Ban:
        """Ban a network, or an address, whatever the rules say; for ever where ``seconds`` is None.

        Raises ValueError where ``network`` is no network, or too many are banned by hand.
        """
        bits = bits_of_network(network)
        self._keep_manual(now)
        if len(self._manual) >= _MOST_MANUAL_BANS and bits not in self._manual:
            raise ValueError(f"{_MOST_MANUAL_BANS} networks are banned by hand already")
        until = None if seconds is None else now + seconds
        ban = self._manual[bits] = Ban(_text(bits), until, reason, is_manual=True)
        self._widths.add(bits[:2])
        return ban

    def unban(self, network: str, now: float) -> list[Ban]:
        """Lift the bans of a network or an address; returns those that held.

        Failed logins from an IPv6 address ban its /64: that ban is lifted, too. Raises ValueError
        where ``network`` is neither.
        """
        exact = bits_of_network(network)
        counted = exact if "/" in network else site(network)
        lifted = [self._manual.pop(exact, None)]
        for bits in {exact, counted}:
            self._addresses.forget(bits)
            lifted.append(self._automatic.pop(bits, None))
        self._keep_manual(now)
        return [ban for ban in lifted if ban is not None and ban.holds(now)]

    def restore(self, bans: Iterable[tuple[Bits, Ban]], now: float) -> None:
        """Have bans of an earlier server hold, each with its ``bits_of_network``.

        Of two bans of one network the longer one stays.
        """
        for bits, ban in sorted(bans, key=lambda each: _end(each[1])):
            found = self._manual if ban.is_manual else self._automatic
            before = found.get(bits)
            if not ban.holds(now) or (before is not None and _end(before) >= _end(ban)):
                continue
            if not ban.is_manual:
                self._make_room(now)
            elif len(self._manual) >= _MOST_MANUAL_BANS:
                continue
            found[bits] = ban
        self._keep_manual(now)

    def list(self, now: float) -> list[Ban]:
        """All bans that hold."""
        bans = (*self._manual.values(), *self._automatic.values())
        return [ban for ban in bans if ban.holds(now)]

    def _keep_manual(self, now: float) -> None:
        """Forget manual bans that are over."""
        self._manual = {bits: ban for bits, ban in self._manual.items() if ban.holds(now)}
        self._widths = {bits[:2] for bits in self._manual}


def _end(ban: Ban) -> float:
    return math.inf if ban.until is None else ban.until


def _parse(address: str) -> Address:
    return without_zone(plain(address))


def bits_of_network(text: str) -> Bits:
    """A network, or an address. Raises ValueError for what is neither."""
    if "/" not in text:
        with contextlib.suppress(ValueError):
            address = _parse(text)
            return address.version, address.max_prefixlen, int(address)
    network = _network(text)
    number = int(network.network_address)
    return network.version, network.prefixlen, number >> network.max_prefixlen - network.prefixlen


def _network(text: str) -> IPv4Network | IPv6Network:
    """Raises ValueError. If host bits are set, the error names the network that was meant."""
    try:
        plain_text = text if "/" in text else str(_parse(text))
        meant = ip_network(plain_text, strict=False)
    except ValueError:
        expected = 'expected an address such as "192.0.2.7", or a network such as "192.0.2.0/24"'
        raise ValueError(f"{expected}, got {text!r}") from None
    try:
        return ip_network(plain_text)
    except ValueError:
        raise ValueError(f"{text} has host bits set; the network is {meant}") from None


def _text(bits: Bits) -> str:
    """A network as text; a network of one address is written as that address."""
    version, prefix, number = bits
    length = 32 if version == 4 else 128
    shifted = number << length - prefix
    address = IPv4Address(shifted) if version == 4 else IPv6Address(shifted)
    return str(address) if prefix == length else f"{address}/{prefix}"
