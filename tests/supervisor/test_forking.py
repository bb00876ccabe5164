"""Workers that the fork server is asked for; the test answers in its place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.expiry import LATE
from ftpcluster.ipc.orders import receive
from ftpcluster.supervisor import forking
from ftpcluster.supervisor.forking import AskedProcess, ForkedProcess, ForkServer
from tests.support.fake_workers import DEADLINE
from tests.support.stalls import stall


class Answering:
    """A fork server of which the test has the other end, and a process that it asked for."""

    def __init__(self) -> None:
        ours, self.requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.begun: list[subprocess.Popen[bytes]] = []
        self.process = self.begin()
        self.forks = ForkServer(self.process.pid, ours)
        self.said: list[str] = []
        self.ended = asyncio.Event()
        self.error: OSError | None = None

    def begin(self) -> subprocess.Popen[bytes]:
        """Another process, which ends only when it is killed."""
        self.begun.append(subprocess.Popen(["sleep", "600"]))
        return self.begun[-1]

    def ask(self) -> AskedProcess:
        asked = AskedProcess(
            self.forks, self._give_order, self._spawn, lambda: self.said.append("given up")
        )
        asked.on_exit(self._on_exit)
        return asked

    def _give_order(self, _: socket.socket) -> None:
        self.said.append("order")
        if self.error is not None:
            raise self.error

    def _spawn(self) -> ForkedProcess:
        self.said.append("spawn")
        if self.error is not None:
            raise self.error
        return ForkedProcess(self.begin().pid)

    def _on_exit(self) -> None:
        self.said.append("ended")
        self.ended.set()

    def asked(self) -> socket.socket:
        """Where the answer to the next request goes."""
        data, (fd,) = receive(self.requests)
        assert data == b"fork"
        return socket.socket(fileno=fd)

    async def expect(self, *said: str) -> None:
        async with asyncio.timeout(DEADLINE):
            while self.said != [*said]:
                await asyncio.sleep(0.01)


@pytest.fixture
def answering() -> Iterator[Answering]:
    it = Answering()
    yield it
    it.requests.close()
    it.forks.end("is not needed any more")
    for process in it.begun:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


async def test_who_says_its_pid_gets_the_order_and_is_waited_for(answering: Answering) -> None:
    process = answering.ask()
    assert process.pid is None
    with answering.asked() as answer:
        answer.send(b"%d" % answering.begin().pid)
        await answering.expect("order", "given up")
        assert process.pid == answering.begun[-1].pid
        process.kill()
        await answering.expect("order", "given up", "ended")
        assert process.exitcode == -signal.SIGKILL
        assert answer.recv(1) == b""


@pytest.mark.parametrize("answer", [b"-11", b""])
async def test_where_none_can_be_forked_one_is_spawned(answering: Answering, answer: bytes) -> None:
    process = answering.ask()
    with answering.asked() as sock:
        if answer:
            sock.send(answer)
    await answering.expect("spawn", "given up")
    assert process.pid == answering.begun[-1].pid
    process.kill()
    await answering.expect("spawn", "given up", "ended")


async def test_where_nobody_answers_one_is_spawned_and_a_late_one_is_ended(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "_PATIENCE", 0.05)
    answering.ask()
    with answering.asked() as answer:
        await answering.expect("spawn", "given up")
        assert not answering.forks.is_usable
        assert answering.process.wait(DEADLINE) == -signal.SIGKILL
        late = answering.begin()
        answer.send(b"%d" % late.pid)
        async with asyncio.timeout(DEADLINE):
            while os.path.exists(f"/proc/{late.pid}"):
                await asyncio.sleep(0.01)
    assert answering.said == ["spawn", "given up"]


async def test_an_answer_that_came_while_this_process_stood_still_counts(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "_PATIENCE", 0.05)
    process = answering.ask()
    with answering.asked() as answer:
        pid = b"%d" % answering.begin().pid
        await stall(2 * LATE, lambda: answer.send(pid))
        await answering.expect("order", "given up")
        assert answering.forks.is_usable
        process.kill()
        await answering.expect("order", "given up", "ended")


async def test_who_is_killed_before_it_has_told_its_pid_is_reaped(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "_ENDING", 0.01)
    code = "from ftpcluster.prctl import name_process as n; n('fork server'); import os; os.abort()"
    child = subprocess.Popen([sys.executable, "-c", code])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    answering.ask()
    answering.asked().close()
    async with asyncio.timeout(DEADLINE):
        while os.path.exists(f"/proc/{child.pid}"):
            await asyncio.sleep(0.01)
    child.wait()  # so that it knows
    assert answering.process.poll() is None


async def test_who_is_killed_before_it_is_there_is_never_told_what_to_do(
    answering: Answering,
) -> None:
    process = answering.ask()
    process.kill()
    await answering.expect("given up", "ended")
    process.kill()
    with answering.asked() as answer:
        late = answering.begin()
        answer.send(b"%d" % late.pid)
        async with asyncio.timeout(DEADLINE):
            while os.path.exists(f"/proc/{late.pid}"):
                await asyncio.sleep(0.01)
    assert answering.said == ["given up", "ended"]


async def test_who_cannot_be_told_what_to_do_ends(answering: Answering) -> None:
    answering.error = OSError(28, "No space left on device")
    answering.ask()
    with answering.asked() as answer:
        answer.send(b"%d" % answering.begin().pid)
        await answering.expect("order", "given up", "ended")


async def test_where_nothing_can_be_started_it_is_said_to_have_ended(answering: Answering) -> None:
    answering.error = OSError(11, "Resource temporarily unavailable")
    process = answering.ask()
    answering.asked().close()
    await answering.expect("spawn", "given up", "ended")
    assert (process.pid, process.exitcode) == (None, None)


async def test_one_that_reads_nothing_is_an_error_and_nobody_waits(answering: Answering) -> None:
    answering.forks.watch()
    asked = []
    with pytest.raises(BlockingIOError):  # noqa: PT012 (the one that fails comes after many)
        for _ in range(10_000):
            asked.append(answering.forks.ask())
    for answers in asked:
        answering.forks.answered(answers)
    answering.process.kill()
    async with asyncio.timeout(DEADLINE):
        while answering.forks.is_usable:
            await asyncio.sleep(0.01)


def test_orphans_are_adopted_while_a_worker_is_awaited_only(answering: Answering) -> None:
    assert not adopts()
    answers = answering.forks.ask()
    assert adopts()
    answering.forks.answered(answers)
    assert not adopts()


def adopts() -> bool:
    """Whether a grandchild whose parent has ended becomes this process's child."""
    code = "import os; print(os.fork() or os.read(0, 1) or '')"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        orphan = int(child.stdout.readline())
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        status = Path(f"/proc/{orphan}/status").read_text()
        parent = int(status.partition("PPid:")[2].split()[0])
        child.stdin.close()
        if parent == os.getpid():
            os.waitpid(orphan, 0)
        return parent == os.getpid()
