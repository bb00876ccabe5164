"""Quotas over a ledger in the same process."""

from __future__ import annotations

import asyncio

from ftpcluster.answers import settled
from ftpcluster.quota.ledger import ConnectionLimits, Ledger, Refusal
from ftpcluster.quota.quotas import LocalQuotas, Quotas


def quotas_of(*sessions: int, limits: ConnectionLimits | None = None) -> LocalQuotas:
    quotas = LocalQuotas(Ledger(limits))
    for session in sessions:
        assert quotas.admit(session, "127.0.0.1") is None
    return quotas


def test_it_is_what_a_session_needs() -> None:
    quotas: Quotas = quotas_of()  # held by the type checker, too
    assert {"login", "logout", "end"} <= set(dir(quotas))


def test_connections_are_refused_as_the_ledger_says() -> None:
    quotas = quotas_of(1, 2, limits=ConnectionLimits(server=2))
    assert quotas.admit(3, "127.0.0.2") is Refusal.SERVER_FULL
    quotas.end(1)
    assert quotas.admit(3, "127.0.0.2") is None


async def test_a_user_has_as_many_sessions_as_it_may_under_many_logins_at_once() -> None:
    quotas = quotas_of(*range(200))
    answers = await asyncio.gather(*(settled(quotas.login(n, "alice", 10)) for n in range(200)))
    assert answers.count(None) == 10
    assert answers.count(Refusal.USER_FULL) == 190
    assert quotas.ledger.of_user("alice") == 10


async def test_a_logout_gives_the_slot_back_once() -> None:
    quotas = quotas_of(1, 2, 3)
    assert await settled(quotas.login(1, "alice", 2)) is None
    assert await settled(quotas.login(2, "alice", 2)) is None
    for _ in range(3):
        quotas.logout(1)
    assert quotas.ledger.of_user("alice") == 1
    assert await settled(quotas.login(3, "alice", 2)) is None
    assert await settled(quotas.login(1, "alice", 2)) is Refusal.USER_FULL


async def test_the_end_of_a_session_gives_all_back_once() -> None:
    quotas = quotas_of(1, 2)
    await settled(quotas.login(1, "alice", None))
    for _ in range(3):
        quotas.end(1)
        quotas.logout(1)
    assert quotas.ledger.connections == 1
    assert quotas.ledger.of_user("alice") == 0
    assert quotas.ledger.of_address("127.0.0.1") == 1
