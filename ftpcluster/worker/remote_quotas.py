"""Quotas over the channel: the supervisor counts, the worker asks and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ftpcluster.ipc.channel import Channel
from ftpcluster.ipc.messages import (
    BeginTry,
    EndTry,
    GiveSlot,
    Identified,
    LoggedIn,
    Login,
    LoginDelay,
    LoginFailed,
    Released,
    SlotAnswer,
    TakeSlot,
    ToSupervisor,
    ToWorker,
    quantity,
    sendable,
)
from ftpcluster.ipc.portions import portions
from ftpcluster.quota.leases import SessionLimits, session_limits
from ftpcluster.quota.ledger import Refusal
from ftpcluster.quota.rates import AccountSpeeds, SpeedLimits
from ftpcluster.worker.remote_leases import RemoteLeases

_LONGEST_NAME = 255
"""Characters of a failed login's name that are sent to the supervisor."""
_REPORTED = 1000
"""Sessions in one message, which has to stay within the channel's bounds."""


class RemoteQuotas:
    """The ``Quotas`` of a worker's sessions.

    A user without a limit costs no message, unless sessions without a login are limited. Ends of
    sessions that fall into one turn of the loop are reported together.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        workers: int = 1,
        limits: SpeedLimits = SpeedLimits(),
        *,
        tells_logins: bool = False,
        counts: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """``limits``: the configuration's speed limits. ``tells_logins``: the supervisor has to
        know every login, even of a user without a limit. ``counts``: whether an address's failed
        logins count; then the supervisor is asked for each try."""
        self._loop = loop
        self.counts = counts
        self._tells_logins = tells_logins
        self.leases = RemoteLeases(loop, workers, limits, self._send)
        self.channel: Channel[ToWorker] | None = None
        self._asked: dict[int, asyncio.Future[SlotAnswer | LoginDelay]] = {}
        self._holding: set[int] = set()
        self._trying: set[int] = set()
        self._untold: dict[int, str] = {}
        self._ended: list[int] = []
        self._closing: list[Callable[[], None]] = []

    def login(
        self, session: int, login: str, limit: int | None
    ) -> Refusal | Awaitable[Refusal | None] | None:
        if limit is None and not self._tells_logins:
            self._untold[session] = login
            self.end_try(session)
            return None
        return self._take_slot(session, login, limit)

    async def _take_slot(self, session: int, login: str, limit: int | None) -> Refusal | None:
        self._trying.discard(session)
        most = None if limit is None else int(quantity(limit))
        refused = await self._ask(session, TakeSlot(session, sendable(login), most))
        if refused is None:
            self._holding.add(session)
        return refused

    async def identify(self, session: int, address: str) -> Refusal | None:
        return await self._ask(session, Identified(session, address))

    async def begin_try(self, session: int, address: str) -> Refusal | None:
        if not self.counts(address):
            return None
        self._trying.add(session)
        return await self._ask(session, BeginTry(session))

    def end_try(self, session: int) -> None:
        if session in self._trying:
            self._trying.discard(session)
            self._send(EndTry(session))

    async def login_failed(self, session: int, login: str) -> float:
        self._trying.discard(session)
        answer = await self._answered(session, _login_failed(session, login))
        assert isinstance(answer, LoginDelay)
        return answer.seconds

    def login_failed_unheard(self, session: int, login: str) -> None:
        self._trying.discard(session)
        # no answer is waited for: a supervisor that is gone gives none, and the session must end
        self._send(_login_failed(session, login))

    async def _ask(
        self, session: int, question: TakeSlot | Identified | BeginTry
    ) -> Refusal | None:
        answer = await self._answered(session, question)
        assert isinstance(answer, SlotAnswer)
        return None if answer.refused is None else Refusal(answer.refused)

    async def _answered(
        self, session: int, question: TakeSlot | Identified | BeginTry | LoginFailed
    ) -> SlotAnswer | LoginDelay:
        answer: asyncio.Future[SlotAnswer | LoginDelay] = self._loop.create_future()
        self._asked[session] = answer
        self._send(question)
        try:
            return await answer
        finally:
            del self._asked[session]

    def on_answer(self, message: SlotAnswer | LoginDelay) -> None:
        """The supervisor has decided. An answer for a session that has ended is dropped."""
        answer = self._asked.get(message.session)
        if answer is not None and not answer.done():
            answer.set_result(message)

    def tell_logins(self) -> None:
        """Tell the supervisor of all logins and, from now on, of each new one and of each try."""
        self._tells_logins = True
        self.counts = lambda _: True
        told = [Login(session, sendable(login)) for session, login in self._untold.items()]
        for some in portions(told):
            self._send(LoggedIn(some))
        self._holding.update(self._untold)
        self._untold.clear()

    def logout(self, session: int) -> None:
        self._untold.pop(session, None)
        if session in self._holding:
            self._holding.discard(session)
            self._send(GiveSlot(session))

    def end(self, session: int, close: Callable[[], None] = lambda: None) -> None:
        self._holding.discard(session)
        self._trying.discard(session)
        self._untold.pop(session, None)
        if not self._ended:
            self._loop.call_soon(self.report)
        self._ended.append(session)
        self._closing.append(close)

    def speed_limits(self, account: AccountSpeeds) -> SessionLimits | None:
        """The limits of a session; None where there are none.

        A transfer has one lease, whatever limits it shares: the supervisor grants only what the
        limits of the user, the group and the server all allow.
        """
        is_limited = account.shared.is_limited or account.per_connection.is_limited
        if not (is_limited or self.leases.limits_others):
            return None
        login = sendable(account.login)
        group = account.group or self.leases.group_of.get(login)
        account = account._replace(login=login, group=group)
        return session_limits(self.leases, account, self._loop.time())

    def report(self) -> None:
        """Report the sessions that have ended, and then close their connections."""
        for start in range(0, len(self._ended), _REPORTED):
            self._send(Released(tuple(self._ended[start : start + _REPORTED])))
        self._ended.clear()
        closing, self._closing = self._closing, []
        for close in closing:
            close()

    def _send(self, message: ToSupervisor) -> None:
        if self.channel is not None:
            self.channel.send(message)


def _login_failed(session: int, login: str) -> LoginFailed:
    return LoginFailed(session, sendable(login[:_LONGEST_NAME]))
