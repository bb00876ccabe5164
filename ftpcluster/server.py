"""The single-process server: sessions in the caller's own event loop, with no other process.

The sessions are the very ones that workers run; only the accounting is in this process too.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from ftpcluster.net.acceptor import Acceptor, refuse
from ftpcluster.net.listeners import listen_on_all
from ftpcluster.net.passive import PassivePorts
from ftpcluster.net.poller import Poller
from ftpcluster.net.stream import Stream
from ftpcluster.protocol.address import plain
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.quota.ledger import ConnectionLimits, Ledger
from ftpcluster.quota.quotas import LocalQuotas
from ftpcluster.session.run import give_way
from ftpcluster.session.server_pi import ServerPI
from ftpcluster.session.state import Conversation, Services, Settings
from ftpcluster.users import AbstractUserManager, MemoryUserManager, User

_FULL = Reply(Code.SERVICE_NOT_AVAILABLE, "Too many connections; try again later.")
_THREADS = 16


async def _turn() -> None:
    await give_way()


class Server:
    """An FTP server in this process. ``settings`` are those that all sessions share."""

    def __init__(
        self,
        users: Iterable[User] | AbstractUserManager | None = None,
        *,
        maximum_connections: int | None = None,
        data_ports: Iterable[int] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._users = users if isinstance(users, AbstractUserManager) else MemoryUserManager(users)
        self._data_ports = None if data_ports is None else tuple(data_ports)
        self._settings = settings or Settings(rename_replaces=False)
        self.ledger = Ledger(ConnectionLimits(server=maximum_connections))
        self._numbers = itertools.count(1)
        self._sessions: set[ServerPI] = set()
        self._acceptor: Acceptor[Server] | None = None
        self._services: Services | None = None
        self._closed: asyncio.Future[None] | None = None
        self.server_host: str | None = None
        self.server_port = 0

    @property
    def address(self) -> tuple[str | None, int]:
        """Host and port that the server listens on."""
        return self.server_host, self.server_port

    async def start(self, host: str | None = None, port: int = 0, **_: Any) -> None:
        """Listen and serve. Raises CannotListen."""
        loop = asyncio.get_running_loop()
        sockets = listen_on_all((host,) if host else (), port)
        self.server_host, self.server_port = host, sockets[0].getsockname()[1]
        self._quotas = LocalQuotas(self.ledger)
        self._services = Services(
            loop=loop,
            poller=Poller(loop),
            settings=self._settings,
            users=self._users,
            quotas=self._quotas,
            ports=PassivePorts(loop, self._data_ports),
            pool=ThreadPoolExecutor(_THREADS, "ftpcluster-files"),
        )
        self._closed = loop.create_future()
        self._acceptor = Acceptor(loop, sockets, lambda: self, Server._on_connection)
        self._acceptor.resume()

    def _on_connection(self, fd: int, address: str, port: int) -> None:
        assert self._services is not None
        number, peer = next(self._numbers), plain(address)
        if self._quotas.admit(number, peer) is not None:
            refuse(fd, _FULL)
            return
        stream = Stream(self._services.loop, self._services.poller, fd)
        conversation = Conversation(number, peer, port)
        session = ServerPI(self._services, stream, conversation, self._sessions.discard)
        self._sessions.add(session)
        session.start()

    async def serve_forever(self) -> None:
        """Wait until the server is closed."""
        if self._closed is None:
            raise RuntimeError("the server has not been started")
        await asyncio.shield(self._closed)

    async def run(self, host: str | None = None, port: int = 0, **kwargs: Any) -> None:
        """Start, serve until cancelled, and close."""
        await self.start(host, port, **kwargs)
        try:
            await self.serve_forever()
        finally:
            await self.close()

    async def close(self) -> None:
        """End all sessions and give everything back; harmless when repeated."""
        services, self._services = self._services, None
        if services is None or self._acceptor is None or self._closed is None:
            return
        self._acceptor.close()
        for session in tuple(self._sessions):
            session.end()
        while self._sessions or services.tasks:
            await asyncio.gather(*services.tasks, _turn())
        services.ports.close()
        services.poller.close()
        services.pool.shutdown(wait=False, cancel_futures=True)
        if not self._closed.done():
            self._closed.set_result(None)

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()
