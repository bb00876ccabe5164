"""An override decides however it is made: by a subclass, on the instance, late, in any order."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path, PurePosixPath
from typing import Any
from unittest import mock

import pytest

import ftpcluster
from ftpcluster import Permission
from tests.library.client import Client
from tests.library.loops import on_both_loops
from tests.library.test_overrides import Counting


async def refuse(connection: Any, rest: str) -> bool:
    connection.response("550", f"no {rest}")
    return True


async def refusing_method(self: Any, connection: Any, rest: str) -> bool:
    connection.response("550", f"no {rest}")
    return True


def users(root: Path) -> list[ftpcluster.User]:
    return [ftpcluster.User(base_path=root)]


# ---------------------------------------------------------------------- ways to override


class BeforeInit(ftpcluster.Server):
    def __init__(self, users: Any) -> None:
        self.dele = refuse  # type: ignore[method-assign, assignment]
        super().__init__(users)


class ByProperty(ftpcluster.Server):
    @property
    def dele(self) -> Any:  # type: ignore[override]
        return refuse


class TurnedOff(ftpcluster.Server):
    dele = None  # type: ignore[assignment]


class ByPartial(ftpcluster.Server):
    dele = functools.partial(refusing_method, None)  # type: ignore[assignment]


class ByPartialMethod(ftpcluster.Server):
    dele = functools.partialmethod(refusing_method)  # type: ignore[assignment]


class ByStaticMethod(ftpcluster.Server):
    dele = staticmethod(refuse)  # type: ignore[assignment]


@dataclasses.dataclass
class Unhashable:
    """A command that is an object, which has no hash."""

    code: str

    async def __call__(self, connection: Any, rest: str) -> bool:
        connection.response(self.code, "no")
        return True


class ByObject(ftpcluster.Server):
    dele = Unhashable("550")  # type: ignore[assignment]


@pytest.mark.parametrize(
    "kind",
    [BeforeInit, ByProperty, TurnedOff, ByPartial, ByPartialMethod, ByStaticMethod, ByObject],
)
@on_both_loops
async def test_an_override_counts_however_it_is_made(
    kind: type[ftpcluster.Server], root: Path
) -> None:
    (root / "file").touch()
    async with kind(users(root)) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("DELE file", 500 if kind is TurnedOff else 550)
    assert (root / "file").exists()


def test_a_verb_that_is_turned_off_by_none_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    TurnedOff()._verbs.warn()
    (record,) = caplog.records
    assert "TurnedOff.dele is None, and DELE is turned off" in record.getMessage()


@on_both_loops
async def test_a_method_that_is_set_on_the_class_itself_counts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").touch()
    monkeypatch.setattr(ftpcluster.Server, "dele", refusing_method)
    async with ftpcluster.Server(users(root)) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("DELE file", 550)
    assert (root / "file").exists()


@on_both_loops
async def test_get_permissions_that_is_set_on_the_class_itself_counts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").touch()

    async def nothing(self: Any, path: Any) -> Permission:
        return Permission(path, readable=False, writable=False)

    monkeypatch.setattr(ftpcluster.User, "get_permissions", nothing)
    async with ftpcluster.Server(users(root)) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("DELE file", 550)
        await client.says("SIZE file", 550)


@on_both_loops
async def test_what_is_taken_off_the_instance_again_is_the_class_s(root: Path) -> None:
    class Mine(ftpcluster.Server):
        dele = refusing_method

        @ftpcluster.command("XHELLO")
        async def hello(self, connection: Any, rest: str) -> bool:
            connection.response("200", "hello")
            return True

    server = Mine(users(root))
    async with server, Client(server.server_port) as client:
        await client.logs_in()

        async def other(connection: Any, rest: str) -> bool:
            connection.response("502", "other")
            return True

        with mock.patch.object(server, "dele", other), mock.patch.object(server, "size", other):
            await client.says("DELE x", 502)
            await client.says("SIZE x", 502)
        await client.says("DELE x", 550)
        assert "No such file" in await client.says("SIZE x", 550)
        with mock.patch.object(server, "hello", other):
            await client.says("XHELLO", 502)
            await client.says("REIN", 220)
            await client.says("XHELLO", 530)  # it keeps its verb's gate
            await client.logs_in()
        await client.says("XHELLO", 200)


@on_both_loops
async def test_the_nearest_class_decides_who_has_a_verb(root: Path) -> None:
    class Base(ftpcluster.Server):
        @ftpcluster.command("XDROP")
        async def z_drop(self, connection: Any, rest: str) -> bool:
            connection.response("200", "dropped")
            return True

        @ftpcluster.command("SIZE")
        async def z_size(self, connection: Any, rest: str) -> bool:
            connection.response("213", "1")
            return True

    class Strict(Base):
        @ftpcluster.command("XDROP")
        async def a_drop(self, connection: Any, rest: str) -> bool:
            connection.response("550", "no")
            return True

        size = refusing_method

    async with Strict(users(root)) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("XDROP", 550)
        await client.says("SIZE x", 550)


def test_one_class_has_one_command_for_a_verb() -> None:
    class Two(ftpcluster.Server):
        @ftpcluster.command("XA")
        async def first(self, connection: Any, rest: str) -> bool:
            return True

        @ftpcluster.command("XA")
        async def second(self, connection: Any, rest: str) -> bool:
            return True

    with pytest.raises(TypeError, match=r"first and second are both the command XA"):
        Two()


def test_a_class_that_would_have_no_effect_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Mapped.commands_mapping would have no effect"):
        type("Mapped", (ftpcluster.Server,), {"commands_mapping": {}})
    with pytest.raises(TypeError, match=r"Managed.user_manager would have no effect"):
        type("Managed", (ftpcluster.Server,), {"user_manager": ftpcluster.MemoryUserManager()})


@on_both_loops
async def test_what_cannot_count_any_more_cannot_be_set_while_the_server_runs(root: Path) -> None:
    async with ftpcluster.Server(users(root)) as server:
        for name in ("user_manager", "throttle", "get_paths"):
            with pytest.raises(AttributeError, match=f"{name} cannot be set while"):
                setattr(server, name, getattr(server, name))


# ---------------------------------------------------------------------- super() and kin


class Chained(ftpcluster.Server):
    """Overrides that lead to the built-in command of their kin."""

    async def stor(self, connection: Any, rest: str, mode: str = "wb") -> bool:
        if mode == "ab":
            return await super().appe(connection, rest)
        return await super().stor(connection, rest, mode)

    async def cwd(self, connection: Any, rest: str) -> bool:
        if rest in ("..", "/"):
            return await super().cdup(connection, "")
        return await super().cwd(connection, rest)

    async def list(self, connection: Any, rest: str) -> bool:
        return await super().nlst(connection, rest)

    async def mkd(self, connection: Any, rest: str) -> bool:
        return await self.xmkd(connection, rest)


@on_both_loops
async def test_super_of_the_kin_of_an_override_is_the_built_in_command(root: Path) -> None:
    async with Chained(users(root)) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", b"one")
        await client.uploads("APPE file", b" two")
        await client.says("MKD d", 257)
        await client.says("CWD d", 250)
        await client.says("CDUP", 250)
        assert '"/"' in await client.says("PWD", 257)
        assert sorted(await client.lines("LIST")) == ["d", "file"]
        await client.says("NLST", 502)
    assert (root / "file").read_bytes() == b"one two"


@on_both_loops
async def test_a_third_argument_that_is_no_mode_is_not_given_one(root: Path) -> None:
    class Limited(ftpcluster.Server):
        async def stor(self, connection: Any, rest: str, limit: int | None = None) -> bool:  # type: ignore[override]
            return await super().stor(connection, rest)

    (root / "file").write_bytes(b"old")
    async with Limited(users(root)) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("APPE file", 502)
    assert (root / "file").read_bytes() == b"old"


@on_both_loops
async def test_a_built_in_command_that_is_put_back_is_the_built_in_one(root: Path) -> None:
    (root / "file").touch()
    server = ftpcluster.Server(users(root))
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        del server.commands_mapping["list"]
        await client.says("NLST", 500)
        server.commands_mapping["list"] = server.list
        assert await client.lines("NLST") == ["file"]
        server.commands_mapping = {
            name: getattr(server, name) for name in ("list", "nlst", "epsv", "quit")
        }
        assert await client.lines("NLST") == ["file"]
        await client.says("DELE file", 500)


@on_both_loops
async def test_functions_that_are_put_into_the_mapping_are_forgotten_with_it(root: Path) -> None:
    server = ftpcluster.Server(users(root))
    async with server, Client(server.server_port) as client:
        for number in range(20):
            server.commands_mapping["xnow"] = Unhashable(str(200 + number))
            await client.says("XNOW", 200 + number)
        assert len(server._verbs._rows) == 1


@on_both_loops
async def test_an_abor_that_is_deleted_ends_nothing(root: Path) -> None:
    (root / "file").write_bytes(bytes(1 << 24))
    server = ftpcluster.Server(users(root))
    del server.commands_mapping["abor"]
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        async with client.passive() as data:
            await client.says("RETR file", 150)
            client.send("ABOR")
            client.send("NOOP")
            assert len(await data.read()) == 1 << 24
        replies = sorted([await client.expects(226, 500, 200) for _ in range(3)])
        assert [reply[:3] for reply in replies] == ["200", "226", "500"]


@on_both_loops
async def test_abor_ends_an_override_with_worker(root: Path) -> None:
    began = asyncio.Event()

    class Slow(ftpcluster.Server):
        @ftpcluster.worker
        async def mkd(self, connection: Any, rest: str) -> bool:
            began.set()
            await asyncio.Event().wait()
            return True

    async with Slow(users(root)) as server, Client(server.server_port) as client:
        await client.logs_in()
        for verb in ("MKD", "XMKD"):
            began.clear()
            client.send(f"{verb} x")
            await began.wait()
            client.send("ABOR")
            await client.expects(426)
            await client.expects(226)


# ---------------------------------------------------------------------- gates


@on_both_loops
async def test_a_partial_keeps_what_its_decorators_say(root: Path) -> None:
    @ftpcluster.command("XSECRET")
    async def secret(server: Any, connection: Any, rest: str) -> bool:
        connection.response("200", "the secret")
        return True

    began = asyncio.Event()

    @ftpcluster.worker
    async def long(server: Any, connection: Any, rest: str) -> bool:
        began.set()
        await asyncio.Event().wait()
        return True

    server = ftpcluster.Server(users(root))
    server.commands_mapping["xsecret"] = functools.partial(secret, server)
    server.commands_mapping["xlong"] = functools.partial(functools.partial(long, server))
    async with server, Client(server.server_port) as client:
        await client.says("XSECRET", 530)
        await client.logs_in()
        await client.says("XSECRET", 200)
        client.send("XLONG")
        await began.wait()
        client.send("ABOR")
        await client.expects(426)
        await client.expects(226)


@on_both_loops
async def test_path_permissions_look_at_paths_in_normal_form(root: Path) -> None:
    class Naive(ftpcluster.Server):
        @staticmethod
        def get_paths(connection: Any, path: Any) -> tuple[Any, Any]:
            real, _ = ftpcluster.Server.get_paths(connection, path)
            return real, connection.current_directory / str(path)

        @ftpcluster.PathPermissions(ftpcluster.PathPermissions.readable)
        async def xread(self, connection: Any, rest: str) -> bool:
            connection.response("200", "read")
            return True

    closed = [Permission("/"), Permission("/closed", readable=False)]
    server = Naive([ftpcluster.User(base_path=root, permissions=closed)])
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("XREAD /open", 200)
        await client.says("XREAD /open/../closed/file", 550)


@on_both_loops
async def test_a_command_that_is_a_generator_is_451_and_no_silence(root: Path) -> None:
    class Wrong(ftpcluster.Server):
        async def noop(self, connection: Any, rest: str) -> AsyncIterator[bool]:  # type: ignore[override]
            yield True

    async with Wrong(users(root)) as server, Client(server.server_port) as client:
        await client.says("NOOP", 451)


# ---------------------------------------------------------------------- users


@on_both_loops
async def test_permissions_of_a_kind_of_ones_own_may_be_set_later(root: Path) -> None:
    class Never(Permission):
        def is_parent(self, other: Any) -> bool:
            return False

    class Elsewhere(Permission):
        def is_parent(self, other: Any) -> bool:
            return True

    (root / "file").touch()
    user = ftpcluster.User(base_path=root)
    async with ftpcluster.Server([user]) as server, Client(server.server_port) as client:
        await client.logs_in()
        user.permissions = (Never("/"),)
        await client.says("DELE file", 550)
        await client.says("MLST file", 550)
        user.permissions = (Elsewhere("/x/y"),)
        await client.says("MKD a/b", 257)  # and no search without an end
        user.permissions = (Permission("/"),)
        user.permissions[0].is_parent = lambda other: False  # type: ignore[method-assign]
        await client.says("DELE file", 550)


@dataclasses.dataclass
class Row(ftpcluster.User):
    """A row of a database, which lacks an attribute."""

    login: str
    password: str
    base_path: Path
    permissions: tuple[Permission, ...] = (Permission(),)
    maximum_connections: int | None = 1
    read_speed_limit: int | None = None
    write_speed_limit: int | None = None
    read_speed_limit_per_connection: int | None = None
    write_speed_limit_per_connection: int | None = None


@on_both_loops
async def test_a_login_that_fails_at_its_end_is_none(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Incomplete(Row):
        @property
        def home_path(self) -> PurePosixPath:  # type: ignore[override]
            raise KeyError("the database has no home")

    user = Incomplete("a", "12345", root)
    async with ftpcluster.Server([user]) as server, Client(server.server_port) as client:
        await client.says("USER a", 331)
        await client.says("PASS 12345", 451)
        await client.says("PWD", 530)
    assert "no home" in caplog.text


@on_both_loops
async def test_a_response_of_another_enum_is_no_login(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Theirs(enum.Enum):
        ERROR = 1

    class Manager(ftpcluster.MemoryUserManager):
        async def get_user(self, login: str) -> Any:
            _, user, _ = await super().get_user(login)
            return Theirs.ERROR, user, "locked"

    user = ftpcluster.User("a", "12345", base_path=root)
    async with ftpcluster.Server(Manager([user])) as server, Client(server.server_port) as client:
        await client.says("USER a", 451)
        await client.says("PASS 12345", 503)
    assert "expected a GetUserResponse" in caplog.text


@on_both_loops
async def test_a_command_that_logs_in_and_fails_has_logged_nobody_in(root: Path) -> None:
    user = ftpcluster.User("a", "12345", base_path=root, maximum_connections=1)

    async def login(connection: Any, rest: str) -> bool:
        connection.user = user
        connection.logged = True
        raise ValueError("a bug")

    server = ftpcluster.Server([user])
    server.commands_mapping["xlogin"] = login
    async with server, Client(server.server_port) as first, Client(server.server_port) as second:
        await first.logs_in("a", "12345")
        await second.says("XLOGIN", 451)
        await second.says("PWD", 530)


@on_both_loops
async def test_a_login_by_a_task_of_a_command_counts(root: Path) -> None:
    user = ftpcluster.User("a", "12345", base_path=root, maximum_connections=1)
    confirmed, done = asyncio.Event(), asyncio.Event()
    kept: list[asyncio.Task[None]] = []

    async def xlater(connection: Any, rest: str) -> bool:
        async def confirm() -> None:
            await confirmed.wait()
            connection.user = user
            connection.logged = True
            done.set()

        kept.append(asyncio.create_task(confirm()))
        connection.response("200", "to be confirmed")
        return True

    server = ftpcluster.Server([user], login_delay=0)
    server.commands_mapping["xlater"] = xlater
    async with server, Client(server.server_port) as first, Client(server.server_port) as second:
        await first.logs_in("a", "12345")
        await second.says("XLATER", 200)
        confirmed.set()
        await done.wait()
        await second.says("PWD", 530)
        await first.says("REIN", 220)
        done.clear()
        await second.says("XLATER", 200)
        await done.wait()
        await second.says("PWD", 257)
        await first.says("USER a", 331)
        await first.says("PASS 12345", 421, 530)
        await asyncio.wait(kept)


@on_both_loops
async def test_a_notify_logout_that_hangs_is_ended_with_the_server(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftpcluster.compat.server._END_OF_SESSIONS", 0.1)

    class Hanging(ftpcluster.MemoryUserManager):
        async def notify_logout(self, user: ftpcluster.User) -> None:
            await asyncio.Event().wait()

    async with ftpcluster.Server(Hanging(users(root))) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("REIN", 220)


def _again(connection: Any, user: ftpcluster.User) -> None:
    connection.user = connection.user


def _by_hand(connection: Any, user: ftpcluster.User) -> None:
    connection.user = user


SET: dict[str, tuple[Callable[[Any, ftpcluster.User], None], tuple[str, ...]]] = {
    "again": (_again, ("USER a", "XSET", "PASS 12345", "XSET")),
    "again, without a login": (_again, ("USER a", "XSET", "PASS no")),
    "open": (_again, ("USER open", "XSET", "PASS anything")),
    "by hand": (_by_hand, ("XGET", "PASS no")),
    "by hand, without PASS": (_by_hand, ("XGET",)),
    "by hand, with a login": (_by_hand, ("XGET", "PASS 12345")),
}


@pytest.mark.parametrize("how", SET)
@on_both_loops
async def test_a_user_that_a_command_sets_is_given_back_once(how: str, root: Path) -> None:
    manager = Counting(root, 3)
    put, commands = SET[how]

    async def xset(connection: Any, rest: str) -> bool:
        put(connection, manager.user)
        connection.response("200", "set")
        return True

    async def xget(connection: Any, rest: str) -> bool:
        _, user, _ = await manager.get_user("a")
        put(connection, user)
        connection.response("200", "set")
        return True

    server = ftpcluster.Server(manager, login_delay=0)
    server.commands_mapping |= {"xset": xset, "xget": xget}
    async with server:
        for _ in range(2):
            manager.returned.clear()
            async with Client(server.server_port) as client:
                for command in commands:
                    await client.says(command, 331, 200, 230, 530)
            await manager.returned.wait()
    assert manager.available.value == 3
