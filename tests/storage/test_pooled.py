"""The local storage in a pool of threads, whose calls go on when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from ftpcluster.answers import settled
from ftpcluster.protocol.errors import StorageSilent
from ftpcluster.storage.base import WriteMode
from ftpcluster.storage.local import LocalFile
from ftpcluster.storage.pooled import PooledFile, PooledStorage, SlowRoot
from ftpcluster.storage.slow_calls import Device, SlowCalls
from ftpcluster.storage.threads import Threads

DEADLINE = 20.0
PREMATURE = 0.3
"""Seconds in which a close that waits for nobody would be through."""


class SlowDisk:
    """Calls of one method of ``LocalFile`` stop before they use the descriptor they have read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.begun, self.go_on, self.ended = (threading.Event() for _ in range(3))
        self.used: list[tuple[int, int]] = []
        real = getattr(LocalFile, method)

        def slow(file: LocalFile, argument: Any) -> Any:
            fd = file.fd
            self.begun.set()
            assert self.go_on.wait(DEADLINE)
            try:
                self.used.append(_identity(fd))
                return real(file, argument)
            finally:
                self.ended.set()

        monkeypatch.setattr(LocalFile, method, slow)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


@contextmanager
def pooled(root: Path, patience: float = DEADLINE) -> Iterator[PooledStorage]:
    threads = Threads(asyncio.get_running_loop())
    calls = SlowCalls(str(root), asyncio.get_running_loop(), threads, Device(4), patience)
    try:
        yield PooledStorage(SlowRoot(str(root), calls))
    finally:
        threads.close()


async def _write(file: PooledFile) -> None:
    await file.write(b"content")


async def _read(file: PooledFile) -> None:
    await file.read(10)


@pytest.mark.parametrize(("method", "call"), [("write", _write), ("read", _read)])
def test_a_file_is_open_until_a_cancelled_call_has_done_with_it(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    call: Callable[[PooledFile], Awaitable[None]],
) -> None:
    (root / "file").touch()
    disk = SlowDisk(monkeypatch, method)

    async def scenario() -> None:
        with pooled(root) as storage:
            opening = (
                storage.open_reader("/file")
                if method == "read"
                else storage.open_writer("/file", WriteMode.TRUNCATE)
            )
            file = cast(PooledFile, await settled(opening))
            using = asyncio.ensure_future(call(file))
            assert await asyncio.to_thread(disk.begun.wait, DEADLINE)
            using.cancel()
            await asyncio.wait((using,))
            assert file.close() is None  # nobody waits
            await asyncio.sleep(PREMATURE)
            assert file._file.fd >= 0
            disk.go_on.set()
            assert await asyncio.to_thread(disk.ended.wait, DEADLINE)
            while file._file.fd >= 0:
                await asyncio.sleep(0.01)

    asyncio.run(scenario())
    found = os.stat(root / "file")
    assert disk.used == [(found.st_dev, found.st_ino)]


def test_a_file_that_a_disk_holds_is_closed_when_it_lets_go(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").touch()
    disk = SlowDisk(monkeypatch, "read")

    async def scenario() -> PooledFile:
        with pooled(root, PREMATURE) as storage:
            file = cast(PooledFile, await settled(storage.open_reader("/file")))
            with pytest.raises(StorageSilent):
                await file.read(10)
            assert file.close() is None
            assert file._file.fd >= 0
        return file

    file = asyncio.run(scenario())  # the loop ends, and does not wait for the thread
    assert not disk.ended.is_set()
    disk.go_on.set()
    assert disk.ended.wait(DEADLINE)
    del file
    assert len(disk.used) == 1
