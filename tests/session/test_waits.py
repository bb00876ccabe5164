"""What holds a transfer back, with a clock that a test moves."""

from __future__ import annotations

import pytest

from ftpcluster.session.transfer_waits import Cause, TransferWaits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def waited(clock: Clock, waits: TransferWaits, cause: Cause, seconds: float) -> None:
    waits.begin(cause)
    clock.now += seconds
    waits.end()


def test_the_longest_wait_since_the_last_look_is_the_cause() -> None:
    clock = Clock()
    waits = TransferWaits(clock)
    waited(clock, waits, Cause.CLIENT, 0.3)
    waited(clock, waits, Cause.SHARED_LIMIT, 0.5)
    clock.now += 0.2
    assert waits.look(1000) == (1000.0, Cause.SHARED_LIMIT)
    waited(clock, waits, Cause.CLIENT, 0.4)
    clock.now += 0.1
    assert waits.look(1500) == (1000.0, Cause.CLIENT)


def test_a_wait_that_goes_on_counts() -> None:
    clock = Clock()
    waits = TransferWaits(clock)
    waits.begin(Cause.DISK)
    clock.now += 1.0
    assert waits.look(0) == (0.0, Cause.DISK)
    clock.now += 1.0
    assert waits.look(0) == (0.0, Cause.DISK)
    waits.end()
    clock.now += 1.0
    assert waits.look(10) == (10.0, None)


def test_who_hardly_waited_is_held_by_nothing() -> None:
    clock = Clock()
    waits = TransferWaits(clock)
    waited(clock, waits, Cause.CLIENT, 0.05)
    clock.now += 0.95
    assert waits.look(5) == (5.0, None)


def test_looks_that_follow_each_other_too_soon_or_too_late_count_from_the_begin_on() -> None:
    clock = Clock()
    waits = TransferWaits(clock)
    waited(clock, waits, Cause.CLIENT, 2.0)
    assert waits.look(200) == (pytest.approx(100.0), Cause.CLIENT)
    clock.now += 0.1
    assert waits.look(210) == (pytest.approx(100.0), Cause.CLIENT)
    clock.now += 7.9
    assert waits.look(1000) == (pytest.approx(100.0), Cause.CLIENT)


def test_a_look_at_the_very_begin_says_nothing() -> None:
    assert TransferWaits(Clock()).look(0) == (0.0, None)
