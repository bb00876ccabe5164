"""What a worker has done to a socket before the supervisor closes it: nobody stands still."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable

import pytest

from ftpcluster.ipc.messages import Adopted, Declined, Released
from tests.support.fake_workers import FakeWorker, Supervised, supervised
from tests.support.lingering import LINGER, lingers, make_linger


def confirm(worker: FakeWorker, session: int) -> None:
    worker.say(Adopted((session,)))


def release(worker: FakeWorker, session: int) -> None:
    worker.say(Released((session,)))


def decline(worker: FakeWorker, session: int) -> None:
    worker.say(Declined((session,)))


def die(worker: FakeWorker, _: int) -> None:
    worker.die()


def lie(worker: FakeWorker, _: int) -> None:
    worker.say_bytes(b"\xc1")


async def tampered(scene: Supervised, worker: FakeWorker) -> int:
    """A session whose socket the supervisor is the last to close, and would wait."""
    session = await worker.adopt(confirm=False)
    fd = worker.held.pop(session)
    make_linger(fd)
    os.close(fd)
    return session


@pytest.mark.parametrize("end", [confirm, release, decline, die, lie])
async def test_the_supervisor_goes_on_whatever_a_worker_has_set(
    end: Callable[[FakeWorker, int], None],
) -> None:
    async with supervised(2) as scene:
        workers = await scene.ready(2)
        clients = [await scene.connect() for _ in range(2)]
        session = await tampered(scene, workers[0])
        theirs = await workers[1].adopt()
        began = time.monotonic()
        end(workers[0], session)
        await workers[1].round_trip(theirs)
        assert time.monotonic() - began < LINGER / 2
        for client in clients:
            client.writer.close()


async def test_a_server_that_stops_does_not_wait_for_what_no_worker_has() -> None:
    async with supervised(1, grace=0.0) as scene:
        (worker,) = await scene.ready(1)
        await scene.connect()
        session = await worker.adopt(confirm=False)
        fd = os.dup(worker.held[session])
        scene.supervisor.stop()
        worker.die()
        make_linger(fd)
        os.close(fd)
        began = time.monotonic()
        await scene.run
        assert time.monotonic() - began < LINGER / 2


@pytest.mark.parametrize("end", [decline, die])
async def test_the_next_worker_does_not_inherit_what_was_set(
    end: Callable[[FakeWorker, int], None],
) -> None:
    async with supervised(2) as scene:
        workers = await scene.ready(2)
        await scene.connect()
        session = await workers[0].adopt(confirm=False)
        sock = workers[0].held[session]
        set_linger(sock)
        end(workers[0], session)
        assert await workers[1].adopt() == session
        assert not lingers(workers[1].held[session])


def set_linger(fd: int) -> None:
    sock = socket.socket(fileno=fd)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER))
    sock.detach()
