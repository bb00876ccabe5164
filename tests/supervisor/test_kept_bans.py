"""Bans are kept in a file by threads: nobody waits for the file, and none is lost by a failure."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.protocol.address import Networks
from ftpcluster.quota.admission import Admission
from ftpcluster.quota.bans import Ban, BanRules, bits_of_network
from ftpcluster.quota.ledger import Ledger, Refusal
from ftpcluster.supervisor import kept_bans
from ftpcluster.supervisor.ban_file import moment, read, write
from ftpcluster.supervisor.kept_bans import KeptBans
from tests.support.fake_workers import until

MALLORY, ALICE = "192.0.2.7", "192.0.2.8"
RULES = BanRules(failures=1, duration=1800, allow=Networks(()))


class Scene:
    """A guard whose bans are kept in a file."""

    def __init__(self, file: Path | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.guard = Admission(Ledger(), RULES, lambda *_: None)
        self.kept = KeptBans(self.loop, None if file is None else str(file))

    async def begin(self) -> None:
        await self.kept.load()
        self.kept.attach(self.guard)

    def ban(self, network: str = "198.51.100.0/24", seconds: float | None = 600) -> None:
        self.guard.ban(network, seconds, "spam", self.loop.time())

    def guess(self, address: str) -> None:
        session = self.guard.banned[False] + 1
        assert self.guard.admit(1, session, address, self.loop.time()) is None
        self.guard.login_failed(1, session, "bob", self.loop.time())

    @property
    def networks(self) -> list[str]:
        return sorted(ban.network for ban in self.guard.bans(self.loop.time()))


@contextlib.asynccontextmanager
async def server(file: Path | None) -> AsyncIterator[Scene]:
    scene = Scene(file)
    await scene.begin()
    yield scene
    await scene.kept.close()


def networks_in(file: Path) -> list[str]:
    return sorted(ban.network for _, ban in read(str(file), moment(time.monotonic())).bans)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bans"


async def test_bans_outlive_the_server_and_are_lifted_for_good(file: Path) -> None:
    async with server(file) as first:
        first.guess(MALLORY)
        first.ban()
        first.ban("2001:db8::7", None)
    async with server(file) as second:
        assert second.networks == [MALLORY, "198.51.100.0/24", "2001:db8::7"]
        assert second.guard.admit(1, 1, MALLORY, second.loop.time()) is Refusal.BANNED
        assert second.guard.admit(1, 1, "2001:db8::7", second.loop.time()) is Refusal.BANNED
        assert second.guard.admit(1, 1, ALICE, second.loop.time()) is None
        second.guard.unban("2001:db8::7", second.loop.time())
        second.guard.unban(MALLORY, second.loop.time())
    async with server(file) as third:
        assert third.networks == ["198.51.100.0/24"]


async def test_a_server_that_is_killed_has_written_them_soon(file: Path) -> None:
    scene = Scene(file)
    await scene.begin()
    scene.guess(MALLORY)
    await until(file.exists)
    assert networks_in(file) == [MALLORY]
    scene.ban()
    await until(lambda: len(networks_in(file)) == 2)
    scene.guard.unban(MALLORY, scene.loop.time())
    await until(lambda: networks_in(file) == ["198.51.100.0/24"])


async def test_bans_that_are_over_do_not_come_back(file: Path) -> None:
    async with server(file) as first:
        first.ban(ALICE, 0.05)
        first.ban(MALLORY, 600)
    await asyncio.sleep(0.06)  # its time is over
    async with server(file) as second:
        assert second.networks == [MALLORY]


async def test_a_damaged_file_is_told_of_and_kept(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with server(file) as first:
        first.ban()
        first.ban(MALLORY)
    data = file.read_bytes() + b"nonsense\n"
    file.write_bytes(data)
    async with server(file) as second:
        assert len(second.networks) == 2
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING][2:]
    assert f"{file} (ban.file) is damaged: line 4: " in record.getMessage()
    (aside,) = file.parent.glob("bans.damaged-*")
    assert aside.read_bytes() == data
    assert len(networks_in(file)) == 2  # it was written anew


async def test_a_file_that_cannot_be_read_stays_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bans").mkdir()
    async with server(tmp_path / "bans") as scene:
        scene.ban()
    assert "cannot be read, so it stays as it is" in caplog.text
    assert [*(tmp_path / "bans").iterdir()] == []


async def test_without_a_file_the_log_says_once_that_bans_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with server(None) as scene:
        assert not caplog.records
        scene.ban()
        scene.ban(MALLORY)
    assert caplog.text.count("bans will end with the server") == 1


async def test_a_disk_without_room_is_tried_again_and_told_of_once(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(kept_bans, "_RETRY", 0.01)
    tries = []

    def full(*given: Any) -> float:
        tries.append(given)
        if len(tries) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*given)

    monkeypatch.setattr(kept_bans, "write", full)
    async with server(file) as scene:
        scene.ban()
        await until(file.exists)
        await until(lambda: "is written again" in caplog.text)
        assert scene.kept._pause == kept_bans._PAUSE
    assert caplog.text.count("No space left on device") == 1
    assert len(tries) == 4


async def test_the_server_ends_where_the_last_file_cannot_be_written(file: Path) -> None:
    async with server(file) as scene:
        file.with_name("bans.new").mkdir()
        scene.ban()
    assert not file.exists()


async def test_nobody_waits_for_a_file_that_is_not_written(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Later changes wait, all for one thread; the end of the server does not."""
    monkeypatch.setattr(kept_bans, "_SILENCE", 0.01)
    monkeypatch.setattr(kept_bans, "_PAUSE", 0.001)
    monkeypatch.setattr(kept_bans, "_LAST_WAIT", 0.05)
    released, calls = threading.Event(), []

    def hangs(*given: Any) -> float:
        calls.append(given)
        released.wait(20)
        return write(*given)

    monkeypatch.setattr(kept_bans, "write", hangs)
    scene = Scene(file)
    scene.kept._pause = 0.001
    await scene.begin()
    scene.ban()
    await until(lambda: "is not written yet" in caplog.text)
    for n in range(50):
        scene.ban(f"192.0.2.{n}")
        await asyncio.sleep(0)
    assert len(calls) == 1
    await scene.kept.close()
    assert "is not written: it does not answer" in caplog.text
    released.set()
    await until(lambda: file.exists() and len(networks_in(file)) == 51)
    await scene.kept.close()


