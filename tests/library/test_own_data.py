"""Data connections that commands of one's own have asked for, and have left as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ftpcluster
from ftpcluster import ConnectionConditions
from tests.library.client import Client
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
    (throttle,) = server._quotas._users._throttles.values()
    return throttle.read.users


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
