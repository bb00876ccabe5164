"""A small file that is sent in one call: its replies, logs and counts are those of a Download."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ftpcluster.net.passive import PassiveListener
from ftpcluster.session.commands import transfers
from ftpcluster.session.counts import Counts
from ftpcluster.storage import local_file
from ftpcluster.users import User
from tests.support.core import serving
from tests.support.dialogue import Dialogue, reset, rest_of

CONTENT = os.urandom(5000)
GROWN = CONTENT + os.urandom(3000)

Fault = Callable[[pytest.MonkeyPatch, Path], None]


class Seen(NamedTuple):
    """What client, logs and counters have of a download, and of the next one."""

    replies: list[str]
    data: bytes
    lines: list[str]
    transferred: list[list[str]]
    counts: dict[Any, int]


def once(patch: pytest.MonkeyPatch, owner: Any, name: str, first: Callable[..., Any]) -> None:
    """Have ``first(real, …)`` in place of the first call of a function."""
    real = getattr(owner, name)
    calls: list[object] = []

    def replaced(*arguments: Any, **keywords: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            return first(real, *arguments, **keywords)
        return real(*arguments, **keywords)

    patch.setattr(owner, name, replaced)


def failing(owner: Any, name: str, code: int) -> Fault:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return lambda patch, _: once(patch, owner, name, fail)


def changed(change: Callable[[Path], object], call: str = "sendfile") -> Fault:
    """The file changes between its opening and the call."""

    def fault(patch: pytest.MonkeyPatch, file: Path) -> None:
        def first(real: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
            change(file)
            return real(*arguments, **keywords)

        once(patch, os, call, first)

    return fault


def cut(count: int) -> Fault:
    def first(real: Callable[..., Any], out: int, source: int, offset: int, _: int) -> Any:
        return real(out, source, offset, count)

    return lambda patch, _: once(patch, os, "sendfile", first)


SENDFILE = ("EAGAIN", "EINVAL", "EIO", "ENOMEM", "EOVERFLOW", "EPIPE", "ECONNRESET", "EINTR")
FAULTS: dict[str, Fault] = {
    "none": lambda *_: None,
    **{f"sendfile {name}": failing(os, "sendfile", getattr(errno, name)) for name in SENDFILE},
    **{f"preadv {name}": failing(os, "preadv", getattr(errno, name))
       for name in ("EAGAIN", "EOPNOTSUPP")},
    **{f"accept {name}": failing(PassiveListener, "accept", getattr(errno, name))
       for name in ("EMFILE", "ENOMEM")},
    "cut": cut(1000),
    "empty": changed(lambda file: os.truncate(file, 0)),
    "shorter": changed(lambda file: os.truncate(file, 2000)),
    "longer": changed(lambda file: file.write_bytes(GROWN)),
    "replaced": changed(lambda file: (file.unlink(), file.write_bytes(GROWN))),
}  # fmt: skip


class Log:
    """In place of the log of transfers."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def append(self, line: bytes) -> None:
        self.lines.append(line)


async def seen(
    file: Path, fault: Fault, caplog: pytest.LogCaptureFixture, *, small: bool, gone: bool = False
) -> Seen:
    """Download a file twice, the first time with a fault. ``gone``: the client has closed."""
    log, counts, sent = Log(), Counts(), []
    caplog.clear()

    def downloads(port: int) -> tuple[list[str], bytes]:
        with Dialogue(port) as client:
            client.logs_in()
            replies: list[str] = []
            with client.passive() as sock:
                if gone:
                    reset(sock)
                client.send(f"RETR {file.name}")
                while not replies or replies[-1].startswith("1"):
                    replies.append(client.reply()[1])
                is_sent = not gone and replies[0].startswith("150")
                data = rest_of(sock) if is_sent else b""
            client.downloads(f"RETR {file.name}")
            return replies, data

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_cannot_copy", "_cannot_tell"):
            patch.setattr(local_file, name, set())
        real = transfers.send_small
        patch.setattr(transfers, "send_small", lambda *args: (sent.append(args), real(*args))[1])
        if not small:
            patch.setattr(transfers, "accept_for_small", lambda *_: None)
        user = User("user", "12345", base_path=file.parent)
        async with serving(user, transfers=log, counts=counts) as port:
            caplog.clear()
            fault(patch, file)
            replies, data = await asyncio.to_thread(downloads, port)
    assert bool(sent) is small
    fields = [line.decode().split()[5:] for line in log.lines]  # after the time
    moved = {**counts.transfers, **counts.moved, **counts.replies}
    lines = [
        re.sub(r"\d+\.\d\d s|127\.0\.0\.1:\d+", "", each.getMessage()) for each in caplog.records
    ]
    return Seen(replies, data, lines, fields, moved)


async def both(
    file: Path,
    caplog: pytest.LogCaptureFixture,
    fault: Fault = FAULTS["none"],
    *,
    gone: bool = False,
) -> tuple[Seen, Seen]:
    """In one call, and as a Download."""
    caplog.set_level("DEBUG", "ftpcluster")
    found = []
    for small in (True, False):
        if not str(file).startswith(("/proc", "/sys")):
            file.unlink(missing_ok=True)
            file.write_bytes(CONTENT)
        found.append(await seen(file, fault, caplog, small=small, gone=gone))
    assert sum("RETR" in line for line in found[0].lines) == 2
    return found[0], found[1]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_has_the_same_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    in_one_call, as_download = await both(tmp_path / "file", caplog, FAULTS[fault])
    assert in_one_call == as_download


async def test_a_client_that_is_gone_already_has_the_same_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_one_call, as_download = await both(tmp_path / "file", caplog, gone=True)
    assert in_one_call == as_download
    assert in_one_call.replies[-1].startswith("426")


@pytest.mark.parametrize("name", ["/proc/sys/kernel/ostype", "/sys/kernel/fscaps"])
async def test_a_file_whose_size_is_not_that_of_its_content_has_the_same_result(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    if not os.access(name, os.R_OK):
        pytest.skip(f"there is no {name}")
    in_one_call, as_download = await both(Path(name), caplog)
    assert in_one_call == as_download
    assert in_one_call.replies[-1].startswith("226")
