"""Who is banned, for how long, and what is remembered: bookkeeping alone, time is a number."""

from __future__ import annotations

import pytest

from ftpcluster.protocol.address import Bits, Networks
from ftpcluster.quota import bans as bans_module
from ftpcluster.quota.bans import Ban, BanRules, Bans, bits_of_network

RULES = BanRules(failures=3, window=60, duration=600, allow=Networks(["10.0.0.0/8", "::1"]))
MALLORY, ALICE = "192.0.2.7", "192.0.2.8"


def guess(bans: Bans, address: str, times: int, now: float = 0.0, login: str = "bob") -> float:
    """Fail to log in; the last delay."""
    delay = 0.0
    for _ in range(times):
        delay = bans.failed(address, login, now).delay
    return delay


def test_the_last_failure_within_the_window_bans() -> None:
    bans = Bans(RULES)
    guess(bans, MALLORY, 2)
    assert bans.find(MALLORY, 0) is None
    verdict = bans.failed(MALLORY, "bob", 59.9)
    assert verdict.is_new
    assert verdict.ban == bans.find(MALLORY, 60) == Ban(MALLORY, 659.9, "3 failed logins")
    assert bans.find(ALICE, 60) is None


def test_failures_that_are_too_old_do_not_count() -> None:
    bans = Bans(RULES)
    for now in range(0, 3000, 30):  # two in any 60 s
        assert bans.failed(MALLORY, "bob", now).ban is None


def test_a_ban_ends_and_counting_begins_at_none() -> None:
    bans = Bans(RULES)
    guess(bans, MALLORY, 3)
    assert bans.find(MALLORY, 599.9) is not None
    assert bans.find(MALLORY, 600) is None
    guess(bans, MALLORY, 2, 600)
    assert bans.find(MALLORY, 600) is None
    assert guess(bans, MALLORY, 1, 600)
    assert bans.find(MALLORY, 600) is not None


def test_a_failure_of_one_who_is_banned_already_does_not_prolong_it() -> None:
    bans = Bans(RULES)
    guess(bans, MALLORY, 3)
    verdict = bans.failed(MALLORY, "bob", 500)
    assert (verdict.ban, verdict.is_new) == (bans.find(MALLORY, 500), False)
    assert bans.find(MALLORY, 600) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
        ("fe80::1%eth0", "fe80::1%eth0", True),
        ("fd00::1", "fd00::2", False),
        ("64:ff9b::c000:207", "64:ff9b::c000:208", False),
        ("64:ff9b::c000:207", "192.0.2.7", True),
        ("64:ff9b:1::c000:207", "64:ff9b:1::c000:208", False),
        ("2002:c000:207::1", "2002:c000:207:ffff::2", True),
        ("2002:c000:207::1", "192.0.2.7", True),
        ("2001:0:4136:e378:8000:63bf:3fff:fdf8", "192.0.2.7", True),  # Teredo
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.6", False),
    ],
)
def test_ipv6_counts_by_the_64_local_addresses_by_themselves_and_what_is_ipv4_as_that(
    one: str, other: str, same: bool
) -> None:
    bans = Bans(RULES)
    guess(bans, one, 2)
    guess(bans, other, 1)
    assert (bans.find(one, 0) is not None) is same
    assert (bans.find(other, 0) is not None) is same


@pytest.mark.parametrize("address", ["10.1.2.3", "::1", "::ffff:10.0.0.1"])
def test_who_is_allowed_is_neither_banned_nor_slowed_down(address: str) -> None:
    bans = Bans(RULES)
    assert guess(bans, address, 100) == 0
    assert bans.find(address, 0) is None
    assert bans.failed(MALLORY, "bob", 0).delay < 1  # nor counted for the name


def test_who_comes_to_be_allowed_is_no_longer_banned() -> None:
    bans = Bans(RULES)
    guess(bans, MALLORY, 3)
    bans.rules = BanRules(allow=Networks([MALLORY]))
    assert bans.find(MALLORY, 0) is None


def test_counts_and_bans_survive_other_rules() -> None:
    bans = Bans(RULES)
    guess(bans, MALLORY, 3)
    guess(bans, ALICE, 2)
    bans.rules = BanRules(failures=5, window=60, duration=5)
    assert bans.find(MALLORY, 599) is not None
    assert bans.failed(ALICE, "bob", 1).ban is None
    assert bans.failed(ALICE, "bob", 1).ban is None
    assert bans.failed(ALICE, "bob", 1).ban == Ban(ALICE, 6, "5 failed logins")


