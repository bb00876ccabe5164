"""A worker in this process: sockets come over a channel as the supervisor sends them."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from ftpcluster.config import Config, PermissionConfig, Timeouts, UserConfig, WorkerConfig
from ftpcluster.ipc.channel import Channel, pair, supervisor_end
from ftpcluster.ipc.messages import (
    Adopt,
    Adopted,
    Counted,
    Declined,
    Drain,
    EndSession,
    Heartbeat,
    Identified,
    Message,
    Ready,
    Released,
    Reports,
    SetGroupLimits,
    SlotAnswer,
    TakeSlot,
    ToldRates,
    ToSupervisor,
    UserLimits,
    WriteLog,
)
from ftpcluster.net.stream import Stream
from ftpcluster.quota.ledger import Refusal
from ftpcluster.quota.rates import DOWNLOAD, Rates, SpeedLimits
from ftpcluster.worker import worker as module
from ftpcluster.worker.worker import Worker
from tests.support.lingering import CLOSER

DEADLINE = 20.0

T = TypeVar("T", bound=Message)


class Client:
    """A control connection whose other end has been handed to the worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hears(self, *codes: int) -> str:
        async with asyncio.timeout(DEADLINE):
            line = (await self.reader.readline()).decode()
        assert line[:4] in [f"{code} " for code in codes], line
        return line

    async def says(self, line: str, *codes: int) -> str:
        self.writer.write(line.encode() + b"\r\n")
        return await self.hears(*codes)

    async def is_closed(self) -> bool:
        async with asyncio.timeout(DEADLINE):
            return await self.reader.read() == b""

    async def logs_in(self) -> None:
        await self.hears(220)
        await self.says("USER reader", 331)
        await self.says("PASS any", 230)
        await self.says("TYPE I", 200)

    async def passive(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = int((await self.says("EPSV", 229)).split("|")[3])
        return await asyncio.open_connection("127.0.0.1", port)


class Scene:
    """A worker that serves, and the supervisor's end of its channel."""

    def __init__(self, root: Path) -> None:
        loop = asyncio.get_running_loop()
        self.ours, theirs = pair()
        self._inbox: asyncio.Queue[ToSupervisor] = asyncio.Queue()
        read_only = (PermissionConfig(path="/"),)
        users = (
            UserConfig(login="reader", password="plain:any", root=str(root), permissions=read_only),
            UserConfig(login="writer", password="plain:secret", root=str(root)),
            UserConfig(login="one", password="plain:any", root=str(root), connections=1),
        )
        config = Config(workers=1, users=users, timeouts=Timeouts(worker=1))
        settings = WorkerConfig(index=0, config=config)
        self.worker = Worker(loop, theirs, settings)
        self.heartbeats = 0
        self.channel: Channel[ToSupervisor] = supervisor_end(
            loop, self.ours, self._on_message, lambda _: None, CLOSER.close
        )
        self.serving = asyncio.create_task(self.worker.serve())
        self.clients: list[Client] = []
        self._listener = socket.create_server(("127.0.0.1", 0))

    def _on_message(self, message: ToSupervisor) -> None:
        if isinstance(message, Heartbeat):
            assert message.memory > 1_000_000
            self.heartbeats += 1
        elif isinstance(message, Counted):
            self.counted = message
        else:
            self._inbox.put_nowait(message)

    async def hears(self, kind: type[T]) -> T:
        """The next message of the worker, which must be of this kind."""
        async with asyncio.timeout(DEADLINE):
            message = await self._inbox.get()
        assert isinstance(message, kind), message
        return message

    async def hand_over(self, session: int, *, confirmed: bool = True) -> Client:
        """A client whose connection the worker is told to adopt."""
        where = self._listener.getsockname()[:2]
        client = Client(*await asyncio.open_connection(*where))
        self.clients.append(client)
        accepted, (peer, peer_port) = self._listener.accept()
        with accepted:
            self.channel.send(Adopt(session, peer, peer_port), accepted.fileno())
            if confirmed:
                assert await self.hears(Adopted) == Adopted((session,))
        return client

    def send_together(self, *messages: tuple[Message, int | None]) -> None:
        """Past the channel, so that all are there when the worker's loop looks."""
        for message, fd in messages:
            fds = [] if fd is None else [fd]
            socket.send_fds(self.ours, [msgspec.msgpack.encode(message)], fds)

    async def end(self) -> None:
        self.worker.drain(0)
        async with asyncio.timeout(DEADLINE):
            await self.serving
        self.channel.close()
        self._listener.close()
        for client in self.clients:
            client.writer.close()


@pytest.fixture
async def scene(root: Path) -> AsyncIterator[Scene]:
    (root / "file").write_bytes(b"x" * (16 << 20))
    scene = Scene(root)
    await scene.hears(Ready)
    yield scene
    await scene.end()


async def test_an_adopted_connection_is_greeted_and_served(scene: Scene) -> None:
    client = await scene.hand_over(1)
    await client.logs_in()
    assert (await client.says("SIZE file", 213)).split()[1] == str(16 << 20)
    await client.says("QUIT", 221)
    assert await client.is_closed()
    assert await scene.hears(Released) == Released((1,))


async def test_connections_are_confirmed_when_their_clients_have_been_greeted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a worker dies in between another one would not know that it has to greet a client."""
    balance: list[int] = [0]  # greeted and not confirmed yet, after each step
    send_message, send_reply = Channel.send, Stream.send

    def message(self: Channel[Any], message: Message, fd: int | None = None) -> None:
        if isinstance(message, Adopted):
            balance.append(balance[-1] - len(message.sessions))
        send_message(self, message, fd)

    def reply(self: Stream, data: bytes | memoryview) -> int:
        balance.append(balance[-1] + bytes(data).count(b"220 "))
        return send_reply(self, data)

    monkeypatch.setattr(Channel, "send", message)
    monkeypatch.setattr(Stream, "send", reply)
    clients = [await scene.hand_over(number, confirmed=False) for number in (1, 2, 3)]
    for client in clients:
        await client.hears(220)
    assert balance[-1] == 0
    assert max(balance) > 0
    assert min(balance) == 0


async def test_connections_that_come_together_are_confirmed_together(scene: Scene) -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    try:
        scene.send_together(
            *(
                (Adopt(number, "127.0.0.1", 1), theirs.fileno())
                for number, (_, theirs) in enumerate(pairs)
            )
        )
        assert await scene.hears(Adopted) == Adopted((0, 1, 2))
    finally:
        for each in pairs:
            for sock in each:
                sock.close()
    ended: set[int] = set()
    while ended != {0, 1, 2}:
        ended.update((await scene.hears(Released)).sessions)


async def test_a_hand_over_that_lost_its_socket_is_given_back(scene: Scene) -> None:
    scene.channel.send(Adopt(1, "127.0.0.1", 1))
    assert await scene.hears(Declined) == Declined((1,))
    client = await scene.hand_over(2)
    await client.hears(220)


async def test_a_log_that_came_without_its_descriptor_goes_on_in_the_old_file(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel leaves it out where the worker has none left."""
    scene.channel.send(WriteLog(is_transfers=False))
    client = await scene.hand_over(1)
    await client.hears(220)
    assert "a log goes on in its old file" in caplog.text


async def test_a_client_that_left_before_it_was_adopted_ends_its_session(scene: Scene) -> None:
    client = await scene.hand_over(1, confirmed=False)
    client.writer.transport.abort()
    assert await scene.hears(Adopted) == Adopted((1,))
    assert await scene.hears(Released) == Released((1,))


async def test_a_slot_that_the_supervisor_refuses_is_a_530_and_the_session_lives(
    scene: Scene,
) -> None:
    client = await scene.hand_over(1)
    await client.hears(220)
    for refused, code in ((Refusal.USER_FULL.value, 530), (None, 230)):
        await client.says("USER one", 331)
        client.writer.write(b"PASS any\r\n")
        assert await scene.hears(TakeSlot) == TakeSlot(1, "one", 1)
        scene.channel.send(SlotAnswer(1, refused))
        await client.hears(code)


async def test_a_session_that_ends_while_it_waits_for_a_slot_is_reported(scene: Scene) -> None:
    client = await scene.hand_over(1)
    await client.hears(220)
    await client.says("USER one", 331)
    client.writer.write(b"PASS any\r\n")
    await scene.hears(TakeSlot)
    # a FIN would only say that no more will come
    linger = struct.pack("ii", 1, 0)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.writer.transport.abort()
    assert await scene.hears(Released) == Released((1,))
    scene.channel.send(SlotAnswer(1, None))
    await (await scene.hand_over(2)).hears(220)


async def test_a_user_of_a_limited_group_asks_for_leases_until_the_limit_is_lifted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = SpeedLimits(groups={"staff": Rates(download=1000)}, group_of={"reader": "staff"})
    monkeypatch.setattr(module, "speed_limits", lambda _: limits)
    (root / "file").write_bytes(b"x" * 100_000)
    scene = Scene(root)
    await scene.hears(Ready)
    client = await scene.hand_over(1)
    await client.logs_in()
    reader, writer = await client.passive()
    await client.says("RETR file", 150)
    assert await scene.hears(UserLimits) == UserLimits("reader", ToldRates())
    (report,) = (await scene.hears(Reports)).reports
    assert (report.login, report.direction, report.demand.waiting) == ("reader", DOWNLOAD, 1)
    scene.channel.send(SetGroupLimits("staff", Rates()))
    async with asyncio.timeout(DEADLINE):
        assert len(await reader.read()) == 100_000
    await client.hears(226)
    writer.close()
    await scene.end()


async def test_draining_says_421_to_the_idle_and_lets_a_transfer_end(scene: Scene) -> None:
    idle, busy = await scene.hand_over(1), await scene.hand_over(2)
    await idle.hears(220)
    await busy.logs_in()
    reader, writer = await busy.passive()
    await busy.says("RETR file", 150)
    scene.channel.send(Drain(3600.0))
    await idle.hears(421)
    assert await idle.is_closed()
    assert await scene.hears(Released) == Released((1,))
    assert not scene.serving.done()
    async with asyncio.timeout(DEADLINE):
        content = await reader.read()
    assert len(content) == 16 << 20
    await busy.hears(226)
    await busy.hears(421)
    assert await scene.hears(Released) == Released((2,))
    await asyncio.wait_for(scene.serving, DEADLINE)
    writer.close()


async def test_draining_ends_a_transfer_that_overruns_the_grace(scene: Scene) -> None:
    client = await scene.hand_over(1)
    await client.logs_in()
    _, writer = await client.passive()
    await client.says("RETR file", 150)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    scene.channel.send(Drain(0.01))
    await asyncio.wait_for(scene.serving, DEADLINE)
    await client.hears(421)
    assert await client.is_closed()
    writer.transport.abort()


async def test_a_connection_that_comes_while_the_worker_drains_is_told_421(scene: Scene) -> None:
    busy = await scene.hand_over(1)
    await busy.logs_in()
    _, writer = await busy.passive()
    await busy.says("RETR file", 150)
    scene.channel.send(Drain(3600.0))
    late = await scene.hand_over(2)
    await late.hears(220)
    await late.hears(421)
    assert await late.is_closed()
    writer.transport.abort()


async def test_a_worker_whose_last_connection_never_becomes_a_session_drains_at_once(
    scene: Scene,
) -> None:
    """It comes together with the order to drain, and its proxy has said nothing yet."""
    client, theirs = socket.socketpair()
    with client, theirs:
        proxied = Adopt(1, "127.0.0.1", 1, is_proxied=True)
        scene.send_together((proxied, theirs.fileno()), (Drain(3600.0), None))
        await asyncio.wait_for(scene.serving, DEADLINE)
        assert await scene.hears(Adopted) == Adopted((1,))
        assert await scene.hears(Released) == Released((1,))


async def test_sessions_go_on_while_a_drain_is_patient_with_them(scene: Scene) -> None:
    client = await scene.hand_over(1)
    await client.logs_in()
    scene.channel.send(Drain(3600.0, patience=3600.0))
    for _ in range(2):
        reader, writer = await client.passive()
        await client.says("RETR file", 150)
        async with asyncio.timeout(DEADLINE):
            assert len(await reader.read()) == 16 << 20
        await client.hears(226)
        writer.close()
    await client.says("QUIT", 221)
    await asyncio.wait_for(scene.serving, DEADLINE)


async def test_a_patient_drain_ends_with_421_for_the_idle(scene: Scene) -> None:
    client = await scene.hand_over(1)
    await client.logs_in()
    scene.channel.send(Drain(3600.0, patience=0.01))
    await client.hears(421)
    await asyncio.wait_for(scene.serving, DEADLINE)


async def test_a_patient_drain_becomes_an_impatient_one_on_order(scene: Scene) -> None:
    client = await scene.hand_over(1)
    await client.logs_in()
    scene.channel.send(Drain(3600.0, patience=3600.0))
    await client.says("NOOP", 200)
    scene.channel.send(Drain(3600.0))
    await client.hears(421)
    await asyncio.wait_for(scene.serving, DEADLINE)


async def test_a_session_that_is_ended_together_with_its_hand_over_ends(scene: Scene) -> None:
    client, theirs = socket.socketpair()
    with client, theirs:
        client.settimeout(DEADLINE)
        adopt = Adopt(1, "127.0.0.1", 1), theirs.fileno()
        scene.send_together(adopt, (EndSession(1, "Banned."), None))
        assert await scene.hears(Adopted) == Adopted((1,))
        assert await scene.hears(Released) == Released((1,))
        theirs.close()
        said = client.makefile("rb").read()
        assert said.endswith(b"\r\n421 Banned.\r\n")


async def test_a_connection_that_is_ended_before_its_proxy_says_who_comes_never_begins(
    scene: Scene,
) -> None:
    client, theirs = socket.socketpair()
    with client, theirs:
        adopt = Adopt(1, "127.0.0.1", 1, is_proxied=True), theirs.fileno()
        scene.send_together(adopt, (EndSession(1, "Banned."), None))
        assert await scene.hears(Adopted) == Adopted((1,))
        assert await scene.hears(Released) == Released((1,))
        theirs.close()
        client.settimeout(DEADLINE)
        assert client.recv(100) == b""


@pytest.mark.parametrize("turns", range(4))
async def test_a_connection_that_is_ended_just_when_it_is_known_who_comes_ends(
    scene: Scene, turns: int
) -> None:
    """However far it has come when the order is read: ``turns`` of the loop after the answer."""
    client, theirs = socket.socketpair()
    with client, theirs:
        client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 4000 21\r\n")
        scene.send_together((Adopt(1, "127.0.0.1", 1, is_proxied=True), theirs.fileno()))
        assert await scene.hears(Adopted) == Adopted((1,))
        assert await scene.hears(Identified) == Identified(1, "192.0.2.7")
        scene.worker._on_message(SlotAnswer(1, None), None)
        for _ in range(turns):
            await asyncio.sleep(0)
        scene.worker._on_message(EndSession(1, "Banned."), None)
        assert await scene.hears(Released) == Released((1,))
        theirs.close()
        client.settimeout(DEADLINE)
        said = client.makefile("rb").read()
        assert not said or said.endswith(b"421 Banned.\r\n")


async def test_the_loop_s_heart_beats(scene: Scene) -> None:
    async with asyncio.timeout(DEADLINE):
        while scene.heartbeats < 3:
            await asyncio.sleep(0.01)


async def test_the_heart_beats_where_the_memory_cannot_be_read(scene: Scene) -> None:
    """Else the supervisor would take the worker for hung, and end it with all its sessions."""
    async with asyncio.timeout(DEADLINE):
        while not scene.heartbeats:
            await asyncio.sleep(0.01)
        unreadable = os.open(os.devnull, os.O_WRONLY)
        os.dup2(unreadable, scene.worker._memory)
        os.close(unreadable)
        beats = scene.heartbeats
        while scene.heartbeats < beats + 2:
            await asyncio.sleep(0.01)


async def test_a_worker_without_sessions_drains_at_once(scene: Scene) -> None:
    scene.channel.send(Drain(3600.0))
    await asyncio.wait_for(scene.serving, DEADLINE)


async def test_a_worker_ends_with_its_supervisor(scene: Scene) -> None:
    client = await scene.hand_over(1)
    await client.hears(220)
    scene.channel.close()
    await client.hears(421)
    assert await client.is_closed()
    await asyncio.wait_for(scene.serving, DEADLINE)


async def test_a_worker_ends_when_what_it_hears_is_no_message(scene: Scene) -> None:
    client = await scene.hand_over(1)
    await client.hears(220)
    scene.ours.send(b"\xc1")
    await client.hears(421)
    await asyncio.wait_for(scene.serving, DEADLINE)


async def test_sessions_leave_no_descriptor_and_no_task_behind(scene: Scene) -> None:
    async def one_session(number: int) -> None:
        client = await scene.hand_over(number)
        await client.logs_in()
        reader, writer = await client.passive()
        await client.says("NLST", 150)
        assert await reader.read() == b"file\r\n"
        await client.hears(226)
        writer.close()
        await client.says("QUIT", 221)
        assert await client.is_closed()
        client.writer.close()
        await client.writer.wait_closed()
        await scene.hears(Released)

    for number in range(40):  # fills the pool of data ports
        await one_session(number)
    descriptors, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
    for number in range(100, 120):
        await one_session(number)
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert len(asyncio.all_tasks()) == tasks
