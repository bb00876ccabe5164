"""RemoteQuotas: what a worker's sessions cost in messages, and what the answers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ftpcluster.answers import settled
from ftpcluster.ipc.channel import pair, supervisor_end, worker_end
from ftpcluster.ipc.messages import (
    BeginTry,
    EndTry,
    GiveSlot,
    LoggedIn,
    Login,
    LoginDelay,
    LoginFailed,
    Released,
    SlotAnswer,
    TakeSlot,
    ToSupervisor,
    ToWorker,
    sendable,
)
from ftpcluster.quota.ledger import Refusal
from ftpcluster.worker.remote_quotas import RemoteQuotas
from tests.support.lingering import CLOSER

SPARED, MALLORY = "127.0.0.1", "192.0.2.7"


class FarEnd:
    """A worker's quotas on a real channel, and the supervisor's end of it."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = pair()
        self.quotas = RemoteQuotas(loop, counts=lambda address: address != SPARED)
        self._inbox: asyncio.Queue[ToSupervisor] = asyncio.Queue()
        self.supervisor = supervisor_end(
            loop, ours, self._inbox.put_nowait, lambda _: None, CLOSER.close
        )
        self.quotas.channel = self.worker = worker_end(
            loop, theirs, self._on_message, lambda _: None, lambda: None
        )

    def _on_message(self, message: ToWorker, _: int | None) -> None:
        assert isinstance(message, SlotAnswer | LoginDelay)
        self.quotas.on_answer(message)

    async def hears(self) -> ToSupervisor:
        async with asyncio.timeout(20):
            return await self._inbox.get()

    async def hears_only(self, *messages: ToSupervisor) -> None:
        """These have been sent and nothing else: a last one shows that no more is on its way."""
        self.worker.send(GiveSlot(999))
        for expected in (*messages, GiveSlot(999)):
            assert await self.hears() == expected


@pytest.fixture
async def far_end() -> AsyncIterator[FarEnd]:
    end = FarEnd()
    yield end
    end.worker.close()
    end.supervisor.close()


async def test_a_user_without_a_limit_costs_no_message(far_end: FarEnd) -> None:
    assert await settled(far_end.quotas.login(1, "alice", None)) is None
    far_end.quotas.logout(1)
    await far_end.hears_only()


@pytest.mark.parametrize("refused", [None, Refusal.USER_FULL])
async def test_a_user_with_a_limit_gets_what_the_supervisor_says(
    far_end: FarEnd, refused: Refusal | None
) -> None:
    login = asyncio.create_task(settled(far_end.quotas.login(7, "alice", 2)))
    assert await far_end.hears() == TakeSlot(7, "alice", 2)
    assert not login.done()
    far_end.supervisor.send(SlotAnswer(7, refused.value if refused else None))
    async with asyncio.timeout(20):
        assert await login is refused


async def test_answers_reach_the_sessions_that_they_name(far_end: FarEnd) -> None:
    logins = [asyncio.create_task(settled(far_end.quotas.login(n, "alice", 1))) for n in (1, 2)]
    far_end.supervisor.send(SlotAnswer(2, None))
    far_end.supervisor.send(SlotAnswer(1, Refusal.USER_FULL.value))
    async with asyncio.timeout(20):
        assert await asyncio.gather(*logins) == [Refusal.USER_FULL, None]


async def test_a_slot_is_given_back_once_and_only_where_one_is_held(far_end: FarEnd) -> None:
    for session, refused in ((1, None), (2, Refusal.USER_FULL.value)):
        login = asyncio.create_task(settled(far_end.quotas.login(session, "alice", 1)))
        await far_end.hears()
        far_end.supervisor.send(SlotAnswer(session, refused))
        await asyncio.wait_for(login, 20)
    for session in (1, 1, 2, 3):
        far_end.quotas.logout(session)
    await far_end.hears_only(GiveSlot(1))


async def test_sessions_that_end_in_one_turn_are_reported_together(far_end: FarEnd) -> None:
    for session in (3, 1, 2):
        far_end.quotas.end(session)
    assert await far_end.hears() == Released((3, 1, 2))
    far_end.quotas.end(4)
    assert await far_end.hears() == Released((4,))
    await far_end.hears_only()


async def test_ends_can_be_reported_before_the_turn_is_over(far_end: FarEnd) -> None:
    far_end.quotas.end(1)
    far_end.quotas.report()
    far_end.quotas.report()
    await asyncio.sleep(0)
    await far_end.hears_only(Released((1,)))


async def test_a_session_that_has_ended_gives_no_slot_back_beside_its_end(far_end: FarEnd) -> None:
    login = asyncio.create_task(settled(far_end.quotas.login(1, "alice", 1)))
    await far_end.hears()
    far_end.supervisor.send(SlotAnswer(1, None))
    await asyncio.wait_for(login, 20)
    far_end.quotas.end(1)
    far_end.quotas.logout(1)
    assert await far_end.hears() == Released((1,))
    await far_end.hears_only()


async def test_an_answer_after_the_session_s_end_is_ignored(far_end: FarEnd) -> None:
    login = asyncio.create_task(settled(far_end.quotas.login(1, "alice", 1)))
    await far_end.hears()
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login
    far_end.quotas.end(1)
    far_end.supervisor.send(SlotAnswer(1, None))
    far_end.supervisor.send(SlotAnswer(999, None))
    assert await far_end.hears() == Released((1,))
    # both answers have been taken when the next one is
    second = asyncio.create_task(settled(far_end.quotas.login(2, "alice", 1)))
    assert await far_end.hears() == TakeSlot(2, "alice", 1)
    far_end.supervisor.send(SlotAnswer(2, None))
    assert await asyncio.wait_for(second, 20) is None
    far_end.quotas.logout(1)
    await far_end.hears_only()


