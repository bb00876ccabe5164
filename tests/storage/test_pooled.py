"""The local storage in a pool of threads, whose calls go on when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.storage.base import WriteMode
from ftpcluster.storage.contained import Root
from ftpcluster.storage.local import LocalStorage
from ftpcluster.storage.local_file import LocalFile
from ftpcluster.storage.pooled import PooledFile, PooledStorage

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


@asynccontextmanager
async def pooled(root: Path, timeout: float | None = None) -> AsyncIterator[PooledStorage]:
    with ThreadPoolExecutor(4) as pool:
        yield PooledStorage(LocalStorage(Root(root)), pool, timeout)


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
        async with pooled(root) as storage:
            opening = (
                storage.open_reader("/file")
                if method == "read"
                else storage.open_writer("/file", WriteMode.TRUNCATE)
            )
            file = await opening
            using = asyncio.ensure_future(call(file))
            assert await asyncio.to_thread(disk.begun.wait, DEADLINE)
            using.cancel()
            await asyncio.wait((using,))
            closing = asyncio.ensure_future(file.close())
            await asyncio.wait((closing,), timeout=PREMATURE)
            disk.go_on.set()
            assert await asyncio.to_thread(disk.ended.wait, DEADLINE)
            await closing
            assert file._file.fd < 0

    asyncio.run(scenario())
    found = os.stat(root / "file")
    assert disk.used == [(found.st_dev, found.st_ino)]


def test_a_file_that_a_disk_holds_is_closed_when_it_lets_go(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").touch()
    disk = SlowDisk(monkeypatch, "read")

    async def scenario() -> PooledFile:
        async with pooled(root, timeout=PREMATURE) as storage:
            file = await storage.open_reader("/file")
            with pytest.raises(TimeoutError):
                await file.read(10)
            with pytest.raises(TimeoutError):
                await file.close()
            assert file._file.fd >= 0
            disk.go_on.set()
        return file

    file = asyncio.run(scenario())  # with the pool's threads
    assert len(disk.used) == 1
    assert file._file.fd < 0
