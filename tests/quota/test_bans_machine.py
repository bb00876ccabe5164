"""Bans against a naive model that remembers everything, and looks through all of it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ftpcluster.protocol.address import Networks
from ftpcluster.quota.bans import BanRules, Bans

ADDRESSES = ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1", "2001:db8::2", "2001:db9::1"]
NETWORKS = ["192.0.2.1", "192.0.2.0/24", "2001:db8::/64", "2001:db8::1", "2001::/16"]
PICK = st.sampled_from(ADDRESSES)
RULES = st.builds(
    BanRules,
    failures=st.integers(1, 4),
    window=st.integers(1, 20),
    duration=st.integers(1, 20),
    allow=st.sampled_from([(), ("192.0.2.2",), ("2001:db8::/32",)]).map(Networks),
)


def site(address: str) -> str:
    """What an address counts as."""
    return address if "." in address else str(ip_network(f"{address}/64", strict=False))


class BansMachine(RuleBasedStateMachine):
    """``failures`` are (time, site); bans, automatic or manual, have their ends."""

    @initialize(rules=RULES)
    def begin(self, rules: BanRules) -> None:
        self.now = 0.0
        self.bans = Bans(rules)
        self.failures: list[tuple[float, str]] = []
        self.names: list[tuple[float, str]] = []
        self.automatic: dict[str, float] = {}
        self.manual: dict[str, float] = {}

    @property
    def in_force(self) -> BanRules:
        assert self.bans.rules is not None
        return self.bans.rules

    def holds(self, address: str) -> bool:
        by_hand = any(
            ip_address(address) in ip_network(network) and self.now < end
            for network, end in self.manual.items()
        )
        by_itself = self.now < self.automatic.get(site(address), -1)
        return by_hand or (by_itself and address not in self.in_force.allow)

    def recent(self, events: list[tuple[float, str]], key: str) -> int:
        return sum(when > self.now - self.in_force.window and what == key for when, what in events)

    @rule(address=PICK, login=st.sampled_from(["alice", "bob"]))
    def fail(self, address: str, login: str) -> None:
        was_banned = self.holds(address)
        verdict = self.bans.failed(address, login, self.now)
        if address in self.in_force.allow:
            assert verdict == (0.0, None, False)
            return
        self.names.append((self.now, login))
        assert verdict.delay == min(15, 0.3 * self.recent(self.names, login))
        if not was_banned:
            self.failures.append((self.now, site(address)))
            if self.recent(self.failures, site(address)) >= self.in_force.failures:
                self.failures = [each for each in self.failures if each[1] != site(address)]
                self.automatic[site(address)] = self.now + self.in_force.duration
                assert verdict.is_new
        assert (verdict.ban is not None) == self.holds(address)

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(rules=RULES)
    def reload(self, rules: BanRules) -> None:
        # a longer window does not bring back what was forgotten: the model forgets it, too
        horizon = self.now - self.in_force.window
        window = min(rules.window, self.in_force.window)
        self.failures = [each for each in self.failures if each[0] > horizon]
        self.names = [each for each in self.names if each[0] > horizon]
        self.bans.rules = BanRules(
            failures=rules.failures, window=window, duration=rules.duration, allow=rules.allow
        )

    @rule(network=st.sampled_from(NETWORKS), seconds=st.integers(1, 30))
    def ban(self, network: str, seconds: int) -> None:
        self.bans.ban(network, seconds, "by hand", self.now)
        self.manual[network] = self.now + seconds

    @rule(network=st.sampled_from(NETWORKS))
    def unban(self, network: str) -> None:
        self.bans.unban(network, self.now)
        self.manual.pop(network, None)
        sites = {network} if "/" in network else {network, site(network)}
        for each in sites:
            self.automatic.pop(each, None)
            self.failures = [entry for entry in self.failures if entry[1] != each]

    @invariant()
    def the_same_addresses_are_banned(self) -> None:
        if hasattr(self, "bans"):
            found = {each for each in ADDRESSES if self.bans.find(each, self.now) is not None}
            assert found == {each for each in ADDRESSES if self.holds(each)}

    @invariant()
    def what_is_remembered_is_what_is_counted(self) -> None:
        if hasattr(self, "bans"):
            for recent in (self.bans._addresses, self.bans._names):
                assert sum(t.count for t in recent._tallies.values()) <= len(recent)
                assert all(tally.count > 0 for tally in recent._tallies.values())


def few_or_many(examples: int) -> settings:
    return settings(max_examples=examples, stateful_step_count=40, deadline=None, derandomize=True)


class TestBans(BansMachine.TestCase):
    settings = few_or_many(40)


@pytest.mark.slow
class TestBansAtLength(BansMachine.TestCase):
    settings = few_or_many(300)
