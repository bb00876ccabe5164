"""Large files are sent by threads, in calls that block; such a call ends when its transfer does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.net.poller import Poller
from ftpcluster.net.stream import Stream
from ftpcluster.session import sending_threads
from ftpcluster.session.sending_threads import LARGE, SendingThreads
from ftpcluster.users import User
from tests.support.core import serving
from tests.support.dialogue import DEADLINE, Dialogue

CONTENT = os.urandom(LARGE + (2 << 20))
WINDOW = 64 * 1024


class Calls:
    """The calls of sendfile: in which threads they were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of_threads = self.of_loop = 0
        self.in_thread = threading.Event()
        self.in_loop_again = threading.Event()
        self._sendfile = os.sendfile
        monkeypatch.setattr(os, "sendfile", self)

    def __call__(self, *arguments: Any) -> int:
        if threading.current_thread().name.startswith("ftpcluster-sending"):
            self.of_threads += 1
            self.in_thread.set()
        else:
            self.of_loop += 1
            if self.of_threads:
                self.in_loop_again.set()
        return self._sendfile(*arguments)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread waits for its client for longer than any test takes."""
    monkeypatch.setattr(sending_threads, "_PATIENCE", struct.pack("@ll", 600, 0))


@contextlib.asynccontextmanager
async def offering(root: Path, **user: Any) -> AsyncIterator[int]:
    (root / "file").write_bytes(CONTENT)
    async with serving(User("user", "12345", base_path=root, **user)) as port:
        yield port


def downloads(port: int) -> bytes:
    with Dialogue(port) as client:
        client.logs_in()
        return client.downloads("RETR file")


async def test_a_large_file_is_sent_by_a_thread(tmp_path: Path, calls: Calls) -> None:
    async with offering(tmp_path) as port:
        assert await asyncio.to_thread(downloads, port) == CONTENT
    assert calls.of_threads


async def test_under_a_speed_limit_none_is(tmp_path: Path, calls: Calls) -> None:
    async with offering(tmp_path, write_speed_limit=1_000_000_000) as port:
        assert await asyncio.to_thread(downloads, port) == CONTENT
    assert not calls.of_threads


async def test_a_slow_client_has_no_thread_for_long(tmp_path: Path, calls: Calls) -> None:
    def stalls(port: int) -> bytes:
        with Dialogue(port) as client:
            client.logs_in()
            with client.begins("RETR file", window=WINDOW) as data:
                assert calls.in_loop_again.wait(DEADLINE)
                received = b"".join(iter(lambda: data.recv(1 << 16), b""))
            client.expects(226)
            return received

    async with offering(tmp_path) as port:
        assert await asyncio.to_thread(stalls, port) == CONTENT


@pytest.mark.usefixtures("patient")
async def test_abor_ends_the_call_of_a_thread(tmp_path: Path, calls: Calls) -> None:
    def aborts(port: int) -> None:
        with Dialogue(port) as client:
            client.logs_in()
            with client.begins("RETR file", window=WINDOW):
                assert calls.in_thread.wait(DEADLINE)
                client.says("NOOP", 200)
                client.says("ABOR", 426)
                client.expects(226)
            assert client.downloads("RETR file") == CONTENT

    async with offering(tmp_path) as port:
        await asyncio.to_thread(aborts, port)


@pytest.mark.usefixtures("patient")
async def test_the_end_of_its_session_ends_the_call_of_a_thread(
    tmp_path: Path, calls: Calls
) -> None:
    opened = contextlib.ExitStack()

    def begins(port: int) -> None:
        client = opened.enter_context(Dialogue(port))
        client.logs_in()
        opened.enter_context(client.begins("RETR file", window=WINDOW))
        assert calls.in_thread.wait(DEADLINE)

    with opened:
        async with asyncio.timeout(DEADLINE), offering(tmp_path) as port:
            await asyncio.to_thread(begins, port)


@pytest.mark.usefixtures("patient")
async def test_a_reset_ends_the_call_of_a_thread(tmp_path: Path, calls: Calls) -> None:
    def resets(port: int) -> None:
        with Dialogue(port) as client:
            client.logs_in()
            with client.begins("RETR file", window=WINDOW) as data:
                assert calls.in_thread.wait(DEADLINE)
                data.recv(1)  # the rest is unread: closing resets
            client.expects(426)

    async with offering(tmp_path) as port:
        await asyncio.to_thread(resets, port)


@pytest.mark.usefixtures("patient")
async def test_a_file_that_shrinks_meanwhile_is_451(tmp_path: Path, calls: Calls) -> None:
    def shrinks(port: int) -> None:
        with Dialogue(port) as client:
            client.logs_in()
            with client.begins("RETR file", window=WINDOW) as data:
                assert calls.in_thread.wait(DEADLINE)
                os.truncate(tmp_path / "file", LARGE)
                while data.recv(1 << 16):
                    pass
            assert "became shorter" in client.expects(451)

    async with offering(tmp_path) as port:
        await asyncio.to_thread(shrinks, port)


async def test_a_thread_stops_where_limits_have_come(tmp_path: Path) -> None:
    """``told`` says so; the loop goes on from there."""
    (tmp_path / "file").write_bytes(CONTENT)
    loop = asyncio.get_running_loop()
    poller, threads = Poller(loop), SendingThreads(loop)
    told: list[int] = []

    def stops(count: int) -> bool:
        told.append(count)
        return False

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as peer,
        open(tmp_path / "file", "rb") as file,
    ):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        stream = Stream(loop, poller, listener.accept()[0].detach())
        position = await threads.send(stream, file.fileno(), 10, len(CONTENT), stops)
        assert not os.get_blocking(stream.fd)
        stream.close()
    threads.close()
    poller.close()
    assert told == [position - 10]
    assert 0 < position - 10 <= 4 << 20


async def test_there_are_only_so_many_threads(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending_threads, "THREADS", 0)
    async with offering(tmp_path) as port:
        assert await asyncio.to_thread(downloads, port) == CONTENT
    assert not calls.of_threads
