"""Names are looked up off the loop, with a bound, and nobody waits for a resolver that hangs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from ftpcluster.net import lookups
from ftpcluster.net.lookups import NameService
from tests.support.programs import TIMEOUT


@dataclass
class Asked:
    """A resolver that hangs until ``answers`` is set: the names that it was asked for."""

    names: list[str] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)

    def getaddrinfo(self, name: str, *_: Any) -> list[Any]:
        self.names.append(name)
        self.answers.wait(TIMEOUT)
        return [(0, 0, 0, "", ("203.0.113.7", 0))] * 2


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    asked = Asked()
    monkeypatch.setattr(socket, "getaddrinfo", asked.getaddrinfo)
    monkeypatch.setattr(lookups, "_PATIENCE", 0.2)
    yield asked
    asked.answers.set()


async def test_the_addresses_of_a_name() -> None:
    assert "127.0.0.1" in await NameService().addresses_of("localhost")


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example.org"])
async def test_what_has_none_is_an_error(name: str) -> None:
    with pytest.raises(OSError, match=r"."):
        await NameService().addresses_of(name)


async def test_a_resolver_that_hangs_is_not_waited_for(asked: Asked) -> None:
    service = NameService()
    for name in ("one.example", "one.example", "two.example"):
        with pytest.raises(OSError, match=r"the name service has not answered for 0\.2 s"):
            await service.addresses_of(name)
    assert asked.names == ["one.example", "two.example"]  # a thread for each


async def test_whoever_asks_meanwhile_gets_the_same_answer(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "_PATIENCE", TIMEOUT)
    service = NameService()
    gone, *stay = [asyncio.create_task(service.addresses_of("one.example")) for _ in range(4)]
    while not asked.names:
        await asyncio.sleep(0)
    gone.cancel()
    asked.answers.set()
    assert await asyncio.gather(*stay) == [("203.0.113.7",)] * 3
    assert asked.names == ["one.example"]
    with pytest.raises(asyncio.CancelledError):
        await gone


def test_the_end_of_a_program_does_not_wait_for_it() -> None:
    code = (
        "import asyncio, socket, time\n"
        "from ftpcluster.net import lookups\n"
        "lookups._PATIENCE = 0.1\n"
        "socket.getaddrinfo = lambda *_: time.sleep(1000)\n"
        "async def main():\n"
        "    try:\n"
        "        await lookups.NameService().addresses_of('one.example')\n"
        "    except OSError as error:\n"
        "        print(error)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    assert done.stdout == "the name service has not answered for 0.1 s\n"
    assert done.stderr == ""
