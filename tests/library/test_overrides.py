"""Whatever a user of the library overrides decides, for every verb; nothing passes it by."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import ftpcluster
from ftpcluster import Permission
from ftpcluster.compat import overrides, verbs
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.commands import table
from ftpcluster.session.row import Argument, Command
from ftpcluster.session.state import Session
from tests.library.client import Client
from tests.library.loops import on_both_loops

GetUserResponse = ftpcluster.AbstractUserManager.GetUserResponse

# ---------------------------------------------------------------------- users


class Locked(ftpcluster.AbstractUserManager):
    """Gives its user with ERROR: the account is locked."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.user = ftpcluster.User("a", "12345", base_path=root)
        self.logged_out = 0

    async def get_user(self, login: str) -> Any:
        return self.GetUserResponse.ERROR, self.user, "locked"

    async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
        return password == user.password

    async def notify_logout(self, user: ftpcluster.User) -> None:
        self.logged_out += 1


class LockedInMemory(ftpcluster.MemoryUserManager):
    async def get_user(self, login: str) -> Any:
        _, user, _ = await super().get_user(login)
        return self.GetUserResponse.ERROR, user, "locked"


@pytest.mark.parametrize("kind", ["custom", "memory", "instance"])
@on_both_loops
async def test_error_is_no_login_whatever_user_comes_with_it(kind: str, root: Path) -> None:
    users = [ftpcluster.User("a", "12345", base_path=root)]
    manager: ftpcluster.AbstractUserManager = Locked(root)
    if kind == "memory":
        manager = LockedInMemory(users)
    elif kind == "instance":
        manager = ftpcluster.MemoryUserManager(users)

        async def get_user(login: str) -> Any:
            return GetUserResponse.ERROR, users[0], "locked"

        manager.get_user = get_user  # type: ignore[method-assign]
    async with ftpcluster.Server(manager, login_delay=0) as server:
        async with Client(server.server_port) as client:
            await client.says("USER a", 331)
            await client.says("PASS 12345", 530)
            await client.says("PWD", 530)
    if isinstance(manager, Locked):
        assert manager.logged_out == 0


@on_both_loops
async def test_authenticate_that_is_set_on_the_instance_decides(root: Path) -> None:
    manager = ftpcluster.MemoryUserManager([ftpcluster.User("a", "12345", base_path=root)])

    async def authenticate(user: ftpcluster.User, password: str) -> bool:
        return password == "other"

    manager.authenticate = authenticate  # type: ignore[method-assign]
    async with ftpcluster.Server(manager, login_delay=0) as server:
        async with Client(server.server_port) as client:
            await client.says("USER a", 331)
            await client.says("PASS 12345", 530)
            await client.logs_in("a", "other")


class ReadOnly(ftpcluster.User):
    """May read everything but /secret, and write nothing; it takes a task of its own to say so."""

    asked: set[str] | None = None

    async def get_permissions(self, path: str | PurePosixPath) -> Permission:
        assert isinstance(path, PurePosixPath)
        async with asyncio.timeout(20):
            await asyncio.sleep(0)
        readable = not path.is_relative_to("/secret")
        return Permission(path, readable=readable, writable=False)


WRITING = (
    *("DELE file", "RMD empty", "XRMD empty", "MKD new", "XMKD new", "RNFR file"),
    *("MFMT 20200101000000 file", "SITE CHMOD 600 file", "SITE UTIME 202001010000 file"),
    *("STOR new", "STOR file", "APPE file", "STOU"),
)
READING = (
    *("CWD secret", "XCWD secret", "SIZE secret/inner", "MDTM secret/inner", "MLST secret"),
    *("STAT secret", "HASH secret/inner", "XCRC secret/inner", "XMD5 secret/inner"),
    *("XSHA1 secret/inner", "XSHA256 secret/inner", "AVBL secret"),
    *("RETR secret/inner", "LIST secret", "NLST secret", "MLSD secret", "LIST secret/*"),
)


