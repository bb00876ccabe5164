"""Row 4: limits on speed, measured as a user's tests would: through ``asyncio.sleep``."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ftpcluster
from tests.library.client import Client
from tests.library.conftest import Sleeps
from tests.library.loops import on_both_loops

Layer = Callable[..., ftpcluster.AbstractPathIO]

N = 400_000
L = 10_000
SECONDS = N / L
SERVER = ("read_speed_limit", "write_speed_limit")
PER_CONNECTION = ("read_speed_limit_per_connection", "write_speed_limit_per_connection")


def about(seconds: float) -> object:
    return pytest.approx(seconds, rel=0.05)


def make(
    root: Path, layer: Layer = ftpcluster.PathIO, whose: str = "", limit: str = ""
) -> ftpcluster.Server:
    """A server for anybody; one limit of the server's or of the user's is L."""
    mine = {limit: L} if whose == "server" else {}
    users = {limit: L} if whose == "user" else {}
    return ftpcluster.Server(
        [ftpcluster.User(base_path=root, **users)],  # type: ignore[arg-type]
        path_io_factory=layer,
        **mine,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("whose", ["server", "user"])
@pytest.mark.parametrize("limit", [*SERVER, *PER_CONNECTION])
@on_both_loops
async def test_a_transfer_of_n_bytes_under_limit_l_takes_n_over_l(
    root: Path, layer: Layer, whose: str, limit: str, sleeps: Sleeps
) -> None:
    """And the other direction takes no time."""
    content = os.urandom(N)
    async with make(root, layer, whose, limit) as server, Client(server.server_port) as client:
        await client.logs_in()
        sleeps.restart()
        await client.uploads("STOR file", content)
        up = sleeps.until
        sleeps.restart()
        assert await client.downloads("RETR file") == content
        down = sleeps.until
    assert (up, down) == ((about(SECONDS), 0) if "read" in limit else (0, about(SECONDS)))


@pytest.mark.parametrize("binary", [True, False])
@on_both_loops
async def test_a_real_transfer_takes_its_time(root: Path, binary: bool) -> None:
    (root / "file").write_bytes(bytes(30_000))
    server = ftpcluster.Server([ftpcluster.User(base_path=root)], write_speed_limit=100_000)
    async with server, Client(server.server_port) as client:
        await client.logs_in(binary=binary)
        begin = time.monotonic()
        await client.downloads("RETR file")
        took = time.monotonic() - begin
    assert 0.25 < took < 10


@on_both_loops
async def test_the_tightest_limit_decides(root: Path, sleeps: Sleeps) -> None:
    (root / "file").write_bytes(bytes(N))
    user = ftpcluster.User(
        base_path=root, write_speed_limit=3 * L, write_speed_limit_per_connection=L
    )
    async with ftpcluster.Server([user], write_speed_limit=2 * L) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            sleeps.restart()
            await client.downloads("RETR file")
    assert sleeps.until == about(SECONDS)


async def download_at_once(port: int, logins: tuple[str, ...], sleeps: Sleeps) -> float:
    """A download of every login, all at the same time; when the last one would have ended."""

    async def visit(login: str) -> None:
        async with Client(port) as client:
            await client.logs_in(login)
            async with client.passive() as data:
                here.append(login)
                if len(here) == len(logins):
                    everybody.set()
                    sleeps.restart()
                await everybody.wait()
                await client.says("RETR file", 150)
                await data.read()
                await client.expects(226)

    here: list[str] = []
    everybody = asyncio.Event()
    await asyncio.gather(*map(visit, logins))
    return sleeps.until


@on_both_loops
async def test_the_servers_limit_is_shared_by_its_sessions(root: Path, sleeps: Sleeps) -> None:
    (root / "file").write_bytes(bytes(N))
    users = [ftpcluster.User("a", base_path=root), ftpcluster.User("b", base_path=root)]
    async with ftpcluster.Server(users, write_speed_limit=L) as server:
        took = await download_at_once(server.server_port, ("a", "b", "b"), sleeps)
    assert took == about(3 * SECONDS)


@on_both_loops
async def test_a_limit_per_connection_is_shared_by_nobody(root: Path, sleeps: Sleeps) -> None:
    (root / "file").write_bytes(bytes(N))
    users = [ftpcluster.User("a", base_path=root, write_speed_limit_per_connection=L)]
    async with ftpcluster.Server(users, write_speed_limit_per_connection=L) as server:
        took = await download_at_once(server.server_port, ("a", "a", "a"), sleeps)
    assert took == about(SECONDS)


class NewUserEveryTime(ftpcluster.AbstractUserManager):
    """As a database would: a login is not an object."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    async def get_user(
        self, login: str
    ) -> tuple[ftpcluster.AbstractUserManager.GetUserResponse, ftpcluster.User | None, str]:
        user = ftpcluster.User(login, base_path=self.root, write_speed_limit=L)
        return self.GetUserResponse.OK, user, ""

    async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
        return True


