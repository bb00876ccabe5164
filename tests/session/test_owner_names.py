"""Names of owners in LIST, of a name service that is slow or does not answer."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftpcluster.session import owner_names
from ftpcluster.session.owner_names import PATIENCE, ListingNames, OwnerNames
from tests.session.conftest import Maker
from tests.support.dialogue import CLOCK, Dialogue

DEADLINE = 20.0
ME = os.getuid()


class NameService:
    """``delay``: seconds for each name. It does not answer before ``go_on``, if that is cleared."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.asked: list[int] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.names: Callable[[int], str] = lambda number: f"u{number}"

    def ask(self, number: int) -> str:
        self.asked.append(number)
        time.sleep(self.delay)
        assert self.go_on.wait(DEADLINE)
        return self.names(number)


def shown(names: OwnerNames, numbers: range) -> list[str]:
    return [names.owner(number) for number in numbers]


async def listed(names: OwnerNames, numbers: range) -> list[str]:
    """What one listing shows, as LIST does it."""
    listing = ListingNames(names)
    found = shown(names, numbers)
    if missing := names.take_missing():
        await listing.ask(missing)
        found = shown(names, numbers)
    names.take_missing()
    return found


def made(service: NameService) -> OwnerNames:
    return OwnerNames(asyncio.get_running_loop(), (service.ask, service.ask))


async def test_each_number_is_asked_for_once() -> None:
    service = NameService()
    names = made(service)
    for _ in range(2):
        assert await listed(names, range(5)) == ["u0", "u1", "u2", "u3", "u4"]
    assert sorted(service.asked) == list(range(5))
    names.close()


async def test_a_listing_waits_for_a_second_in_all_and_others_do_not_wait() -> None:
    service = NameService(0.3)
    names = made(service)
    loop = asyncio.get_running_loop()
    began, longest, looked = loop.time(), 0.0, loop.time()
    listing = asyncio.ensure_future(listed(names, range(20)))
    while not listing.done():
        await asyncio.sleep(0.005)
        longest, looked = max(longest, loop.time() - looked), loop.time()
    assert PATIENCE - CLOCK <= loop.time() - began < 20 * 0.3
    assert longest < 0.3
    found = listing.result()
    assert 0 < sum(name.startswith("u") for name in found) < 20  # what was there by then
    service.delay = 0.0
    async with asyncio.timeout(DEADLINE):
        while await listed(names, range(20)) != [f"u{number}" for number in range(20)]:
            await asyncio.sleep(0.01)
    assert sorted(service.asked) == list(range(20))
    names.close()


async def test_the_second_is_for_all_parts_of_a_listing() -> None:
    service = NameService()
    service.go_on.clear()
    names = made(service)
    listing, loop = ListingNames(names), asyncio.get_running_loop()
    began = loop.time()
    for first in range(0, 50, 10):
        shown(names, range(first, first + 10))
        await listing.ask(names.take_missing())
    assert PATIENCE - CLOCK <= loop.time() - began < 2 * PATIENCE
    service.go_on.set()
    names.close()


async def test_what_was_cached_as_a_number_is_told_apart_when_the_name_has_come() -> None:
    service = NameService()
    service.go_on.clear()
    names = made(service)
    before = names.owner
    assert await listed(names, range(1)) == ["0"]
    assert names.owner is before  # what it has said still holds
    service.go_on.set()
    async with asyncio.timeout(DEADLINE):
        while names.owner is before:
            await asyncio.sleep(0.01)
    assert names.owner(0) == "u0"
    names.close()


async def test_names_are_asked_for_again_and_the_old_ones_hold_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner_names, "_AGE", 0.0)
    service = NameService()
    names = made(service)
    assert await listed(names, range(2)) == ["u0", "u1"]

    def changed(number: int) -> str:
        if number:
            raise KeyError(number)  # gone, or the file was replaced and cannot be read
        return "other"

    service.names = changed
    async with asyncio.timeout(DEADLINE):
        while (found := await listed(names, range(2))) != ["other", "u1"]:
            assert found == ["u0", "u1"]
            await asyncio.sleep(0.01)
    names.close()


def test_a_server_whose_name_service_hangs_shows_numbers(
    monkeypatch: pytest.MonkeyPatch, serve: Maker, tmp_path: Path
) -> None:
    service = NameService()
    service.go_on.clear()
    monkeypatch.setattr(owner_names, "ask_owner", service.ask)
    (tmp_path / "directory" / "file").touch()
    port = serve()
    with Dialogue(port) as client, Dialogue(port) as other:
        client.logs_in()
        other.logs_in()
        data = client.passive()
        began = time.monotonic()
        client.send("LIST")
        other.says("NOOP", 200)
        assert other.downloads("NLST") == b"file\r\n"
        assert time.monotonic() - began < PATIENCE
        client.expects(150)
        with data:
            assert data.recv(1000).split()[2] == str(ME).encode()
        client.expects(226)
        service.go_on.set()
        end = time.monotonic() + DEADLINE
        while client.downloads("LIST").split()[2] != f"u{ME}".encode():
            assert time.monotonic() < end
        assert f" u{ME} " in client.says("STAT file", 213)
    assert service.asked == [ME]
