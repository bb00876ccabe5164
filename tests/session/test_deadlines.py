"""For how long replies may stay unread, by a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ftpcluster.config.sessions import session_defaults
from ftpcluster.session.deadlines import Deadlines
from ftpcluster.session.services import Settings
from ftpcluster.session.timer_wheel import RESOLUTION, TimerWheel

TIMEOUT = 60.0


class Clock:
    """A loop of which only the time is real, and it is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> Any:
        timer = SimpleNamespace(when=when, callback=callback, cancel=lambda: None)
        timer.cancel = lambda: self._timers.remove(timer)
        self._timers.append(timer)
        return timer

    def goes_on(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self._timers if timer.when <= end]:
            timer = min(due, key=lambda timer: timer.when)
            self._timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.callback()
        self.now = end


def _raise(error: Exception) -> None:
    raise error


class Bench:
    """The deadlines of one session, and how often its replies were given up."""

    def __init__(self, stalled: float | None = TIMEOUT) -> None:
        self.clock = Clock()
        self.given_up = 0
        services = SimpleNamespace(
            loop=self.clock,
            wheel=TimerWheel(self.clock),  # type: ignore[arg-type]
            shortest_timeout=None,
        )
        session: Any = SimpleNamespace(
            services=services,
            settings=Settings(**{**session_defaults(), "stalled_timeout": stalled}),
            login=None,
        )
        self.deadlines = Deadlines(session, pytest.fail, pytest.fail, self._give_up, _raise)

    def _give_up(self) -> None:
        self.given_up += 1


def test_replies_that_nobody_reads_are_given_up_after_the_timeout() -> None:
    bench = Bench()
    bench.deadlines.wait_for_reader(100)
    bench.clock.goes_on(TIMEOUT - 1)
    bench.deadlines.wait_for_reader(0)  # more of them, of which nothing went
    assert not bench.given_up
    bench.clock.goes_on(1 + RESOLUTION)
    assert bench.given_up == 1


def test_who_reads_on_is_waited_for() -> None:
    bench = Bench()
    for _ in range(5):
        bench.deadlines.wait_for_reader(1)
        bench.clock.goes_on(TIMEOUT - 1)
    assert not bench.given_up
    bench.clock.goes_on(1 + RESOLUTION)
    assert bench.given_up == 1


def test_once_all_is_sent_nobody_waits() -> None:
    bench = Bench()
    bench.deadlines.wait_for_reader(1)
    bench.clock.goes_on(TIMEOUT - 1)
    bench.deadlines.end_wait_for_reader()
    bench.clock.goes_on(TIMEOUT)
    bench.deadlines.wait_for_reader(0)  # it begins anew
    bench.clock.goes_on(TIMEOUT - 1)
    assert not bench.given_up


@pytest.mark.parametrize("end", [Deadlines.stop, Deadlines.forget])
def test_an_ended_session_waits_for_nobody(end: Any) -> None:
    bench = Bench()
    bench.deadlines.wait_for_reader(1)
    end(bench.deadlines)
    bench.clock.goes_on(TIMEOUT * 2)
    assert not bench.given_up


def test_without_a_timeout_replies_may_wait_for_ever() -> None:
    bench = Bench(stalled=None)
    bench.deadlines.wait_for_reader(0)
    bench.clock.goes_on(TIMEOUT * 1000)
    assert not bench.given_up
