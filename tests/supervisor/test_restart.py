"""The back-off, without a clock."""

from __future__ import annotations

from ftpcluster.supervisor.restart import RestartPolicy


def delays_of_early_deaths(policy: RestartPolicy, count: int, now: float = 100.0) -> list[float]:
    found = []
    for _ in range(count):
        policy.started(now)
        found.append(policy.delay(now + 1.0))
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
    assert policy.delay(110.0) == 0.1
    assert delays_of_early_deaths(policy, 2) == [0.2, 0.4]


def test_a_death_just_before_a_life_is_settled_is_one_of_the_series() -> None:
    policy = RestartPolicy()
    delays_of_early_deaths(policy, 3)
    policy.started(100.0)
    assert policy.delay(109.9) == 0.8
