"""Rows 1 and 2: how a ``Server`` starts, serves and ends, in one loop with its clients."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import re
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ftpcluster
from ftpcluster.net.stream import Stream
from ftpcluster.session.server_pi import ServerPI
from ftpcluster.session.state import Session
from tests.library.client import DEADLINE, Client, Data
from tests.library.loops import on_both_loops, tasks

MB = 1 << 20


def descriptors() -> set[str]:
    """What this process has open. The loop's own are among them, so compare within one loop."""
    gc.collect()
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:
            pass  # the listing's own
    return found


@pytest.fixture
def make(root: Path) -> Callable[..., ftpcluster.Server]:
    """A server of ``root`` for anybody."""

    def make_server(**arguments: Any) -> ftpcluster.Server:
        return ftpcluster.Server([ftpcluster.User(base_path=root)], **arguments)

    return make_server


Make = Callable[..., ftpcluster.Server]


@on_both_loops
async def test_the_greeting_and_the_system_type_are_exact(make: Make) -> None:
    async with make() as server, Client(server.server_port, greeting=None) as client:
        assert await client.reply() == (220, "220 welcome")
        assert await client.says("SYST", 215) == "215 UNIX Type: L8"


@on_both_loops
async def test_a_server_listens_on_several_hosts(make: Make) -> None:
    server = make()
    with pytest.raises(AttributeError):
        _ = server.server
    await server.start(["127.0.0.1", "127.0.0.2", "127.0.0.1"])
    assert server.address == ("127.0.0.1", server.server_port)
    assert server.server.is_serving()
    assert [sock.getsockname() for sock in server.server.sockets] == [
        ("127.0.0.1", server.server_port),
        ("127.0.0.2", server.server_port),
    ]
    for host in ("127.0.0.1", "127.0.0.2"):
        async with Client(server.server_port, host) as client:
            await client.logs_in()
    await server.close()
    assert server.server.sockets == ()
    assert not server.server.is_serving()


@on_both_loops
async def test_connections_are_the_sessions_and_each_can_be_ended(make: Make) -> None:
    server = make()
    assert server.connections == {}
    async with server, Client(server.server_port) as one, Client(server.server_port) as other:
        await one.logs_in()
        sessions = server.connections
        assert len(sessions) == 2
        assert all(connection.command_connection is key for key, connection in sessions.items())
        [logged] = [stream for stream, connection in sessions.items() if "logged" in connection]
        logged.close()
        assert await one.is_ended()
        assert [*server.connections] == [key for key in sessions if key is not logged]
        await other.says("NOOP", 200)


@on_both_loops
async def test_available_connections_are_those_that_the_limit_leaves(make: Make) -> None:
    server = make(maximum_connections=2)
    available = server.available_connections
    assert (available.value, available.maximum_value) == (2, 2)
    async with server, Client(server.server_port):
        assert available.value == 1
        assert not available.locked()
        available.acquire()
        assert available.locked()
        with pytest.raises(ValueError, match="available"):
            available.acquire()
        async with Client(server.server_port, greeting=421):
            pass
        available.release()
        with pytest.raises(ValueError, match="acquired"):
            available.release()
        async with Client(server.server_port):
            assert server.available_connections.locked()
    assert available.value == 2
    assert make().available_connections.value is None


@on_both_loops
async def test_the_greeting_and_the_system_type_can_be_chosen(make: Make) -> None:
    async with make(welcome_message="hello", system_type="Plan 9") as server:
        async with Client(server.server_port, greeting=None) as client:
            assert await client.reply() == (220, "220 hello")
            assert await client.says("SYST", 215) == "215 Plan 9"