@on_both_loops
async def test_an_overridden_get_permissions_decides_for_every_verb(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    (root / "empty").mkdir()
    (root / "secret").mkdir()
    (root / "secret" / "inner").touch()
    before = sorted(path.name for path in root.rglob("*"))
    async with ftpcluster.Server([ReadOnly(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            for command in (*WRITING, *READING):
                await client.epsv()
                await client.says(command, 550)
            assert await client.downloads("RETR file") == b"content"
            facts = await client.says("MLST file", 250)
            assert "perm=r;" in facts
            assert "perm=r;" in (await client.downloads("MLSD")).decode()
    assert sorted(path.name for path in root.rglob("*")) == before
    assert (root / "file").read_bytes() == b"content"


@on_both_loops
async def test_get_permissions_may_be_set_on_the_instance_and_fails_closed(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "file").touch()
    user = ftpcluster.User(base_path=root)

    async def get_permissions(path: Any) -> Permission:
        raise KeyError("the database has no such path")

    user.get_permissions = get_permissions  # type: ignore[method-assign]
    async with ftpcluster.Server([user]) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("DELE file", 451)
        await client.says("MKD x", 451)
    assert (root / "file").exists()
    assert "no such path" in caplog.text


class ByName(ftpcluster.User):
    """Whatever is called "hidden" may not be read, and "kept" not be written, wherever it is."""

    async def get_permissions(self, path: str | PurePosixPath) -> Permission:
        name = PurePosixPath(path).name
        return Permission(path, readable=name != "hidden", writable=name != "kept")


@on_both_loops
async def test_a_directory_is_renamed_where_all_that_lies_in_it_may_be(root: Path) -> None:
    for name, inner in (("free", "x"), ("holds", "kept")):
        (root / name / "deep").mkdir(parents=True)
        (root / name / "deep" / inner).touch()
    (root / "hidden").touch()
    async with ftpcluster.Server([ByName(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            for source, code in (("free", 250), ("holds", 550)):
                await client.says(f"RNFR {source}", 350)
                await client.says(f"RNTO moved-{source}", code)
            await client.says("RNFR hidden", 550)
            await client.says("MKD a/kept/b", 550)
    assert sorted(path.name for path in root.iterdir()) == ["hidden", "holds", "moved-free"]


@on_both_loops
async def test_permissions_that_are_set_later_count(root: Path) -> None:
    (root / "file").touch()
    user = ftpcluster.User(base_path=root)
    async with ftpcluster.Server([user]) as server:
        user.permissions = [Permission("/", writable=False)]  # type: ignore[assignment]
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("DELE file", 550)
            user.permissions[0].writable = True
            user.permissions[0].path = "/elsewhere"  # type: ignore[assignment]
            await client.logs_in()
            await client.says("DELE file", 550)
            user.permissions[0].path = "/"  # type: ignore[assignment]
            await client.logs_in()
            await client.says("DELE file", 250)


@on_both_loops
async def test_other_attributes_that_are_set_later_count_from_the_next_login_on(
    root: Path,
) -> None:
    (root / "other").mkdir()
    (root / "other" / "inner").mkdir()
    user = ftpcluster.User("a", "old", base_path=root)
    async with ftpcluster.Server([user], login_delay=0) as server:
        async with Client(server.server_port) as client, Client(server.server_port) as second:
            await client.logs_in("a", "old")
            user.password = "new"
            user.base_path = str(root / "other")  # type: ignore[assignment]
            user.home_path = "/inner"  # type: ignore[assignment]
            user.maximum_connections = 1
            await second.says("USER a", 331)
            await second.says("PASS old", 530)
            await client.logs_in("a", "new")
            assert '"/inner"' in await client.says("PWD", 257)
            await second.says("USER a", 331)
            await second.says("PASS new", 530)
            user.login = "b"
            await second.says("USER a", 331)
            await second.says("PASS new", 530, 421)
        async with Client(server.server_port) as third:
            await third.logs_in("b", "new")
    with pytest.raises(ValueError, match="maximum_connections"):
        user.maximum_connections = -1
    with pytest.raises(ftpcluster.PathIsNotAbsolute):
        user.home_path = "relative"  # type: ignore[assignment]


@on_both_loops
async def test_users_of_a_manager_may_be_replaced(root: Path) -> None:
    manager = ftpcluster.MemoryUserManager([ftpcluster.User("a", "1", base_path=root)])
    async with ftpcluster.Server(manager, login_delay=0) as server:
        manager.users = (ftpcluster.User("b", "2", base_path=root),)
        async with Client(server.server_port) as client:
            await client.says("USER a", 331)
            await client.says("PASS 1", 530)
            await client.logs_in("b", "2")


class Suffix(Permission):
    """Covers names with an ending, and not what lies beneath its path."""

    def is_parent(self, other: Any) -> bool:
        return str(other).endswith(".log")


@on_both_loops
async def test_an_overridden_is_parent_decides(root: Path) -> None:
    (root / "a.log").touch()
    (root / "a.txt").touch()
    permissions = [Permission("/"), Suffix("/x/y", writable=False)]
    async with ftpcluster.Server([ftpcluster.User(base_path=root, permissions=permissions)]) as s:
        async with Client(s.server_port) as client:
            await client.logs_in()
            await client.says("DELE a.log", 550)
            await client.says("DELE a.txt", 250)


# ---------------------------------------------------------------------- slots of a manager


class Counting(ftpcluster.AbstractUserManager):
    """Counts slots in ``get_user`` and gives them back in ``notify_logout``, as the reference's."""

    def __init__(self, root: Path, slots: int) -> None:
        super().__init__()
        self.user = ftpcluster.User("a", "12345", base_path=root)
        self.available = ftpcluster.AvailableConnections(slots)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = asyncio.Event()
        self.returned = asyncio.Event()

    async def get_user(self, login: str) -> Any:
        if self.available.locked():
            return self.GetUserResponse.ERROR, self.user, "too many connections"
        self.available.acquire()
        if login == "open":
            return self.GetUserResponse.OK, self.user, ""
        return self.GetUserResponse.PASSWORD_REQUIRED, self.user, ""

    async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
        self.asked.set()
        await self.go_on.wait()
        if password == "bug":
            raise ValueError("a bug")
        return password == user.password

    async def notify_logout(self, user: ftpcluster.User) -> None:
        self.available.release()  # raises where one is given back twice
        if self.available.value == self.available.maximum_value:
            self.returned.set()


HOW: dict[str, tuple[str, ...]] = {
    "wrong": ("USER a", "PASS no"),
    "another USER": ("USER a", "USER a"),
    "REIN": ("USER a", "REIN"),
    "QUIT": ("USER a", "QUIT"),
    "no root": ("USER a", "PASS 12345"),
    "bug": ("USER a", "PASS bug"),
    "login": ("USER a", "PASS 12345"),
    "open": ("USER open", "PASS"),
    "only USER": ("USER a",),
}


@pytest.mark.parametrize("how", HOW)
@on_both_loops
async def test_a_slot_that_get_user_counted_is_given_back_exactly_once(
    how: str, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = Counting(root, 3)
    if how == "no root":
        manager.user.base_path = root / "missing"
    async with ftpcluster.Server(manager, login_delay=0) as server:
        for _ in range(2):
            manager.returned.clear()
            async with Client(server.server_port) as client:
                for command in HOW[how]:
                    await client.says(command, 331, 530, 230, 220, 221, 451)
            await manager.returned.wait()
    assert manager.available.value == 3


@on_both_loops
async def test_a_slot_is_given_back_where_the_client_leaves_while_it_waits(root: Path) -> None:
    manager = Counting(root, 1)
    manager.go_on.clear()
    async with ftpcluster.Server(manager, login_delay=0) as server:
        async with Client(server.server_port) as client:
            await client.says("USER a", 331)
            client.send("PASS 12345")
            await manager.asked.wait()
        manager.go_on.set()
        await manager.returned.wait()
        async with Client(server.server_port) as client:
            await client.logs_in("a", "12345")
    assert manager.available.value == 1


@on_both_loops
async def test_a_slot_is_not_held_for_the_delay_of_a_failed_login(root: Path) -> None:
    manager = Counting(root, 1)
    async with ftpcluster.Server(manager, login_delay=3600) as server:
        async with Client(server.server_port) as first, Client(server.server_port) as second:
            await first.says("USER a", 331)
            first.send("PASS no")
            await manager.returned.wait()
            await second.logs_in("a", "12345")


@on_both_loops
async def test_a_user_that_a_command_sets_keeps_the_login(root: Path) -> None:
    (root / "other").mkdir()
    manager = Counting(root, 1)
    other = ftpcluster.User("b", base_path=root / "other")

    async def become(connection: Any, rest: str) -> bool:
        connection.user = other
        connection.response("200", "done")
        return True

    server = ftpcluster.Server(manager)
    server.commands_mapping["become"] = become
    async with server, Client(server.server_port) as client:
        await client.logs_in("a", "12345")
        await client.says("BECOME", 200)
        await manager.returned.wait()
        await client.says("MKD x", 257)
        # now that other's logout is nobody's slot
        manager.available.acquire()
    assert (root / "other" / "x").is_dir()


# ---------------------------------------------------------------------- verbs and their kin


def refusing(name: str, *, takes_mode: bool = False) -> type[ftpcluster.Server]:
    """A server that refuses the verb of a method."""

    async def refuse(self: Any, connection: Any, rest: str) -> bool:
        connection.response("550", f"no {name} of {rest}")
        return True

    async def refuse_in_mode(self: Any, connection: Any, rest: str, mode: str = "wb") -> bool:
        connection.response("550", f"no {name} of {rest} in {mode}")
        return True

    return type("Refusing", (ftpcluster.Server,), {name: refuse_in_mode if takes_mode else refuse})


def server_that_refuses(name: str, how: str, users: list[ftpcluster.User]) -> ftpcluster.Server:
    """``how`` the verb is overridden: subclass, mapping or instance; or removed from the server."""

    async def refuse(connection: Any, rest: str) -> bool:
        connection.response("550", "no")
        return True

    if how == "subclass":
        return refusing(name)(users)
    server = ftpcluster.Server(users)
    if how == "mapping":
        server.commands_mapping[name] = refuse
    elif how == "instance":
        setattr(server, name, refuse)
    else:
        del server.commands_mapping[name]
    return server


KIN = {
    "cwd": ("CWD d", "XCWD d", "CDUP", "XCUP"),
    "cdup": ("CDUP", "XCUP"),
    "mkd": ("MKD new", "XMKD new"),
    "rmd": ("RMD d", "XRMD d"),
    "pwd": ("PWD", "XPWD"),
}


@pytest.mark.parametrize("name", KIN)
@pytest.mark.parametrize("how", ["subclass", "mapping", "instance"])
@on_both_loops
async def test_an_override_holds_for_its_kin(name: str, how: str, root: Path) -> None:
    (root / "d").mkdir()
    server = server_that_refuses(name, how, [ftpcluster.User(base_path=root, home_path="/")])
    async with server, Client(server.server_port) as client:
        await client.says(KIN[name][-1], 530)  # the row's gates are kept
        await client.logs_in()
        for command in KIN[name]:
            await client.says(command, 550)
    assert [path.name for path in root.iterdir()] == ["d"]


@pytest.mark.parametrize("name", ["rnfr", "rnto", None])
@on_both_loops
async def test_a_verb_that_does_the_work_of_two_is_refused_where_one_is_overridden(
    name: str | None, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def xmove(session: Session, argument: str) -> Reply:
        return Reply(Code.OK, "Moved.")

    row = Command("XMOVE", xmove, Argument.REQUIRED, help="XMOVE from to: RNFR and RNTO")
    monkeypatch.setitem(table.COMMANDS, b"XMOVE", row)
    monkeypatch.setitem(overrides.HEADS, "xmove", ("rnfr", "rnto"))
    method = verbs._make_method("xmove", b"XMOVE", row.help)
    monkeypatch.setattr(verbs.BuiltinVerbs, "xmove", method, raising=False)
    kind = ftpcluster.Server if name is None else refusing(name)
    async with kind([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("XMOVE a b", 200 if name is None else 502)
            del server.commands_mapping["rnto"]
            await client.says("XMOVE a b", 500, 502)


@on_both_loops
async def test_cdup_names_the_directory_above_to_an_overridden_cwd(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    asked: list[str] = []

    class Noting(ftpcluster.Server):
        async def cwd(self, connection: Any, rest: str) -> bool:
            asked.append(rest)
            return await super().cwd(connection, rest)

    async with Noting([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("CWD a/b", 250)
            await client.says("CDUP", 250)
            await client.says("XCUP", 250)
            assert '"/"' in await client.says("PWD", 257)
    assert asked == ["a/b", "/a", "/"]


@on_both_loops
async def test_kin_that_is_overridden_itself_decides_itself(root: Path) -> None:
    (root / "d").mkdir()

    class Both(refusing("cwd")):
        async def xcwd(self, connection: Any, rest: str) -> bool:
            connection.response("250", "mine")
            return True

        async def cdup(self, connection: Any, rest: str) -> bool:
            return bool(await super().cdup(connection, rest))

    async with Both([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("CWD d", 550)
            await client.says("XCWD d", 250)
            await client.says("CDUP", 550)  # super() leads to the cwd that refuses
            await client.says("XCUP", 550)


@pytest.mark.parametrize("how", ["subclass", "mapping", "instance", "removed"])
async def test_an_overridden_mfmt_holds_for_other_commands_that_set_times(
    how: str, root: Path
) -> None:
    (root / "file").touch()
    os.utime(root / "file", (0, 0))
    server = server_that_refuses("mfmt", how, [ftpcluster.User(base_path=root)])
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("MFMT 20200101000000 file", 500 if how == "removed" else 550)
        await client.says("MDTM 20200101000000 file", 502)
        await client.says("SITE UTIME 20200101000000 file", 502)
        await client.says("MDTM file", 213)
    assert (root / "file").stat().st_mtime == 0


async def test_an_override_of_mdtm_may_go_on_and_set_times(root: Path) -> None:
    (root / "file").touch()

    class Watching(ftpcluster.Server):
        async def mdtm(self, connection: Any, rest: str) -> bool:
            return bool(await super().mdtm(connection, rest))

    async with Watching([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("MDTM 20200101000000 file", 213)
            await client.says("SITE UTIME 20200101000000 file", 200)


@pytest.mark.parametrize("takes_mode", [True, False])
@on_both_loops
async def test_an_overridden_stor_holds_for_appe_and_stou(takes_mode: bool, root: Path) -> None:
    (root / "file").write_bytes(b"old")
    kind = refusing("stor", takes_mode=takes_mode)
    async with kind([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("STOR file", 550)
            if takes_mode:
                assert "of file in ab" in await client.says("APPE file", 550)
            else:
                await client.says("APPE file", 502)
            assert "of prefix." in await client.says("STOU prefix", 550)
    assert (root / "file").read_bytes() == b"old"
    assert len(list(root.iterdir())) == 1


@on_both_loops
async def test_super_stor_appends_where_it_is_given_that_mode(root: Path) -> None:
    modes: list[str] = []

    class Noting(ftpcluster.Server):
        async def stor(self, connection: Any, rest: str, mode: str = "wb") -> bool:
            modes.append(mode)
            return await super().stor(connection, rest, mode)

    async with Noting([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.uploads("STOR file", b"one")
            await client.uploads("APPE file", b" two")
            await client.uploads("STOU file", b"three")
    assert modes == ["wb", "ab", "wb"]
    assert (root / "file").read_bytes() == b"one two"
    assert sorted(path.read_bytes() for path in root.iterdir()) == [b"one two", b"three"]
    with pytest.raises(ValueError, match="mode"):
        await server.stor(ftpcluster.Connection(), "file", "rb")


@on_both_loops
async def test_with_an_overridden_list_nlst_and_stat_path_are_502(root: Path) -> None:
    (root / "file").touch()
    async with refusing("list")([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("LIST", 550)
            await client.says("NLST", 502)
            await client.says("STAT /", 502)
            await client.says("STAT", 211)
            assert "file" in (await client.downloads("MLSD")).decode()


@on_both_loops
async def test_a_verb_that_is_deleted_takes_its_kin_with_it(root: Path) -> None:
    server = ftpcluster.Server([ftpcluster.User(base_path=root)])
    del server.commands_mapping["stor"], server.commands_mapping["mkd"]
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        for command in ("STOR a", "APPE a", "STOU", "MKD a", "XMKD a"):
            await client.says(command, 500, 502)


@on_both_loops
async def test_an_override_keeps_the_gates_of_its_row(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    obeyed: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        async def note(self: Any, connection: Any, rest: str) -> bool:
            obeyed.append(name)
            connection.response("200", "obeyed")
            return True

        return note

    names = ("retr", "stor", "dele", "rnto", "pass_", "cwd", "list", "site")
    kind = type("Noting", (ftpcluster.Server,), {name: noting(name) for name in names})
    options = {"require_tls_data": True}
    async with kind([ftpcluster.User(base_path=root)], **options) as server:
        async with Client(server.server_port) as client:
            for command in ("RETR file", "STOR x", "DELE file", "RNTO x", "CWD /", "LIST"):
                await client.says(command, 530)
            await client.says("PASS x", 503)
            await client.says("USER a", 331)
            await client.says("PASS x", 200)
            await client.says("DELE file", 530)
    assert obeyed == ["pass_"]
    plain = type("Noting", (ftpcluster.Server,), {"retr": noting("retr"), "rnto": noting("rnto")})
    async with plain([ftpcluster.User(base_path=root)], **options) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("RETR file", 522)
            await client.says("RNTO file", 503)
    assert obeyed == ["pass_"]


@on_both_loops
async def test_an_overridden_user_is_held_to_require_tls(root: Path) -> None:
    obeyed: list[str] = []

    class Own(ftpcluster.Server):
        async def user(self, connection: Any, rest: str) -> bool:
            obeyed.append(rest)
            connection.response("331", "go on")
            return True

    async with Own([ftpcluster.User(base_path=root)], require_tls=True) as server:
        async with Client(server.server_port) as client:
            await client.says("USER a", 530)
    assert obeyed == []


# ---------------------------------------------------------------------- what is a verb, and not


class Helping(ftpcluster.Server):
    """Methods that look like verbs, one way or another."""

    purged = 0

    async def purge(self, connection: Any, rest: str) -> bool:
        self.purged += 1
        connection.response("200", "purged")
        return True

    async def size(self, path: Path, unit: str, factor: int) -> int:
        return 1

    async def other(self, number: int) -> None:
        pass

    @ftpcluster.command("XOPEN", login=False)
    async def opened(self, connection: Any, rest: str) -> bool:
        connection.response("200", f"open: {rest}")
        return True

    @ftpcluster.command("XCLOSED")
    async def _closed_one(self, connection: Any, rest: str) -> bool:
        connection.response("200", "closed")
        return True

    @ftpcluster.worker
    async def xlong(self, connection: Any, rest: str) -> bool:
        connection.response("200", "long")
        return True


@on_both_loops
async def test_no_method_becomes_a_verb_by_its_name_alone(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "file").touch()
    server = Helping([ftpcluster.User(base_path=root)])
    with caplog.at_level(logging.WARNING):
        await server.start("127.0.0.1")
    warned = sorted(record.getMessage() for record in caplog.records)
    assert len(warned) == 2, warned
    assert 'Helping.purge is no verb: decorate it with @ftpcluster.command("PURGE")' in warned[0]
    assert "Helping.size is no verb, and SIZE is turned off" in warned[1]
    async with server, Client(server.server_port) as client:
        await client.says("PURGE", 500)
        await client.says("XOPEN a", 200)
        await client.says("XCLOSED", 530)
        await client.says("XLONG", 530)
        await client.says("OPENED", 500)
        await client.logs_in()
        await client.says("PURGE", 500)
        await client.says("SIZE file", 500, 502)
        await client.says("XCLOSED", 200)
        await client.says("xlong", 200)
        server.commands_mapping["purge"] = server.purge
        await client.says("PURGE", 200)
    assert server.purged == 1


@on_both_loops
async def test_a_helper_that_is_put_into_the_mapping_by_hand_is_no_warning(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Mapped(ftpcluster.Server):
        def __init__(self, users: Any) -> None:
            super().__init__(users)
            self.commands_mapping["purge"] = self.purge

        @ftpcluster.ConnectionConditions(ftpcluster.ConnectionConditions.login_required)
        async def purge(self, connection: Any, rest: str) -> bool:
            connection.response("200", "purged")
            return True

    async with Mapped([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.says("PURGE", 503)  # its own decorator decides
            await client.logs_in()
            await client.says("PURGE", 200)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("verb", ["", "X Y", "X\r\nY", "1X"])
def test_a_verb_has_letters(verb: str) -> None:
    with pytest.raises(ValueError, match="expected a verb"):
        ftpcluster.command(verb)


@on_both_loops
async def test_attributes_with_names_of_verbs_are_no_verbs(root: Path) -> None:
    class Named(ftpcluster.Server):
        host = "example.org"

        def __init__(self, users: Any) -> None:
            self.port = 2121
            super().__init__(users)
            self.mode = "production"

    server = Named([ftpcluster.User(base_path=root)])
    async with server, Client(server.server_port) as client:
        await client.says("HOST example.org", 220)
        await client.logs_in()
        await client.says("MODE S", 200)
        await client.says("PORT 1,2,3", 501)
    with pytest.raises(TypeError, match="expected async def stor"):
        server.stor = lambda: None  # type: ignore[method-assign, assignment, misc]


# ---------------------------------------------------------------------- never silently dead

DEAD = (
    *("dispatcher", "greeting", "parse_command", "write_line", "write_response"),
    *("response_writer", "build_mlsx_string", "_build_mlsx_facts_from_stats"),
    *("_format_mlsx_time", "_start_passive_server"),
)


@pytest.mark.parametrize("name", DEAD)
def test_an_override_that_would_never_be_called_is_refused(name: str) -> None:
    async def override(self: Any, *args: Any) -> Any:
        raise AssertionError

    with pytest.raises(TypeError, match=f"Late.{name} would never be called: .+"):
        type("Late", (ftpcluster.Server,), {name: override})
    mixin = type("Mixin", (), {name: override})
    with pytest.raises(TypeError, match=f"Mixed.{name} would never be called: .+"):
        type("Mixed", (mixin, ftpcluster.Server), {})
    server = ftpcluster.Server()
    with pytest.raises(AttributeError, match="never be called"):
        setattr(server, name, override)


def test_every_method_of_the_reference_is_called_or_refused() -> None:
    aioftp = pytest.importorskip("aioftp")
    names = [name for name in vars(aioftp.Server) if not name.startswith("__")]
    unknown = [name for name in names if not hasattr(ftpcluster.Server, name)]
    assert sorted(unknown) == sorted(DEAD)


@on_both_loops
async def test_an_overridden_build_list_mtime_is_called(root: Path) -> None:
    (root / "file").touch()

    class Timeless(ftpcluster.Server):
        @staticmethod
        def build_list_mtime(st_mtime: float, now: float | None = None) -> str:
            return "Jan  1  1999"

    async with Timeless([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            (line,) = await client.lines("LIST")
            assert "Jan  1  1999 file" in line


ARGUMENTS: tuple[tuple[str, Any, Any], ...] = (
    ("require_tls", True, None),
    ("maximum_connections", 3, None),
    ("users", [ftpcluster.User("x", "y")], None),
    ("data_ports", range(50000, 50002), None),
    ("path_io_factory", ftpcluster.MemoryPathIO, None),
    ("welcome_message", "hello", "two\r\nlines"),
    ("block_size", 100, -1),
    ("encoding", "latin-1", "klingon"),
    ("forbid", ["*.exe"], "*.exe"),
    ("ban_failures", 3, None),
    ("ban_deny", ["192.0.2.0/24"], ["192.0.2.1/24"]),
    ("new_connections_per_address", "5/s", "5"),
)


@pytest.mark.parametrize(("name", "value", "wrong"), ARGUMENTS, ids=lambda each: str(each)[:20])
def test_arguments_are_attributes_that_may_be_set(name: str, value: Any, wrong: Any) -> None:
    given = ftpcluster.Server(**{name: value})
    assert getattr(given, name) == value
    server = ftpcluster.Server()
    setattr(server, name, value)
    assert getattr(server, name) == value
    if wrong is not None:
        with pytest.raises((TypeError, ValueError), match=name):
            setattr(server, name, wrong)
        assert getattr(server, name) == value


@on_both_loops
async def test_arguments_that_are_set_before_the_start_count(root: Path) -> None:
    server = ftpcluster.Server()
    server.users = [ftpcluster.User("a", "12345", base_path=root)]
    server.welcome_message = "hello"
    server.maximum_connections = 1
    server.forbid = ["*.exe"]
    async with server, Client(server.server_port) as client:
        await client.logs_in("a", "12345")
        await client.says("MKD x.exe", 553)
        async with Client(server.server_port, greeting=421):
            pass
        with pytest.raises(AttributeError, match="require_tls cannot be set while"):
            server.require_tls = True
    with pytest.raises(AttributeError, match="no attribute"):
        _ = server.requires_tls


def test_an_argument_as_an_attribute_of_the_class_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Wanting\.require_tls would have no effect"):
        type("Wanting", (ftpcluster.Server,), {"require_tls": True})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"users": ftpcluster.User()}, "users: expected a list of User objects"),
        ({"users": "alice"}, "users: expected a list of User objects"),
        ({"users": ["alice"]}, "users: expected a list of User objects"),
        ({"users": 3}, "users: expected a list of User objects"),
        ({"users": ftpcluster.AbstractUserManager}, "users: expected a list of User objects"),
        ({"ssl": "x"}, "ssl: expected an ssl.SSLContext"),
        ({"tls": 1}, "tls: expected an ssl.SSLContext"),
        ({"path_io_factory": ftpcluster.PathIO()}, "path_io_factory: expected a class"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(TypeError, match=expected):
        ftpcluster.Server(**arguments)


def test_contexts_that_no_client_could_use_are_refused_at_once() -> None:
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    for name in ("ssl", "tls"):
        with pytest.raises(ValueError, match=f"{name}: that context is for clients"):
            ftpcluster.Server(**{name: theirs})
    with pytest.raises(ValueError, match="ssl and tls: give one of them"):
        ftpcluster.Server(ssl=ours, tls=ours)


# ---------------------------------------------------------------------- get_paths


class Shared(ftpcluster.Server):
    """What lies in /shared is elsewhere; the rest in a directory of the client's address."""

    shared: Path

    def get_paths(  # type: ignore[override]
        self, connection: Any, path: str | PurePosixPath
    ) -> tuple[Path, PurePosixPath]:
        _, virtual = ftpcluster.Server.get_paths(connection, path)
        if virtual.is_relative_to("/shared"):
            return self.shared / virtual.relative_to("/shared"), virtual
        base = connection.user.base_path / connection.client_host
        return base / virtual.relative_to("/"), virtual


LAYERS = {"PathIO": ftpcluster.PathIO, "AsyncPathIO": ftpcluster.AsyncPathIO}


@pytest.mark.parametrize("layer", LAYERS)
@on_both_loops
async def test_an_overridden_get_paths_decides_for_built_in_commands(
    layer: str, root: Path, tmp_path: Path
) -> None:
    own, shared = root / "127.0.0.1", tmp_path / "shared"
    own.mkdir()
    shared.mkdir()
    (root / "file").write_bytes(b"not this one")
    (shared / "news").write_bytes(b"news")
    (shared / "out").symlink_to(root)
    (own / "out").symlink_to(root)
    users = [ftpcluster.User(base_path=root)]
    server = Shared(users, path_io_factory=LAYERS[layer])
    server.shared = shared
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("SIZE file", 550)
        await client.uploads("STOR file", b"content")
        await client.says("SIZE file", 213)
        await client.says("MKD d", 257)
        await client.says("CWD d", 250)
        assert '"/d"' in await client.says("PWD", 257)
        await client.uploads("STOR inner", b"inner")
        await client.says("RNFR inner", 350)
        await client.says("RNTO /shared/moved", 250)
        assert await client.downloads("RETR /shared/news") == b"news"
        assert sorted(await client.lines("NLST /"))[0].lstrip("/") == "d"
        await client.says("CWD /shared", 250)
        assert "news" in await client.lines("NLST")
        for path in ("/out/file", "/shared/out/file", "out/file"):
            await client.says(f"SIZE {path}", 550)
        await client.says("DELE /file", 250)
    assert (root / "file").read_bytes() == b"not this one"
    assert (shared / "moved").read_bytes() == b"inner"
    assert not (own / "file").exists()


@on_both_loops
async def test_the_virtual_path_of_an_overridden_get_paths_is_what_permissions_look_at(
    root: Path,
) -> None:
    class Prefixed(ftpcluster.Server):
        def get_paths(self, connection: Any, path: Any) -> Any:  # type: ignore[override]
            return ftpcluster.Server.get_paths(connection, PurePosixPath("/inner") / str(path))

    (root / "inner").mkdir()
    permissions = [Permission("/"), Permission("/inner", writable=False)]
    users = [ftpcluster.User(base_path=root, permissions=permissions)]
    async with Prefixed(users) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("MKD x", 550)
        await client.says("RNFR y", 550)
    assert not list((root / "inner").iterdir())


class Hostile(ftpcluster.Server):
    """Raises what it is told to, and notes whether there is a task."""

    error: BaseException
    tasks: list[object]

    def get_paths(  # type: ignore[override]
        self, connection: Any, path: str | PurePosixPath
    ) -> tuple[Path, PurePosixPath]:
        self.tasks.append(asyncio.current_task())
        if str(path) == "bad":
            raise self.error
        return ftpcluster.Server.get_paths(connection, path)


@pytest.mark.parametrize(
    ("error", "code"),
    [(SystemExit("bad"), 451), (BaseException("bad"), 451), (asyncio.CancelledError(), 426)],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("verb", ["CWD", "SIZE", "MDTM", "RETR", "STOR", "APPE", "DELE"])
@on_both_loops
async def test_whatever_get_paths_raises_is_answered_and_it_runs_in_a_task(
    verb: str, error: BaseException, code: int, root: Path
) -> None:
    server = Hostile([ftpcluster.User(base_path=root)])
    server.error, server.tasks = error, []
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("TYPE I", 200)
        await client.says(f"{verb} bad", code)
        await client.says("NOOP", 200)
    assert server.tasks
    assert None not in server.tasks


@pytest.mark.parametrize("line", ["STAT bad", "SITE CHMOD 600 bad", "SITE UTIME 202001010000 bad"])
@on_both_loops
async def test_get_paths_is_asked_nothing_before_a_login(line: str, root: Path) -> None:
    server = Hostile([ftpcluster.User(base_path=root)])
    server.error, server.tasks = SystemExit("bad"), []
    async with server, Client(server.server_port) as client:
        await client.says(line, 530)
    assert not server.tasks


# ---------------------------------------------------------------------- files


@on_both_loops
async def test_methods_of_a_layer_take_the_result_of_open(root: Path, layer: Any) -> None:
    path_io = layer()
    path = root / "file" if layer is not ftpcluster.MemoryPathIO else PurePosixPath("/file")
    wrapped = await path_io.open(path, mode="wb")
    await path_io.write(wrapped, b"content")
    await path_io.close(wrapped)
    async with path_io.open(path, mode="rb") as file:
        await path_io.seek(file, 3)
        assert await path_io.read(file, 100) == b"tent"
        assert await path_io.read(file.file) == b""


# ---------------------------------------------------------------------- limits


@on_both_loops
async def test_a_login_by_a_command_of_ones_own_counts_for_the_users_connections(
    root: Path,
) -> None:
    class Token(ftpcluster.Server):
        async def pass_(self, connection: Any, rest: str) -> bool:
            connection.logged = True
            connection.response("230", "welcome")
            return True

    user = ftpcluster.User("a", "12345", base_path=root, maximum_connections=1)
    async with Token([user]) as server:
        port = server.server_port
        async with Client(port) as first, Client(port) as second, Client(port) as third:
            await first.logs_in("a")
            await second.says("USER a", 331)
            await second.says("PASS", 230)
            await second.expects(421)
            assert await second.is_ended()
            await first.says("REIN", 220)
            await third.logs_in("a")


# ---------------------------------------------------------------------- a new row of the table


def made_up(_: object, argument: str) -> Reply:
    return Reply(Code.OK, f"Made up {argument}.")


@on_both_loops
async def test_a_new_verb_needs_a_handler_and_a_row(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CONTRIBUTING says: the library's method for it is made."""
    row = table.Command("XMADE", made_up, table.OPTIONAL, login=table.NO_LOGIN)
    monkeypatch.setitem(table.COMMANDS, b"XMADE", row)
    monkeypatch.setattr(verbs.BuiltinVerbs, "xmade", None, raising=False)
    delattr(verbs.BuiltinVerbs, "xmade")
    verbs.add_missing_methods()

    class Polite(ftpcluster.Server):
        async def xmade(self, connection: ftpcluster.Connection, rest: str) -> bool:
            return await super().xmade(connection, rest.upper())

    for kind, text in ((ftpcluster.Server, "x"), (Polite, "X")):
        async with kind([ftpcluster.User(base_path=root)]) as server:
            async with Client(server.server_port) as client:
                assert (await client.says("XMADE x", 200)) == f"200 Made up {text}."