async def test_an_answer_that_comes_twice_counts_once(far_end: FarEnd) -> None:
    login = asyncio.create_task(settled(far_end.quotas.login(1, "alice", 1)))
    await far_end.hears()
    for refused in (None, Refusal.USER_FULL.value):
        far_end.quotas.on_answer(SlotAnswer(1, refused))
    assert await asyncio.wait_for(login, 20) is None


async def test_users_without_a_limit_are_told_on_order(far_end: FarEnd) -> None:
    for session, login in ((1, "alice"), (2, "bob"), (3, "alice"), (4, "eve")):
        await settled(far_end.quotas.login(session, login, None))
    far_end.quotas.logout(2)
    far_end.quotas.end(4)
    assert await far_end.hears() == Released((4,))
    far_end.quotas.tell_logins()
    assert await far_end.hears() == LoggedIn((Login(1, "alice"), Login(3, "alice")))
    far_end.quotas.logout(1)
    assert await far_end.hears() == GiveSlot(1)
    later = asyncio.create_task(settled(far_end.quotas.login(5, "bob", None)))
    assert await far_end.hears() == TakeSlot(5, "bob", None)
    later.cancel()


async def test_any_number_of_logins_fits_into_messages(far_end: FarEnd) -> None:
    names = {
        session: str(session) + "n" * (4000 if session % 2 else 200) for session in range(1, 501)
    }
    for session, name in names.items():
        await settled(far_end.quotas.login(session, name, None))
    far_end.quotas.tell_logins()
    told: dict[int, str] = {}
    while len(told) < len(names):
        message = await far_end.hears()
        assert isinstance(message, LoggedIn)
        told.update(message.logins)
    assert told == {session: sendable(name) for session, name in names.items()}
    assert len(set(told.values())) == len(names), "what is cut is still somebody's own"
    assert max(map(len, told.values())) == 255


async def test_a_failed_login_waits_as_long_as_the_supervisor_says(far_end: FarEnd) -> None:
    failed = asyncio.create_task(far_end.quotas.login_failed(1, "alice"))
    assert await far_end.hears() == LoginFailed(1, "alice")
    far_end.supervisor.send(LoginDelay(1, 4.5))
    assert await asyncio.wait_for(failed, 20) == 4.5


async def test_a_long_name_that_is_no_text_is_told_cut_and_readable(far_end: FarEnd) -> None:
    failed = asyncio.create_task(far_end.quotas.login_failed(1, "\udcff" + "x" * 4000))
    message = await far_end.hears()
    assert isinstance(message, LoginFailed)
    assert message.login == sendable("\udcff" + "x" * 254)
    assert message.login.startswith("\\udcffxxx")
    assert len(message.login) == 255
    far_end.supervisor.send(LoginDelay(1, 0.0))
    await asyncio.wait_for(failed, 20)


async def test_a_failed_login_of_who_has_hung_up_is_told_before_the_session_s_end(
    far_end: FarEnd,
) -> None:
    far_end.quotas.login_failed_unheard(1, "alice")
    far_end.quotas.end(1)
    assert await far_end.hears() == LoginFailed(1, "alice")
    assert await far_end.hears() == Released((1,))
    far_end.supervisor.send(LoginDelay(1, 4.5))  # nobody waits for it
    failed = asyncio.create_task(far_end.quotas.login_failed(2, "bob"))
    assert await far_end.hears() == LoginFailed(2, "bob")
    far_end.supervisor.send(LoginDelay(2, 1.5))
    assert await asyncio.wait_for(failed, 20) == 1.5


# ---------------------------------------------------------------------- tries


async def begin(far_end: FarEnd, session: int) -> None:
    begun = asyncio.create_task(far_end.quotas.begin_try(session, MALLORY))
    assert await far_end.hears() == BeginTry(session)
    assert not begun.done()
    far_end.supervisor.send(SlotAnswer(session, None))
    assert await asyncio.wait_for(begun, 20) is None


async def test_a_try_of_an_address_that_is_spared_costs_no_message(far_end: FarEnd) -> None:
    assert await far_end.quotas.begin_try(1, SPARED) is None
    await settled(far_end.quotas.login(1, "alice", None))
    far_end.quotas.end_try(1)
    await far_end.hears_only()


async def test_a_banned_address_has_no_try(far_end: FarEnd) -> None:
    begun = asyncio.create_task(far_end.quotas.begin_try(1, MALLORY))
    await far_end.hears()
    far_end.supervisor.send(SlotAnswer(1, Refusal.BANNED.value))
    assert await asyncio.wait_for(begun, 20) is Refusal.BANNED


async def test_a_try_ends_once_by_whatever_came_of_it(far_end: FarEnd) -> None:
    for session in (1, 2, 3, 4, 5):
        await begin(far_end, session)
    await settled(far_end.quotas.login(1, "alice", None))
    login = asyncio.create_task(settled(far_end.quotas.login(2, "alice", 1)))
    await asyncio.sleep(0)
    far_end.quotas.login_failed_unheard(3, "alice")
    far_end.quotas.end_try(4)
    far_end.quotas.end(5)
    far_end.quotas.report()
    for session in range(1, 6):
        far_end.quotas.end_try(session)
    await far_end.hears_only(
        EndTry(1), TakeSlot(2, "alice", 1), LoginFailed(3, "alice"), EndTry(4), Released((5,))
    )
    login.cancel()


async def test_who_is_to_tell_logins_asks_for_every_try(far_end: FarEnd) -> None:
    """Other rules are going to hold, which this worker does not know."""
    far_end.quotas.tell_logins()
    begun = asyncio.create_task(far_end.quotas.begin_try(1, SPARED))
    assert await far_end.hears() == BeginTry(1)
    begun.cancel()
