"""Connections whose address is told later: counted for the server at once, for an address then."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ftpcluster.quota.ledger import ConnectionLimits, Ledger, Refusal
from ftpcluster.quota.quotas import LocalQuotas

EPOCHS = st.integers(1, 2)
SESSIONS = st.integers(1, 6)
ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "::1"])
LIMITS = st.none() | st.integers(0, 3)


class AddressMachine(RuleBasedStateMachine):
    """Connections come with and without an address, are identified, move, end, in any order."""

    @initialize(server=st.none() | st.integers(0, 8), per_address=LIMITS)
    def begin(self, server: int | None, per_address: int | None) -> None:
        self.limits = ConnectionLimits(server, per_address)
        self.ledger = Ledger(self.limits)
        self.model: dict[tuple[int, int], str | None] = {}
        self.told: set[tuple[int, int]] = set()  # whose address its worker has identified

    def is_full(self, address: str | None) -> bool:
        most = self.limits.per_address
        held = sum(other == address for other in self.model.values())
        return address is not None and most is not None and held >= most

    @rule(epoch=EPOCHS, session=SESSIONS, address=st.none() | ADDRESSES)
    def admit(self, epoch: int, session: int, address: str | None) -> None:
        expected = None
        if self.limits.server is not None and len(self.model) >= self.limits.server:
            expected = Refusal.SERVER_FULL
        elif self.is_full(address):
            expected = Refusal.ADDRESS_FULL
        if expected is None and (epoch, session) in self.model:
            with pytest.raises(ValueError, match="held already"):
                self.ledger.admit(epoch, session, address)
            return
        assert self.ledger.admit(epoch, session, address) is expected
        if expected is None:
            self.model[epoch, session] = address

    @rule(epoch=EPOCHS, session=SESSIONS, address=ADDRESSES)
    def identify(self, epoch: int, session: int, address: str) -> None:
        if self.model.get((epoch, session), "nothing is held") is not None:
            with pytest.raises(KeyError):
                self.ledger.identify(epoch, session, address)
            return
        full = self.is_full(address)
        refused = self.ledger.identify(epoch, session, address)
        assert refused is (Refusal.ADDRESS_FULL if full else None)
        if not full:
            self.model[epoch, session] = address
            self.told.add((epoch, session))

    @rule(epoch=EPOCHS, session=SESSIONS, other=EPOCHS)
    def move(self, epoch: int, session: int, other: int) -> None:
        if (epoch, session) in self.model and (other, session) not in self.model:
            self.ledger.move(epoch, session, other)
            address = self.model.pop((epoch, session))
            # the new worker has not identified it yet
            self.model[other, session] = None if (epoch, session) in self.told else address
            self.told.discard((epoch, session))

    @rule(epoch=EPOCHS, session=SESSIONS)
    def release(self, epoch: int, session: int) -> None:
        assert self.ledger.release(epoch, session) is ((epoch, session) in self.model)
        self.model.pop((epoch, session), None)
        self.told.discard((epoch, session))

    @rule(epoch=EPOCHS)
    def kill_worker(self, epoch: int) -> None:
        held = [key for key in self.model if key[0] == epoch]
        assert self.ledger.release_worker(epoch) == len(held)
        for key in held:
            del self.model[key]
            self.told.discard(key)

    @invariant()
    def all_counts_equal_the_model(self) -> None:
        assert self.ledger.connections == len(self.model)
        counts = Counter(self.model.values())
        for address in ("192.0.2.1", "192.0.2.2", "::1", "elsewhere"):
            assert self.ledger.of_address(address) == counts[address]
        for epoch in (1, 2):
            assert self.ledger.held_by(epoch) == sum(key[0] == epoch for key in self.model)


TestAddressesAgainstTheirModel = AddressMachine.TestCase
TestAddressesAgainstTheirModel.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# ---------------------------------------------------------------------- not known yet


def test_a_connection_without_an_address_takes_no_address_s_slot() -> None:
    ledger = Ledger(ConnectionLimits(per_address=1))
    assert [ledger.admit(1, session, None) for session in range(5)] == [None] * 5
    assert ledger.connections == 5


def test_a_connection_without_an_address_takes_the_server_s_slot() -> None:
    ledger = Ledger(ConnectionLimits(server=2))
    assert ledger.admit(1, 1, None) is None
    assert ledger.admit(1, 2, "192.0.2.1") is None
    assert ledger.admit(1, 3, None) is Refusal.SERVER_FULL
    assert ledger.release(1, 1)
    assert ledger.admit(1, 3, None) is None


def test_a_connection_without_an_address_gives_back_only_what_it_took() -> None:
    ledger = Ledger(ConnectionLimits(per_address=1))
    ledger.admit(1, 1, None)
    ledger.admit(1, 2, "192.0.2.1")
    assert ledger.release(1, 1)
    assert (ledger.connections, ledger.of_address("192.0.2.1")) == (1, 1)


# ---------------------------------------------------------------------- known now


def test_whoever_is_identified_takes_the_slot_of_the_address() -> None:
    ledger = Ledger(ConnectionLimits(per_address=1))
    for session in (1, 2, 3):
        ledger.admit(session, session, None)
    assert ledger.identify(1, 1, "192.0.2.1") is None
    assert ledger.identify(2, 2, "192.0.2.1") is Refusal.ADDRESS_FULL
    assert ledger.identify(3, 3, "192.0.2.2") is None
    assert ledger.admit(1, 4, "192.0.2.1") is Refusal.ADDRESS_FULL


def test_whoever_was_refused_for_its_address_still_holds_the_server_s_slot_alone() -> None:
    ledger = Ledger(ConnectionLimits(server=2, per_address=1))
    ledger.admit(1, 1, "192.0.2.1")
    ledger.admit(1, 2, None)
    ledger.identify(1, 2, "192.0.2.1")
    assert ledger.admit(1, 3, None) is Refusal.SERVER_FULL
    assert ledger.release(1, 2)
    assert (ledger.connections, ledger.of_address("192.0.2.1")) == (1, 1)


def test_nobody_is_identified_twice() -> None:
    ledger = Ledger()
    ledger.admit(1, 1, None)
    ledger.identify(1, 1, "192.0.2.1")
    for address in ("192.0.2.1", "192.0.2.2"):
        with pytest.raises(KeyError):
            ledger.identify(1, 1, address)
    assert (ledger.of_address("192.0.2.1"), ledger.of_address("192.0.2.2")) == (1, 0)


@pytest.mark.parametrize(("epoch", "session"), [(1, 2), (2, 1), (9, 9)])
def test_whoever_holds_nothing_cannot_be_identified(epoch: int, session: int) -> None:
    ledger = Ledger()
    ledger.admit(1, 1, None)
    with pytest.raises(KeyError):
        ledger.identify(epoch, session, "192.0.2.1")
    assert ledger.of_address("192.0.2.1") == 0


def test_whose_address_was_known_at_once_cannot_be_identified() -> None:
    ledger = Ledger()
    ledger.admit(1, 1, "192.0.2.1")
    with pytest.raises(KeyError):
        ledger.identify(1, 1, "192.0.2.2")


def test_a_worker_that_dies_gives_back_the_slots_of_addresses_that_it_identified() -> None:
    ledger = Ledger(ConnectionLimits(per_address=1))
    ledger.admit(1, 1, None)
    ledger.admit(1, 2, None)
    ledger.identify(1, 1, "192.0.2.1")
    assert ledger.release_worker(1) == 2
    assert (ledger.connections, ledger.of_address("192.0.2.1")) == (0, 0)
    assert ledger.admit(2, 3, "192.0.2.1") is None


def test_a_connection_is_identified_where_it_was_moved_to() -> None:
    ledger = Ledger()
    ledger.admit(1, 1, None)
    ledger.move(1, 1, 2)
    with pytest.raises(KeyError):
        ledger.identify(1, 1, "192.0.2.1")
    assert ledger.identify(2, 1, "192.0.2.1") is None
    ledger.release_worker(1)
    assert ledger.of_address("192.0.2.1") == 1


async def test_local_quotas_identify_in_the_same_ledger() -> None:
    quotas = LocalQuotas(Ledger(ConnectionLimits(per_address=1)))
    assert [quotas.admit(session, None) for session in (1, 2)] == [None, None]
    assert await quotas.identify(1, "192.0.2.1") is None
    assert await quotas.identify(2, "192.0.2.1") is Refusal.ADDRESS_FULL
    quotas.end(1)
    assert await quotas.identify(2, "192.0.2.1") is None
