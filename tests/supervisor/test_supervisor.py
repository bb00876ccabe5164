"""The supervisor against fake workers: whom it gives connections to, and what it counts."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import logging
import os
import random
import socket

import msgspec
import pytest

from ftpcluster.ipc import channel
from ftpcluster.ipc.channel import MAX_MESSAGE
from ftpcluster.ipc.messages import (
    Adopt,
    Adopted,
    Declined,
    Drain,
    GiveSlot,
    Ready,
    Released,
    SlotAnswer,
    TakeSlot,
    ToSupervisor,
)
from ftpcluster.net.listeners import Listener, listen
from ftpcluster.quota.ledger import Refusal
from ftpcluster.supervisor import worker_lives as module
from ftpcluster.supervisor.supervisor import Supervisor
from ftpcluster.supervisor.worker_handle import Plan
from ftpcluster.supervisor.worker_lives import BootFailure
from tests.support.fake_workers import FakeWorker, supervised, until

UNCONFIRMED = 64

# ---------------------------------------------------------------------- start


async def test_the_cluster_serves_when_the_last_worker_does() -> None:
    async with supervised(3) as scene:
        workers = [await scene.worker(number) for number in range(3)]
        assert [worker.index for worker in workers] == [0, 1, 2]
        assert len({worker.epoch for worker in workers}) == 3
        for _ in range(3):  # said again and again, it counts once
            workers[2].say(Ready())
        await scene.connect()
        session = await workers[2].adopt()
        await workers[2].round_trip(session)
        assert not scene.supervisor.serving.done()
        workers[0].say(Ready())
        workers[1].say(Ready())
        async with asyncio.timeout(20):
            await scene.supervisor.serving


async def test_a_worker_that_dies_before_it_ever_served_ends_the_boot() -> None:
    async with supervised(2) as scene:
        first, second = await scene.worker(0), await scene.worker(1)
        first.say(Ready())
        second.die()
        with pytest.raises(BootFailure, match="worker 2 "):
            await asyncio.wait_for(asyncio.shield(scene.run), 20)
        assert isinstance(scene.supervisor.serving.exception(), BootFailure)
        assert first.killed


async def test_a_restarted_worker_that_dies_before_it_serves_is_no_boot_failure() -> None:
    async with supervised(1) as scene:
        (first,) = await scene.ready(1)
        first.die()
        (await scene.worker(1)).die()
        third = await scene.worker(2)
        third.say(Ready())
        await scene.connect()
        await third.adopt()
        assert not scene.run.done()


async def test_a_worker_that_cannot_be_started_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    workers: list[FakeWorker] = []
    failures = [OSError("no memory"), OSError("no memory")]

    def start(index: int, epoch: int, sock: socket.socket) -> FakeWorker:
        if failures:
            raise failures.pop()
        workers.append(FakeWorker(index, epoch, sock))
        return workers[-1]

    listener = Listener(listen("127.0.0.1", 0))
    supervisor = Supervisor(Plan(listeners=[listener], workers=1, start_process=start))
    run = asyncio.create_task(supervisor.run())
    try:
        await until(lambda: workers)
        workers[0].say(Ready())
        await asyncio.wait_for(asyncio.shield(supervisor.serving), 20)
        assert caplog.text.count("worker 1 cannot be started: no memory") == 2
    finally:
        supervisor.kill()
        await run
        workers[0].die()


async def test_a_worker_for_whose_channel_no_descriptor_is_left_is_started_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        failures = [OSError(errno.EMFILE, "Too many open files")]

        def pair() -> tuple[socket.socket, socket.socket]:
            if failures:
                raise failures.pop()
            return channel.pair()

        monkeypatch.setattr(module, "pair", pair)
        worker.die()
        second = await scene.worker(1)
        second.say(Ready())
        await scene.connect()
        await second.adopt()
        assert "worker 1 cannot be started: Too many open files" in caplog.text


async def test_a_worker_that_cannot_be_started_ends_a_reload_at_once() -> None:
    async with supervised(1) as scene:
        await scene.ready(1)

        def start(index: int, epoch: int, sock: socket.socket) -> FakeWorker:
            raise OSError(errno.EMFILE, "Too many open files")

        with pytest.raises(BootFailure, match="worker 1 cannot be started: Too many open files"):
            await scene.supervisor.reload(dataclasses.replace(scene.plan, start_process=start))
        await scene.connect()
        await scene.workers[0].adopt()


# ---------------------------------------------------------------------- connections


async def test_connections_go_to_the_worker_with_the_fewest_sessions() -> None:
    async with supervised(3) as scene:
        workers = await scene.ready(3)
        for _ in range(9):
            await scene.connect()
        held = [[await worker.adopt() for _ in range(3)] for worker in workers]
        workers[1].say(Released((held[1][0], held[1][2])))
        await workers[1].round_trip(held[1][1])
        for _ in range(2):
            await scene.connect()
        assert {await workers[1].adopt(), await workers[1].adopt()} == {10, 11}
        assert [worker.unheard for worker in workers] == [0, 0, 0]


async def test_workers_that_hold_as_much_take_turns() -> None:
    async with supervised(3) as scene:
        workers = await scene.ready(3)
        order = []
        for _ in range(9):
            client = await scene.connect()
            await until(lambda: any(worker.unheard for worker in workers))
            (chosen,) = (worker for worker in workers if worker.unheard)
            session = await chosen.adopt()
            order.append(chosen.index)
            chosen.say(Released((session,)))
            await until(lambda: not scene.supervisor.ledger.connections)
            client.writer.close()
        assert order == order[:3] * 3
        assert sorted(order[:3]) == [0, 1, 2]


async def test_the_message_names_the_peer_and_brings_its_socket() -> None:
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        client = await scene.connect()
        message = await worker.hear(Adopt)
        where = client.writer.get_extra_info("sockname")
        assert (message.peer, message.peer_port) == where
        worker.say(Adopted((message.session,)))
        os.write(worker.held[message.session], b"220 hello\r\n")
        assert await client.hears() == b"220 hello\r\n"


async def test_the_supervisor_keeps_no_descriptor_of_a_confirmed_connection() -> None:
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        client = await scene.connect()
        session = await worker.adopt()
        os.close(worker.held.pop(session))
        assert await client.hears() == b""  # the client would never see this end


async def test_a_worker_that_does_not_confirm_gets_no_more_than_64() -> None:
    async with supervised(2) as scene:
        silent, other = await scene.ready(2)
        for _ in range(150):
            await scene.connect()
        for _ in range(150 - UNCONFIRMED):
            await other.adopt()
        assert (silent.unheard, other.unheard) == (UNCONFIRMED, 0)


async def test_a_connection_waits_for_a_worker_that_has_to_confirm_first() -> None:
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        for _ in range(UNCONFIRMED + 2):
            await scene.connect()
        sessions = [await worker.adopt(confirm=False) for _ in range(UNCONFIRMED)]
        await worker.round_trip(sessions[0])
        assert worker.unheard == 0
        worker.say(Adopted(tuple(sessions[:1])))
        await worker.adopt(confirm=False)
        await worker.round_trip(sessions[0])
        assert worker.unheard == 0
        worker.say(Adopted(tuple(sessions[1:2])))
        await worker.adopt()


async def test_a_worker_that_lost_all_its_hand_overs_gets_connections_again() -> None:
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        clients = [await scene.connect() for _ in range(UNCONFIRMED)]
        sessions = [await worker.adopt(confirm=False) for _ in clients]
        while worker.held:
            os.close(worker.held.popitem()[1])
        worker.say(Released(tuple(sessions)))
        for client in clients:
            assert await client.hears() == b""
        await scene.connect()
        await worker.adopt()


# ---------------------------------------------------------------------- deaths


async def test_an_unconfirmed_connection_goes_to_another_worker_when_its_own_dies() -> None:
    async with supervised(2) as scene:
        first, second = await scene.ready(2)
        client = await scene.connect()
        session = await first.adopt(confirm=False)
        first.die()
        assert await second.adopt() == session
        os.write(second.held[session], b"220 hello\r\n")
        assert await client.hears() == b"220 hello\r\n"
        assert scene.supervisor.ledger.connections == 1
        assert scene.supervisor.ledger.held_by(second.epoch) == 1


async def test_a_client_that_was_greeted_ends_with_its_worker_confirmed_or_not() -> None:
    """Another worker would greet it again."""
    async with supervised(2) as scene:
        first, second = await scene.ready(2)
        greeted = await scene.connect()
        os.write(first.held[await first.adopt(confirm=False)], b"220 hello\r\n")
        assert await greeted.hears() == b"220 hello\r\n"
        await scene.connect()
        await second.adopt()
        waiting = await scene.connect()
        session = await first.adopt(confirm=False)
        first.die()
        assert await second.adopt() == session
        assert await greeted.hears() == b""
        os.write(second.held[session], b"220 hi\r\n")
        assert await waiting.hears() == b"220 hi\r\n"
        assert scene.supervisor.ledger.connections == 2


async def test_a_connection_waits_for_the_next_worker_when_none_is_left() -> None:
    async with supervised(1) as scene:
        (first,) = await scene.ready(1)
        handed_over = await scene.connect()
        session = await first.adopt(confirm=False)
        first.die()
        later = await scene.connect()
        second = await scene.worker(1)
        second.say(Ready())
        assert await second.adopt() == session
        following = await second.adopt()
        os.write(second.held[session], b"220 one\r\n")
        os.write(second.held[following], b"220 two\r\n")
        assert await handed_over.hears() == b"220 one\r\n"
        assert await later.hears() == b"220 two\r\n"


async def test_a_connection_that_waits_for_a_worker_counts_all_the_while() -> None:
    async with supervised(1, server=1) as scene:
        (first,) = await scene.ready(1)
        await scene.connect()
        await first.adopt(confirm=False)
        first.die()
        second = await scene.worker(1)
        assert scene.supervisor.ledger.connections == 1
        beyond = await scene.connect()
        second.say(Ready())
        await second.adopt()
        assert await beyond.is_turned_away()


async def test_a_dead_worker_s_slots_come_back_and_a_new_one_starts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with supervised(2, server=4) as scene:
        first, second = await scene.ready(2)
        clients = [await scene.connect() for _ in range(4)]
        for worker in (first, first, second, second):
            await worker.adopt()
        first.die()
        for client in clients[0::2]:
            assert await client.hears() == b""
        assert scene.supervisor.ledger.connections == 2
        third = await scene.worker(2)
        assert (third.index, third.epoch > second.epoch) == (first.index, True)
        third.say(Ready())
        for _ in range(2):
            await scene.connect()
            await third.adopt()
        assert await (await scene.connect()).is_turned_away()
        assert f"worker 1 (pid {first.pid}) died; 2 sessions ended with it" in caplog.text


# ---------------------------------------------------------------------- slots


async def test_a_released_session_s_slot_is_free_once() -> None:
    async with supervised(1, server=2) as scene:
        (worker,) = await scene.ready(1)
        for _ in range(2):
            await scene.connect()
        one, other = await worker.adopt(), await worker.adopt()
        assert await (await scene.connect()).is_turned_away()
        worker.say(Released((one, one)))
        worker.say(Released((one, 999)))
        await worker.round_trip(other)
        assert scene.supervisor.ledger.connections == 1
        await scene.connect()
        await worker.adopt()
        assert await (await scene.connect()).is_turned_away()


async def test_a_user_s_slots_are_exact_over_two_workers() -> None:
    async with supervised(2) as scene:
        one, other = await scene.ready(2)
        for _ in range(6):
            await scene.connect()
        held = [(worker, await worker.adopt()) for _ in range(3) for worker in (one, other)]

        async def takes_a_slot(worker: FakeWorker, session: int) -> bool:
            worker.say(TakeSlot(session, "alice", 3))
            answer = await worker.hear(SlotAnswer)
            assert answer.session == session
            assert answer.refused in (None, Refusal.USER_FULL.value)
            return answer.refused is None

        taken = [await takes_a_slot(*each) for each in held]
        assert taken == [True, True, True, False, False, False]
        one.say(GiveSlot(held[0][1]))
        one.say(GiveSlot(held[0][1]))  # twice gives it back once
        await one.round_trip(held[2][1])  # which takes a slot of somebody else's, not alice's
        one.say(GiveSlot(held[2][1]))
        await one.round_trip(held[4][1])
        # alice: only held[1] is left
        assert await takes_a_slot(*held[3])
        assert await takes_a_slot(*held[5])
        assert not await takes_a_slot(*held[0])
        other.die()  # held[1], held[3], held[5]
        await until(lambda: not scene.supervisor.ledger.of_user("alice"))
        assert [await takes_a_slot(*each) for each in held[0::2]] == [True, True, True]


async def test_a_slot_is_refused_without_harm_to_one_who_has_ended() -> None:
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        for _ in range(2):
            await scene.connect()
        one, other = await worker.adopt(), await worker.adopt()
        worker.say(Released((one,)))
        worker.say(TakeSlot(one, "alice", 1))
        worker.say(TakeSlot(other, "alice", 1))
        assert (await worker.hear(SlotAnswer)) == SlotAnswer(other, None)


# ---------------------------------------------------------------------- distrust


@pytest.mark.parametrize(
    "junk",
    [
        b"\xc1",
        b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x92\x02",  # cut: Adopted without its sessions
        b"\x92\x02\xc3",  # of the wrong type
        b"\x92\x02\x91\xcf\xff",  # cut within a number
        b"\x92\x63\x90",  # a tag that nobody has
        b"\x92\x03\x90\x90",  # more behind the message
        b"\x93\x03\x90\x90",  # a field too many
        b"\x92\x03\x91\xcf" + b"\xff" * 8 + b"x" * MAX_MESSAGE,  # larger than a message may be
        b"",
    ],
    ids=repr,
)
async def test_a_message_that_does_not_fit_ends_that_worker_alone(junk: bytes) -> None:
    async with supervised(2) as scene:
        bad, good = await scene.ready(2)
        clients = [await scene.connect() for _ in range(2)]
        await bad.adopt()
        session = await good.adopt()
        bad.say_bytes(junk)
        assert await clients[0].hears() == b""
        assert bad.killed
        await good.round_trip(session)
        assert scene.supervisor.ledger.connections == 1
        replacement = await scene.worker(2)
        assert replacement.index == bad.index
        replacement.say(Ready())
        await scene.connect()
        await replacement.adopt()
        assert not good.killed


@pytest.mark.parametrize("length", [1, 2, 3, 7, 40, 4000])
async def test_random_bytes_end_that_worker_alone(length: int) -> None:
    async with supervised(2) as scene:
        bad, good = await scene.ready(2)
        clients = [await scene.connect() for _ in range(2)]
        await bad.adopt()
        session = await good.adopt()
        bad.say_bytes(no_message(length))
        assert await clients[0].hears() == b""
        await good.round_trip(session)
        assert (bad.killed, good.killed) == (True, False)


def no_message(length: int) -> bytes:
    chance = random.Random(length)
    while True:
        data = chance.randbytes(length)
        try:
            msgspec.msgpack.decode(data, type=ToSupervisor)
        except msgspec.MsgspecError:
            return data


async def test_messages_about_another_worker_s_sessions_change_nothing() -> None:
    async with supervised(2) as scene:
        owner, liar = await scene.ready(2)
        clients = [await scene.connect() for _ in range(3)]
        (mine, unconfirmed), its_own = (
            (await owner.adopt(), await owner.adopt(confirm=False)),
            await liar.adopt(),
        )
        owner.say(TakeSlot(mine, "alice", 1))
        assert (await owner.hear(SlotAnswer)).refused is None
        for session in (mine, unconfirmed):
            liar.say(Released((session,)))
            liar.say(GiveSlot(session))
            liar.say(Adopted((session,)))
            liar.say(TakeSlot(session, "bob", None))
        await liar.round_trip(its_own)
        assert liar.unheard == 0
        ledger = scene.supervisor.ledger
        assert (ledger.held_by(owner.epoch), ledger.held_by(liar.epoch)) == (2, 1)
        assert (ledger.of_user("alice"), ledger.of_user("bob")) == (1, 0)
        assert not liar.killed
        owner.die()  # the one that was not confirmed is still to be had
        assert await liar.adopt() == unconfirmed
        os.write(liar.held[unconfirmed], b"220 hello\r\n")
        assert b"220 hello\r\n" in [await client.hears() for client in (clients[0], clients[2])]


# ---------------------------------------------------------------------- end


async def test_stopping_drains_every_worker_and_ends_with_the_last() -> None:
    async with supervised(2, grace=7.5) as scene:
        workers = await scene.ready(2)
        scene.supervisor.stop()
        for worker in workers:
            assert (await worker.hear(Drain)).grace == 7.5
        with pytest.raises(ConnectionRefusedError):
            await scene.connect()
        workers[0].die()
        await until(lambda: len(scene.supervisor.workers) == 1)
        assert not scene.run.done()
        workers[1].die()
        await asyncio.wait_for(scene.run, 20)
        assert not any(worker.killed for worker in workers)
        assert len(scene.workers) == 2


async def test_a_worker_that_overruns_the_grace_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KILL_AFTER", 0.05)
    async with supervised(2, grace=0.05) as scene:
        workers = await scene.ready(2)
        scene.supervisor.stop()
        await asyncio.wait_for(scene.run, 20)
        assert all(worker.killed for worker in workers)


async def test_stopping_twice_takes_the_grace_back_and_kills_who_does_not_end() -> None:
    async with supervised(2, grace=3600.0) as scene:
        workers = await scene.ready(2)
        for grace in (3600, 0):
            scene.supervisor.stop()
            for worker in workers:
                assert (await worker.hear(Drain)).grace == grace
        workers[0].die()
        assert not workers[1].killed
        await asyncio.wait_for(scene.run, 20)
        assert [worker.killed for worker in workers] == [False, True]


async def test_stopping_tells_who_is_waited_for_and_how_to_wait_no_longer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with supervised(1, grace=120.0) as scene:
        (worker,) = await scene.ready(1)
        for _ in range(3):
            await scene.connect()
        sessions = [await worker.adopt() for _ in range(3)]
        scene.supervisor.stop()
        worker.say(Released((sessions[0],)))
        await until(lambda: "waiting for" in caplog.text)
        assert "waiting for 2 sessions, for 120 s at most; a second Ctrl-C" in caplog.text


async def test_stopping_while_workers_start_is_no_boot_failure() -> None:
    async with supervised(2) as scene:
        first, second = await scene.worker(0), await scene.worker(1)
        first.say(Ready())
        scene.supervisor.stop()
        for worker in (first, second):
            await worker.hear(Drain)
            worker.die()
        await asyncio.wait_for(scene.run, 20)
        assert not scene.supervisor.serving.done()


async def test_stopping_tells_421_to_connections_that_no_worker_has() -> None:
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        pending = await scene.connect()
        await worker.adopt(confirm=False)
        worker.die()
        await until(lambda: not scene.supervisor.workers)
        scene.supervisor.stop()
        assert await pending.is_turned_away()
        await asyncio.wait_for(scene.run, 20)
        assert len(scene.workers) == 1  # none is started again


async def test_a_worker_that_dies_while_the_server_stops_is_not_replaced() -> None:
    async with supervised(2) as scene:
        first, second = await scene.ready(2)
        client = await scene.connect()
        await first.adopt(confirm=False)
        scene.supervisor.stop()
        first.die()
        assert await client.is_turned_away()
        await second.hear(Drain)
        second.die()
        await asyncio.wait_for(scene.run, 20)
        assert len(scene.workers) == 2


@pytest.mark.parametrize("answer", [Adopted, Released, Declined])
async def test_a_worker_that_answers_for_a_connection_before_it_is_sent_is_replaced(
    answer: type[Adopted | Released | Declined],
) -> None:
    """That descriptor is not to be closed: its number would soon be another connection's."""
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        (handle,) = scene.supervisor.workers
        worker.stop_reading()
        while not handle.channel.backlog:
            handle.channel.send(SlotAnswer(0, "x" * 1000))
        await scene.connect()
        await until(lambda: handle.unconfirmed)
        (session,) = handle.unconfirmed
        worker.say(answer((session,)))
        await until(lambda: worker.killed)
        next_one = await scene.worker(1)
        next_one.say(Ready())
        assert await next_one.adopt() == session


async def test_a_bad_message_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with supervised(1) as scene:
        (worker,) = await scene.ready(1)
        worker.say_bytes(b"\xc1")
        await scene.worker(1)
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "sent a bad message" in record.getMessage()
    assert record.exc_info is None
