"""Data connections that commands of one's own have asked for, and have left as they were."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ftpcluster
from ftpcluster import ConnectionConditions
from ftpcluster.quota.rates import UPLOAD, Rates
from tests.library.client import Client, Data
from tests.library.loops import on_both_loops


class Peeking(ftpcluster.Server):
    """Commands that use a data connection and do not close it."""

    @ConnectionConditions(ConnectionConditions.data_connection_made, wait=True)
    async def peek(self, connection: Any, rest: str) -> bool:
        first = await connection.data_connection.read(4)
        connection.response("200", first.decode())
        return True

    @ConnectionConditions(ConnectionConditions.data_connection_made, wait=True)
    async def stor(self, connection: Any, rest: str) -> bool:
        self.header = await connection.data_connection.read(4)
        return await super().stor(connection, rest)

    @ConnectionConditions(ConnectionConditions.data_connection_made, wait=True)
    async def xagain(self, connection: Any, rest: str) -> bool:
        await connection.data_connection.read(4)
        return await super().epsv(connection, "")


def limited(root: Path) -> Peeking:
    user = ftpcluster.User("user", "12345", base_path=root, read_speed_limit=1 << 20)
    return Peeking([user])


def sharers(server: ftpcluster.Server) -> int:
    """Transfers among which the upload limit of the one user is divided."""
    pool = server._quotas.leases.pools("user", Rates(upload=1 << 20))
    assert pool is not None
    return len(pool[UPLOAD].transfers)


@on_both_loops
async def test_a_command_that_leaves_its_data_connection_open_gives_its_share_back(
    root: Path,
) -> None:
    async with limited(root) as server, Client(server.server_port) as client:
        await client.logs_in("user", "12345")
        async with client.passive() as data:
            await data.send(b"onetwothree!")
            for part in ("onet", "woth", "ree!"):
                assert await client.says("PEEK", 200) == f"200 {part}"
                assert sharers(server) == 0
            assert "No transfer in progress" in await client.says("STAT", 211)


@on_both_loops
async def test_a_new_data_connection_gives_back_the_share_of_the_one_before(root: Path) -> None:
    async with limited(root) as server, Client(server.server_port) as client:
        await client.logs_in("user", "12345")
        async with client.passive() as data:
            await data.send(b"some")
            await client.says("XAGAIN", 229)
            assert sharers(server) == 0
            assert await data.read() == b""  # it was closed


@on_both_loops
async def test_a_built_in_command_goes_on_where_an_overridden_one_has_read(root: Path) -> None:
    async with limited(root) as server, Client(server.server_port) as client:
        await client.logs_in("user", "12345")
        async with client.passive() as data:
            client.send("STOR file")
            await data.send(b"headcontent")
            await client.expects(150)
        await client.expects(226)
        assert server.header == b"head"
        assert (root / "file").read_bytes() == b"content"
        assert sharers(server) == 0


# ---------------------------------------------------------------------- waiting for it


class Waiting(ftpcluster.Server):
    """A command that waits for a data connection, and gives up before long."""

    @ConnectionConditions(ConnectionConditions.data_connection_made, wait=True)
    async def await_(self, connection: Any, rest: str) -> bool:
        connection.response("200", "it has come")
        return True


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Data]:
    """A data connection, made when the command has been sent."""
    data = Data(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield data
    finally:
        await data.close()


def impatient(root: Path, **settings: Any) -> Waiting:
    user = ftpcluster.User(base_path=root)
    return Waiting([user], wait_future_timeout=0.05, **settings)


@on_both_loops
async def test_a_built_in_command_takes_the_connection_that_another_one_has_waited_for(
    root: Path,
) -> None:
    (root / "file").write_bytes(b"content")
    async with impatient(root) as server, Client(server.server_port) as client:
        await client.logs_in()
        port = await client.epsv()
        await client.says("AWAIT", 503)
        await client.says("RETR file", 150)
        async with connected(port) as data:
            assert await data.read() == b"content"
        await client.expects(226)


@on_both_loops
async def test_abor_ends_the_wait_for_a_connection_that_another_command_has_begun(
    root: Path,
) -> None:
    (root / "file").write_bytes(b"content")
    async with impatient(root) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.epsv()
        await client.says("AWAIT", 503)
        await client.says("RETR file", 150)
        await client.says("ABOR", 426)
        await client.expects(226)
        assert await client.downloads("RETR file") == b"content"


@on_both_loops
async def test_where_no_connection_comes_a_built_in_command_says_425(root: Path) -> None:
    async with impatient(root, data_timeout=0.2) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.epsv()
        await client.says("AWAIT", 503)
        await client.says("LIST", 150)
        await client.expects(425)
        await client.says("NOOP", 200)


@on_both_loops
async def test_a_new_listener_is_watched_though_the_one_before_was_waited_at(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    async with impatient(root) as server, Client(server.server_port) as client:
        await client.logs_in()
        for _ in range(3):
            port = await client.epsv()  # closes the one before, whose number the new one may get
            await client.says("AWAIT", 503)
        client.send("RETR file")
        async with connected(port) as data:
            assert await data.read() == b"content"
        await client.expects(150)
        await client.expects(226)
        assert server._services is not None
        assert len(server._services.poller._watchers) == 1  # the control connection
