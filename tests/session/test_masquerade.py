"""The masquerade address in PASV (protocol.md, “Data connections”)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftpcluster import Server, User
from ftpcluster.net import masquerade
from tests.conftest import InProcess
from tests.session.conftest import Maker
from tests.support.cluster import Cluster, until
from tests.support.dialogue import DEADLINE, Dialogue, reset

NAME = "ftp.example.org"
NOT_FOUND = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class From(Dialogue):
    """A dialogue of a client with this address."""

    def __init__(self, source: str, port: int) -> None:
        self.host = "127.0.0.1"
        self.sock = socket.create_connection((self.host, port), DEADLINE, (source, 0))
        self._buffer = b""
        self.expects(220)


class Resolver:
    """In place of a server's: it gives these answers, the last one again and again.

    None is no answer: the lookup runs until ``give_up``.
    """

    def __init__(self, server: InProcess, *answers: str | OSError | None) -> None:
        self._server = server
        self._answers = list(answers)
        self._running: list[asyncio.Future[None]] = []
        self.asked: list[str] = []
        server.call(lambda: setattr(server.loop, "getaddrinfo", self._getaddrinfo))

    async def _getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            self._running.append(asyncio.get_running_loop().create_future())
            await self._running[-1]
        if isinstance(answer, OSError):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, 0))]

    def give_up(self) -> None:
        self._server.call(lambda: [lookup.cancel() for lookup in self._running])


@pytest.fixture
def named(serve: Maker) -> InProcess:
    """A server whose masquerade address is a name."""
    serve(ipv4_pasv_forced_response_address=NAME)
    return serve.made[-1]


@pytest.fixture
def client(named: InProcess) -> Iterator[Dialogue]:
    with Dialogue(named.port) as client:
        client.logs_in()
        yield client


NETWORKS = {"127.0.0.0/24": "203.0.113.24", "127.0.0.2": "203.0.113.32"}
EXPECTED = {"127.0.0.1": "203.0.113.24", "127.0.0.2": "203.0.113.32", "127.0.1.1": "203.0.113.1"}


def test_the_client_s_network_decides(serve: Maker) -> None:
    """“`masquerade address` for NAT, also per client network”"""
    port = serve(ipv4_pasv_forced_response_address="203.0.113.1", masquerade_for=NETWORKS)
    names_addresses(port)


def test_the_flag_takes_networks(tmp_path: Path) -> None:
    """“also per client network”: ``--masquerade NET=ADDR``."""
    flags = ["--masquerade", "203.0.113.1"]
    for network, address in NETWORKS.items():
        flags += ["--masquerade", f"{network}={address}"]
    arguments = ("--workers", "2", "--root", str(tmp_path), "--user", "user:12345")
    with Cluster(*arguments, *flags) as cluster:
        names_addresses(cluster.port)
    assert "Traceback" not in cluster.log


def names_addresses(port: int) -> None:
    for source, address in EXPECTED.items():
        for _ in range(2):  # one on each worker
            with From(source, port) as client:
                client.logs_in()
                host, data_port = client.pasv()
                assert host == address
                with socket.create_connection(("127.0.0.1", data_port), DEADLINE, (source, 0)):
                    client.says("NLST", 150)
                    client.expects(226)


def test_others_than_those_in_the_networks_get_the_server_s_own_address(serve: Maker) -> None:
    port = serve(masquerade_for={"127.0.0.2/32": "203.0.113.32"})
    with Dialogue(port) as client:
        client.logs_in()
        assert client.pasv()[0] == "127.0.0.1"


def test_behind_a_proxy_the_client_s_network_decides(serve: Maker) -> None:
    port = serve(
        masquerade_for={"192.0.2.0/24": "203.0.113.7", "127.0.0.0/8": "203.0.113.127"},
        proxy_protocol=["127.0.0.1"],
    )
    for source, address in (("192.0.2.1", "203.0.113.7"), ("198.51.100.1", "192.0.2.99")):
        with Dialogue(port, greeting=None) as client:
            client.sock.sendall(f"PROXY TCP4 {source} 192.0.2.99 1 21\r\n".encode())
            client.expects(220)
            client.logs_in()
            assert client.pasv()[0] == address


def test_ipv6_clients_are_told_no_address(serve: Maker) -> None:
    port = serve(host="::1", ipv4_pasv_forced_response_address=NAME, masquerade_for=NETWORKS)
    resolver = Resolver(serve.made[-1], NOT_FOUND)
    with Dialogue(port, "::1") as client:
        client.logs_in()
        client.says("PASV", 503)
        assert client.downloads("NLST") == b""
    assert resolver.asked == []


# ---------------------------------------------------------------------- host names


def test_a_host_name_s_address_is_named(named: InProcess, client: Dialogue) -> None:
    """“masquerade address … as a host name that is looked up again”"""
    resolver = Resolver(named, "203.0.113.1", "203.0.113.2")
    assert [client.pasv()[0] for _ in range(3)] == ["203.0.113.1"] * 3
    assert resolver.asked == [NAME]
    assert client.downloads("NLST") == b""  # EPSV names a port alone


def test_a_host_name_is_looked_up_again(
    named: InProcess, client: Dialogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """“a host name that is looked up again”: the new address is told as soon as it is known."""
    monkeypatch.setattr(masquerade, "_FRESH", 0.0)
    resolver = Resolver(named, "203.0.113.1", "203.0.113.2")
    assert client.pasv()[0] == "203.0.113.1"
    until(lambda: client.pasv()[0] == "203.0.113.2")
    assert len(resolver.asked) > 1


@pytest.mark.parametrize("later", [None, NOT_FOUND], ids=["runs", "fails"])
def test_the_old_address_serves_while_the_lookup(
    named: InProcess,
    client: Dialogue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    later: OSError | None,
) -> None:
    monkeypatch.setattr(masquerade, "_FRESH", 0.0)
    resolver = Resolver(named, "203.0.113.1", later)
    for _ in range(5):
        assert client.pasv()[0] == "203.0.113.1"
    until(lambda: len(resolver.asked) > 1)
    assert client.pasv()[0] == "203.0.113.1"
    resolver.give_up()
    caplog.clear()  # that a lookup fails is an error, and is meant to be logged


@pytest.mark.parametrize("name", [NAME, "a..b"])
def test_without_any_address_pasv_is_425_and_the_session_lives(
    serve: Maker, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    serve(ipv4_pasv_forced_response_address=name)
    if name == NAME:
        Resolver(serve.made[-1], NOT_FOUND)
    with Dialogue(serve.made[-1].port) as client:
        client.logs_in()
        client.says("PASV", 425)
        client.says("PASV", 425)
        client.says("LIST", 425)
        assert client.downloads("NLST") == b""
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert errors
    assert all(f"the masquerade address {name}" in record.getMessage() for record in errors)
    caplog.clear()


def test_a_failed_lookup_keeps_no_port(serve: Maker, caplog: pytest.LogCaptureFixture) -> None:
    """A port that is taken before the address is known would be lost to others."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = serve(ipv4_pasv_forced_response_address=NAME, data_ports=[reserved.getsockname()[1]])
        Resolver(serve.made[-1], NOT_FOUND)
        with Dialogue(port) as one, Dialogue(port) as other:
            for client in (one, other):
                client.logs_in()
            one.says("PASV", 425)
            assert other.downloads("NLST") == b""
    caplog.clear()


def test_a_client_that_leaves_during_the_lookup_is_forgotten(
    named: InProcess, client: Dialogue
) -> None:
    resolver = Resolver(named, None)
    client.send("PASV")
    until(lambda: resolver.asked)
    reset(client.sock)
    until(lambda: named.call(lambda: named.server.ledger.connections == 0))
    resolver.give_up()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_server_that_closes_leaves_no_lookup_behind(loop: str, tmp_path: Path) -> None:
    """library.md: “`close()` … leaves no task, fd or warning”."""
    users = [User("user", "12345", base_path=tmp_path)]
    server = InProcess(loop, lambda: Server(users, ipv4_pasv_forced_response_address=NAME))
    resolver = Resolver(server, None)
    before = server.call(asyncio.all_tasks)
    try:
        with Dialogue(server.port) as client:
            client.logs_in()
            client.send("PASV")
            until(lambda: resolver.asked)
            close = asyncio.run_coroutine_threadsafe(server.server.close(), server.loop)
            close.result(DEADLINE)
            assert server.call(asyncio.all_tasks) <= before
    finally:
        resolver.give_up()
        server.stop()