@on_both_loops
async def test_names_on_the_wire_are_in_the_encoding_of_the_server(make: Make, root: Path) -> None:
    async with make(encoding="cp1251") as server, Client(server.server_port) as client:
        client.encoding = "cp1251"
        await client.logs_in()
        await client.says("MKD папка", 257)
        assert (root / "папка").is_dir()
        assert '"/папка"' in await client.says("CWD папка", 250) + await client.says("PWD", 257)
        await client.uploads("STOR файл", b"x")
        assert await client.downloads("NLST") == "файл\r\n".encode("cp1251")


@on_both_loops
async def test_after_start_the_server_knows_its_address(make: Make) -> None:
    server = make()
    await server.start("127.0.0.1", 0)
    assert server.server_host == "127.0.0.1"
    assert server.server_port > 0
    assert server.address == ("127.0.0.1", server.server_port)
    async with Client(server.server_port):
        pass
    await server.close()


@on_both_loops
async def test_without_a_host_it_listens_on_all_addresses(make: Make) -> None:
    server = make()
    await server.start()
    assert server.server_host is None
    assert server.address == (None, server.server_port)
    async with Client(server.server_port, "127.0.0.1"):
        pass
    if socket.has_ipv6:
        async with Client(server.server_port, "::1"):
            pass
    await server.close()


@on_both_loops
async def test_it_listens_on_the_port_that_it_is_given(make: Make) -> None:
    first = make()
    await first.start("127.0.0.1")
    port = first.server_port
    await first.close()
    second = make()
    await second.start("127.0.0.1", port)
    assert second.server_port == port
    await second.close()


@on_both_loops
@pytest.mark.parametrize("port", [-1, 65536, 70000, 21.0, "x"])
async def test_what_is_no_port_is_refused(port: Any, make: Make) -> None:
    """The C library would listen on 4464 in place of 70000."""
    server = make()
    with pytest.raises(ValueError, match=f"port: expected a number from 0 to 65535, got {port!r}"):
        await server.start("127.0.0.1", port)


