"""An upload in one coroutine: its replies, files, logs and counts are those of any Upload."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ftpcluster.net.passive import PassiveListener
from ftpcluster.net.stream import Stream
from ftpcluster.session.counts import Counts
from ftpcluster.session.server_pi import ServerPI
from ftpcluster.session.small_upload import SmallUpload
from ftpcluster.session.transfer_waits import Cause
from ftpcluster.storage import local_file
from ftpcluster.storage.local_file import LocalFile
from ftpcluster.users import User
from tests.session.test_small_downloads import Fault, Log, failing, once
from tests.support.core import serving
from tests.support.dialogue import CLOCK, DEADLINE, Dialogue, reset

OLD, CONTENT = b"old content", os.urandom(5000)
LARGE = os.urandom(300_000)
"""More than is small, and than goes through memory."""

Client = Callable[[Dialogue, socket.socket], None]


class Seen(NamedTuple):
    """What client, file system, logs, counters and an administrator have of an upload and of the
    next one."""

    replies: list[str]
    stored: bytes | None
    lines: list[str]
    transferred: list[list[str]]
    counts: dict[Any, int]
    activity: list[object]


def sends(content: bytes) -> Client:
    def client(_: Dialogue, sock: socket.socket) -> None:
        sock.sendall(content)
        sock.close()

    return client


def sends_in_parts(dialogue: Dialogue, sock: socket.socket) -> None:
    """The server has read the first part, and waits again."""
    sock.sendall(CONTENT)
    dialogue.says("STAT", 211)
    sock.sendall(CONTENT)
    dialogue.says("STAT", 211)
    sock.close()


def is_reset(_: Dialogue, sock: socket.socket) -> None:
    reset(sock)


def is_reset_later(dialogue: Dialogue, sock: socket.socket) -> None:
    sock.sendall(CONTENT)
    dialogue.says("STAT", 211)
    reset(sock)


def aborts(dialogue: Dialogue, _: socket.socket) -> None:
    dialogue.send("ABOR")


def aborts_later(dialogue: Dialogue, sock: socket.socket) -> None:
    sock.sendall(CONTENT)
    dialogue.says("STAT", 211)
    dialogue.send("ABOR")


CLIENTS: dict[str, Client] = {
    "sends": sends(CONTENT),
    "sends nothing": sends(b""),
    "sends much": sends(LARGE),
    "sends in parts": sends_in_parts,
    "is reset": is_reset,
    "is reset later": is_reset_later,
    "aborts": aborts,
    "aborts later": aborts_later,
}


def removed(patch: pytest.MonkeyPatch, file: Path) -> None:
    def first(real: Callable[..., Any], stream: Stream, buffer: memoryview) -> Any:
        file.unlink()
        return real(stream, buffer)

    once(patch, Stream, "recv_into", first)


def short_writes(patch: pytest.MonkeyPatch, _: Path) -> None:
    def first(real: Callable[..., Any], fd: int, data: memoryview) -> Any:
        return real(fd, data[:1000])

    once(patch, local_file.os, "write", first)


FAULTS: dict[str, Fault] = {
    **{f"recv_into {name}": failing(Stream, "recv_into", getattr(errno, name))
       for name in ("EAGAIN", "ECONNRESET", "ETIMEDOUT", "ENOMEM")},
    **{f"readable {name}": failing(Stream, "readable", getattr(errno, name))
       for name in ("ENOSPC", "ENOMEM")},
    **{f"accept {name}": failing(PassiveListener, "accept", getattr(errno, name))
       for name in ("EMFILE", "ENOMEM")},
    **{f"write {name}": failing(LocalFile, "write", getattr(errno, name))
       for name in ("ENOSPC", "EDQUOT", "EIO", "EFBIG")},
    "truncate EIO": failing(LocalFile, "truncate", errno.EIO),
    "finish EIO": failing(LocalFile, "finish", errno.EIO),
    "close EDQUOT": failing(LocalFile, "close", errno.EDQUOT),
    "removed": removed,
}  # fmt: skip


class Dialogues:
    """What clients do, and what the server shows meanwhile."""

    def __init__(self, file: Path, client: Client) -> None:
        self.loop = asyncio.get_running_loop()
        self.file = file
        self.client = client
        self.replies: list[str] = []
        self.stored: bytes | None = None
        self.sessions: list[ServerPI] = []
        self.activity: list[object] = []
        self.held_by: Cause | None = None

    def run(self, port: int) -> None:
        with Dialogue(port) as dialogue:
            dialogue.logs_in()
            with dialogue.passive() as sock:
                dialogue.send(f"STOR {self.file.name}")
                self.replies.append(dialogue.reply()[1])
                if self.replies[0].startswith("150"):
                    asyncio.run_coroutine_threadsafe(self._look(), self.loop).result(DEADLINE)
                    self.client(dialogue, sock)
                while not self.replies[-1].startswith(("2", "4", "5")):
                    self.replies.append(dialogue.reply()[1])
            if self.client in (aborts, aborts_later):
                dialogue.expects(226)
            self.stored = self.file.read_bytes() if self.file.exists() else None
            dialogue.uploads(f"STOR {self.file.name}", CONTENT)
            assert self.file.read_bytes() == CONTENT

    async def _look(self) -> None:
        await asyncio.sleep(2 * CLOCK)  # a wait without a length has no cause
        now = self.sessions[0].activity()
        self.activity = [now.command, now.direction, now.size, now.moved]
        self.held_by = now.held_by


async def seen(
    file: Path, client: Client, fault: Fault, caplog: pytest.LogCaptureFixture, *, small: bool
) -> Seen:
    """Upload a file twice, the first time with a fault."""
    file.write_bytes(OLD)
    log, counts, dialogues = Log(), Counts(), Dialogues(file, client)
    with pytest.MonkeyPatch.context() as patch:
        start, beginning = ServerPI.start, SmallUpload.beginning
        begun: list[SmallUpload | None] = []
        if small:
            patch.setattr(
                SmallUpload,
                "beginning",
                lambda *these: (begun.append(beginning(*these)), begun[-1])[1],
            )
        else:
            patch.setattr(SmallUpload, "beginning", lambda *_: None)
        patch.setattr(ServerPI, "start", lambda pi: (dialogues.sessions.append(pi), start(pi))[1])
        async with serving(
            User("user", "12345", base_path=file.parent), transfers=log, counts=counts
        ) as port:
            caplog.clear()
            fault(patch, file)
            await asyncio.to_thread(dialogues.run, port)
    assert any(begun) is small
    if small and dialogues.activity and dialogues.activity[1]:
        assert dialogues.held_by is Cause.CLIENT
    lines = [
        re.sub(r"\d+\.\d\d s|127\.0\.0\.1:\d+", "", each.getMessage()) for each in caplog.records
    ]
    fields = [line.decode().split()[5:] for line in log.lines]  # after the time
    moved = {**counts.transfers, **counts.moved, **counts.replies}
    return Seen(dialogues.replies, dialogues.stored, lines, fields, moved, dialogues.activity)


async def check(
    tmp_path: Path, client: Client, fault: Fault, caplog: pytest.LogCaptureFixture
) -> Seen:
    """The result is the same in one coroutine, and as any Upload. Returns it."""
    caplog.set_level("DEBUG", "ftpcluster")
    found = [
        await seen(tmp_path / "file", client, fault, caplog, small=small) for small in (True, False)
    ]
    assert found[0] == found[1]
    assert sum("STOR" in line for line in found[0].lines) == 2
    return found[0]


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_sees_the_same_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, client: str
) -> None:
    result = await check(tmp_path, CLIENTS[client], lambda *_: None, caplog)
    assert result.replies[1].startswith("226" if "sends" in client else "426")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_has_the_same_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    result = await check(tmp_path, sends(CONTENT), FAULTS[fault], caplog)
    assert result.replies[-1].startswith("226") is (fault == "recv_into EAGAIN")


async def test_a_file_that_takes_a_part_of_a_write_gets_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = await check(tmp_path, sends(CONTENT), short_writes, caplog)
    assert result.stored == CONTENT
