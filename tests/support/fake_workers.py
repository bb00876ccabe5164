"""A supervisor with fake workers: no process is started; a test acts for the workers.

The listening socket, the clients and the descriptors that are handed over are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ftpcluster.ipc.channel import Channel, worker_end
from ftpcluster.ipc.messages import (
    Adopt,
    Adopted,
    Message,
    OldWorkers,
    Ready,
    SlotAnswer,
    TakeSlot,
    TellLogins,
    ToWorker,
)
from ftpcluster.net.listeners import Listener, listen
from ftpcluster.protocol.address import Networks
from ftpcluster.quota.ledger import ConnectionLimits
from ftpcluster.supervisor.supervisor import Supervisor
from ftpcluster.supervisor.worker_handle import Plan

DEADLINE = 20.0

T = TypeVar("T", bound=Message)


class FakeWorker:
    """A worker: its process as the supervisor sees it, and its end of the channel for the test."""

    def __init__(self, index: int, epoch: int, sock: socket.socket) -> None:
        self.index = index
        self.epoch = epoch
        self.pid: int | None = 100_000 + epoch
        self.exitcode: int | None = None
        self.killed = False  # the supervisor has killed it while it lived
        self.aborted = False
        self.is_stuck = False  # SIGKILL does not end it
        self.is_slow = False  # SIGKILL ends it, but not at once
        self.left = False  # the supervisor does not wait for its end any more
        self.tells_logins = False
        self.knows_of_old_workers = False
        self.held: dict[int, int] = {}  # sessions' descriptors, as they came
        self._raw = sock.dup()
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[ToWorker] = asyncio.Queue()
        self._on_exit: Callable[[], None] | None = None
        self._channel: Channel[ToWorker] = worker_end(
            self._loop, sock.dup(), self._on_message, self._on_closed, lambda: None
        )

    # ------------------------------------------------------------------ for the supervisor

    def kill(self) -> None:
        self.killed = self.killed or self.exitcode is None
        if not self.is_stuck and not self.is_slow:
            self.die()

    def leave(self) -> None:
        self.left = True

    def abort(self) -> None:
        self.aborted = True

    def on_exit(self, callback: Callable[[], None]) -> None:
        self._on_exit = callback

    # ------------------------------------------------------------------ for the test

    def say(self, message: Message, fd: int | None = None) -> None:
        self._channel.send(message, fd)

    def say_bytes(self, data: bytes) -> None:
        self._raw.send(data)

    def stop_reading(self) -> None:
        """Read no more messages; it can still send some."""
        self._loop.remove_reader(self._channel._sock.fileno())

    async def hear(self, kind: type[T]) -> T:
        """The next message, which must be of this kind."""
        async with asyncio.timeout(DEADLINE):
            message = await self._inbox.get()
        assert isinstance(message, kind), message
        return message

    async def adopt(self, *, confirm: bool = True) -> int:
        """Take the next connection. Returns the number of its session."""
        session = (await self.hear(Adopt)).session
        if confirm:
            self.say(Adopted((session,)))
        return session

    @property
    def unheard(self) -> int:
        return self._inbox.qsize()

    async def round_trip(self, session: int) -> None:
        """Wait until the supervisor has handled all earlier messages of this worker.

        It asks for a user's slot for ``session``, which must be one of its own, and awaits that.
        """
        self.say(TakeSlot(session, "round-trip", None))
        while not isinstance(await self.hear(Message), SlotAnswer):
            pass

    def die(self) -> None:
        """As SIGKILL: all descriptors close, then the process has ended. Harmless when repeated."""
        if self.exitcode is not None:
            return
        self.exitcode = -9
        self._channel.close()
        self._raw.close()
        for fd in self.held.values():
            os.close(fd)
        self.held.clear()
        if self._on_exit is not None:
            self._loop.call_soon(self._on_exit)

    def _on_message(self, message: ToWorker, fd: int | None) -> None:
        if isinstance(message, Adopt):
            assert fd is not None
            self.held[message.session] = fd
        elif isinstance(message, TellLogins):
            self.tells_logins = True  # it has reported all logins already
            return
        elif isinstance(message, OldWorkers):
            self.knows_of_old_workers = message.live
            return
        self._inbox.put_nowait(message)

    def _on_closed(self, _: Exception | None) -> None:
        """The supervisor has closed its end. The test decides whether the process ends."""


@dataclass
class Supervised:
    """A supervisor that runs, its fake workers, and the port it listens on."""

    supervisor: Supervisor
    workers: list[FakeWorker]
    port: int
    plan: Plan
    run: asyncio.Task[None] = field(init=False)
    clients: list[Client] = field(default_factory=list)

    async def worker(self, number: int) -> FakeWorker:
        """Wait for the start of the ``number``-th worker, counted from 0."""
        await until(lambda: len(self.workers) > number)
        return self.workers[number]

    async def ready(self, count: int) -> list[FakeWorker]:
        """Wait until the first ``count`` workers serve, and return them."""
        workers = [await self.worker(number) for number in range(count)]
        for worker in workers:
            worker.say(Ready())
        async with asyncio.timeout(DEADLINE):
            await asyncio.shield(self.supervisor.serving)
        return workers

    async def connect(self, source: str = "127.0.0.1") -> Client:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(source, 0)
        )
        client = Client(reader, writer)
        self.clients.append(client)
        return client


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hears(self) -> bytes:
        """The next line, none at the end."""
        async with asyncio.timeout(DEADLINE):
            return await self.reader.readline()

    async def is_turned_away(self) -> bool:
        """Whether the server sends 421 and closes."""
        return (await self.hears()).startswith(b"421 ") and await self.hears() == b""


@contextlib.asynccontextmanager
async def supervised(
    workers: int,
    *,
    server: int | None = None,
    grace: float = 5.0,
    limits: ConnectionLimits | None = None,
    proxies: Networks | None = None,
    **others: Any,
) -> AsyncIterator[Supervised]:
    """A supervisor that has begun to start so many workers. All are killed at the end.

    ``server``: the limit of connections, if ``limits`` is None. ``others``: fields of the ``Plan``.
    """
    started: list[FakeWorker] = []

    def start(index: int, epoch: int, sock: socket.socket) -> FakeWorker:
        started.append(FakeWorker(index, epoch, sock))
        return started[-1]

    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    plan = Plan(
        listeners=[Listener(listener, proxies=proxies)],
        workers=workers,
        start_process=start,
        limits=limits or ConnectionLimits(server=server),
        shutdown_grace=grace,
        **others,
    )
    supervisor = Supervisor(plan)
    scene = Supervised(supervisor, started, port, plan)
    scene.run = asyncio.create_task(supervisor.run())
    try:
        yield scene
    finally:
        supervisor.kill()
        await asyncio.wait([scene.run], timeout=DEADLINE)
        for worker in started:
            worker.die()
        for client in scene.clients:
            client.writer.close()
        if supervisor.serving.done():
            supervisor.serving.exception()  # a BootFailure has been seen, or run() raised it
    # the end of a worker's channel may be read after the end of its process
    await until(lambda: supervisor.ledger.connections == 0)
    if not scene.run.cancelled():
        scene.run.exception()


async def until(look: Callable[[], object]) -> None:
    """Wait until ``look`` returns something true: nothing announces it."""
    async with asyncio.timeout(DEADLINE):
        while not look():
            await asyncio.sleep(0.001)
