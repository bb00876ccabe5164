"""Quotas over the channel: the supervisor counts, the worker asks and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ftpcluster.ipc.channel import Channel
from ftpcluster.ipc.messages import (
    GiveSlot,
    Identified,
    Released,
    SlotAnswer,
    TakeSlot,
    ToWorker,
)
from ftpcluster.quota.bucket import SpeedLimited, Throttle, UserThrottles
from ftpcluster.quota.ledger import Refusal

_REPORTED = 1000
"""Sessions in one message, which has to stay within the channel's bounds."""


class RemoteQuotas:
    """The ``Quotas`` of a worker's sessions.

    A user without a limit costs no message. Ends of sessions that fall into one turn of the loop
    are reported together.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, workers: int = 1) -> None:
        self._loop = loop
        self._users = UserThrottles(shares=workers)
        self.channel: Channel[ToWorker] | None = None
        self._asked: dict[int, asyncio.Future[Refusal | None]] = {}
        self._holding: set[int] = set()
        self._ended: list[int] = []

    async def login(self, session: int, login: str, limit: int | None) -> Refusal | None:
        if limit is None:
            return None
        # what is no text could not be sent as a string
        name = login.encode("utf-8", "backslashreplace").decode()
        refused = await self._ask(session, TakeSlot(session, name, limit))
        if refused is None:
            self._holding.add(session)
        return refused

    async def identify(self, session: int, address: str) -> Refusal | None:
        return await self._ask(session, Identified(session, address))

    async def _ask(self, session: int, question: TakeSlot | Identified) -> Refusal | None:
        answer: asyncio.Future[Refusal | None] = self._loop.create_future()
        self._asked[session] = answer
        self._send(question)
        try:
            return await answer
        finally:
            del self._asked[session]

    def on_answer(self, message: SlotAnswer) -> None:
        """The supervisor decided. A session that has ended meanwhile no longer wants to know."""
        answer = self._asked.get(message.session)
        if answer is not None and not answer.done():
            answer.set_result(None if message.refused is None else Refusal(message.refused))

    def logout(self, session: int) -> None:
        if session in self._holding:
            self._holding.discard(session)
            self._send(GiveSlot(session))

    def end(self, session: int) -> None:
        self._holding.discard(session)
        if not self._ended:
            self._loop.call_soon(self.report)
        self._ended.append(session)

    def throttles(self, user: SpeedLimited) -> Sequence[Throttle]:
        """Every worker gets its share of a user's limit: never more than it, often less."""
        return self._users.of(user)

    def report(self) -> None:
        """Report the sessions that have ended."""
        for start in range(0, len(self._ended), _REPORTED):
            self._send(Released(tuple(self._ended[start : start + _REPORTED])))
        self._ended.clear()

    def _send(self, message: TakeSlot | GiveSlot | Released | Identified) -> None:
        if self.channel is not None:
            self.channel.send(message)
