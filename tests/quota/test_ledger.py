"""The ledger of slots never diverges from a naive model of it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ftpcluster.quota.ledger import ConnectionLimits, Ledger, Refusal

EPOCHS = st.integers(1, 3)
SESSIONS = st.integers(1, 6)
ADDRESSES = st.sampled_from(["127.0.0.1", "127.0.0.2", "::1"])
USERS = st.sampled_from(["alice", "bob"])
LIMITS = st.none() | st.integers(0, 4)


class LedgerMachine(RuleBasedStateMachine):
    """Workers and sessions come, log in, move and die in any order; so do messages, repeated."""

    @initialize(server=st.none() | st.integers(0, 8), per_address=LIMITS)
    def begin(self, server: int | None, per_address: int | None) -> None:
        self.limits = ConnectionLimits(server, per_address)
        self.ledger = Ledger(self.limits)
        self.addresses: dict[tuple[int, int], str] = {}
        self.logins: dict[tuple[int, int], str] = {}

    def forget(self, key: tuple[int, int]) -> None:
        del self.addresses[key]
        self.logins.pop(key, None)

    @rule(epoch=EPOCHS, session=SESSIONS, address=ADDRESSES)
    def admit(self, epoch: int, session: int, address: str) -> None:
        expected = None
        if is_full(len(self.addresses), self.limits.server):
            expected = Refusal.SERVER_FULL
        elif is_full(Counter(self.addresses.values())[address], self.limits.per_address):
            expected = Refusal.ADDRESS_FULL
        if expected is None and (epoch, session) in self.addresses:
            with pytest.raises(ValueError, match="held already"):
                self.ledger.admit(epoch, session, address)
            return
        assert self.ledger.admit(epoch, session, address) is expected
        if expected is None:
            self.addresses[epoch, session] = address

    @rule(epoch=EPOCHS, session=SESSIONS, login=USERS, limit=LIMITS)
    def log_in(self, epoch: int, session: int, login: str, limit: int | None) -> None:
        if (epoch, session) not in self.addresses:
            with pytest.raises(KeyError):
                self.ledger.login(epoch, session, login, limit)
            return
        self.logins.pop((epoch, session), None)
        full = is_full(Counter(self.logins.values())[login], limit)
        refused = self.ledger.login(epoch, session, login, limit)
        assert refused is (Refusal.USER_FULL if full else None)
        if not full:
            self.logins[epoch, session] = login

    @rule(epoch=EPOCHS, session=SESSIONS)
    def log_out(self, epoch: int, session: int) -> None:
        self.ledger.logout(epoch, session)
        self.logins.pop((epoch, session), None)

    @rule(epoch=EPOCHS, session=SESSIONS, other=EPOCHS)
    def move(self, epoch: int, session: int, other: int) -> None:
        if (epoch, session) not in self.addresses:
            with pytest.raises(KeyError):
                self.ledger.move(epoch, session, other)
            return
        if (other, session) in self.addresses:
            return  # the supervisor numbers sessions, and no number twice
        self.ledger.move(epoch, session, other)
        self.addresses[other, session] = self.addresses.pop((epoch, session))
        self.logins.pop((epoch, session), None)  # the next worker has not begun with it

    @rule(epoch=EPOCHS, session=SESSIONS)
    def release(self, epoch: int, session: int) -> None:
        held = (epoch, session) in self.addresses
        assert self.ledger.release(epoch, session) is held
        assert self.ledger.release(epoch, session) is False
        if held:
            self.forget((epoch, session))

    @rule(epoch=EPOCHS)
    def kill_worker(self, epoch: int) -> None:
        held = [key for key in self.addresses if key[0] == epoch]
        assert self.ledger.release_worker(epoch) == len(held)
        assert self.ledger.release_worker(epoch) == 0
        for key in held:
            self.forget(key)

    @invariant()
    def all_counts_equal_the_model(self) -> None:
        assert self.ledger.connections == len(self.addresses)
        for epoch in range(5):
            held = sum(key[0] == epoch for key in self.addresses)
            assert self.ledger.held_by(epoch) == held
        addresses = Counter(self.addresses.values())
        for address in ("127.0.0.1", "127.0.0.2", "::1", "elsewhere"):
            assert self.ledger.of_address(address) == addresses[address]
        logins = Counter(self.logins.values())
        for login in ("alice", "bob", "nobody"):
            assert self.ledger.of_user(login) == logins[login]


def is_full(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit


TestLedgerAgainstItsModel = LedgerMachine.TestCase
TestLedgerAgainstItsModel.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# ---------------------------------------------------------------------- exact bounds


def test_the_server_takes_exactly_as_many_as_it_may() -> None:
    ledger = Ledger(ConnectionLimits(server=3))
    refused = [ledger.admit(n % 2, n, f"127.0.0.{n}") for n in range(5)]
    assert refused == [None, None, None, Refusal.SERVER_FULL, Refusal.SERVER_FULL]
    ledger.release(0, 0)
    assert ledger.admit(1, 10, "127.0.0.1") is None
    assert ledger.admit(1, 11, "127.0.0.1") is Refusal.SERVER_FULL


def test_an_address_takes_exactly_as_many_as_it_may_and_others_go_on() -> None:
    ledger = Ledger(ConnectionLimits(per_address=2))
    assert [ledger.admit(n, n, "::1") for n in range(3)] == [None, None, Refusal.ADDRESS_FULL]
    assert ledger.admit(5, 5, "127.0.0.1") is None


def test_a_user_takes_exactly_as_many_as_it_may_on_all_workers_together() -> None:
    ledger = Ledger()
    for n in range(4):
        ledger.admit(n, n, "::1")
    assert [ledger.login(n, n, "alice", 3) for n in range(4)] == [
        *(None, None, None, Refusal.USER_FULL)
    ]
    ledger.release_worker(1)
    assert ledger.login(3, 3, "alice", 3) is None


def test_whoever_logs_in_again_does_not_stand_in_his_own_way() -> None:
    ledger = Ledger()
    ledger.admit(1, 1, "::1")
    assert ledger.login(1, 1, "alice", 1) is None
    assert ledger.login(1, 1, "alice", 1) is None
    assert ledger.login(1, 1, "bob", 1) is None
    assert (ledger.of_user("alice"), ledger.of_user("bob")) == (0, 1)


def test_a_refused_connection_holds_nothing() -> None:
    ledger = Ledger(ConnectionLimits(server=0))
    assert ledger.admit(1, 1, "::1") is Refusal.SERVER_FULL
    assert (ledger.connections, ledger.held_by(1), ledger.of_address("::1")) == (0, 0, 0)
    assert ledger.release(1, 1) is False


def test_a_moved_connection_dies_with_its_new_worker_only() -> None:
    ledger = Ledger()
    ledger.admit(1, 7, "::1")
    ledger.login(1, 7, "alice", None)
    ledger.move(1, 7, 2)
    assert ledger.release_worker(1) == 0
    assert (ledger.connections, ledger.of_user("alice"), ledger.of_address("::1")) == (1, 0, 1)
    assert ledger.release_worker(2) == 1
    assert (ledger.connections, ledger.of_user("alice"), ledger.of_address("::1")) == (0, 0, 0)
