"""Who may connect, and how often: networks that are denied, and new connections in a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftpcluster.protocol.address import Networks
from ftpcluster.quota.admission import Admission
from ftpcluster.quota.arrivals import ArrivalRules, Arrivals
from ftpcluster.quota.ledger import ConnectionLimits, Ledger, Refusal

ALICE, BOB = "192.0.2.8", "192.0.2.9"


def let_in(arrivals: Arrivals, address: str, now: float, tries: int = 1) -> int:
    """How many of so many new connections are let in."""
    count = 0
    for _ in range(tries):
        if arrivals.find(address, now) is None:
            arrivals.count(address, now)
            count += 1
    return count


# ---------------------------------------------------------------------- deny


@pytest.mark.parametrize(
    ("allow", "deny", "address", "network"),
    [
        ((), ["203.0.113.0/24"], "203.0.113.7", "203.0.113.0/24"),
        ((), ["203.0.113.0/24"], "203.0.114.7", None),
        ((), ["203.0.113.0/24"], "::ffff:203.0.113.7", "203.0.113.0/24"),
        ((), ["2001:db8::/32"], "2001:db8:9::1", "2001:db8::/32"),
        ((), ["fe80::/10"], "fe80::1%eth0", "fe80::/10"),
        ((), ["203.0.113.0/24", "203.0.113.7"], "203.0.113.7", "203.0.113.7/32"),
        (["203.0.113.7"], ["203.0.113.0/24"], "203.0.113.7", None),
        (["203.0.113.0/24"], ["203.0.113.7"], "203.0.113.7", "203.0.113.7/32"),
        (["203.0.113.0/24"], ["203.0.113.7"], "203.0.113.8", None),
        (["10.0.0.0/8"], ["0.0.0.0/0", "::/0"], "10.1.1.1", None),
        (["10.0.0.0/8"], ["0.0.0.0/0", "::/0"], "11.1.1.1", "0.0.0.0/0"),
        (["10.0.0.0/8"], ["0.0.0.0/0", "::/0"], "::1", "::/0"),
    ],
)
def test_the_narrower_network_decides(
    allow: list[str], deny: list[str], address: str, network: str | None
) -> None:
    arrivals = Arrivals(ArrivalRules(allow=Networks(allow), deny=Networks(deny)))
    assert arrivals.denied(address) == network
    assert arrivals.find(address, 0) is (None if network is None else Refusal.DENIED)


def test_a_hundred_thousand_denied_networks_are_looked_up_at_once() -> None:
    networks = [f"{n >> 16}.{n >> 8 & 255}.{n & 255}.0/24" for n in range(1 << 20, 1_148_576)]
    arrivals = Arrivals(ArrivalRules(deny=Networks(networks)))
    assert len(arrivals.rules.deny._by_length) == 1
    assert arrivals.denied("16.0.255.9") == "16.0.255.0/24"
    assert arrivals.denied("15.255.255.9") is None


# ---------------------------------------------------------------------- new connections


def test_so_many_come_at_once_and_then_one_after_the_other() -> None:
    arrivals = Arrivals(ArrivalRules(most=60, period=60))
    assert let_in(arrivals, ALICE, 1000.3, tries=100) == 60
    assert let_in(arrivals, ALICE, 1001.2) == 0
    assert let_in(arrivals, ALICE, 1001.3, tries=9) == 1
    assert let_in(arrivals, ALICE, 1011.3, tries=99) == 10
    assert let_in(arrivals, BOB, 1011.3) == 1
    assert let_in(arrivals, ALICE, 1071.3, tries=99) == 60


def test_addresses_of_one_64_count_together() -> None:
    arrivals = Arrivals(ArrivalRules(most=2, period=60))
    assert [let_in(arrivals, f"2001:db8::{n}", 0) for n in (1, 2, 3)] == [1, 1, 0]
    assert let_in(arrivals, "2001:db8:0:1::1", 0) == 1


def test_what_is_in_allow_has_no_such_limit() -> None:
    arrivals = Arrivals(ArrivalRules(most=1, allow=Networks(["192.0.2.8"])))
    assert let_in(arrivals, ALICE, 0, tries=9) == 9
    assert let_in(arrivals, BOB, 0, tries=9) == 1
    assert len(arrivals) == 1


def test_other_rules_hold_at_once() -> None:
    arrivals = Arrivals(ArrivalRules(most=1, period=3600))
    assert let_in(arrivals, ALICE, 0, tries=2) == 1
    arrivals.set_rules(ArrivalRules(most=1, period=10), 5)
    assert let_in(arrivals, ALICE, 14) == 0
    assert let_in(arrivals, ALICE, 15) == 1
    arrivals.set_rules(ArrivalRules(), 15)
    assert let_in(arrivals, ALICE, 15, tries=5) == 5


def test_a_hundred_thousand_addresses_take_bounded_room() -> None:
    arrivals = Arrivals(ArrivalRules(most=1, period=60), most_sites=1000)
    for n in range(100_000):
        assert let_in(arrivals, f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 5.0) == 1
    assert len(arrivals) == 1000
    assert let_in(arrivals, "10.1.134.159", 5.0) == 0  # the last one is still known
    for n in range(200):  # a minute later they are forgotten, some with each connection
        assert let_in(arrivals, f"11.0.0.{n}", 66.0) == 1
    assert len(arrivals) == 200


@given(
    most=st.integers(1, 7),
    period=st.integers(1, 1000),
    steps=st.lists(st.floats(0, 400), min_size=1, max_size=40),
)
def test_no_time_has_more_than_it_may(most: int, period: int, steps: list[float]) -> None:
    arrivals = Arrivals(ArrivalRules(most=most, period=period))
    now, times = 98765.4, []
    for step in steps:
        now += step
        times += [now] * let_in(arrivals, ALICE, now, tries=3)
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            count, seconds = last - first + 1, times[last] - begin
            assert count <= most + seconds * most / period + 0.01


@pytest.mark.parametrize("wrong", [{"most": 0}, {"most": 1, "period": 0}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        ArrivalRules(**wrong)


# ---------------------------------------------------------------------- with slots and bans


def test_only_connections_that_got_a_slot_count() -> None:
    ledger = Ledger(ConnectionLimits(server=1))
    guard = Admission(ledger, None, lambda *_: None, arrivals=ArrivalRules(most=2, period=60))
    assert guard.admit(1, 1, ALICE, 0) is None
    for session in range(2, 9):
        assert guard.admit(1, session, ALICE, 0) is Refusal.SERVER_FULL
    ledger.limits = ConnectionLimits()
    assert guard.admit(1, 9, ALICE, 0) is None
    assert guard.admit(1, 10, ALICE, 0) is Refusal.TOO_OFTEN
    assert guard.refused == {Refusal.SERVER_FULL: 7, Refusal.TOO_OFTEN: 1}
    assert ledger.connections == 2


def test_the_address_behind_a_proxy_counts() -> None:
    rules = ArrivalRules(most=1, deny=Networks([BOB]))
    guard = Admission(Ledger(), None, lambda *_: None, arrivals=rules)
    for session in (1, 2, 3):
        assert guard.admit(1, session, None, 0) is None
    answers = [guard.identify(1, n, who, 0) for n, who in ((1, ALICE), (2, ALICE), (3, BOB))]
    assert answers == [None, Refusal.TOO_OFTEN, Refusal.DENIED]
