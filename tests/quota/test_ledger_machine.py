"""The whole ledger against a naive model: logins, late addresses, and moves between workers."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ftpcluster.quota.ledger import ConnectionLimits, Ledger, Refusal

EPOCHS = st.integers(0, 2)
CLAIMED = st.sampled_from([None, None, None, 0, 1])
"""Which worker speaks of a session: most often (None) the one that holds it."""
SESSIONS = st.integers(1, 7)
ADDRESSES = st.sampled_from(["192.0.2.1", "::1"])
USERS = st.sampled_from(["alice", "bob"])
LIMITS = st.sampled_from([1, 2, None, 0])


@dataclass
class Held:
    epoch: int
    address: str | None
    login: str | None = None
    is_told: bool = False


class LedgerMachine(RuleBasedStateMachine):
    """Sessions are numbered by the supervisor: a number is held by one worker at a time."""

    @initialize(
        server=st.sampled_from([7, 5, 1]),
        address=st.sampled_from([1, 2, None]),
        unauthenticated=st.sampled_from([None, 3, 1]),
    )
    def begin(self, server: int | None, address: int | None, unauthenticated: int | None) -> None:
        self.limits = ConnectionLimits(server, address, unauthenticated)
        self.ledger = Ledger(self.limits)
        self.held: dict[int, Held] = {}

    @property
    def unauthenticated(self) -> int:
        return sum(held.login is None for held in self.held.values())

    def at(self, address: str | None) -> int:
        return sum(held.address == address for held in self.held.values())

    def whose(self, claimed: int | None, pick: int, *, unknown: bool = False) -> tuple[int, int]:
        """A worker, and the session it speaks of: one that it holds, unless it claims another.

        ``unknown``: one whose address is not known, where there is any.
        """
        found = [n for n, held in self.held.items() if unknown and held.address is None]
        found = found or list(self.held)
        if claimed is not None or not found:
            return claimed or 0, pick
        session = found[pick % len(found)]
        return self.held[session].epoch, session

    def is_of(self, epoch: int, session: int) -> bool:
        return session in self.held and self.held[session].epoch == epoch

    @rule(epoch=EPOCHS, address=st.none() | ADDRESSES)
    def admit(self, epoch: int, address: str | None) -> None:
        session = next(n for n in itertools.count(1) if n not in self.held)
        expected = None
        if is_full(len(self.held), self.limits.server):
            expected = Refusal.SERVER_FULL
        elif is_full(self.unauthenticated, self.limits.unauthenticated):
            expected = Refusal.UNAUTHENTICATED_FULL
        elif address is not None and is_full(self.at(address), self.limits.per_address):
            expected = Refusal.ADDRESS_FULL
        assert self.ledger.admit(epoch, session, address) is expected
        if expected is None:
            self.held[session] = Held(epoch, address)

    @rule(claimed=CLAIMED, session=SESSIONS, address=ADDRESSES)
    def identify(self, claimed: int | None, session: int, address: str) -> None:
        epoch, session = self.whose(claimed, session, unknown=True)
        if not self.is_of(epoch, session) or self.held[session].address is not None:
            with pytest.raises(KeyError):
                self.ledger.identify(epoch, session, address)
            return
        full = is_full(self.at(address), self.limits.per_address)
        refused = self.ledger.identify(epoch, session, address)
        assert refused is (Refusal.ADDRESS_FULL if full else None)
        if not full:
            self.held[session].address = address
            self.held[session].is_told = True

    @rule(claimed=CLAIMED, session=SESSIONS, login=USERS, limit=LIMITS)
    def log_in(self, claimed: int | None, session: int, login: str, limit: int | None) -> None:
        epoch, session = self.whose(claimed, session)
        if not self.is_of(epoch, session):
            with pytest.raises(KeyError):
                self.ledger.login(epoch, session, login, limit)
            return
        self.held[session].login = None
        logins = sum(held.login == login for held in self.held.values())
        refused = self.ledger.login(epoch, session, login, limit)
        assert refused is (Refusal.USER_FULL if is_full(logins, limit) else None)
        if refused is None:
            self.held[session].login = login

    @rule(claimed=CLAIMED, session=SESSIONS)
    def log_out(self, claimed: int | None, session: int) -> None:
        epoch, session = self.whose(claimed, session)
        self.ledger.logout(epoch, session)
        if self.is_of(epoch, session):
            self.held[session].login = None

    @rule(claimed=CLAIMED, session=SESSIONS, other=EPOCHS)
    def move(self, claimed: int | None, session: int, other: int) -> None:
        epoch, session = self.whose(claimed, session)
        if not self.is_of(epoch, session):
            with pytest.raises(KeyError):
                self.ledger.move(epoch, session, other)
            return
        self.ledger.move(epoch, session, other)
        held = self.held[session]
        held.epoch, held.login = other, None
        if held.is_told:
            held.address, held.is_told = None, False

    @rule(claimed=CLAIMED, session=SESSIONS)
    def release(self, claimed: int | None, session: int) -> None:
        epoch, session = self.whose(claimed, session)
        held = self.is_of(epoch, session)
        assert self.ledger.release(epoch, session) is held
        assert self.ledger.release(epoch, session) is False
        if held:
            del self.held[session]

    @rule(epoch=EPOCHS)
    def kill_worker(self, epoch: int) -> None:
        gone = [session for session, held in self.held.items() if held.epoch == epoch]
        assert self.ledger.release_worker(epoch) == len(gone)
        for session in gone:
            del self.held[session]

    @rule(
        server=st.sampled_from([7, 2, 0, None]),
        address=st.sampled_from([1, 2, None]),
        unauthenticated=st.sampled_from([None, 3, 1]),
    )
    def reload(self, server: int | None, address: int | None, unauthenticated: int | None) -> None:
        """Limits change; who is there stays, also where they are more than may be."""
        self.limits = self.ledger.limits = ConnectionLimits(server, address, unauthenticated)

    @invariant()
    def all_counts_equal_the_model(self) -> None:
        ledger = self.ledger
        assert (ledger.connections, ledger.unauthenticated) == (
            len(self.held),
            self.unauthenticated,
        )
        for address in ("192.0.2.1", "::1", "elsewhere"):
            assert ledger.of_address(address) == self.at(address)
        logins = Counter(held.login for held in self.held.values())
        for login in ("alice", "bob", "nobody"):
            assert ledger.of_user(login) == logins[login]
        epochs = Counter(held.epoch for held in self.held.values())
        for epoch in range(5):
            assert ledger.held_by(epoch) == epochs[epoch]

    @invariant()
    def every_session_is_where_the_model_has_it(self) -> None:
        for session in range(40):
            held = self.held.get(session)
            assert self.ledger.epoch_of(session) == (held.epoch if held else None)


def is_full(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit


def few_or_many(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


class TestWholeLedgerAgainstItsModel(LedgerMachine.TestCase):
    settings = few_or_many(60)


@pytest.mark.slow
class TestWholeLedgerAgainstItsModelAtLength(LedgerMachine.TestCase):
    settings = few_or_many(500)


# ---------------------------------------------------------------------- who has not logged in


def test_unauthenticated_connections_are_exactly_as_many_as_there_may_be() -> None:
    ledger = Ledger(ConnectionLimits(unauthenticated=2))
    assert [ledger.admit(n, n, None) for n in (1, 2, 3)] == [
        None,
        None,
        Refusal.UNAUTHENTICATED_FULL,
    ]


def test_a_login_makes_room_for_an_unauthenticated_connection() -> None:
    ledger = Ledger(ConnectionLimits(unauthenticated=1))
    ledger.admit(1, 1, None)
    ledger.login(1, 1, "alice", None)
    assert ledger.admit(1, 2, None) is None
    assert ledger.admit(1, 3, None) is Refusal.UNAUTHENTICATED_FULL


def test_a_session_that_logs_out_is_not_ended_where_it_is_one_too_many() -> None:
    ledger = Ledger(ConnectionLimits(unauthenticated=1))
    for session in (1, 2):
        ledger.admit(1, session, None)
        ledger.login(1, session, "alice", None)
    for session in (1, 2):
        ledger.logout(1, session)
    assert ledger.unauthenticated == 2
    assert ledger.admit(1, 3, None) is Refusal.UNAUTHENTICATED_FULL


def test_a_login_that_is_refused_leaves_the_connection_unauthenticated() -> None:
    ledger = Ledger(ConnectionLimits(unauthenticated=1))
    ledger.admit(1, 1, None)
    assert ledger.login(1, 1, "alice", 0) is Refusal.USER_FULL
    assert ledger.login(1, 1, "alice", 0) is Refusal.USER_FULL
    assert ledger.unauthenticated == 1
    assert ledger.admit(1, 2, None) is Refusal.UNAUTHENTICATED_FULL


def test_a_dead_worker_has_no_unauthenticated_connections() -> None:
    ledger = Ledger(ConnectionLimits(unauthenticated=3))
    for session in (1, 2, 3):
        ledger.admit(1, session, None)
    ledger.login(1, 3, "alice", None)
    assert ledger.release_worker(1) == 3
    assert ledger.unauthenticated == 0
    assert [ledger.admit(2, n, None) for n in (4, 5, 6)] == [None, None, None]