@on_both_loops
async def test_a_start_warns_where_tls_is_required_and_there_is_none(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async with make(require_tls=True):
        pass
    assert "nobody can log in: require_tls needs a context" in caplog.text


@on_both_loops
async def test_a_port_that_is_taken_is_an_os_error_and_nothing_is_left(make: Make) -> None:
    async with make() as first:
        second = make()
        before = descriptors()
        with pytest.raises(OSError, match="taken"):
            await second.start(None, first.server_port)
        assert descriptors() == before
        await second.close()


@pytest.mark.parametrize(
    "arguments",
    [
        {"family": socket.AF_INET},
        {"backlog": 10},
        {"reuse_address": True},
        {"reuse_port": True},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
@on_both_loops
async def test_start_takes_what_asyncio_start_server_takes(
    make: Make, arguments: dict[str, Any]
) -> None:
    server = make()
    await server.start("127.0.0.1", 0, **arguments)
    async with Client(server.server_port):
        pass
    await server.close()


@on_both_loops
async def test_a_server_cannot_be_started_twice(make: Make) -> None:
    async with make() as server:
        with pytest.raises(RuntimeError):
            await server.start()
        async with Client(server.server_port):
            pass


@on_both_loops
async def test_a_closed_server_can_be_started_again(make: Make) -> None:
    server = make()
    for _ in range(2):
        await server.start("127.0.0.1")
        async with Client(server.server_port) as client:
            await client.logs_in()
        await server.close()


@on_both_loops
async def test_serve_forever_waits_until_somebody_closes(make: Make) -> None:
    server = make()
    await server.start("127.0.0.1")
    serving = asyncio.ensure_future(server.serve_forever())
    async with Client(server.server_port) as client:
        await client.logs_in()
        assert not serving.done()
    await server.close()
    await serving


@on_both_loops
async def test_serve_forever_before_start_is_an_error(make: Make) -> None:
    with pytest.raises(RuntimeError):
        await make().serve_forever()


@on_both_loops
async def test_run_starts_serves_and_closes_when_it_is_cancelled(make: Make) -> None:
    server = make()
    running = asyncio.ensure_future(server.run("127.0.0.1", 0))
    while not server.server_port:
        await asyncio.sleep(0)
    async with Client(server.server_port) as client:
        await client.logs_in()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await client.is_ended()
    with pytest.raises(OSError, match=r".*"):
        async with Client(server.server_port):
            pass


@on_both_loops
async def test_run_ends_when_somebody_closes(make: Make) -> None:
    server = make()
    running = asyncio.ensure_future(server.run("127.0.0.1"))
    while not server.server_port:
        await asyncio.sleep(0)
    await server.close()
    await running


@on_both_loops
async def test_async_with_starts_where_nobody_has_and_closes(make: Make) -> None:
    async with make() as server, Client(server.server_port):
        pass
    server = make()
    await server.start("127.0.0.1")
    port = server.server_port
    async with server:
        assert server.server_port == port
    with pytest.raises(ConnectionRefusedError):
        async with Client(port):
            pass


@on_both_loops
async def test_close_may_come_twice_at_once_and_before_start(make: Make) -> None:
    server = make()
    await server.close()
    await server.start("127.0.0.1")
    async with Client(server.server_port) as client:
        await client.logs_in()
        await asyncio.gather(server.close(), server.close())
        assert await client.is_ended()
    await server.close()


@on_both_loops
async def test_close_without_a_client_leaves_nothing(make: Make) -> None:
    before = descriptors()
    server = make()
    await server.start("127.0.0.1")
    await server.close()
    assert descriptors() == before
    assert not tasks()


@on_both_loops
async def test_close_ends_idle_sessions_and_leaves_nothing(make: Make) -> None:
    before = descriptors()
    server = make()
    await server.start("127.0.0.1")
    async with Client(server.server_port) as unauthenticated, Client(server.server_port) as user:
        await user.logs_in()
        await user.epsv()
        await server.close()
        assert await unauthenticated.is_ended()
        assert await user.is_ended()
    assert descriptors() == before
    assert not tasks()


@pytest.mark.parametrize("factory", [ftpcluster.PathIO, ftpcluster.AsyncPathIO])
@on_both_loops
async def test_close_ends_running_transfers_and_leaves_nothing(
    make: Make, root: Path, factory: type[ftpcluster.AbstractPathIO]
) -> None:
    (root / "file").write_bytes(bytes(16 * MB))
    before = descriptors()
    server = make(path_io_factory=factory)
    await server.start("127.0.0.1")
    async with Client(server.server_port) as down, Client(server.server_port) as up:
        await down.logs_in()
        await up.logs_in()
        async with down.passive() as sent, up.passive() as received:
            await down.says("RETR file", 150)
            await up.says("STOR other", 150)
            await received.send(b"begin")
            await sent.some(1000)
            await server.close()
            assert await down.is_ended()
            assert await up.is_ended()
            assert len(await sent.read()) < 16 * MB
    del sent, received
    async with asyncio.timeout(DEADLINE):  # AsyncPathIO's threads close files when they come to it
        while descriptors() != before:
            await asyncio.sleep(0.01)
    assert not tasks()


@on_both_loops
async def test_close_after_large_uploads_leaves_no_descriptor(make: Make) -> None:
    """A pipe between socket and file is made for them."""
    before = descriptors()
    async with make() as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", bytes(2 * MB))
    assert descriptors() == before


@on_both_loops
async def test_a_hundred_clients_in_the_servers_own_loop(make: Make, root: Path) -> None:
    contents = {f"file {i}": os.urandom(1000 + 100 * i) for i in range(100)}

    async def visit(name: str) -> None:
        async with Client(server.server_port) as client:
            await client.logs_in()
            here.append(name)
            if len(here) == len(contents):
                everybody.set()
            await everybody.wait()  # all of them at once
            await client.uploads(f"STOR {name}", contents[name])
            assert await client.downloads(f"RETR {name}") == contents[name]
            assert name in "".join(await client.lines("LIST"))
            await client.says("QUIT", 221)

    here: list[str] = []
    everybody = asyncio.Event()
    async with make() as server:
        await asyncio.gather(*map(visit, contents))
    assert {path.name: path.read_bytes() for path in root.iterdir()} == contents


@on_both_loops
async def test_a_thousand_sessions_leave_no_task_and_no_descriptor(make: Make, root: Path) -> None:
    (root / "file").write_bytes(b"content")

    async def visit(number: int) -> None:
        async with Client(server.server_port) as client:
            if number % 4:
                await client.logs_in()
            if number % 4 == 1:
                assert await client.downloads("RETR file") == b"content"
            if number % 4 == 2:
                await client.epsv()
            if number % 2:
                await client.says("QUIT", 221)

    before = descriptors()
    server = make()
    await server.start("127.0.0.1")
    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always", ResourceWarning)
        for start in range(0, 1000, 20):
            await asyncio.gather(*[visit(start + i) for i in range(20)])
        await server.close()
        gc.collect()
    assert not complaints
    assert descriptors() == before
    assert not tasks()


@on_both_loops
async def test_what_a_session_leaves_needs_no_garbage_collector(make: Make, root: Path) -> None:
    (root / "file").write_bytes(b"content")

    async def visit() -> None:
        async with Client(port) as client:
            await client.logs_in()
            assert await client.downloads("RETR file") == b"content"
            assert b"file" in await client.downloads("LIST")
            await client.epsv()
            await client.says("QUIT", 221)
        async with Client(port) as client:
            await client.logs_in()
            client.send("RETR file")
            assert await client.reply() == (425, "425 Use PASV, EPSV, PORT or EPRT first.")
        async with Client(port):
            pass

    def count() -> int:
        return sum(isinstance(each, Session | ServerPI | Stream) for each in gc.get_objects())

    async with make() as server:
        port = server.server_port
        gc.collect()
        before = count()
        gc.disable()
        try:
            await visit()
            while count() > before:
                await asyncio.sleep(0.01)
        finally:
            gc.enable()


@on_both_loops
async def test_one_more_than_maximum_connections_is_told_421(make: Make) -> None:
    async with make(maximum_connections=2) as server:
        port = server.server_port
        async with Client(port) as first, Client(port):
            async with Client(port, greeting=421) as third:
                assert await third.is_ended()
            await first.says("QUIT", 221)
            assert await first.is_ended()
            async with Client(port):
                pass


async def test_an_address_may_make_so_many_connections_in_a_time(make: Make) -> None:
    async with make(new_connections_per_address="2/h", ban_allow=()) as server:
        port = server.server_port
        for _ in range(2):
            async with Client(port) as client:
                await client.says("QUIT", 221)
        async with Client(port, greeting=421) as third:
            assert await third.is_ended()
        async with Client(port, source="127.0.0.2"):
            pass


async def test_denied_networks_are_turned_away_also_where_nobody_is_banned(make: Make) -> None:
    async with make(ban_deny=["127.0.0.2"]) as server:
        async with Client(server.server_port, greeting=421, source="127.0.0.2") as denied:
            assert await denied.is_ended()
        async with Client(server.server_port):
            pass


@on_both_loops
async def test_an_address_may_have_so_many_connections_and_others_theirs(make: Make) -> None:
    async with make(maximum_connections_per_address=1) as server:
        port = server.server_port
        async with Client(port) as first:
            async with Client(port, greeting=421) as second:
                assert await second.is_ended()
            async with Client(port, source="127.0.0.2"):
                pass
            await first.says("QUIT", 221)
            assert await first.is_ended()
            async with Client(port):
                pass


@pytest.mark.parametrize("logged_in", [False, True])
@on_both_loops
async def test_who_says_nothing_for_idle_timeout_is_told_421(make: Make, logged_in: bool) -> None:
    async with make(idle_timeout=0.3) as server, Client(server.server_port) as client:
        if logged_in:
            await client.logs_in()
        await client.expects(421)
        assert await client.is_ended()


@on_both_loops
async def test_a_transfer_without_progress_for_socket_timeout_is_told_426(make: Make) -> None:
    async with make(socket_timeout=0.1) as server, Client(server.server_port) as client:
        await client.logs_in()
        async with client.passive():
            await client.says("STOR file", 150)
            await client.expects(426)
        await client.says("NOOP", 200)


class Hangs(ftpcluster.MemoryPathIO):
    """Its status never comes."""

    @ftpcluster.universal_exception
    @ftpcluster.with_timeout
    async def stat(self, path: Any) -> Any:
        await asyncio.Event().wait()


@on_both_loops
async def test_who_reads_no_reply_for_socket_timeout_is_gone(make: Make) -> None:
    async with make(socket_timeout=0.2) as server, asyncio.timeout(DEADLINE):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", server.server_port))
            sock.settimeout(0)
            await asyncio.get_running_loop().sock_sendall(sock, b"FEAT\r\n" * 20_000)
            while not server.ledger.connections:
                await asyncio.sleep(0)
            while server.ledger.connections:
                await asyncio.sleep(0.01)


@on_both_loops
async def test_path_timeout_bounds_what_a_layer_bounds(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    server = make(path_timeout=0.1, path_io_factory=Hangs)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("SIZE file", 451)
        await client.says("NOOP", 200)
    (told,) = (each for each in caplog.records if each.levelno >= logging.WARNING)
    assert "the path layer did not answer in time" in told.getMessage()
    assert told.exc_info is None


class Asks(ftpcluster.MemoryPathIO):
    """Writes down how much it is asked for, and given, at once."""

    asked: list[int]
    given: list[int]

    @ftpcluster.universal_exception
    async def read(self, file: Any, block_size: int = 8192) -> bytes:
        self.asked.append(block_size)
        return await super().read(file, block_size)

    @ftpcluster.universal_exception
    async def write(self, file: Any, data: bytes) -> int:
        self.given.append(len(data))
        return await super().write(file, data)


@on_both_loops
async def test_a_custom_layer_is_asked_for_block_size_bytes_at_once(make: Make) -> None:
    Asks.asked, Asks.given = [], []
    server = make(block_size=1000, path_io_factory=Asks)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", bytes(5000))
        assert await client.downloads("RETR file") == bytes(5000)
    assert max(Asks.given) <= 1000
    assert max(Asks.asked) <= 1000


# ---------------------------------------------------------------------- row 3: data ports


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def free_count(server: ftpcluster.Server) -> int:
    ports = server.available_data_ports
    assert ports is not None
    return ports.qsize()


@on_both_loops
async def test_without_data_ports_there_is_no_count_of_them(make: Make) -> None:
    server = make()
    assert server.available_data_ports is None
    async with server:
        assert server.available_data_ports is None


@on_both_loops
async def test_free_data_ports_are_counted_before_start_and_after_close(make: Make) -> None:
    server = make(data_ports=range(40000, 40010))
    assert free_count(server) == 10
    async with server:
        assert free_count(server) == 10
    assert free_count(server) == 10


@on_both_loops
async def test_a_data_port_counts_until_its_connection_is_made(make: Make) -> None:
    ports = free_ports(3)
    async with make(data_ports=ports) as server, Client(server.server_port) as client:
        await client.logs_in()
        port = await client.epsv()
        assert port in ports
        assert free_count(server) == 2
        assert await client.epsv() in ports  # the old one is free again
        assert free_count(server) == 2
        async with client.passive() as data:
            await client.says("STOR file", 150)
            assert free_count(server) == 3  # the listener has served its purpose
            await data.send(b"content")
        await client.expects(226)
        assert free_count(server) == 3


@on_both_loops
async def test_a_server_that_is_started_again_keeps_its_listeners_for_data_as_before(
    make: Make,
) -> None:
    ports = free_ports(1)
    server = make(data_ports=ports)
    for _ in range(2):
        await server.start("127.0.0.1")
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.uploads("STOR file", b"content")
            _, writer = await asyncio.open_connection("127.0.0.1", ports[0])  # it still listens
            writer.close()
            await writer.wait_closed()
        await server.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", ports[0])


@on_both_loops
async def test_a_data_port_returns_after_a_timeout(make: Make) -> None:
    ports = free_ports(1)
    async with make(data_ports=ports, data_timeout=0.1) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            assert await client.epsv() == ports[0]
            await client.says("LIST", 150, 425)
            if free_count(server) == 0:
                await client.expects(425)
            assert free_count(server) == 1
            assert await client.epsv() == ports[0]


@pytest.mark.parametrize("how", ["QUIT", "lost"])
@on_both_loops
async def test_a_data_port_returns_when_the_session_ends(make: Make, how: str) -> None:
    ports = free_ports(1)
    async with make(data_ports=ports) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.epsv()
            assert free_count(server) == 0
            if how == "QUIT":
                await client.says("QUIT", 221)
                assert await client.is_ended()
        async with Client(server.server_port) as client:
            await client.logs_in()
            assert await client.epsv() == ports[0]  # it waits for it, if it must
        assert free_count(server) <= 1


@on_both_loops
async def test_a_busy_data_port_is_skipped(make: Make) -> None:
    ports = free_ports(2)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", ports[0]))
        busy.listen()
        async with make(data_ports=ports) as server, Client(server.server_port) as client:
            await client.logs_in()
            for _ in range(5):
                assert await client.epsv() == ports[1]
                await client.uploads("STOR file", b"content")


@pytest.mark.parametrize("empty", [True, False])
@on_both_loops
async def test_where_no_data_port_is_to_be_had_the_session_is_told_421(
    make: Make, empty: bool
) -> None:
    (port,) = free_ports(1)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", port))
        busy.listen()
        async with make(data_ports=[] if empty else [port]) as server:
            async with Client(server.server_port) as client:
                await client.logs_in()
                await client.says("EPSV", 421)
                assert await client.is_ended()


@on_both_loops
async def test_an_iterator_of_data_ports_is_as_good_as_a_list(make: Make) -> None:
    ports = free_ports(2)
    async with make(data_ports=iter(ports)) as server, Client(server.server_port) as client:
        await client.logs_in()
        assert await client.epsv() in ports
        assert free_count(server) == 1


@on_both_loops
async def test_pasv_names_the_forced_address_and_epsv_works_as_ever(make: Make) -> None:
    server = make(ipv4_pasv_forced_response_address="203.0.113.7")
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        address, port = await client.pasv()
        assert address == "203.0.113.7"
        data = Data(*await asyncio.open_connection("127.0.0.1", port))
        await client.says("LIST", 150)
        assert await data.read() == b""
        await client.expects(226)
        await data.close()
        await client.uploads("STOR file", b"content")


@on_both_loops
async def test_pasv_names_the_address_that_the_client_has_reached(make: Make) -> None:
    async with make() as server, Client(server.server_port) as client:
        await client.logs_in()
        assert (await client.pasv())[0] == "127.0.0.1"


# ---------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"maximum_connections": "5"},
            "maximum_connections: expected a number of at least 0 or None, got '5'",
        ),
        (
            {"write_speed_limit": "10MB"},
            "write_speed_limit: expected a number of at least 0 or None, got '10MB'",
        ),
        ({"idle_timeout": -1}, "idle_timeout: expected a number of at least 0 or None, got -1"),
        ({"encoding": "nix"}, "encoding: expected one such as"),
        ({"encoding": "utf-16"}, "encoding: expected one such as"),
        ({"data_ports": "1-2"}, "data_ports: expected ports such as range"),
        ({"data_ports": [70_000]}, "data_ports: expected ports such as range"),
        ({"welcome_message": "one\ntwo"}, "welcome_message: expected one line of text"),
        ({"system_type": "UNIX\r\n"}, "system_type: expected one line of text"),
        ({"hide": "*.tmp"}, "hide: expected patterns of names"),
        ({"forbid": 5}, "forbid: expected patterns of names"),
        ({"data_ports": 5}, "data_ports: expected ports such as range"),
        ({"require_tls": "no"}, "require_tls: expected True or False, got 'no'"),
        ({"durable_uploads": 1}, "durable_uploads: expected True or False, got 1"),
        (
            {"ipv4_pasv_forced_response_address": "::1"},
            "ipv4_pasv_forced_response_address: expected an IPv4 address such as 203.0.113.7, or a "
            "host name, got '::1'",
        ),
        ({"ipv4_pasv_forced_response_address": 5}, "ipv4_pasv_forced_response_address: expected"),
        ({"masquerade_for": {"10.0.0.1/8": "a"}}, "masquerade_for: 10.0.0.1/8 has host bits set"),
        ({"masquerade_for": {"10.0.0.0/8": 5}}, "masquerade_for: expected an IPv4 address"),
        ({"masquerade_for": "10.0.0.0/8=a"}, "masquerade_for: expected a dict, got"),
        ({"proxy_protocol": "10.0.0.0/8"}, "proxy_protocol: expected networks, such as"),
        ({"proxy_protocol": [5]}, "proxy_protocol: expected networks, such as"),
        ({"ban_failures": 3, "ban_allow": "::"}, "ban_allow: expected networks, such as"),
        ({"ban_deny": "::/0"}, "ban_deny: expected networks, such as"),
        ({"ban_deny": ["10.0.0.1/8"]}, "ban_deny: expected networks, such as"),
        (
            {"new_connections_per_address": 60},
            'new_connections_per_address: expected a number in a time, such as "60/m"',
        ),
        ({"new_connections_per_address": "0/m"}, "new_connections_per_address: expected a number"),
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_given(given: dict[str, Any], says: str) -> None:
    """Not when the first client comes, and then each."""
    with pytest.raises(ValueError, match=f"^{re.escape(says)}"):
        ftpcluster.Server(**given)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("maximum_connection", "'maximum_connection'; did you mean 'maximum_connections'?"),
        ("xyz", "'xyz'"),
    ],
)
def test_an_unknown_keyword_is_named_with_one_that_is_like_it(name: str, says: str) -> None:
    message = f"^{re.escape(f'Server.__init__() got an unexpected keyword argument {says}')}$"
    with pytest.raises(TypeError, match=message):
        ftpcluster.Server(**{name: 5})  # type: ignore[arg-type]


def test_what_an_iterator_gave_stays_when_something_else_is_set() -> None:
    server = ftpcluster.Server(hide=iter(["*.tmp"]))
    server.forbid = iter(["*.php"])
    server.welcome_message = "hello"
    assert (server.hide, server.settings.hide) == (("*.tmp",), ("*.tmp",))
    assert (server.forbid, server.settings.forbid) == (("*.php",), ("*.php",))


def test_networks_are_also_objects_of_ipaddress() -> None:
    network = ipaddress.ip_network("10.0.0.0/8")
    server = ftpcluster.Server(
        masquerade_for={network: "203.0.113.7"},  # type: ignore[dict-item]
        proxy_protocol=[network],  # type: ignore[list-item]
    )
    assert server.settings.masquerade_for == {"10.0.0.0/8": "203.0.113.7"}


def test_a_wrong_limit_of_a_user_is_refused_where_it_is_given() -> None:
    with pytest.raises(
        ValueError, match=r"^read_speed_limit: expected a number of at least 0 or None, got '1MB'"
    ):
        ftpcluster.User("a", "b", read_speed_limit="1MB")  # type: ignore[arg-type]
