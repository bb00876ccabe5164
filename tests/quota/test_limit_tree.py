"""The tree of limits: what is granted never exceeds them, and is spread fairly."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ftpcluster.quota.bucket import BUSY_DEPTH, IDLE_DEPTH, Bucket
from ftpcluster.quota.fair import Demand
from ftpcluster.quota.limit_tree import STALE, TICK, Grant, LimitTree, Report
from ftpcluster.quota.rates import DOWNLOAD, UPLOAD, Direction, Rates

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LOGINS = ("alice", "bob", "carol")
MEGA = 1_000_000


def eager(login: str, count: int = 1, waiting_bytes: int = 1 << 30) -> Report:
    """A user's transfers that want more than there ever is."""
    return Report(login, DOWNLOAD, Demand(waiting=count, waiting_bytes=waiting_bytes))


def sizes(grants: Mapping[int, list[Grant]]) -> dict[tuple[int, str], int]:
    return {(epoch, grant.login): grant.size for epoch in grants for grant in grants[epoch]}


# ---------------------------------------------------------------------- buckets


def test_a_new_bucket_holds_a_moment_s_worth() -> None:
    assert Bucket(1000, 5.0).available(5.0, is_busy=False) == 1000 * IDLE_DEPTH


def test_a_bucket_fills_at_its_rate() -> None:
    bucket = Bucket(1000, 0.0)
    bucket.take(1000 * IDLE_DEPTH)
    assert bucket.available(0.0, is_busy=True) == 0
    assert bucket.available(0.03, is_busy=True) == pytest.approx(30)


@pytest.mark.parametrize(("is_busy", "depth"), [(False, IDLE_DEPTH), (True, BUSY_DEPTH)])
def test_a_bucket_holds_no_more_than_its_depth_however_long_nobody_came(
    is_busy: bool, depth: float
) -> None:
    bucket = Bucket(1000, 0.0)
    bucket.available(0.15, is_busy=is_busy)
    assert bucket.available(0.2, is_busy=is_busy) <= 1000 * depth


def test_what_was_saved_while_it_was_busy_is_not_lost_at_once() -> None:
    bucket = Bucket(1000, 0.0)
    assert bucket.available(0.1, is_busy=True) == pytest.approx(100)
    assert bucket.available(0.1, is_busy=False) == pytest.approx(100)


def test_a_bucket_in_debt_gives_nothing_until_that_is_paid() -> None:
    bucket = Bucket(1000, 0.0)
    bucket.take(1000 * IDLE_DEPTH + 50)
    assert bucket.available(0.05, is_busy=True) == pytest.approx(0, abs=1e-6)
    assert bucket.available(0.07, is_busy=True) == pytest.approx(20)


def test_time_that_goes_backwards_fills_nothing_and_is_not_counted_twice() -> None:
    bucket = Bucket(1000, 1.0)
    bucket.take(1000 * IDLE_DEPTH)
    bucket.available(1.05, is_busy=True)
    assert bucket.available(0.5, is_busy=True) == pytest.approx(50)
    assert bucket.available(1.05, is_busy=True) == pytest.approx(50)


def test_no_more_comes_back_than_the_bucket_holds() -> None:
    bucket = Bucket(1000, 0.0)
    bucket.give_back(10**9)
    assert bucket.available(0.0, is_busy=True) == 1000 * BUSY_DEPTH


def test_a_new_rate_takes_away_what_was_saved_beyond_a_moment() -> None:
    bucket = Bucket(10_000, 0.0)
    bucket.available(0.1, is_busy=True)
    bucket.set_limit(1000, 0.1)
    assert bucket.available(0.1, is_busy=True) == 1000 * IDLE_DEPTH


def test_a_bucket_without_a_rate_has_no_end() -> None:
    bucket = Bucket(None, 0.0)
    bucket.take(10**12)
    bucket.give_back(5)
    assert bucket.available(1.0, is_busy=False) == math.inf


@patient
@given(st.lists(st.tuples(st.floats(0, 0.5), st.booleans(), st.floats(0, 1)), max_size=30))
def test_no_window_yields_more_than_the_rate_and_the_depth(
    steps: list[tuple[float, bool, float]],
) -> None:
    bucket, now, taken = Bucket(1000, 0.0), 0.0, [(0.0, 0.0)]
    for pause, is_busy, part in steps:
        now += pause
        amount = bucket.available(now, is_busy=is_busy) * part
        bucket.take(amount)
        taken.append((now, taken[-1][1] + amount))
    for start in range(len(taken)):
        for when, total in taken[start + 1 :]:
            spent = total - taken[start][1]
            assert spent <= 1000 * (when - taken[start][0] + BUSY_DEPTH) + 1e-6


