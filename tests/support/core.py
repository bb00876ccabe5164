"""A server of the core (``session/``) with hooks of a test, without the library's API."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ftpcluster.config.sessions import session_defaults
from ftpcluster.net.passive import PassivePorts
from ftpcluster.net.pipe import Pipe
from ftpcluster.net.poller import Poller
from ftpcluster.quota.ledger import ConnectionLimits, Ledger
from ftpcluster.quota.quotas import LocalQuotas
from ftpcluster.session.process_sessions import AcceptedConnection, ProcessSessions
from ftpcluster.session.services import Services, Settings
from ftpcluster.users import MemoryUserManager, User


@contextlib.asynccontextmanager
async def serving(user: User, **hooks: Any) -> AsyncIterator[int]:
    """Serve one user. ``hooks`` are fields of ``Services``. Yields the port."""
    loop = asyncio.get_running_loop()
    ports = PassivePorts(loop)
    services = Services(
        loop=loop,
        poller=Poller(loop),
        settings=Settings(**session_defaults(), login_delay=0.0),
        users=MemoryUserManager([user]),
        quotas=(quotas := LocalQuotas(Ledger(ConnectionLimits()), clock=loop.time)),
        ports=ports,
        pool=ThreadPoolExecutor(2),
        **hooks,
    )
    ended = asyncio.Event()
    reception = ProcessSessions(services, ended.set)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    numbers = itertools.count(1)

    def accept() -> None:
        sock, (address, port) = listener.accept()
        number = next(numbers)
        quotas.admit(number, address)
        reception.receive(AcceptedConnection(number, sock.detach(), address, port))

    loop.add_reader(listener, accept)
    try:
        yield listener.getsockname()[1]
    finally:
        loop.remove_reader(listener)
        listener.close()
        reception.end_all()
        if not reception.is_empty:
            ended.clear()
            await ended.wait()
        if services.tasks:
            await asyncio.wait(services.tasks)
        services.close()
        Pipe.close_idle()
