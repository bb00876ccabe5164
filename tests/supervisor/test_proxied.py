"""The supervisor and connections from proxies, against fake workers: who counts, and when."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest

from ftpcluster.ipc.messages import (
    Adopt,
    Adopted,
    Identified,
    Ready,
    Released,
    SlotAnswer,
    TakeSlot,
)
from ftpcluster.net.listeners import Listener
from ftpcluster.protocol.address import Networks
from ftpcluster.quota.ledger import ConnectionLimits, Refusal
from tests.support.fake_workers import (
    DEADLINE,
    Client,
    FakeWorker,
    Supervised,
    supervised,
    until,
)

PROXY = "127.0.0.1"
ALICE, BOB = "192.0.2.1", "192.0.2.2"
FULL = Refusal.ADDRESS_FULL.value


@contextlib.asynccontextmanager
async def proxied(
    workers: int, limits: ConnectionLimits | None = None, *proxies: str
) -> AsyncIterator[Supervised]:
    """A supervisor that takes connections from the networks ``proxies`` only. All is killed."""
    networks = Networks(proxies or (PROXY,))
    async with supervised(workers, limits=limits, proxies=networks) as scene:
        yield scene
    assert not scene.supervisor.ledger._addresses
    await scene.run


async def adopted(scene: Supervised, worker: FakeWorker) -> int:
    """One more connection, which this worker has taken over."""
    await scene.connect()
    return await worker.adopt()


async def connect_from(scene: Supervised, source: str) -> Client:
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.port, local_addr=(source, 0))
    client = Client(reader, writer)
    scene.clients.append(client)
    return client


async def identify(worker: FakeWorker, session: int, address: str) -> str | None:
    """What the supervisor answers a worker that knows now who the client is."""
    worker.say(Identified(session, address))
    answer = await worker.hear(SlotAnswer)
    assert answer.session == session
    return answer.refused


async def says_nothing(worker: FakeWorker, session: int) -> None:
    """What was said before was not answered: the next answer is that to a question of now."""
    worker.say(TakeSlot(session, "alice", 0))
    assert await worker.hear(SlotAnswer) == SlotAnswer(session, Refusal.USER_FULL.value)


async def test_the_worker_is_told_that_the_connection_is_a_proxy_s() -> None:
    async with proxied(1) as scene:
        (worker,) = await scene.ready(1)
        client = await scene.connect()
        message = await worker.hear(Adopt)
        assert message.is_proxied
        assert (message.peer, message.peer_port) == client.writer.get_extra_info("sockname")


async def test_not_a_byte_is_read_by_the_supervisor() -> None:
    async with proxied(1) as scene:
        (worker,) = await scene.ready(1)
        client = await scene.connect()
        client.writer.write(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 21\r\nUSER alice\r\n")
        session = await worker.adopt()
        held = worker.held[session]
        async with asyncio.timeout(DEADLINE):
            received = b""
            while not received.endswith(b"alice\r\n"):
                await until(lambda: can_read(held))
                received += os.read(held, 4096)
        assert received == b"PROXY TCP4 192.0.2.1 192.0.2.9 1 21\r\nUSER alice\r\n"


def can_read(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as sock:
        sock.setblocking(False)
        try:
            return bool(sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False


async def test_whoever_is_no_proxy_is_hung_up_on_and_counts_nowhere() -> None:
    async with proxied(1, ConnectionLimits(server=1)) as scene:
        (worker,) = await scene.ready(1)
        for _ in range(5):
            other = await connect_from(scene, "127.0.0.2")
            assert await other.hears() == b""
        assert scene.supervisor.ledger.connections == 0
        await scene.connect()
        await worker.adopt()
        assert worker.unheard == 0


async def test_proxies_may_be_networks() -> None:
    async with proxied(1, None, "::1", "127.0.8.0/21") as scene:
        (worker,) = await scene.ready(1)
        for address, is_proxy in (
            ("127.0.8.1", True), ("127.0.15.254", True), ("127.0.16.1", False), (PROXY, False),
        ):  # fmt: skip
            client = await connect_from(scene, address)
            if is_proxy:
                assert (await worker.hear(Adopt)).peer == address
            else:
                assert await client.hears() == b""
        assert worker.unheard == 0


async def test_only_the_server_s_slot_is_taken_until_the_client_is_known() -> None:
    async with proxied(1, ConnectionLimits(server=3, per_address=1)) as scene:
        (worker,) = await scene.ready(1)
        for _ in range(3):
            await scene.connect()
            await worker.adopt()
        assert scene.supervisor.ledger.of_address(PROXY) == 0
        assert await (await scene.connect()).is_turned_away()


async def test_each_address_takes_exactly_as_many_as_it_may_over_two_workers() -> None:
    async with proxied(2, ConnectionLimits(per_address=2)) as scene:
        workers = await scene.ready(2)
        for _ in range(8):
            await scene.connect()
        held = [(worker, await worker.adopt()) for _ in range(4) for worker in workers]
        answers = [await identify(*each, ALICE) for each in held[:4]]
        assert answers == [None, None, FULL, FULL]
        assert [await identify(*each, BOB) for each in held[4:]] == [None, None, FULL, FULL]
        assert scene.supervisor.ledger.of_address(ALICE) == 2


async def test_the_proxy_s_own_address_is_one_like_others() -> None:
    async with proxied(1, ConnectionLimits(per_address=1)) as scene:
        (worker,) = await scene.ready(1)
        sessions = [await adopted(scene, worker) for _ in range(2)]
        assert [await identify(worker, session, PROXY) for session in sessions] == [None, FULL]


async def test_whoever_was_refused_gives_the_server_s_slot_back_at_its_end() -> None:
    async with proxied(1, ConnectionLimits(server=2, per_address=1)) as scene:
        (worker,) = await scene.ready(1)
        sessions = [await adopted(scene, worker) for _ in range(2)]
        assert [await identify(worker, session, ALICE) for session in sessions] == [None, FULL]
        worker.say(Released((sessions[1],)))
        await worker.round_trip(sessions[0])
        ledger = scene.supervisor.ledger
        assert (ledger.connections, ledger.of_address(ALICE)) == (1, 1)
        await scene.connect()
        assert await identify(worker, await worker.adopt(), BOB) is None


async def test_an_address_s_slot_comes_back_with_its_session() -> None:
    async with proxied(1, ConnectionLimits(per_address=1)) as scene:
        (worker,) = await scene.ready(1)
        sessions = [await adopted(scene, worker) for _ in range(2)]
        assert await identify(worker, sessions[0], ALICE) is None
        worker.say(Released((sessions[0],)))
        assert await identify(worker, sessions[1], ALICE) is None


@pytest.mark.parametrize("whose", ["nobody's", "one that has ended", "another worker's"])
async def test_of_a_session_that_the_worker_does_not_hold_nothing_is_said(whose: str) -> None:
    async with proxied(2) as scene:
        one, other = await scene.ready(2)
        for _ in range(3):
            await scene.connect()
        mine, foreign, ended = await one.adopt(), await other.adopt(), await one.adopt()
        one.say(Released((ended,)))
        session = {"nobody's": 999, "one that has ended": ended}.get(whose, foreign)
        one.say(Identified(session, ALICE))
        await says_nothing(one, mine)
        assert other.unheard == 0
        assert scene.supervisor.ledger.of_address(ALICE) == 0
        assert not one.killed


async def test_whoever_is_identified_twice_is_counted_once_and_answered_once() -> None:
    async with proxied(1, ConnectionLimits(per_address=2)) as scene:
        (worker,) = await scene.ready(1)
        await scene.connect()
        session = await worker.adopt()
        for address in (ALICE, ALICE, BOB):
            worker.say(Identified(session, address))
        assert await worker.hear(SlotAnswer) == SlotAnswer(session, None)
        worker.say(Identified(session, BOB))
        await says_nothing(worker, session)
        ledger = scene.supervisor.ledger
        assert (ledger.of_address(ALICE), ledger.of_address(BOB)) == (1, 0)
        worker.say(Released((session,)))
        await until(lambda: not ledger.connections)
        assert ledger.of_address(ALICE) == 0


async def test_a_session_that_came_without_a_proxy_cannot_take_another_address() -> None:
    async with proxied(1) as scene:
        scene.supervisor._listeners = {  # as if there were no proxy in front
            sock: Listener(sock) for sock in scene.supervisor._listeners
        }
        (worker,) = await scene.ready(1)
        await scene.connect()
        message = await worker.hear(Adopt)
        worker.say(Adopted((message.session,)))
        assert not message.is_proxied
        worker.say(Identified(message.session, ALICE))
        await says_nothing(worker, message.session)
        ledger = scene.supervisor.ledger
        assert (ledger.of_address(PROXY), ledger.of_address(ALICE)) == (1, 0)


async def test_a_worker_that_dies_gives_the_address_s_slot_back() -> None:
    async with proxied(2, ConnectionLimits(per_address=1)) as scene:
        one, other = await scene.ready(2)
        clients = [await scene.connect() for _ in range(2)]
        first, second = await one.adopt(), await other.adopt()
        assert await identify(one, first, ALICE) is None
        assert await identify(other, second, ALICE) == FULL
        one.die()
        assert await clients[0].hears() == b""
        await until(lambda: not scene.supervisor.ledger.of_address(ALICE))
        assert await identify(other, second, ALICE) is None


async def test_a_connection_that_moves_to_another_worker_is_identified_there() -> None:
    async with proxied(2, ConnectionLimits(per_address=1)) as scene:
        one, other = await scene.ready(2)
        await scene.connect()
        session = (await one.hear(Adopt)).session  # and not confirmed
        one.die()
        message = await other.hear(Adopt)
        assert (message.session, message.is_proxied) == (session, True)
        other.say(Adopted((session,)))
        assert await identify(other, session, ALICE) is None
        assert scene.supervisor.ledger.of_address(ALICE) == 1
        replacement = await scene.worker(2)
        replacement.say(Ready())