def test_without_rules_nothing_is_counted() -> None:
    bans = Bans()
    assert guess(bans, MALLORY, 1000) == 0
    assert bans.find(MALLORY, 0) is None


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"window": 0}, {"duration": -1}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        BanRules(**wrong)


# ---------------------------------------------------------------------- names


def test_guesses_of_one_name_from_many_addresses_wait_longer_and_longer_to_a_bound() -> None:
    bans = Bans(RULES)
    delays = [bans.failed(f"192.0.2.{n}", "bob", 0).delay for n in range(256)]
    assert delays == sorted(delays)
    assert delays[0] < 1
    assert delays[-1] == 15
    assert bans.failed("198.51.100.1", "alice", 0).delay < 1


def test_a_name_is_forgotten_with_the_window() -> None:
    bans = Bans(RULES)
    for number in range(256):
        bans.failed(f"192.0.2.{number}", "bob", 0)
    assert bans.failed("198.51.100.1", "bob", 60).delay < 1


# ---------------------------------------------------------------------- memory


def test_no_more_failures_are_remembered_than_may_be() -> None:
    bans = Bans(RULES, most_failures=50)
    for number in range(5000):
        bans.failed(f"2001:db8:0:{number:x}::1", f"name {number}", 0)
    for recent in (bans._addresses, bans._names):
        assert len(recent) == len(recent._tallies) == 50


def test_with_full_memory_the_oldest_failure_is_forgotten_first() -> None:
    bans = Bans(RULES, most_failures=5)
    guess(bans, MALLORY, 2)
    for number in range(3):
        bans.failed(f"198.51.100.{number}", "bob", 0)
    guess(bans, ALICE, 1)  # pushes one of Mallory's out
    assert bans.failed(MALLORY, "bob", 0).ban is None


def test_no_more_bans_are_held_than_may_be_and_the_oldest_ends_first() -> None:
    bans = Bans(RULES, most_bans=50)
    for number in range(500):
        guess(bans, f"198.51.{number // 250}.{number % 250}", 3, now=number * 0.001)
    held = [ban.network for ban in bans.list(1)]
    assert held == [f"198.51.1.{number % 250}" for number in range(450, 500)]


def test_bans_that_are_over_are_not_kept() -> None:
    bans = Bans(RULES)
    for number in range(100):
        guess(bans, f"198.51.100.{number}", 3, now=number * 1000)
    assert len(bans._automatic) == 1


def test_a_flood_of_bans_does_not_lift_those_made_by_hand() -> None:
    bans = Bans(RULES, most_bans=2)
    bans.ban("203.0.113.0/24", None, "spam", 0)
    for number in range(10):
        guess(bans, f"198.51.100.{number}", 3)
    assert bans.find("203.0.113.9", 0) is not None


def test_there_is_a_bound_on_bans_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bans_module._MOST_MANUAL_BANS == 4096
    monkeypatch.setattr(bans_module, "_MOST_MANUAL_BANS", 64)
    bans = Bans()
    for number in range(64):
        bans.ban(f"10.0.{number}.1", 10, "", 0)
    with pytest.raises(ValueError, match="64"):
        bans.ban("192.0.2.1", 10, "", 9)
    bans.ban("10.0.0.1", 100, "again", 9)
    bans.ban("192.0.2.1", 10, "", 10)  # the others are over
    assert len(bans.list(10)) == 2


# ---------------------------------------------------------------------- by hand


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("192.0.2.0/24", "::ffff:192.0.2.200", "192.0.3.1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
        ("2001:db8::7", "2001:db8::7", "2001:db8::8"),
        ("0.0.0.0/0", "127.0.0.1", "::1"),
        ("10.0.0.0/8", "10.0.0.1", "11.0.0.1"),  # although it is allowed
    ],
)
def test_a_network_can_be_banned_by_hand(network: str, inside: str, outside: str) -> None:
    bans = Bans(RULES)
    ban = bans.ban(network, 100, "spam", 0)
    assert (ban.network, ban.until, ban.reason, ban.is_manual) == (network, 100, "spam", True)
    assert bans.find(inside, 99) == ban
    assert bans.find(inside, 100) is None
    assert bans.find(outside, 0) is None


def test_a_ban_by_hand_may_have_no_end() -> None:
    bans = Bans()
    bans.ban(MALLORY, None, "for good", 0)
    assert bans.find(MALLORY, 1e12) is not None


