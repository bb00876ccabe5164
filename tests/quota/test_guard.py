"""Bans where they bite: whom they turn away, which sessions they end, what is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from ftpcluster.protocol.address import Networks
from ftpcluster.quota.admission import Admission
from ftpcluster.quota.bans import BanRules
from ftpcluster.quota.ledger import ConnectionLimits, Ledger, Refusal

RULES = BanRules(failures=3, window=60, duration=1800, allow=Networks(["10.0.0.0/8"]))
MALLORY, ALICE = "192.0.2.7", "192.0.2.8"


class Scene:
    """A guard over a ledger; ``ended`` are the sessions that it told to end."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.ended: list[tuple[int, int]] = []
        self.guard = Admission(self.ledger, RULES, lambda *ended: self.ended.append(ended))

    def fail(self, session: int, times: int = 1) -> None:
        for _ in range(times):
            self.guard.login_failed(1, session, "bob", 0)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_ban_ends_the_sessions_of_its_address_in_all_workers(scene: Scene) -> None:
    for epoch, session, address in ((1, 1, MALLORY), (1, 2, ALICE), (2, 3, MALLORY), (2, 4, None)):
        scene.ledger.admit(epoch, session, address)
    scene.fail(1, 3)
    assert sorted(scene.ended) == [(1, 1), (2, 3)]


def test_a_ban_of_a_64_ends_the_sessions_in_it(scene: Scene) -> None:
    for session, address in enumerate(("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"), 1):
        scene.ledger.admit(1, session, address)
    scene.fail(1, 3)
    assert scene.ended == [(1, 1), (1, 2)]


def test_who_fails_although_banned_ends_too(scene: Scene) -> None:
    scene.ledger.admit(1, 1, MALLORY)
    scene.fail(1, 3)
    scene.ledger.admit(1, 2, MALLORY)  # it was on its way
    scene.fail(2)
    assert scene.ended == [(1, 1), (1, 2)]


def test_a_session_of_another_worker_or_of_an_unknown_address_is_no_one_s(scene: Scene) -> None:
    scene.ledger.admit(2, 1, MALLORY)
    scene.ledger.admit(1, 2, None)
    for session in (1, 2, 3):
        with pytest.raises(KeyError):
            scene.fail(session)
    assert scene.guard.covering(MALLORY, 0) is None


def test_a_ban_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.ledger.admit(1, 1, MALLORY)
    scene.fail(1, 3)
    scene.fail(1, 3)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "192.0.2.7 is banned for 1800 s: 3 failed logins; addresses in [ban] allow never are"
    )


def test_refusals_are_logged_once_a_second_for_each_reason_and_all_are_counted(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scene.guard.ban(MALLORY, None, "spam", 0)
    scene.ledger.limits = ConnectionLimits(server=1)
    assert scene.guard.admit(1, 1, ALICE, 0) is None
    caplog.clear()
    for tick in range(1000):
        assert scene.guard.admit(1, 2, MALLORY, tick / 400) is Refusal.BANNED
    assert scene.guard.admit(1, 2, None, 9) is Refusal.SERVER_FULL
    assert scene.guard.refused == {Refusal.BANNED: 1000, Refusal.SERVER_FULL: 1}
    assert caplog.messages == [
        "refused 1 connection (banned), the last one of 192.0.2.7",
        "refused 400 connections (banned), the last one of 192.0.2.7",
        "refused 400 connections (banned), the last one of 192.0.2.7",
        "refused 1 connection (server full), the last one of a proxy",
    ]


def test_the_last_refusals_are_logged_a_second_after_the_first_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where nobody comes after them."""
    caplog.set_level(logging.INFO)
    timers: list[tuple[float, Callable[[], None]]] = []
    ledger = Ledger(ConnectionLimits(per_address=1))
    guard = Admission(ledger, RULES, lambda *_: None, lambda *timer: timers.append(timer))
    for session in range(7):
        guard.admit(1, session, ALICE, session / 10)
    ((seconds, tell),) = timers
    assert seconds == pytest.approx(0.9)  # it came 0.1 s after the first one
    tell()
    guard.admit(1, 8, ALICE, 1.2)
    assert len(timers) == 2
    guard.tell_rest()
    timers[1][1]()  # and now there is nothing to tell
    assert caplog.messages == [
        f"refused {count} (address full), the last one of {ALICE}"
        for count in ("1 connection", "5 connections", "1 connection")
    ]


def test_bans_by_hand_name_the_sessions_and_are_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.ledger.admit(1, 1, MALLORY)
    scene.ledger.admit(1, 2, "198.51.100.1")
    ban = scene.guard.ban("192.0.2.0/24", 60, "spam", 0)
    assert scene.guard.sessions_of(ban) == [(1, 1)]
    assert scene.guard.admit(1, 3, MALLORY, 0) is Refusal.BANNED
    scene.guard.unban("192.0.2.0/24", 1)
    assert scene.guard.admit(1, 3, MALLORY, 1) is None
    assert caplog.messages == [
        "192.0.2.0/24 is banned for 60 s by hand: spam",
        "192.0.2.0/24 is no longer banned",
    ]
