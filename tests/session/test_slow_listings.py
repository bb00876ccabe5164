"""Listings that take longer to make than a transfer may stall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from ftpcluster.config.sessions import session_defaults
from ftpcluster.session import deadlines
from ftpcluster.session.hooks import SessionHooks
from ftpcluster.storage.base import Entry, Storage
from ftpcluster.storage.local_files import LocalFiles
from ftpcluster.users import User
from tests.library.client import Client
from tests.support import core

FILES = LocalFiles()
STALLED = 0.6
NAMES = 4


class Slow:
    """A storage that reads a directory entry by entry, with a pause before each."""

    def __init__(self, storage: Storage, pause: float) -> None:
        self._storage = storage
        self._pause = pause

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def now(self) -> Slow:
        return self

    async def scan(self, path: str) -> AsyncGenerator[list[Entry], None]:
        for batch in cast(Iterator[list[Entry]], self._storage.scan(path)):
            for entry in batch:
                await asyncio.sleep(self._pause)
                yield [entry]


class Hooks(SessionHooks):
    pause = 0.0

    def open_storage(self, user: User) -> Storage:
        return cast(Storage, Slow(FILES.open(user.base_path), self.pause))


class Patient(Hooks):
    pause = STALLED / 2


class Hanging(Hooks):
    pause = 30.0


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One of files, and a server that does not wait for long."""
    for number in range(NAMES):
        (tmp_path / f"name{number}").touch()
    settings = {**session_defaults(), "stalled_timeout": STALLED}
    monkeypatch.setattr(core, "session_defaults", lambda: settings)
    monkeypatch.setattr(deadlines, "_STALL_CHECK", 0.05)
    return tmp_path


@pytest.mark.parametrize("command", ["LIST", "NLST name*"])
async def test_a_listing_that_comes_on_is_served_however_long_it_takes(
    directory: Path, command: str
) -> None:
    async with core.serving(User(base_path=directory), hooks_for=lambda _: Patient()) as port:
        async with Client(port) as client:
            await client.logs_in()
            assert (await client.downloads(command)).count(b"\r\n") == NAMES


async def test_who_has_connected_is_not_told_that_nobody_has(directory: Path) -> None:
    async with core.serving(User(base_path=directory), hooks_for=lambda _: Hanging()) as port:
        async with Client(port) as client:
            await client.logs_in()
            async with client.passive():
                assert "takes too long" in await client.says("LIST", 451)