@pytest.mark.parametrize(("logins", "times"), [(("a", "a"), 2), (("a", "b"), 1)])
@on_both_loops
async def test_the_users_limit_is_shared_by_login_not_by_object(
    root: Path, sleeps: Sleeps, logins: tuple[str, ...], times: int
) -> None:
    (root / "file").write_bytes(bytes(N))
    async with ftpcluster.Server(NewUserEveryTime(root)) as server:
        took = await download_at_once(server.server_port, logins, sleeps)
    assert took == about(times * SECONDS)


@pytest.mark.parametrize("name", ["throttle", "throttle_per_connection"])
@on_both_loops
async def test_limits_set_while_running_hold_for_sessions_that_begin_later(
    root: Path, sleeps: Sleeps, name: str
) -> None:
    (root / "file").write_bytes(bytes(N))
    async with make(root) as server:
        throttle = getattr(server, name)
        assert (throttle.read.limit, throttle.write.limit) == (None, None)
        for read, write in ((None, L), (L, None), (None, None)):
            throttle.read.limit, throttle.write.limit = read, write
            async with Client(server.server_port) as client:
                await client.logs_in()
                sleeps.restart()
                await client.downloads("RETR file")
                assert sleeps.until == (about(SECONDS) if write else 0)
                sleeps.restart()
                await client.uploads("STOR other", bytes(N))
                assert sleeps.until == (about(SECONDS) if read else 0)


@on_both_loops
async def test_the_limits_that_server_was_given_can_be_read(root: Path) -> None:
    server = ftpcluster.Server(
        read_speed_limit=1,
        write_speed_limit=2,
        read_speed_limit_per_connection=3,
        write_speed_limit_per_connection=4,
    )
    assert (server.throttle.read.limit, server.throttle.write.limit) == (1, 2)
    each = server.throttle_per_connection
    assert (each.read.limit, each.write.limit) == (3, 4)


@on_both_loops
async def test_listings_are_under_the_limit_too(root: Path, sleeps: Sleeps) -> None:
    for number in range(100):
        (root / f"{number:080}").touch()
    async with make(root, whose="server", limit="write_speed_limit") as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            sleeps.restart()
            size = len(await client.downloads("MLSD"))
    assert sleeps.until == about(size / L)


@on_both_loops
async def test_a_limited_transfer_is_smooth(root: Path, sleeps: Sleeps) -> None:
    """No burst: nobody waits long at a time, since little is moved at a time."""
    (root / "file").write_bytes(bytes(10 * 1_000_000))
    server = ftpcluster.Server([ftpcluster.User(base_path=root)], write_speed_limit=1_000_000)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.downloads("RETR file")
    assert len(sleeps.delays) >= 10 / 0.25


@on_both_loops
async def test_nothing_else_sleeps(root: Path, layer: Layer, nobody_sleeps: None) -> None:
    users = [ftpcluster.User("user", "12345", base_path=root)]
    server = ftpcluster.Server(users, path_io_factory=layer, login_delay=0.01)
    async with server, Client(server.server_port) as client:
        await client.says("USER user", 331)
        await client.says("PASS wrong", 530)
        await client.logs_in("user", "12345")
        await client.says("MKD directory", 257)
        await client.uploads("STOR directory/file", bytes(N))
        assert await client.downloads("RETR directory/file") == bytes(N)
        for command in ("LIST directory", "NLST", "MLSD directory"):
            assert await client.downloads(command)
        await client.says("RNFR directory/file", 350)
        await client.says("RNTO directory/other", 250)
        await client.says("SIZE directory/other", 213)
        await client.says("DELE directory/other", 250)
        await client.says("RMD directory", 250)
        for command in ("NOOP", "PWD", "CWD /", "FEAT", "SYST", "ABOR", "HELP"):
            await client.says(command, 200, 257, 250, 211, 215, 226, 214)
        await client.says("QUIT", 221)
        assert await client.is_ended()