# ---------------------------------------------------------------------- the tree, by example


def test_the_server_s_limit_is_split_over_users_first() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.report(1, [eager("alice", 9), eager("bob", 1)], 0.0)
    granted = sizes(tree.distribute(0.0))
    assert granted == {(1, "alice"): 20_000, (1, "bob"): 20_000}


def test_a_user_s_part_is_split_over_transfers_wherever_they_run() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.report(1, [eager("alice", 3)], 0.0)
    tree.report(2, [eager("alice", 1)], 0.0)
    assert sizes(tree.distribute(0.0)) == {(1, "alice"): 30_000, (2, "alice"): 10_000}


def test_what_a_limited_user_may_not_have_is_for_the_others() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.set_user("alice", Rates(download=MEGA // 10), 0.0)
    tree.report(1, [eager("alice"), eager("bob")], 0.0)
    assert sizes(tree.distribute(0.0)) == {(1, "alice"): 4000, (1, "bob"): 36_000}


def test_what_comes_in_and_what_goes_out_are_apart() -> None:
    tree = LimitTree(Rates(upload=1000, download=2000), 0.0)
    demand = Demand(1, 10**6)
    tree.report(1, [Report("alice", UPLOAD, demand), Report("alice", DOWNLOAD, demand)], 0.0)
    assert sorted(tree.distribute(0.0)[1]) == [
        Grant("alice", UPLOAD, 40),
        Grant("alice", DOWNLOAD, 80),
    ]


def test_a_demand_holds_until_the_next_report() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.report(1, [eager("alice")], 0.0)
    assert tree.distribute(0.0)
    assert tree.distribute(TICK)
    tree.report(1, [Report("alice", DOWNLOAD, Demand())], TICK)
    assert not tree.distribute(2 * TICK)
    assert not tree.is_wanted


def test_a_worker_that_reports_no_more_gets_nothing_after_a_while() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    for epoch in (1, 2):
        tree.report(epoch, [eager("alice")], 0.0)
    tree.report(2, [eager("alice")], STALE / 2)
    assert tree.distribute(STALE * 0.99).keys() == {1, 2}
    granted = sizes(tree.distribute(STALE * 1.01))
    assert granted.keys() == {(2, "alice")}


def test_a_worker_that_is_gone_gets_nothing() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    for epoch in (1, 2):
        tree.report(epoch, [eager("alice"), eager("bob")], 0.0)
    tree.release_process(1)
    tree.release_process(1)
    assert tree.distribute(0.0).keys() == {2}
    tree.release_process(2)
    assert not tree.is_wanted


def test_what_a_worker_gives_back_goes_to_the_others() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.report(1, [eager("alice")], 0.0)
    assert sizes(tree.distribute(0.0)) == {(1, "alice"): 40_000}
    tree.report(1, [Report("alice", DOWNLOAD, Demand(), returned=30_000)], 0.0)
    tree.report(2, [eager("bob")], 0.0)
    assert sizes(tree.distribute(0.0)) == {(2, "bob"): 30_000}


def test_what_comes_back_counts_for_its_user_too() -> None:
    tree = LimitTree(Rates(), 0.0)
    tree.set_user("alice", Rates(download=MEGA), 0.0)
    tree.report(1, [eager("alice")], 0.0)
    tree.distribute(0.0)
    tree.report(1, [Report("alice", DOWNLOAD, Demand(), returned=30_000)], 0.0)
    tree.report(2, [eager("alice")], 0.0)
    assert sizes(tree.distribute(0.0)) == {(2, "alice"): 30_000}


def test_a_lowered_limit_holds_from_then_on() -> None:
    tree = LimitTree(Rates(download=10 * MEGA), 0.0)
    tree.report(1, [eager("alice")], 0.0)
    tree.distribute(0.0)
    tree.distribute(TICK)
    tree.set_server(Rates(download=MEGA), TICK)
    granted = 0
    for tick in range(1, 22):
        tree.report(1, [eager("alice")], tick * TICK)
        granted += sum(sizes(tree.distribute(tick * TICK)).values())
    assert granted <= MEGA * (1 + IDLE_DEPTH)


@pytest.mark.parametrize("before", [None, 1000])
def test_a_limit_that_is_lifted_holds_no_more(before: int | None) -> None:
    tree = LimitTree(Rates(download=before), 0.0)
    tree.set_user("alice", Rates(download=1000), 0.0)
    tree.set_user("alice", Rates(), 0.0)
    tree.set_server(Rates(), 0.0)
    tree.report(1, [eager("alice", waiting_bytes=10**9)], 0.0)
    assert sizes(tree.distribute(0.0)) == {(1, "alice"): 10**9}


def test_a_limit_of_nothing_is_none_as_it_is_in_a_single_process() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.set_user("alice", Rates(upload=0, download=0), 0.0)
    tree.report(1, [eager("alice")], 0.0)
    assert sizes(tree.distribute(0.0)) == {(1, "alice"): 40_000}


# ---------------------------------------------------------------------- groups


@pytest.fixture
def staffed() -> LimitTree:
    """Two users of a group with a limit, and one of none."""
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.set_group("staff", Rates(download=MEGA // 10), 0.0)
    tree.set_user("alice", Rates(), 0.0, group="staff")
    tree.set_user("bob", Rates(), 0.0, group="staff")
    tree.set_user("carol", Rates(), 0.0)
    return tree


ALL = [eager("alice"), eager("bob"), eager("carol")]


def test_a_groups_limit_holds_for_its_users_together_wherever_they_run(staffed: LimitTree) -> None:
    staffed.report(1, [eager("alice")], 0.0)
    staffed.report(2, [eager("bob"), eager("carol")], 0.0)
    assert sizes(staffed.distribute(0.0)) == {
        (1, "alice"): 2000,
        (2, "bob"): 2000,
        (2, "carol"): 36_000,
    }


def test_over_time_a_group_has_its_limit_and_nothing_more(staffed: LimitTree) -> None:
    granted: defaultdict[str, int] = defaultdict(int)
    for tick in range(200):
        staffed.report(1, ALL, tick * TICK)
        for grant in staffed.distribute(tick * TICK)[1]:
            granted[grant.login] += grant.size
    assert granted["alice"] + granted["bob"] == pytest.approx(10 * MEGA / 10, rel=0.02)
    assert sum(granted.values()) == pytest.approx(10 * MEGA, rel=0.02)


def test_it_says_at_which_level_a_user_is_held(staffed: LimitTree) -> None:
    staffed.set_user("bob", Rates(download=1000), 0.0, group="staff")
    staffed.report(1, ALL, 0.0)
    staffed.distribute(0.0)
    held = [staffed.held_by(login, DOWNLOAD) for login in ("alice", "bob", "carol", "dave")]
    assert held == ["group", "user", "server", None]
    assert staffed.contended == (False, True)


def test_a_group_at_its_limit_keeps_nobody_else_waiting_for_the_tick(staffed: LimitTree) -> None:
    staffed.report(1, [eager("alice")], 0.0)
    staffed.distribute(0.0)
    staffed.report(2, [eager("bob", waiting_bytes=500), eager("carol", waiting_bytes=500)], 0.001)
    assert sizes(staffed.distribute(0.001, only=2)) == {(2, "carol"): 500}


def test_what_comes_back_counts_for_the_group_too(staffed: LimitTree) -> None:
    staffed.report(1, [eager("alice")], 0.0)
    assert sizes(staffed.distribute(0.0)) == {(1, "alice"): 4000}
    staffed.report(1, [Report("alice", DOWNLOAD, Demand(), returned=3000)], 0.0)
    staffed.report(2, [eager("bob")], 0.0)
    assert sizes(staffed.distribute(0.0)) == {(2, "bob"): 3000}


def test_a_user_who_leaves_a_group_is_free_of_its_limit(staffed: LimitTree) -> None:
    staffed.set_user("alice", Rates(), 0.0)
    staffed.report(1, [eager("alice")], 0.0)
    assert sizes(staffed.distribute(0.0)) == {(1, "alice"): 40_000}


def test_a_group_whose_limit_is_lifted_is_no_level_any_more(staffed: LimitTree) -> None:
    staffed.set_group("staff", Rates(), 0.0)
    staffed.report(1, ALL, 0.0)
    assert set(sizes(staffed.distribute(0.0)).values()) == {40_000 // 3}


def test_a_user_whose_demand_is_about_to_come_is_not_forgotten(staffed: LimitTree) -> None:
    """A worker sends a user's limits, and then the demand: the supervisor may tick between them."""
    staffed.set_user("alice", Rates(), 10.0, group="staff")
    staffed.forget_idle(10.0)
    assert staffed._group_of == {"alice": "staff"}


def test_users_of_a_group_are_forgotten_as_others_are_and_the_group_is_not(
    staffed: LimitTree,
) -> None:
    staffed.forget_idle(100.0)
    assert staffed._group_of == {}
    staffed.set_user("alice", Rates(), 100.0, group="staff")
    staffed.report(1, [eager("alice")], 100.0)
    assert sizes(staffed.distribute(100.0)) == {(1, "alice"): 4000}


# ---------------------------------------------------------------------- between two ticks


def test_whoever_reports_between_two_ticks_is_served_at_once_where_there_is_enough() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.report(1, [eager("alice", waiting_bytes=1000)], 0.0)
    tree.distribute(0.0)
    tree.report(2, [eager("bob", waiting_bytes=500)], 0.001)
    assert sizes(tree.distribute(0.001, only=2)) == {(2, "bob"): 500}


def test_whoever_reports_between_two_ticks_waits_where_others_wait_too() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.report(1, [eager("alice")], 0.0)
    tree.distribute(0.0)
    assert tree.contended == (False, True)
    tree.report(2, [eager("bob", waiting_bytes=500)], 0.001)
    assert not tree.distribute(0.001, only=2)
    assert (2, "bob") in sizes(tree.distribute(TICK))


def test_a_demand_is_not_served_again_for_another_user_s_haste() -> None:
    """Else what one report asked for is granted with every other one, and is gone for the rest."""
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.report(1, [eager("alice", waiting_bytes=1000)], 0.0)
    assert sizes(tree.distribute(0.0, only=1)) == {(1, "alice"): 1000}
    tree.report(1, [eager("bob", waiting_bytes=10)], 0.005)
    assert sizes(tree.distribute(0.005, only=1)) == {(1, "bob"): 10}


def test_a_user_at_his_own_limit_waits_for_the_tick_on_all_workers() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.set_user("alice", Rates(download=1000), 0.0)
    tree.report(1, [eager("alice")], 0.0)
    tree.distribute(0.0)
    tree.report(2, [eager("alice")], TICK / 2)
    assert not tree.distribute(TICK / 2, only=2)
    assert sizes(tree.distribute(TICK)) == {(1, "alice"): 25, (2, "alice"): 25}


def test_a_user_at_his_own_limit_keeps_nobody_else_waiting() -> None:
    tree = LimitTree(Rates(download=MEGA), 0.0)
    tree.set_user("alice", Rates(download=1000), 0.0)
    tree.report(1, [eager("alice")], 0.0)
    tree.distribute(0.0)
    tree.report(2, [eager("bob", waiting_bytes=500)], 0.001)
    assert sizes(tree.distribute(0.001, only=2)) == {(2, "bob"): 500}


# ---------------------------------------------------------------------- the tree, by its model


def waterfill(tokens: float, wants: list[tuple[float, int]]) -> float:
    """The level at which (most, weight) use the tokens up, found by trying; infinite if all fit."""
    if sum(most for most, _ in wants) <= tokens:
        return math.inf
    low, high = 0.0, max(most / weight for most, weight in wants)
    for _ in range(60):
        middle = (low + high) / 2
        if sum(min(most, middle * weight) for most, weight in wants) <= tokens:
            low = middle
        else:
            high = middle
    return low


class Well:
    """A bucket of the model: tokens, and how high what was granted ever rose above the rate."""

    def __init__(self, rate: int | None, now: float) -> None:
        self.rate, self.when = rate, now
        self.tokens = (rate or 0) * IDLE_DEPTH
        self.restart()

    def restart(self) -> None:
        self.above = self.lowest = 0.0

    def fill(self, now: float, is_busy: bool) -> float:
        if self.rate is None:
            return math.inf
        depth = self.rate * (BUSY_DEPTH if is_busy else IDLE_DEPTH)
        come = self.rate * (now - self.when)
        if self.tokens < depth:
            self.tokens = min(depth, self.tokens + come)
        self.when = now
        return max(0.0, self.tokens)

    def pass_time(self, seconds: float) -> None:
        self.above -= (self.rate or 0) * seconds
        self.lowest = min(self.lowest, self.above)

    def take(self, count: float) -> None:
        if self.rate is not None:
            self.tokens -= count
            self.above += count

    def give_back(self, count: int) -> None:
        if self.rate is not None:
            self.tokens = min(self.tokens + count, self.rate * BUSY_DEPTH)
            self.above -= count
            self.lowest = min(self.lowest, self.above)

    def set_rate(self, rate: int | None, now: float) -> None:
        self.fill(now, True)
        self.rate = rate
        self.tokens = min(self.tokens, (rate or 0) * IDLE_DEPTH)
        self.restart()


RATES = st.none() | st.sampled_from([5_000, 100_000, 1_000_000, 30_000_000])
DEMANDS = st.one_of(
    st.just(Demand()),
    st.builds(
        lambda waiting, waiting_bytes: Demand(waiting, waiting_bytes),
        st.integers(1, 5),
        st.sampled_from([1000, 70_000, 1 << 20, 1 << 24]),
    ),
    st.builds(
        lambda slow, slow_bytes: Demand(0, 0, slow, slow_bytes),
        st.integers(1, 5),
        st.integers(1, 50_000),
    ),
    st.builds(Demand, *(st.integers(1, 3), st.integers(1, 1 << 20)) * 2),
)
Key = tuple[int, str]


class TreeMachine(RuleBasedStateMachine):
    """One direction of a tree, with a model of it; the other direction must stay silent.

    Bound on what is granted (less what came back) over any window between two changes of a limit:
    the limit times the window, and ``BUSY_DEPTH`` seconds' worth.
    """

    @initialize(server=RATES, direction=st.sampled_from([UPLOAD, DOWNLOAD]))
    def begin(self, server: int | None, direction: Direction) -> None:
        self.now = 100.0
        self.direction = direction
        self.tree = LimitTree(self.rates(server), self.now)
        self.server = Well(server, self.now)
        self.users: dict[str, Well] = {}
        self.wanted: dict[Key, tuple[Demand, float]] = {}
        self.leased: defaultdict[Key, int] = defaultdict(int)
        self.epochs = {1, 2, 3}
        self.dead: set[int] = set()
        self.contended = False

    def rates(self, rate: int | None) -> Rates:
        return Rates(upload=rate) if self.direction is UPLOAD else Rates(download=rate)

    @property
    def wells(self) -> list[Well]:
        return [self.server, *self.users.values()]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for well in self.wells:
            well.pass_time(seconds)

    # -------------------------------------------------------------- what happens

    @rule(
        pick=st.integers(0, 2),
        login=st.sampled_from(LOGINS),
        demand=DEMANDS,
        back=st.sampled_from([0.0, 0.0, 0.5, 1.0]),
        is_urgent=st.booleans(),
    )
    def report(self, pick: int, login: str, demand: Demand, back: float, is_urgent: bool) -> None:
        epoch = sorted(self.epochs)[pick]
        returned = int(self.leased[epoch, login] * back)
        self.leased[epoch, login] -= returned
        self.wanted.pop((epoch, login), None)
        reports = [Report(login, self.direction, demand, returned)]
        # the rest of what this worker wants is in the same message, as it always is at a tick
        others = {key[1]: each for key, (each, _) in self.wanted.items() if key[0] == epoch}
        reports += [Report(other, self.direction, each) for other, each in others.items()]
        self.tree.report(epoch, reports, self.now)
        self.server.give_back(returned)
        if login in self.users:
            self.users[login].give_back(returned)
        for report in reports:
            if report.demand.total:
                self.wanted[epoch, report.login] = report.demand, self.now
        if is_urgent:
            self.serve(epoch)

    def serve(self, epoch: int) -> None:
        """Between two ticks: nobody gets more than is there and he wants, nobody else gets any."""
        grants = self.tree.distribute(self.now, only=epoch)
        assert grants.keys() <= {epoch}
        there = self.server.fill(self.now, self.contended)
        for (who, whose), size in self.accept(grants).items():
            wants: float = self.wanted[who, whose][0].total
            user = self.users.get(whose)
            if user is not None:
                wants = min(wants, user.fill(self.now, self.contended))
            assert 0 < size <= wants + 1e-6
            there -= size
            self.take(whose, size)
        assert there >= -1e-3

    @rule(late=st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.05, 0.12, 0.5, 3.0]))
    def tick(self, late: float) -> None:
        self.pass_time(TICK + late)
        fresh = {key: each for key, (each, when) in self.wanted.items() if self.now - when < STALE}
        there = self.server.fill(self.now, self.contended)
        wants = {}
        scarcity = 0.0
        for login in {login for _, login in fresh}:
            total = sum(each.total for (_, whose), each in fresh.items() if whose == login)
            user = self.users.get(login)
            may = min(total, user.fill(self.now, self.contended) if user is not None else total)
            scarcity = max(scarcity, total - may)
            wants[login] = float(may)
        cut = waterfill(there, [(most, 1) for most in wants.values()])
        scarcity = max(scarcity, sum(wants.values()) - there)
        granted = self.accept(self.tree.distribute(self.now))
        for login, most in wants.items():
            mine = {key: each for key, each in fresh.items() if key[1] == login}
            self.compare(min(most, cut), mine, granted)
        assert granted.keys() <= fresh.keys()
        for (_, login), size in granted.items():
            self.take(login, size)
        said = self.tree.contended[self.direction]
        if abs(scarcity) > 0.01:  # else a rounding error decides
            assert said is (scarcity > 0)
        self.contended = said

    def compare(self, tokens: float, demands: dict[Key, Demand], granted: dict[Key, int]) -> None:
        """A user's tokens are spread over his transfers as the model does it."""
        parts = {
            key: [(most, n) for most, n in ((each[1], each[0]), (each[3], each[2])) if n]
            for key, each in demands.items()
        }
        cut = waterfill(tokens, [part for each in parts.values() for part in each])
        for key, each in parts.items():
            expected = sum(min(most, cut * n) for most, n in each)
            assert granted.get(key, 0) == pytest.approx(expected, rel=1e-6, abs=1.01)

    def accept(self, grants: dict[int, list[Grant]]) -> dict[Key, int]:
        found: dict[Key, int] = {}
        for epoch, each in grants.items():
            for grant in each:
                assert grant.direction == self.direction
                assert epoch not in self.dead
                assert grant.size > 0
                assert (epoch, grant.login) not in found
                found[epoch, grant.login] = grant.size
                self.leased[epoch, grant.login] += grant.size
        return found

    def take(self, login: str, size: int) -> None:
        self.server.take(size)
        if login in self.users:
            self.users[login].take(size)

    @rule(rate=RATES)
    def limit_the_server(self, rate: int | None) -> None:
        self.tree.set_server(self.rates(rate), self.now)
        self.server.set_rate(rate, self.now)

    @rule(login=st.sampled_from(LOGINS), rate=RATES)
    def limit_a_user(self, login: str, rate: int | None) -> None:
        self.tree.set_user(login, self.rates(rate), self.now)
        if login in self.users:
            if self.users[login].rate != rate:  # workers tell a user's limit again and again
                self.users[login].set_rate(rate, self.now)
        elif rate is not None:
            self.users[login] = Well(rate, self.now)

    @rule(pick=st.integers(0, 2))
    def kill_a_worker(self, pick: int) -> None:
        epoch = sorted(self.epochs)[pick]
        self.tree.release_process(epoch)
        self.dead.add(epoch)
        self.epochs = self.epochs - {epoch} | {max(self.epochs) + 1}
        for key in [key for key in self.wanted if key[0] == epoch]:
            del self.wanted[key]

    # -------------------------------------------------------------- what holds

    @invariant()
    def no_window_has_more_than_the_limit_and_the_depth(self) -> None:
        for well in self.wells:
            if well.rate is not None:
                assert well.above - well.lowest <= well.rate * BUSY_DEPTH + 1

    @invariant()
    def it_ticks_as_long_as_somebody_wants_something(self) -> None:
        """Whoever reports no more may or may not be remembered."""
        if not self.wanted:
            assert not self.tree.is_wanted
        elif any(self.now - when < STALE for _, when in self.wanted.values()):
            assert self.tree.is_wanted


TestTreeAgainstItsModel = TreeMachine.TestCase
TestTreeAgainstItsModel.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
