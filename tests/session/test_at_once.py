"""What never has to wait runs in one call: no coroutine is made for it."""

from __future__ import annotations

import asyncio
import errno
import random
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.session.server_pi import ServerPI
from ftpcluster.storage.local_file import LocalFile
from ftpcluster.users import User
from tests.support.core import serving
from tests.support.dialogue import Dialogue

CONTENT = bytes(50_000)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The verbs for which a coroutine was made."""
    verbs: list[str] = []
    begin = ServerPI._begin

    def noted(self: ServerPI, command: Any, *arguments: Any) -> Any:
        verbs.append(command.verb)
        return begin(self, command, *arguments)

    monkeypatch.setattr(ServerPI, "_begin", noted)
    return verbs


def talk(port: int) -> None:
    with Dialogue(port) as client:
        client.logs_in()
        client.downloads("LIST")  # the names of owners may have to be asked for
        client.says("XPWD", 257)
        for command in ("LIST", "NLST sub", "MLSD", "RETR file", "LIST file", "NLST empty"):
            client.downloads(command)
        client.says("STAT sub", 213)
        client.says("MLST file", 250)
        client.says("MKD new", 257)
        client.says("RMD new", 250)
        client.says("DELE file", 250)


@pytest.mark.parametrize("limit", [None, 100_000_000])
async def test_small_things_are_done_at_once(
    tmp_path: Path, waiting: list[str], limit: int | None
) -> None:
    """Also under a speed limit that has room."""
    (tmp_path / "file").write_bytes(CONTENT)
    for name in ("sub", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "sub" / "another").touch()
    user = User("user", "12345", base_path=tmp_path, read_speed_limit=limit)
    async with serving(user) as port:
        await asyncio.to_thread(talk, port)
    assert waiting in ([], ["LIST"])


async def test_what_has_to_wait_is_noticed_by_this_test(tmp_path: Path, waiting: list[str]) -> None:
    def upload(port: int) -> None:
        with Dialogue(port) as client:
            client.logs_in()
            client.uploads("STOR file", CONTENT)

    async with serving(User("user", "12345", base_path=tmp_path)) as port:
        await asyncio.to_thread(upload, port)
    assert waiting == ["STOR"]


async def test_a_download_that_has_begun_needs_no_seek(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could fail behind 150, where the data connection is the transfer's to close."""

    def seek(self: LocalFile, offset: int) -> None:
        raise OSError(errno.EINVAL, "no seek")

    asked: list[int] = []

    def is_resident(self: LocalFile, offset: int) -> bool:
        asked.append(offset)
        return len(asked) > 1

    def download(port: int) -> bytes:
        with Dialogue(port) as client:
            client.logs_in()
            client.says("TYPE I", 200)
            client.says("REST 10", 350)
            return client.downloads("RETR file")

    monkeypatch.setattr(LocalFile, "seek", seek)
    monkeypatch.setattr(LocalFile, "is_resident", is_resident)
    content = random.Random(1).randbytes(50_000)
    (tmp_path / "file").write_bytes(content)
    async with serving(User("user", "12345", base_path=tmp_path)) as port:
        assert await asyncio.to_thread(download, port) == content[10:]
