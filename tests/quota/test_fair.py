"""Max-min fairness, against a model that finds the level by trying, and by its definition."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ftpcluster.quota.fair import (
    Branch,
    Demand,
    Share,
    UserDemand,
    distribute,
    level,
    share,
)


class Claim(NamedTuple):
    """Somebody who wants up to ``most``, and counts ``weight`` times."""

    most: float
    weight: float = 1.0


patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TOKENS = st.floats(0, 1e10) | st.integers(0, 10_000)
CLAIMS = st.lists(
    st.builds(
        Claim,
        st.floats(0, 1e9) | st.integers(0, 1000),
        st.floats(0.25, 100) | st.integers(1, 50),
    ),
    max_size=12,
)
DEMANDS = st.dictionaries(
    st.integers(0, 8),
    st.builds(
        lambda waiting, waiting_bytes, slow, slow_bytes: Demand(
            waiting, waiting_bytes if waiting else 0, slow, slow_bytes if slow else 0
        ),
        st.integers(0, 20),
        st.integers(0, 10_000_000),
        st.integers(0, 20),
        st.integers(0, 10_000_000),
    ),
    max_size=8,
)


def level_of(tokens: float, claims: list[Claim]) -> float:
    return level(tokens, [(most / weight, most, weight) for most, weight in claims])


def naive_level(tokens: float, claims: list[Claim]) -> float:
    """The highest level that the tokens suffice for, by bisection."""

    def spent(cut: float) -> float:
        return math.fsum(min(claim.most, cut * claim.weight) for claim in claims)

    if spent(math.inf) <= tokens:
        return math.inf
    low, high = 0.0, max(claim.most / claim.weight for claim in claims)
    for _ in range(200):
        middle = (low + high) / 2
        if spent(middle) <= tokens:
            low = middle
        else:
            high = middle
    return low


def parts(demand: Demand) -> list[Claim]:
    pairs = ((demand.waiting_bytes, demand.waiting), (demand.slow_bytes, demand.slow))
    return [Claim(most, count) for most, count in pairs if count]


def nearly(amount: float) -> float:
    """What rounding may take or give, of so many bytes."""
    return 1e-6 + abs(amount) * 1e-9


# ---------------------------------------------------------------------- level


@patient
@given(TOKENS, CLAIMS)
@example(10, [Claim(5), Claim(5)])
@example(0, [Claim(0), Claim(0)])
@example(0, [])
def test_the_level_is_the_highest_that_the_tokens_suffice_for(
    tokens: float, claims: list[Claim]
) -> None:
    found, expected = level_of(tokens, claims), naive_level(tokens, claims)
    if math.inf in (found, expected):
        # where there is just enough, both are right
        wanted = math.fsum(claim.most for claim in claims)
        assert found == expected or abs(wanted - tokens) <= nearly(tokens)
    else:
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@patient
@given(TOKENS, CLAIMS)
def test_no_more_is_spread_than_there_is_and_nothing_is_left_while_somebody_wants(
    tokens: float, claims: list[Claim]
) -> None:
    cut = level_of(tokens, claims)
    spread = math.fsum(min(claim.most, cut * claim.weight) for claim in claims)
    wanted = math.fsum(claim.most for claim in claims)
    assert spread == pytest.approx(min(tokens, wanted), rel=1e-9, abs=1e-6)


@patient
@given(CLAIMS)
def test_there_is_always_enough_where_nothing_limits(claims: list[Claim]) -> None:
    assert level_of(math.inf, claims) == math.inf


@patient
@given(TOKENS, CLAIMS, st.randoms())
def test_the_order_of_claims_does_not_matter(
    tokens: float, claims: list[Claim], by: object
) -> None:
    shuffled = list(claims)
    by.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = level_of(tokens, claims), level_of(tokens, shuffled)
    if math.inf not in (one, other):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-6)


def test_who_wants_little_leaves_the_rest_to_the_others() -> None:
    assert level_of(100, [Claim(10), Claim(1000), Claim(1000)]) == 45


def test_who_counts_twice_gets_twice_as_much() -> None:
    assert level_of(90, [Claim(1000, 2), Claim(1000, 1)]) == 30


# ---------------------------------------------------------------------- share


@patient
@given(TOKENS, DEMANDS)
def test_nobody_gets_more_than_he_wants(tokens: float, demands: dict[int, Demand]) -> None:
    granted = share(tokens, demands)
    assert granted.keys() == demands.keys()
    for key, demand in demands.items():
        assert 0 <= granted[key] <= demand.total


@patient
@given(TOKENS, DEMANDS)
def test_all_together_get_no_more_than_there_is(tokens: float, demands: dict[int, Demand]) -> None:
    assert sum(share(tokens, demands).values()) <= tokens + nearly(tokens)


@patient
@given(TOKENS, DEMANDS)
def test_less_than_a_byte_a_head_is_left_while_somebody_wants(
    tokens: float, demands: dict[int, Demand]
) -> None:
    wanted = sum(demand.total for demand in demands.values())
    granted = sum(share(tokens, demands).values())
    assert granted > min(wanted, tokens) - len(demands) - nearly(tokens)


@patient
@given(TOKENS, DEMANDS)
def test_whoever_wants_more_has_as_much_a_transfer_as_anybody_else(
    tokens: float, demands: dict[int, Demand]
) -> None:
    """By definition: what an unsatisfied one has a transfer nobody exceeds.

    A worker may have both sorts of transfers; what it got is compared as if spread at one level.
    """
    granted = share(tokens, demands)
    unsatisfied = [
        naive_level(granted[key] + 1, parts(demand))
        for key, demand in demands.items()
        if granted[key] + 1 < demand.total
    ]
    for key, demand in demands.items():
        if unsatisfied and granted[key]:
            # the least level at which this one has what it has
            cut = naive_level(granted[key] - 1, parts(demand))
            assert cut <= min(unsatisfied) * (1 + 1e-6) + 1e-6


@patient
@given(TOKENS, DEMANDS)
def test_a_share_is_what_the_model_says(tokens: float, demands: dict[int, Demand]) -> None:
    cut = naive_level(tokens, [part for demand in demands.values() for part in parts(demand)])
    granted = share(tokens, demands)
    for key, demand in demands.items():
        expected = math.fsum(min(part.most, cut * part.weight) for part in parts(demand))
        assert granted[key] == pytest.approx(expected, rel=1e-6, abs=1.001)


def test_transfers_count_and_not_the_workers_that_they_run_in() -> None:
    demands = {1: Demand(waiting=1, waiting_bytes=10**6), 2: Demand(waiting=3, waiting_bytes=10**6)}
    assert share(4000, demands) == {1: 1000, 2: 3000}


def test_slow_transfers_get_what_they_want_and_waiting_ones_share_the_rest() -> None:
    demands = {1: Demand(1, 10**6, 2, 100), 2: Demand(1, 10**6)}
    assert share(1100, demands) == {1: 600, 2: 500}


def test_whole_bytes_are_granted_and_never_one_too_many() -> None:
    demands = {key: Demand(1, 100) for key in range(3)}
    assert share(10, demands) == {0: 3, 1: 3, 2: 3}


@pytest.mark.parametrize("nobody", [Demand(0, 10**9, 0, 0), Demand(0, 0, 0, 10**9)])
def test_bytes_that_no_transfer_wants_are_not_granted(nobody: Demand) -> None:
    """A worker is not trusted: what it reports may be nonsense."""
    granted = share(1000, {1: nobody, 2: Demand(1, 500)})
    assert granted[2] == 500
    assert sum(granted.values()) <= 1000


# ---------------------------------------------------------------------- distribute


def user(name: str, *demands: Demand, tokens: float = math.inf) -> UserDemand:
    """A user with a demand in each of some processes."""
    return UserDemand(name, tokens, sum(each.total for each in demands), dict(enumerate(demands)))


def group(name: str, tokens: float, *parts: Branch | UserDemand) -> Branch:
    return Branch.over(name, tokens, parts)


def totals(tree: Branch) -> dict[str, int]:
    return {each.user.name: sum(each.granted.values()) for each in distribute(tree)}


def holders(tree: Branch) -> dict[str, str | None]:
    return {each.user.name: each.held_by and each.held_by.name for each in distribute(tree)}


MUCH = Demand(waiting=1, waiting_bytes=10**6)


def test_a_group_has_one_part_and_its_users_share_that() -> None:
    staff = group("staff", math.inf, user("alice", MUCH), user("bob", MUCH, MUCH))
    assert totals(group("server", 1200, staff, user("carol", MUCH))) == {
        "alice": 300,
        "bob": 300,
        "carol": 600,
    }


def test_what_a_group_may_not_have_is_for_the_others() -> None:
    staff = group("staff", 200, user("alice", MUCH), user("bob", MUCH))
    assert totals(group("server", 1000, staff, user("carol", MUCH))) == {
        "alice": 100,
        "bob": 100,
        "carol": 800,
    }


def test_what_a_user_of_a_group_does_not_want_is_for_its_group_first() -> None:
    little = Demand(slow=1, slow_bytes=50)
    staff = group("staff", math.inf, user("alice", little), user("bob", MUCH))
    assert totals(group("server", 1000, staff, user("carol", MUCH))) == {
        "alice": 50,
        "bob": 450,
        "carol": 500,
    }


def test_it_says_whose_limit_keeps_whom_from_more() -> None:
    staff = group(
        "staff",
        300,
        user("alice", MUCH, tokens=100),
        user("bob", MUCH),
        user("carol", Demand(slow=1, slow_bytes=10)),
    )
    assert holders(group("server", math.inf, staff, user("dave", MUCH))) == {
        "alice": "alice",
        "bob": "staff",
        "carol": None,
        "dave": None,
    }
    assert holders(group("server", 100, staff, user("dave", MUCH))) == {
        "alice": "server",
        "bob": "server",
        "carol": None,
        "dave": "server",
    }


def test_where_there_is_enough_all_get_what_they_want() -> None:
    tree = group("server", math.inf, group("staff", math.inf, user("alice", MUCH, MUCH)))
    (only,) = distribute(tree)
    assert (only.granted, only.held_by) == ({0: 10**6, 1: 10**6}, None)


def test_a_tree_without_users_has_nobody_to_give_anything() -> None:
    assert list(distribute(group("server", 1000, group("staff", 500)))) == []


USERS = st.builds(
    lambda name, tokens, demands: UserDemand(
        str(name), tokens, sum(each.total for each in demands.values()), demands
    ),
    st.uuids(),
    TOKENS | st.just(math.inf),
    DEMANDS,
)
TREES = st.recursive(
    USERS,
    lambda parts: st.builds(
        Branch.over, st.uuids().map(str), TOKENS | st.just(math.inf), st.lists(parts, max_size=4)
    ),
    max_leaves=12,
).filter(lambda part: isinstance(part, Branch))


def inner(tree: Branch) -> list[Branch]:
    """All branches of a tree, itself included."""
    return [
        tree,
        *(each for part in tree.parts if isinstance(part, Branch) for each in inner(part)),
    ]


def below(branch: Branch, shares: list[Share]) -> list[Share]:
    return [each for each in shares if any(one is branch for one in each.path)]


def sum_of(shares: list[Share]) -> int:
    return sum(sum(each.granted.values()) for each in shares)


@patient
@given(TREES)
def test_no_limit_of_any_level_is_passed(tree: Branch) -> None:
    shares = list(distribute(tree))
    for branch in inner(tree):
        assert sum_of(below(branch, shares)) <= branch.tokens + nearly(branch.tokens)
    for each in shares:
        assert sum(each.granted.values()) <= each.user.most + nearly(each.user.most)


@patient
@given(TREES)
def test_whoever_has_less_than_wanted_is_held_by_a_limit_that_is_used_up(tree: Branch) -> None:
    shares = list(distribute(tree))
    for each in shares:
        processes = len(each.user.demands)
        if sum(each.granted.values()) < each.user.want - processes - nearly(each.user.want):
            holder = each.held_by
            assert holder is not None
            held = below(holder, shares) if isinstance(holder, Branch) else [each]
            # each process loses up to a byte by rounding
            lost = sum(len(one.user.demands) for one in held)
            assert sum_of(held) >= holder.tokens - lost - nearly(holder.tokens)


@patient
@given(TREES)
def test_of_two_parts_that_one_limit_holds_neither_has_more(tree: Branch) -> None:
    """By definition of max-min fairness, at each level."""
    shares = list(distribute(tree))
    for branch in inner(tree):
        got = []
        for part in branch.parts:
            mine = (
                below(part, shares)
                if isinstance(part, Branch)
                else [each for each in shares if each.user is part]
            )
            lost = sum(len(each.user.demands) for each in mine)
            got.append((sum_of(mine), part.most, lost))
        for mine, most, lost in got:
            if mine + lost + 1 + nearly(most) < most:
                assert all(theirs <= mine + lost + 1 + nearly(theirs) for theirs, _, _ in got)
