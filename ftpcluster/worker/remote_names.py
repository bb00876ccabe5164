"""Host names are looked up by the supervisor, which may read the resolver's configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from ftpcluster.ipc.messages import LookedUp, LookUp
from ftpcluster.net.lookups import Addresses, NameService


class RemoteNames:
    """The addresses of names. The supervisor looks up those of the configuration; others, which
    custom code has named, are looked up here."""

    def __init__(self, configured: Container[str], send: Callable[[LookUp], None]) -> None:
        self._configured = configured
        self._send = send
        self._own = NameService()
        self._asked: dict[str, asyncio.Future[Addresses]] = {}

    async def addresses_of(self, name: str) -> Addresses:
        """As ``NameService.addresses_of``."""
        if name not in self._configured:
            return await self._own.addresses_of(name)
        answer = self._asked.get(name)
        if answer is None:
            self._asked[name] = answer = asyncio.get_running_loop().create_future()
            self._send(LookUp(name))
        return await asyncio.shield(answer)

    def on_answer(self, message: LookedUp) -> None:
        answer = self._asked.pop(message.name, None)
        if answer is None:
            return
        if message.addresses:
            answer.set_result(message.addresses)
        else:
            answer.set_exception(OSError(message.failure))
            answer.exception()  # else asyncio logs it where no caller waits any more
