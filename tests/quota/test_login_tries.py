"""How many passwords of a site are judged at once: bookkeeping alone, time is a number."""

from __future__ import annotations

import pytest

from ftpcluster.protocol.address import Networks
from ftpcluster.quota.admission import Admission
from ftpcluster.quota.arrivals import ArrivalRules
from ftpcluster.quota.bans import BanRules
from ftpcluster.quota.ledger import Ledger, Refusal

RULES = BanRules(failures=3, window=60, duration=600, allow=Networks(["10.0.0.0/8"]))
MALLORY, ALICE, SPARED = "192.0.2.7", "192.0.2.8", "10.0.0.1"
BANNED = Refusal.BANNED


class Scene:
    """``answers``: what sessions have been told, by number."""

    def __init__(self, rules: BanRules | None = RULES) -> None:
        self.ledger = Ledger()
        self.ended: list[int] = []
        self.guard = Admission(self.ledger, rules, lambda _, session: self.ended.append(session))
        self.answers: dict[int, Refusal | None] = {}

    def tries(self, *sessions: int, address: str = MALLORY, epoch: int = 1) -> None:
        for session in sessions:
            if self.ledger.address_of(epoch, session) is None:
                self.ledger.admit(epoch, session, address)
            self.guard.begin_try(epoch, session, lambda answer, n=session: self.hears(n, answer), 0)

    def hears(self, session: int, answer: Refusal | None) -> None:
        assert session not in self.answers
        self.answers[session] = answer

    def fails(self, session: int, now: float = 0, epoch: int = 1) -> None:
        self.guard.login_failed(epoch, session, "bob", now)

    def is_right(self, session: int) -> None:
        self.guard.end_try(1, session, 0)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_no_more_are_judged_at_once_than_may_be_wrong(scene: Scene) -> None:
    scene.tries(*range(200))
    assert scene.answers == {0: None, 1: None, 2: None}


def test_once_that_many_were_wrong_nobody_else_is_judged(scene: Scene) -> None:
    scene.tries(*range(200))
    for session in range(3):
        scene.fails(session)
    assert scene.answers == {n: None if n < 3 else BANNED for n in range(200)}
    scene.tries(200)
    assert scene.answers[200] is BANNED
    assert set(scene.ended) == set(range(200))


def test_who_is_right_makes_room_for_the_next_and_nobody_is_turned_away(scene: Scene) -> None:
    scene.tries(*range(200))
    for session in range(200):
        assert scene.answers[session] is None
        scene.is_right(session)
    assert not scene.ended
    assert not len(scene.guard._tries)


def test_what_has_been_counted_leaves_fewer_at_once_and_one_in_any_case(scene: Scene) -> None:
    scene.tries(1, 2)
    scene.fails(1)
    scene.fails(2)
    scene.tries(3, 4)
    assert list(scene.answers) == [1, 2, 3]
    scene.guard.set_rules(BanRules(failures=1), ArrivalRules(), 0)
    scene.is_right(3)
    assert list(scene.answers) == [1, 2, 3, 4]


def test_failures_that_are_too_old_leave_room_again(scene: Scene) -> None:
    for session in (1, 2):
        scene.tries(session)
        scene.fails(session)
    scene.tries(3, 4, 5)
    assert 4 not in scene.answers
    scene.guard.end_try(1, 3, 61)
    assert list(scene.answers) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("end", ["release", "the worker's end"])
def test_a_session_or_a_worker_that_ends_makes_room(end: str, scene: Scene) -> None:
    scene.tries(1, 2, 3)
    scene.tries(4, 5, epoch=2)
    if end == "release":
        scene.guard.end_try(1, 2, 0)
        assert list(scene.answers) == [1, 2, 3, 4]
    else:
        scene.guard.end_tries(1, 0)
        assert list(scene.answers) == [1, 2, 3, 4, 5]


def test_one_who_leaves_while_it_waits_is_passed_over(scene: Scene) -> None:
    scene.tries(1, 2, 3, 4, 5)
    scene.guard.end_try(1, 4, 0)
    scene.is_right(1)
    assert list(scene.answers) == [1, 2, 3, 5]


def test_one_session_has_one_try(scene: Scene) -> None:
    for _ in range(5):
        scene.tries(1)
    scene.tries(2, 3)
    assert scene.answers == {1: None, 2: None, 3: None}


def test_sites_do_not_wait_for_each_other_and_who_is_spared_never_waits(scene: Scene) -> None:
    scene.tries(1, 2, 3, 4)
    scene.tries(5, address=ALICE)
    scene.tries(*range(10, 50), address=SPARED)
    assert set(scene.answers) == {1, 2, 3, 5, *range(10, 50)}


def test_an_ipv6_64_is_one_site(scene: Scene) -> None:
    for session in range(9):
        scene.tries(session, address=f"2001:db8::{session:x}")
    assert len(scene.answers) == 3


def test_without_rules_nobody_waits() -> None:
    scene = Scene(None)
    scene.tries(*range(50))
    assert len(scene.answers) == 50


def test_rules_that_are_gone_let_go_who_waits(scene: Scene) -> None:
    scene.tries(*range(9))
    scene.guard.set_rules(None, ArrivalRules(), 0)
    assert set(scene.answers.values()) == {None}
    assert len(scene.answers) == 9


def test_who_was_banned_by_hand_is_refused(scene: Scene) -> None:
    scene.ledger.admit(1, 1, MALLORY)
    scene.guard.ban(MALLORY, None, "spam", 0)
    scene.tries(1)
    assert scene.answers == {1: BANNED}


def test_a_session_of_another_worker_has_no_try(scene: Scene) -> None:
    scene.ledger.admit(2, 1, MALLORY)
    for session in (1, 99):
        with pytest.raises(KeyError):
            scene.guard.begin_try(1, session, lambda _: None, 0)