async def test_a_start_waits_so_long_for_the_file_and_its_bans_hold_when_it_comes(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with server(file) as first:
        first.ban()
    monkeypatch.setattr(kept_bans, "_PATIENCE", 0.05)
    released = threading.Event()

    def hangs(*given: Any) -> Any:
        released.wait(20)
        return read(*given)

    monkeypatch.setattr(kept_bans, "read", hangs)
    scene = Scene(file)
    await scene.begin()
    assert "does not answer: the bans in it hold when it does" in caplog.text
    scene.guess(MALLORY)  # not written before the others are known
    assert scene.kept._timer is None
    assert scene.networks == [MALLORY]
    released.set()
    await until(lambda: len(scene.networks) == 2)
    await scene.kept.close()
    assert networks_in(file) == [MALLORY, "198.51.100.0/24"]


async def test_many_bans_are_written_seldom(file: Path) -> None:
    async with server(file) as scene:
        end = scene.loop.time() + 600
        bans = [Ban(f"10.0.{n >> 8}.{n & 255}", end, "10 failed logins") for n in range(20_000)]
        scene.guard.restore([(bits_of_network(ban.network), ban) for ban in bans], 0)
        scene.ban()
        await until(file.exists)
        await until(lambda: scene.kept._saving is None)
        assert scene.kept._pause > kept_bans._PAUSE
    assert file.stat().st_size < 100 * 20_000
    async with server(file) as again:
        assert len(again.networks) == 20_000 + 1
