"""The address that PASV names: for whom which, and how long a host name's address is used."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from ftpcluster.net import masquerade
from ftpcluster.net.masquerade import Masquerade
from ftpcluster.protocol.errors import NoDataConnection

DEADLINE = 20.0
NAME = "ftp.example.org"
PEER = "192.0.2.1"


class Resolver:
    """In place of the loop's: it answers when, and what, the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: list[str | OSError] = []  # the last one again and again
        self.held: asyncio.Future[None] | None = None

    async def getaddrinfo(self, host: str, port: Any, *, family: int = 0, **_: Any) -> list[Any]:
        self.asked.append((host, family))
        if self.held is not None:
            await asyncio.shield(self.held)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in answer.split()]

    def hold(self) -> asyncio.Future[None]:
        """Let lookups wait until the future is done."""
        self.held = asyncio.get_running_loop().create_future()
        return self.held


@pytest.fixture
async def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver.getaddrinfo)
    return resolver


async def until(look: Any) -> None:
    async with asyncio.timeout(DEADLINE):
        while not look():
            await asyncio.sleep(0)


NOT_FOUND = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

# ---------------------------------------------------------------------- for whom


@pytest.mark.parametrize("peer", [PEER, "::1", "fe80::1%eth0"])
async def test_without_an_address_it_is_the_server_s_own(peer: str) -> None:
    assert await Masquerade().address_for(peer) is None


async def test_an_address_is_named_as_it_is(resolver: Resolver) -> None:
    assert await Masquerade("203.0.113.7").address_for(PEER) == "203.0.113.7"
    assert resolver.asked == []


NETWORKS = {
    "10.0.0.0/8": "203.0.113.8",
    "10.1.2.3": "203.0.113.32",
    "0.0.0.0/0": "203.0.113.100",
    "10.1.0.0/16": "203.0.113.16",
}


@pytest.mark.parametrize("order", ["as written", "reversed"])
@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("10.1.2.3", "203.0.113.32"),
        ("10.1.2.4", "203.0.113.16"),
        ("10.2.0.1", "203.0.113.8"),
        ("192.0.2.1", "203.0.113.100"),
        ("2001:db8::1", "203.0.113.1"),  # as nobody's network has it
    ],
)
async def test_the_narrowest_network_decides(order: str, peer: str, address: str) -> None:
    pairs = list(NETWORKS.items())
    if order == "reversed":
        pairs.reverse()
    assert await Masquerade("203.0.113.1", dict(pairs)).address_for(peer) == address


async def test_clients_in_no_network_get_the_server_s_own() -> None:
    only_there = Masquerade(None, {"10.0.0.0/8": "203.0.113.7"})
    assert await only_there.address_for("10.0.0.1") == "203.0.113.7"
    for peer in (PEER, "2001:db8::1", "::1", "fe80::1%eth0"):
        assert await only_there.address_for(peer) is None


async def test_networks_may_be_ipv6() -> None:
    """Behind a proxy such clients may reach an IPv4 address."""
    networks = {"2001:db8::/32": "203.0.113.32", "2001:db8:1::/48": "203.0.113.48"}
    here = Masquerade(None, networks)
    assert await here.address_for("2001:db8:1::1") == "203.0.113.48"
    assert await here.address_for("2001:db8:2::1") == "203.0.113.32"
    assert await here.address_for("32.1.13.184") is None  # the same first bytes


async def test_each_network_may_have_a_name(resolver: Resolver) -> None:
    resolver.answers = ["203.0.113.1", "203.0.113.2"]
    here = Masquerade("outside.example.org", {"10.0.0.0/8": "inside.example.org"})
    assert await here.address_for(PEER) == "203.0.113.1"
    assert await here.address_for("10.0.0.1") == "203.0.113.2"
    assert [name for name, _ in resolver.asked] == ["outside.example.org", "inside.example.org"]