@pytest.mark.parametrize("text", ["", "example.com", "192.0.2.7/24", "192.0.2.0/33", "1.2.3"])
def test_what_is_no_network_cannot_be_banned_or_unbanned(text: str) -> None:
    bans = Bans(RULES)
    with pytest.raises(ValueError, match=r"\S"):
        bans.ban(text, 1, "", 0)
    with pytest.raises(ValueError, match=r"\S"):
        bans.unban(text, 0)


def test_unbanning_lifts_what_guesses_led_to_and_the_count() -> None:
    bans = Bans(RULES)
    guess(bans, MALLORY, 3)
    (lifted,) = bans.unban(MALLORY, 1)
    assert lifted.reason == "3 failed logins"
    assert bans.find(MALLORY, 1) is None
    guess(bans, MALLORY, 2, 1)
    assert bans.find(MALLORY, 1) is None
    assert bans.unban(MALLORY, 1) == []
    guess(bans, MALLORY, 2, 1)
    assert bans.find(MALLORY, 1) is None  # it was forgotten that there had been two


def test_unbanning_an_ipv6_address_lifts_the_ban_of_its_64() -> None:
    bans = Bans(RULES)
    guess(bans, "2001:db8::1", 3)
    assert [ban.network for ban in bans.list(0)] == ["2001:db8::/64"]
    bans.unban("2001:db8::9", 0)
    assert bans.find("2001:db8::1", 0) is None


def test_unbanning_an_address_leaves_a_network_that_was_banned_by_hand() -> None:
    bans = Bans(RULES)
    bans.ban("192.0.2.0/24", None, "spam", 0)
    assert bans.unban(MALLORY, 0) == []
    assert bans.find(MALLORY, 0) is not None
    assert len(bans.unban("192.0.2.0/24", 0)) == 1
    assert bans.find(MALLORY, 0) is None


def test_the_list_has_all_that_hold_and_no_others() -> None:
    bans = Bans(RULES)
    guess(bans, MALLORY, 3)
    bans.ban(ALICE, 10, "by hand", 0)
    assert {ban.network for ban in bans.list(5)} == {MALLORY, ALICE}
    assert {ban.network for ban in bans.list(10)} == {MALLORY}
    assert bans.list(600) == []


def kept(*bans: Ban) -> list[tuple[Bits, Ban]]:
    return [(bits_of_network(ban.network), ban) for ban in bans]


def test_bans_of_an_earlier_server_hold_and_the_longer_one_stays() -> None:
    bans = Bans(BanRules(failures=1, duration=100, allow=Networks(["192.0.2.9"])))
    bans.failed("192.0.2.1", "bob", 0)
    bans.ban("198.51.100.0/24", None, "here", 0)
    bans.restore(
        kept(
            Ban("192.0.2.1", 50.0, "earlier"),
            Ban("192.0.2.2", 50.0, "earlier"),
            Ban("192.0.2.3", 5.0, "over"),
            Ban("192.0.2.9", 50.0, "allowed now"),
            Ban("198.51.100.0/24", 50.0, "earlier", is_manual=True),
            Ban("2001:db8::/64", 50.0, "earlier"),
            Ban("203.0.113.0/24", None, "earlier", is_manual=True),
        ),
        10.0,
    )
    found = {ban.network: ban.until for ban in bans.list(10.0)}
    assert found.pop("192.0.2.9") == 50.0  # it holds for nobody: see below
    assert found == {
        "192.0.2.1": 100.0,
        "192.0.2.2": 50.0,
        "198.51.100.0/24": None,
        "2001:db8::/64": 50.0,
        "203.0.113.0/24": None,
    }
    for address in ("192.0.2.2", "2001:db8::77", "203.0.113.5", "198.51.100.1"):
        assert bans.find(address, 10.0) is not None
    for address in ("192.0.2.3", "192.0.2.9", "203.0.114.5"):
        assert bans.find(address, 10.0) is None
    assert bans.find("192.0.2.2", 50.0) is None


def test_of_too_many_earlier_bans_those_stay_that_last_longest() -> None:
    bans = Bans(BanRules(), most_bans=3)
    bans.restore(kept(*(Ban(f"192.0.2.{n}", 100.0 - n, "earlier") for n in range(6))), 0)
    assert {ban.network for ban in bans.list(0)} == {"192.0.2.0", "192.0.2.1", "192.0.2.2"}
