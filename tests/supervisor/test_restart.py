"""When workers are started again and replaced, without a clock."""

from __future__ import annotations

import pytest

from ftpcluster.supervisor.restart import (
    Health,
    Pulse,
    Recycling,
    RestartPolicy,
    is_hopeless,
)


def delays_of_early_deaths(policy: RestartPolicy, count: int, now: float = 100.0) -> list[float]:
    found = []
    for _ in range(count):
        policy.started(now)
        found.append(policy.delay(now + 1.0, 0.0))
    return found


def test_the_delay_doubles_from_a_tenth_of_a_second_to_five() -> None:
    delays = delays_of_early_deaths(RestartPolicy(), 9)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_the_delay_stays_at_five_seconds_however_often_a_worker_dies() -> None:
    assert delays_of_early_deaths(RestartPolicy(), 2000)[-1] == 5.0


def test_a_death_after_a_settled_life_begins_a_new_series() -> None:
    policy = RestartPolicy()
    delays_of_early_deaths(policy, 8)
    policy.started(100.0)
    assert policy.delay(110.0, 0.0) == 0.1
    assert delays_of_early_deaths(policy, 2) == [0.2, 0.4]


def test_a_death_just_before_a_life_is_settled_is_one_of_the_series() -> None:
    policy = RestartPolicy()
    delays_of_early_deaths(policy, 3)
    policy.started(100.0)
    assert policy.delay(109.9, 0.0) == 0.8


def test_chance_takes_up_to_a_quarter_off() -> None:
    found = []
    for luck in (0.0, 0.5, 1.0):
        policy = RestartPolicy()
        delays_of_early_deaths(policy, 9)
        found.append(policy.delay(101.0, luck))
    assert found == [5.0, 4.375, 3.75]


def test_workers_that_never_lived_long_are_given_up_after_four_deaths_each() -> None:
    one, other = RestartPolicy(), RestartPolicy()
    delays_of_early_deaths(one, 9)
    delays_of_early_deaths(other, 3)
    assert not is_hopeless([one, other])
    delays_of_early_deaths(other, 1)
    assert is_hopeless([one, other])


def test_a_worker_that_has_lived_for_a_while_is_hope_for_all() -> None:
    one, other = RestartPolicy(), RestartPolicy()
    delays_of_early_deaths(one, 9)
    other.started(100.0)
    other.delay(110.0, 0.0)
    delays_of_early_deaths(other, 9)
    assert not is_hopeless([one, other])


def test_a_long_life_is_hope_also_where_those_that_are_to_replace_it_die() -> None:
    policy = RestartPolicy()
    delays_of_early_deaths(policy, 3)
    policy.started(200.0)
    assert delays_of_early_deaths(policy, 5, now=210.0) == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert not is_hopeless([policy])


def test_the_wait_for_the_next_start_is_no_part_of_a_life() -> None:
    policy = RestartPolicy()
    assert delays_of_early_deaths(policy, 3) == [0.1, 0.2, 0.4]
    policy.started(200.0)
    assert policy.delay(201.0, 0.0) == 0.8
    assert is_hopeless([policy])


@pytest.mark.parametrize(
    ("silence", "health"),
    [
        (0.0, Health.WELL),
        (3.4, Health.WELL),
        (3.5, Health.SUSPECT),
        (29.9, Health.SUSPECT),
        (30.0, Health.LOST),
        (3600.0, Health.LOST),
    ],
)
def test_three_beats_that_did_not_come_make_a_worker_suspect(
    silence: float, health: Health
) -> None:
    pulse = Pulse(1.0, 30.0, 0.0)
    pulse.beat(1000.0)
    assert pulse.health(1000.0 + silence) is health


def test_a_beat_makes_it_well_again() -> None:
    pulse = Pulse(1.0, 30.0, 0.0)
    assert pulse.health(29.0) is Health.SUSPECT
    pulse.beat(29.0)
    assert pulse.health(29.5) is Health.WELL


@pytest.mark.parametrize(
    ("age", "memory", "reason"),
    [
        (59.0, 10**9, None),  # one that is born large is not replaced for ever
        (60.0, 500_000_000, None),
        (60.0, 500_000_001, "it has 500 MB"),
        (3599.0, 1, None),
        (3600.0, 1, "it is 3600 s old"),
    ],
)
def test_a_worker_is_recycled_for_its_age_and_its_memory(
    age: float, memory: int, reason: str | None
) -> None:
    assert Recycling(memory=500_000_000, age=3600.0).reason(age, memory) == reason


def test_nobody_is_recycled_where_nothing_is_said() -> None:
    assert Recycling().reason(1e9, 10**15) is None