@pytest.mark.parametrize("network", ["10.0.0.1/8", "x", "", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Masquerade(None, {network: "203.0.113.7"})


# ---------------------------------------------------------------------- host names


async def test_a_name_is_looked_up_for_ipv4_and_once(resolver: Resolver) -> None:
    resolver.answers = ["203.0.113.1", "203.0.113.2"]
    here = Masquerade(NAME)
    assert [await here.address_for(PEER) for _ in range(5)] == ["203.0.113.1"] * 5
    assert resolver.asked == [(NAME, socket.AF_INET)]


async def test_of_several_addresses_it_names_the_one_that_the_client_has_reached(
    resolver: Resolver,
) -> None:
    resolver.answers = ["203.0.113.1 203.0.113.2 203.0.113.1"]
    here = Masquerade(NAME)
    assert await here.address_for(PEER, "203.0.113.2") == "203.0.113.2"
    assert await here.address_for(PEER, "10.0.0.1") == "203.0.113.1"


async def test_a_name_is_not_looked_up_before_anybody_asks(resolver: Resolver) -> None:
    Masquerade(NAME)
    await asyncio.sleep(0)
    assert resolver.asked == []


async def test_those_who_ask_meanwhile_share_one_lookup(resolver: Resolver) -> None:
    resolver.answers = ["203.0.113.1"]
    answer = resolver.hold()
    here = Masquerade(NAME)
    asking = [asyncio.create_task(here.address_for(PEER)) for _ in range(5)]
    await until(lambda: resolver.asked)
    answer.set_result(None)
    async with asyncio.timeout(DEADLINE):
        assert await asyncio.gather(*asking) == ["203.0.113.1"] * 5
    assert len(resolver.asked) == 1


async def test_one_who_goes_away_does_not_end_the_lookup_of_others(resolver: Resolver) -> None:
    resolver.answers = ["203.0.113.1"]
    answer = resolver.hold()
    here = Masquerade(NAME)
    gone, stays = (asyncio.create_task(here.address_for(PEER)) for _ in range(2))
    await until(lambda: resolver.asked)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    answer.set_result(None)
    async with asyncio.timeout(DEADLINE):
        assert await stays == "203.0.113.1"
    assert len(resolver.asked) == 1


async def test_after_its_time_a_name_is_looked_up_again_and_the_old_address_serves_meanwhile(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.answers = ["203.0.113.1", "203.0.113.2"]
    monkeypatch.setattr(masquerade, "_FRESH", 0.0)
    here = Masquerade(NAME)
    assert await here.address_for(PEER) == "203.0.113.1"
    monkeypatch.setattr(masquerade, "_FRESH", 60.0)
    answer = resolver.hold()
    for _ in range(3):
        assert await here.address_for(PEER) == "203.0.113.1"
        await asyncio.sleep(0)
    assert len(resolver.asked) == 2
    answer.set_result(None)
    async with asyncio.timeout(DEADLINE):
        while await here.address_for(PEER) != "203.0.113.2":
            await asyncio.sleep(0)
    assert len(resolver.asked) == 2


async def test_before_its_time_a_name_is_not_looked_up_again(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.answers = ["203.0.113.1"]
    here = Masquerade(NAME)
    await here.address_for(PEER)
    loop = asyncio.get_running_loop()
    now = loop.time()
    for later, lookups in ((59.0, 1), (61.0, 2)):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", lambda later=later: now + later)
            assert await here.address_for(PEER) == "203.0.113.1"
        await asyncio.sleep(0)
        assert len(resolver.asked) == lookups


async def test_the_old_address_serves_while_lookups_fail(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resolver.answers = ["203.0.113.1", NOT_FOUND, "203.0.113.2"]
    monkeypatch.setattr(masquerade, "_FRESH", 0.0)
    here = Masquerade(NAME)
    assert await here.address_for(PEER) == "203.0.113.1"
    assert await here.address_for(PEER) == "203.0.113.1"
    await until(lambda: f"the masquerade address {NAME} cannot be looked up" in caplog.text)
    async with asyncio.timeout(DEADLINE):
        while (address := await here.address_for(PEER)) != "203.0.113.2":
            assert address == "203.0.113.1"
            await asyncio.sleep(0)


async def test_after_a_failure_the_old_address_serves_its_time_before_the_next_try(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resolver.answers = ["203.0.113.1", NOT_FOUND]
    monkeypatch.setattr(masquerade, "_FRESH", 0.0)
    here = Masquerade(NAME)
    await here.address_for(PEER)
    monkeypatch.setattr(masquerade, "_FRESH", 60.0)
    await here.address_for(PEER)
    await until(lambda: caplog.records)
    for _ in range(3):
        assert await here.address_for(PEER) == "203.0.113.1"
        await asyncio.sleep(0)
    assert len(resolver.asked) == 2


async def test_a_name_without_an_address_is_no_data_connection_and_the_next_one_asks_again(
    resolver: Resolver, caplog: pytest.LogCaptureFixture
) -> None:
    resolver.answers = [NOT_FOUND, OSError(5, "Input/output error"), "203.0.113.1"]
    here = Masquerade(NAME)
    for _ in range(2):
        with pytest.raises(NoDataConnection):
            await here.address_for(PEER)
        await asyncio.sleep(0)
    assert await here.address_for(PEER) == "203.0.113.1"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example.org"])
async def test_a_name_that_cannot_be_one_has_no_address(name: str) -> None:
    """The real resolver refuses it with another exception than one that it does not find."""
    with pytest.raises(NoDataConnection):
        await Masquerade(name).address_for(PEER)


async def test_the_real_resolver_is_asked() -> None:
    assert await Masquerade("localhost").address_for(PEER) == "127.0.0.1"
