"""The hooks of the core, as somebody uses them who embeds it: nothing of the reference's API."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.protocol.path import resolve
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.commands.table import COMMANDS
from ftpcluster.session.hooks import SessionHooks
from ftpcluster.session.rights import AskedRights, Rights
from ftpcluster.session.row import Argument, Command
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Storage
from ftpcluster.storage.local_files import LocalFiles
from ftpcluster.users import Permission, User
from tests.library.client import Client
from tests.library.loops import on_both_loops
from tests.support.core import serving

FILES = LocalFiles()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What is served; by the server of the test itself, which is always in this process."""
    return tmp_path


class Plain(SessionHooks):
    """Hooks of one session that change nothing, and know their session."""

    def __init__(self, session: Session) -> None:
        self.session = session


@on_both_loops
async def test_without_hooks_the_core_serves_the_users_directory(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    async with serving(User(base_path=root)) as port, Client(port) as client:
        await client.logs_in()
        assert await client.downloads("RETR file") == b"content"


@on_both_loops
async def test_hooks_that_change_nothing_are_as_none(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    async with serving(User(base_path=root), hooks_for=Plain) as port, Client(port) as client:
        await client.logs_in()
        assert await client.downloads("RETR file") == b"content"
        assert b"file\r\n" in await client.downloads("LIST")


# ---------------------------------------------------------------------- files, rights, paths


@on_both_loops
async def test_a_storage_is_opened_for_each_login(root: Path) -> None:
    (root / "there").mkdir()
    (root / "there" / "file").write_bytes(b"content")

    class Elsewhere(SessionHooks):
        def open_storage(self, user: User) -> Storage | None:
            return FILES.open(f"{user.base_path}/there")

    hooks = Elsewhere()
    async with serving(User(base_path=root), hooks_for=lambda _: hooks) as port:
        async with Client(port) as client:
            await client.logs_in()
            assert await client.downloads("RETR file") == b"content"


@on_both_loops
async def test_where_a_storage_cannot_be_opened_nobody_logs_in(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone(SessionHooks):
        def open_storage(self, user: User) -> Storage | None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with serving(User(base_path=root), hooks_for=lambda _: Gone()) as port:
        async with Client(port) as client:
            await client.says("USER a", 331)
            await client.says("PASS b", 530)
            await client.says("PWD", 530)
    assert "the directory of user a cannot be opened" in caplog.text
    caplog.clear()


@on_both_loops
async def test_rights_may_be_asked_of_somebody_who_wants_a_task(root: Path) -> None:
    class Slow(User):
        async def get_permissions(self, path: object) -> Permission:
            async with asyncio.timeout(20):  # raises without a task
                return Permission(writable=str(path) == "/free")

    class Asking(SessionHooks):
        def rights_of(self, user: User) -> Rights | None:
            return AskedRights(Slow(base_path=user.base_path))

    async with serving(User(base_path=root), hooks_for=lambda _: Asking()) as port:
        async with Client(port) as client:
            await client.logs_in()
            await client.says("MKD other", 550)
            await client.says("MKD free", 257)


@on_both_loops
async def test_paths_are_mapped_before_rights_are_looked_up(root: Path) -> None:
    (root / "home").mkdir()
    (root / "home" / "file").write_bytes(b"content")

    class Tilde(Plain):
        def locate(self, argument: str) -> str | None:
            if not argument.startswith("~"):
                return None
            return resolve("/home", argument[1:].lstrip("/"))

    user = User(base_path=root, permissions=[Permission(writable=False), Permission("/home")])
    async with serving(user, hooks_for=Tilde) as port, Client(port) as client:
        await client.logs_in()
        assert await client.downloads("RETR ~/file") == b"content"
        assert await client.downloads("RETR home/file") == b"content"
        await client.says("DELE ~/../file", 550)
        await client.says("DELE ~/file", 250)


@on_both_loops
async def test_lines_of_listings_may_look_otherwise(root: Path) -> None:
    (root / "file").write_bytes(b"content")

    class Terse(SessionHooks):
        def list_line(self, path: str) -> Coroutine[Any, Any, str] | None:
            async def line() -> str:
                await asyncio.sleep(0)
                return f"-> {path}"

            return line()

    async with serving(User(base_path=root), hooks_for=lambda _: Terse()) as port:
        async with Client(port) as client:
            await client.logs_in()
            assert await client.downloads("LIST") == b"-> /file\r\n"
            assert "-> /file" in await client.says("STAT file", 213)
            assert await client.downloads("NLST") == b"file\r\n"


# ---------------------------------------------------------------------- verbs


async def wait_in_task(session: Session, argument: str) -> Reply:
    async with asyncio.timeout(20):  # raises without a task
        await asyncio.sleep(0)
    return Reply(Code.OK, f"{session.user_name} said {argument}.")


XWAIT = Command("XWAIT", wait_in_task, Argument.REQUIRED, needs_task=True)
FIND: Callable[[bytes], Command | None] = {
    **{verb: row for verb, row in COMMANDS.items() if verb != b"DELE"},
    b"XWAIT": XWAIT,
}.get


@on_both_loops
async def test_a_mapping_of_verbs_adds_some_and_takes_others_away(root: Path) -> None:
    async with serving(User(base_path=root), find_command=FIND) as port, Client(port) as client:
        await client.says("XWAIT now", 530)
        await client.logs_in("anne")
        await client.says("XWAIT", 501)
        assert await client.says("XWAIT now", 200) == "200 anne said now."
        await client.says("DELE file", 500)


# ---------------------------------------------------------------------- what happens


class Listening(Plain):
    """Notes what it is called for."""

    def __init__(self, session: Session, heard: list[str]) -> None:
        super().__init__(session)
        self._heard = heard

    def on_data_taken(self) -> None:
        self._heard.append("taken")

    def on_data_dropped(self) -> None:
        self._heard.append("dropped")

    def on_logout(self) -> None:
        self._heard.append("logout")


@on_both_loops
async def test_hooks_hear_of_data_connections_and_of_the_logins_end(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    heard: list[str] = []

    def listen(session: Session) -> SessionHooks:
        return Listening(session, heard)

    async with serving(User(base_path=root), hooks_for=listen) as port, Client(port) as client:
        await client.logs_in()
        heard.clear()
        assert await client.downloads("RETR file") == b"content"
        assert heard == ["dropped", "taken"]  # PASV drops what was prepared before
        await client.says("REIN", 220)
        assert heard == ["dropped", "taken", "logout", "dropped"]


@on_both_loops
async def test_a_client_that_hangs_up_ends_a_session_whose_tasks_run(root: Path) -> None:
    class Busy(SessionHooks):
        has_tasks = True

    waits = asyncio.Event()
    forever = asyncio.get_running_loop().create_future()

    async def wait(_: Session, __: str) -> Reply:
        waits.set()
        await forever
        return Reply(Code.OK, "never")

    find = {**COMMANDS, b"XWAIT": Command("XWAIT", wait, Argument.NONE, login=False)}.get
    user = User(base_path=root)
    async with serving(user, hooks_for=lambda _: Busy(), find_command=find) as port:
        async with Client(port) as client:
            client.send("XWAIT")
            await waits.wait()
        async with asyncio.timeout(20):
            await asyncio.wait((forever,))
        assert forever.cancelled()
