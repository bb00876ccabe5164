"""Calls of storage that may not answer: how many run, and what becomes of the others."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ftpcluster.protocol.errors import StorageSilent
from ftpcluster.storage.slow_calls import EACH, Device, Lane, SlowCalls
from ftpcluster.storage.threads import Threads

DEADLINE = 20.0


class Hanging:
    """A call that hangs until the test says otherwise."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.all_run = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            if self.running == EACH:
                self.all_run.set()
        assert self.go_on.wait(DEADLINE)
        with self._lock:
            self.running -= 1
        return "done"


class Disk:
    """Directories of one device."""

    def __init__(self, most: int, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(self._loop)
        self._device = Device(most)
        self._patience = patience

    def directory(self, name: str = "/d") -> SlowCalls:
        return SlowCalls(name, self._loop, self._threads, self._device, self._patience)

    def close(self) -> None:
        self._threads.close()


async def test_a_directory_has_so_many_threads_and_the_others_of_its_device_have_theirs() -> None:
    disk, hanging = Disk(2 * EACH, DEADLINE), Hanging()
    one, other = disk.directory(), disk.directory()
    waiting = [Lane(one).run("stat", hanging) for _ in range(3 * EACH)]
    async with asyncio.timeout(DEADLINE):
        for _ in range(20):
            assert await Lane(other).run("stat", int) == 0
    assert await asyncio.to_thread(hanging.all_run.wait, DEADLINE)
    hanging.go_on.set()
    assert await asyncio.gather(*waiting) == ["done"] * len(waiting)
    assert hanging.most == EACH
    assert hanging.most == EACH
    disk.close()


async def test_a_device_has_so_many_threads_and_its_directories_take_turns() -> None:
    disk, hanging = Disk(2, DEADLINE), Hanging()
    waiting = [Lane(disk.directory(str(n))).run("stat", hanging) for n in range(6)]
    await asyncio.sleep(0.1)
    assert hanging.running == 2
    hanging.go_on.set()
    assert await asyncio.gather(*waiting) == ["done"] * 6
    assert hanging.most == 2
    disk.close()


async def test_where_all_hang_the_next_call_fails_at_once_until_one_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk, hanging = Disk(2 * EACH, 0.2), Hanging()
    calls = disk.directory()
    waiting = [Lane(calls).run("stat", hanging) for _ in range(EACH + 1)]
    for each in waiting:
        with pytest.raises(StorageSilent):
            await each
    late = Lane(calls).run("stat", int)
    assert late.done()
    with pytest.raises(StorageSilent):
        await late
    assert caplog.text.count("does not answer: stat has taken 0 s") == 1
    hanging.go_on.set()
    async with asyncio.timeout(DEADLINE):
        while "answers again" not in caplog.text:
            await asyncio.sleep(0.01)
    assert await Lane(calls).run("stat", int) == 0
    assert hanging.most == EACH  # the fifth was not made any more: nobody waited for it
    disk.close()


async def test_calls_of_one_lane_come_in_turn_and_what_is_needed_comes_though_nobody_waits() -> (
    None
):
    disk, hanging = Disk(EACH, 0.1), Hanging()
    lane, done = Lane(disk.directory()), []
    first = lane.run("read", hanging)
    pointless = lane.run("read", done.append, "pointless")
    needed = lane.run("close", done.append, "needed", needed=True)
    lane.detach("close", done.append, "detached")
    for each in (first, pointless, needed):
        with pytest.raises(StorageSilent):
            await each
    assert hanging.running == 1
    hanging.go_on.set()
    async with asyncio.timeout(DEADLINE):
        while lane.is_busy:
            await asyncio.sleep(0.01)
    assert done == ["needed", "detached"]
    disk.close()


async def test_a_result_that_comes_too_late_is_discarded_in_a_thread() -> None:
    disk, hanging = Disk(EACH, 0.1), Hanging()
    threads = []
    lane = Lane(disk.directory())
    opening = lane.run(
        "open", hanging, discard=lambda _: threads.append(threading.current_thread().name)
    )
    with pytest.raises(StorageSilent):
        await opening
    hanging.go_on.set()
    async with asyncio.timeout(DEADLINE):
        while not threads:
            await asyncio.sleep(0.01)
    assert threads == ["ftpcluster-storage"]
    disk.close()


async def test_a_process_without_threads_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    disk = Disk(EACH, DEADLINE)
    with pytest.raises(StorageSilent):
        await Lane(disk.directory()).run("stat", int)
    assert "can't start new thread" in caplog.text
    disk.close()
