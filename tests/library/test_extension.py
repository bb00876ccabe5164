"""Rows 5, 6 and 11: commands of one's own, and the connection that they are given."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

import ftpcluster
from ftpcluster import ConnectionConditions, PathConditions, PathPermissions, worker
from ftpcluster.session.commands.table import COMMANDS
from ftpcluster.session.row import Command
from tests.library.client import Client
from tests.library.conftest import Sleeps
from tests.library.examples.shop import Shop
from tests.library.loops import on_both_loops, tasks

Verb = Callable[[Any, str], Any]


def serve(root: Path, **commands: Verb) -> ftpcluster.Server:
    """A server of ``root`` for anybody, with more commands in its mapping."""
    server = ftpcluster.Server([ftpcluster.User(base_path=root)])
    server.commands_mapping.update(commands)
    return server


# ---------------------------------------------------------------------- commands


@on_both_loops
async def test_a_method_of_a_subclass_is_a_command_and_may_override_one(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    server = Shop([ftpcluster.User(base_path=root)])
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        assert await client.says("XCOUNT", 200) == "200 0 downloads"
        assert await client.downloads("RETR file") == b"content"
        await client.says("RETR missing", 550)
        assert await client.says("xcount", 200) == "200 2 downloads"
        assert (await client.says("XDIGEST file", 213)).endswith(" /file")
        await client.says("XDIGEST missing", 550)


@on_both_loops
async def test_super_keeps_the_gates_of_the_built_in_command(root: Path) -> None:
    server = Shop([ftpcluster.User(base_path=root)])
    async with server, Client(server.server_port) as client:
        await client.says("RETR file", 530)
        await client.logs_in()
        await client.says("RETR", 501)


@on_both_loops
async def test_an_overridden_transfer_can_be_aborted(root: Path) -> None:
    (root / "file").write_bytes(bytes(32 << 20))
    server = Shop([ftpcluster.User(base_path=root)])
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        async with client.passive():
            await client.says("RETR file", 150)
            await client.says("NOOP", 200)
            await client.says("ABOR", 426)
            await client.expects(226)
        await client.says("NOOP", 200)


@on_both_loops
async def test_helpers_and_private_methods_are_no_commands(root: Path) -> None:
    class Helpful(ftpcluster.Server):
        async def _secret(self, connection: Any, rest: str) -> bool:
            raise AssertionError

        async def helper(self, number: int) -> bool:
            raise AssertionError

        def plain(self) -> None:
            raise AssertionError

    server = Helpful([ftpcluster.User(base_path=root)])
    assert not {"_secret", "secret", "helper", "plain", "close", "run"} & set(
        server.commands_mapping
    )
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        for verb in ("HELPER", "PLAIN", "CLOSE", "_SECRET"):
            await client.says(verb, 500)


@on_both_loops
async def test_commands_mapping_has_every_verb_in_lower_case(root: Path) -> None:
    one, other = serve(root), serve(root)
    verbs = (
        "user pass quit cwd cdup type mode stru pasv epsv retr stor appe rest abor list nlst mlsd "
        "mlst pwd mkd rmd dele rnfr rnto size mdtm syst feat help noop"
    )
    assert set(verbs.split()) <= set(one.commands_mapping)
    assert all(verb == verb.lower() for verb in one.commands_mapping)
    assert all(asyncio.iscoroutinefunction(verb) for verb in one.commands_mapping.values())
    assert one.commands_mapping is not other.commands_mapping


@pytest.mark.parametrize("row", COMMANDS.values(), ids=lambda row: row.verb)
def test_every_verb_is_a_method_that_says_what_help_says(row: Command) -> None:
    name = "pass_" if row.verb == "PASS" else row.verb.lower()
    method = getattr(ftpcluster.Server, name)
    assert list(inspect.signature(method).parameters)[:3] == ["self", "connection", "rest"]
    assert method.__name__ == name
    assert method.__doc__.startswith("STOR path: upload" if name == "stor" else row.help)


@on_both_loops
async def test_commands_mapping_is_looked_up_for_every_command(root: Path) -> None:
    async def mine(connection: ftpcluster.Connection, rest: str) -> bool:
        connection.response("299", f"mine: {rest}")
        return True

    server = serve(root)
    async with server, Client(server.server_port) as client:
        await client.says("XMINE a", 500)
        server.commands_mapping["xmine"] = mine
        assert await client.says("XMINE a b", 299) == "299 mine: a b"
        builtin = server.commands_mapping["noop"]
        server.commands_mapping["noop"] = mine
        assert await client.says("NoOp", 299) == "299 mine: "
        server.commands_mapping["noop"] = builtin
        await client.says("NOOP", 200)
        server.commands_mapping["alias"] = builtin
        await client.says("ALIAS", 200)
        del server.commands_mapping["noop"], server.commands_mapping["xmine"]
        await client.says("NOOP", 500, 502)
        await client.says("XMINE", 500, 502)


@on_both_loops
async def test_false_ends_the_session_and_nothing_else_does(root: Path) -> None:
    async def leave(connection: ftpcluster.Connection, rest: str) -> bool:
        connection.response("221", "bye")
        return False

    async def forget(connection: ftpcluster.Connection, rest: str) -> None:
        connection.response("200", "it returned nothing")

    async with serve(root, leave=leave, forget=forget) as server:
        async with Client(server.server_port) as client:
            await client.says("FORGET", 200)
            await client.says("NOOP", 200)
            await client.says("LEAVE", 221)
            assert await client.is_ended()


@pytest.mark.parametrize(
    ("lines", "as_list", "expected"),
    [
        ("one", False, "211 one"),
        ("", False, "211 "),
        (("one", "two"), False, "211-one\n211 two"),
        (["one", "two", "three"], True, "211-one\n two\n211 three"),
        (["one"], True, "211 one"),
    ],
)
@on_both_loops
async def test_response_has_one_line_or_several(
    root: Path, lines: Any, as_list: bool, expected: str
) -> None:
    async def answer(connection: ftpcluster.Connection, rest: str) -> bool:
        connection.response("211", lines, as_list)
        return True

    async with serve(root, answer=answer) as server, Client(server.server_port) as client:
        assert await client.says("ANSWER", 211) == expected


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bug"),
        KeyError("bug"),
        TimeoutError("bug"),
        RuntimeError("bug"),
        SystemExit("bug"),
        BaseException("bug"),
    ],
    ids=lambda error: type(error).__name__,
)
@on_both_loops
async def test_an_exception_is_logged_and_answered_451_and_only_that_session_suffers(
    root: Path, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(connection: ftpcluster.Connection, rest: str) -> bool:
        raise error

    async with serve(root, fails=fails) as server:
        port = server.server_port
        async with Client(port) as one, Client(port) as other:
            await other.logs_in()
            with caplog.at_level(logging.WARNING):
                await one.says("FAILS", 451)
            await other.says("NOOP", 200)
            await one.says("NOOP", 200)
    assert "bug" in caplog.text


@on_both_loops
async def test_commands_of_a_session_run_one_after_the_other(root: Path) -> None:
    running = most = 0

    async def slow(connection: ftpcluster.Connection, rest: str) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        connection.response("200", rest)
        return True

    async with serve(root, slow=slow) as server, Client(server.server_port) as client:
        for number in range(5):
            client.send(f"SLOW {number}")
        for number in range(5):
            assert await client.expects(200) == f"200 {number}"
    assert most == 1


@on_both_loops
async def test_a_command_has_a_task_of_its_own(root: Path) -> None:
    """Or ``asyncio.timeout`` could not be used in it."""

    async def bounded(connection: ftpcluster.Connection, rest: str) -> bool:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            connection.response("200", "in time")
        return True

    async with serve(root, bounded=bounded) as server, Client(server.server_port) as client:
        assert await client.says("BOUNDED", 200) == "200 in time"


# ---------------------------------------------------------------------- decorators


class Conditions(ftpcluster.Server):
    @ftpcluster.command("XUSER", login=False)
    @ConnectionConditions(ConnectionConditions.user_required)
    async def xuser(self, connection: Any, rest: str) -> bool:
        connection.response("200", "user")
        return True

    @ftpcluster.command("XLOGIN", login=False)
    @ConnectionConditions(ConnectionConditions.login_required)
    async def xlogin(self, connection: Any, rest: str) -> bool:
        connection.response("200", "login")
        return True

    @ConnectionConditions(
        ConnectionConditions.login_required,
        ConnectionConditions.passive_server_started,
        fail_code="425",
        fail_info="no PASV",
    )
    async def xpassive(self, connection: Any, rest: str) -> bool:
        connection.response("200", "passive")
        return True

    @ConnectionConditions(
        ConnectionConditions.login_required,
        ConnectionConditions.data_connection_made,
        wait=True,
        fail_code="425",
        fail_info="Can't open data connection",
    )
    async def xdata(self, connection: Any, rest: str) -> bool:
        stream = connection.data_connection
        del connection.data_connection
        async with stream:
            await stream.write(rest.encode())
        connection.response("226", "sent")
        return True

    @ConnectionConditions(ConnectionConditions.rename_from_required)
    async def rnto(self, connection: Any, rest: str) -> bool:
        return await super().rnto(connection, rest)

    @PathConditions(PathConditions.path_must_exists)
    async def xexists(self, connection: Any, rest: str) -> bool:
        connection.response("200", "exists")
        return True

    @PathConditions(PathConditions.path_must_not_exists)
    async def xmissing(self, connection: Any, rest: str) -> bool:
        connection.response("200", "missing")
        return True

    @PathConditions(PathConditions.path_must_exists, PathConditions.path_must_be_dir)
    async def xdir(self, connection: Any, rest: str) -> bool:
        connection.response("200", "dir")
        return True

    @PathConditions(PathConditions.path_must_exists, PathConditions.path_must_be_file)
    async def xfile(self, connection: Any, rest: str) -> bool:
        connection.response("200", "file")
        return True

    @PathPermissions(PathPermissions.readable)
    async def xreadable(self, connection: Any, rest: str) -> bool:
        connection.response("200", "readable")
        return True

    @PathPermissions(PathPermissions.writable)
    async def xwritable(self, connection: Any, rest: str) -> bool:
        connection.response("200", "writable")
        return True

    @PathPermissions(PathPermissions.readable, PathPermissions.writable)
    async def xboth(self, connection: Any, rest: str) -> bool:
        connection.response("200", "both")
        return True


@on_both_loops
async def test_connection_conditions_look_at_the_session(root: Path) -> None:
    (root / "file").touch()
    server = Conditions([ftpcluster.User(base_path=root)], wait_future_timeout=0.05)
    async with server, Client(server.server_port) as client:
        await client.says("XUSER", 503)
        await client.says("XLOGIN", 503)
        await client.says("USER anonymous", 331)
        await client.says("XUSER", 200)
        await client.says("XLOGIN", 503)
        await client.says("PASS x", 230)
        await client.says("XLOGIN", 200)
        assert await client.says("XPASSIVE", 425) == "425 no PASV"
        await client.says("RNTO other", 503)
        await client.says("RNFR file", 350)
        await client.says("RNTO other", 250)
        await client.epsv()
        await client.says("XPASSIVE", 200)


@on_both_loops
async def test_the_data_connection_is_waited_for_and_used(root: Path) -> None:
    server = Conditions([ftpcluster.User(base_path=root)], wait_future_timeout=20)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        for round_ in ("first", "second"):
            async with client.passive() as data:
                await client.says(f"XDATA {round_}", 226)
                assert await data.read() == round_.encode()


@on_both_loops
async def test_a_data_connection_that_does_not_come_in_time_is_told_as_the_decorator_says(
    root: Path,
) -> None:
    server = Conditions([ftpcluster.User(base_path=root)], wait_future_timeout=0.05)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.epsv()
        assert await client.says("XDATA", 425) == "425 Can't open data connection"
        async with client.passive() as data:
            await client.says("XDATA again", 226)
            assert await data.read() == b"again"


@on_both_loops
async def test_the_wait_for_a_data_connection_ends_with_the_session(root: Path) -> None:
    server = Conditions([ftpcluster.User(base_path=root)], wait_future_timeout=0.05)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.epsv()
        await client.says("XDATA", 425)
    assert not tasks()


@on_both_loops
async def test_path_conditions_ask_the_path_layer(root: Path) -> None:
    (root / "directory").mkdir()
    (root / "file").touch()
    server = Conditions([ftpcluster.User(base_path=root)])
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        for verb, directory, file, missing in (
            ("XEXISTS", 200, 200, 550),
            ("XMISSING", 550, 550, 200),
            ("XDIR", 200, 550, 550),
            ("XFILE", 550, 200, 550),
        ):
            await client.says(f"{verb} directory", directory)
            await client.says(f"{verb} /file", file)
            await client.says(f"{verb} missing", missing)
        await client.says("CWD directory", 250)
        await client.says("XFILE ../file", 200)


@on_both_loops
async def test_all_the_permissions_that_a_decorator_names_are_checked(root: Path) -> None:
    permissions = [
        ftpcluster.Permission("/"),
        ftpcluster.Permission("/r", writable=False),
        ftpcluster.Permission("/w", readable=False),
        ftpcluster.Permission("/n", readable=False, writable=False),
    ]
    server = Conditions([ftpcluster.User(base_path=root, permissions=permissions)])
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        for path, readable, writable, both in (
            ("/", 200, 200, 200),
            ("/r/x", 200, 550, 550),
            ("/w/x", 550, 200, 550),
            ("/n", 550, 550, 550),
            ("/nx", 200, 200, 200),
        ):
            await client.says(f"XREADABLE {path}", readable)
            await client.says(f"XWRITABLE {path}", writable)
            await client.says(f"XBOTH {path}", both)


# ---------------------------------------------------------------------- worker, extra_workers


@on_both_loops
async def test_abor_ends_a_worker_with_426_and_226(root: Path) -> None:
    cleaned = asyncio.Event()

    @worker
    async def endless(connection: ftpcluster.Connection, rest: str) -> bool:
        connection.response("150", "begins")
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()
        return True

    async with serve(root, endless=endless) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("ENDLESS", 150)
        await client.says("NOOP", 200)
        await client.says("ABOR", 426)
        await client.expects(226)
        assert cleaned.is_set()
        await client.says("NOOP", 200)


def in_extra_workers(task_worker: Verb) -> Verb:
    """A command as aioftp's own are written: 150, and a worker that does the rest."""

    @ConnectionConditions(ConnectionConditions.login_required)
    async def command(server: Any, connection: Any, rest: str) -> bool:
        task = asyncio.create_task(task_worker(connection, rest))
        connection.extra_workers.add(task)
        connection.response("150", "begins")
        return True

    async def bound(connection: Any, rest: str) -> bool:
        result: bool = await command(None, connection, rest)
        return result

    return bound


@on_both_loops
async def test_extra_workers_are_waited_for_before_the_next_command(root: Path) -> None:
    @worker
    async def works(connection: ftpcluster.Connection, rest: str) -> bool:
        await asyncio.sleep(0.02)
        connection.response("226", "done")
        return True

    async with serve(root, xwork=in_extra_workers(works)) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            client.send("XWORK")
            client.send("PWD")
            for code in (150, 226, 257):
                await client.expects(code)


@on_both_loops
async def test_abor_ends_a_worker_in_extra_workers(root: Path) -> None:
    cleaned = asyncio.Event()

    @worker
    async def endless(connection: ftpcluster.Connection, rest: str) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()
        return True

    async with serve(root, xwork=in_extra_workers(endless)) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("XWORK", 150)
            await client.says("ABOR", 426)
            await client.expects(226)
            assert cleaned.is_set()
            await client.says("NOOP", 200)


@on_both_loops
async def test_the_end_of_the_session_ends_its_workers(root: Path) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    @worker
    async def endless(connection: ftpcluster.Connection, rest: str) -> bool:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return True

    async with serve(root, xwork=in_extra_workers(endless)) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("XWORK", 150)
            await began.wait()
        await ended.wait()


@on_both_loops
async def test_an_exception_of_an_extra_worker_is_answered_451(root: Path) -> None:
    @worker
    async def fails(connection: ftpcluster.Connection, rest: str) -> bool:
        raise ValueError("bug")

    async with serve(root, xwork=in_extra_workers(fails)) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            await client.says("XWORK", 150)
            await client.expects(451)
            await client.says("NOOP", 200)


# ---------------------------------------------------------------------- the connection


def seen(root: Path, look: Callable[[Any], Any], **arguments: Any) -> ftpcluster.Server:
    """A server whose command SEE calls ``look`` with the connection."""

    async def see(connection: ftpcluster.Connection, rest: str) -> bool:
        look(connection)
        connection.response("200", "seen")
        return True

    server = ftpcluster.Server([ftpcluster.User(base_path=root)], **arguments)
    server.commands_mapping["see"] = see
    return server


@on_both_loops
async def test_the_connection_has_the_sessions_state_under_the_references_names(
    root: Path,
) -> None:
    (root / "directory").mkdir()
    (root / "file").touch()
    arguments = {
        "socket_timeout": 11.0,
        "idle_timeout": 12.0,
        "wait_future_timeout": 13.0,
        "block_size": 1400,
    }
    found: list[Any] = []
    server = seen(root, found.append, **arguments)

    async with server, Client(server.server_port) as client:
        await client.says("SEE", 200)
        connection = found.pop()
        for absent in ("user", "logged", "passive_server", "data_connection", "rename_from"):
            assert absent not in connection
            with pytest.raises(AttributeError):
                getattr(connection, absent)
        await client.logs_in(binary=False)
        await client.says("CWD directory", 250)
        port = await client.epsv()
        await client.says("RNFR /file", 350)
        server.commands_mapping["rnto"] = server.commands_mapping["see"]
        await client.says("RNTO", 200)
        assert found.pop() is connection
        assert connection.client_host == connection.server_host == "127.0.0.1"
        assert connection.client_port == client._writer.get_extra_info("sockname")[1]
        assert connection.server_port == server.server_port
        assert connection.passive_server_port == port
        assert connection.command_connection is not None
        assert {name: getattr(connection, name) for name in arguments} == arguments
        assert isinstance(connection.path_io, ftpcluster.PathIO)
        assert connection.path_io.connection is connection
        assert connection.loop is asyncio.get_running_loop()
        assert connection.extra_workers == set()
        assert callable(connection.response)
        assert connection.acquired is True
        assert connection.restart_offset == 0
        assert connection.user is server.user_manager.users[0]  # type: ignore[attr-defined]
        assert connection.logged is True
        assert connection.current_directory == PurePosixPath("/directory")
        assert connection.passive_server is not None
        assert connection.rename_from == PurePosixPath("/file")
        assert connection.transfer_type == "A"
        await client.says("TYPE I", 200)
        await client.says("REST 7", 350)
        assert connection.transfer_type == "I"
        assert connection.restart_offset == 7
        for name in ("user", "logged", "current_directory", "transfer_type", "response"):
            assert name in connection
            assert connection[name].result() == getattr(connection, name)
            assert getattr(connection.future, name).done()


@on_both_loops
async def test_a_command_may_set_and_delete_the_sessions_state(root: Path) -> None:
    (root / "directory").mkdir()
    (root / "file").write_bytes(b"0123456789")

    def change(connection: Any) -> None:
        connection.current_directory = PurePosixPath("/directory")
        connection.restart_offset = 4
        connection.transfer_type = "I"
        connection.mine = "anything"

    def check(connection: Any) -> None:
        assert connection.mine == "anything"
        del connection.mine
        assert "mine" not in connection
        del connection.rename_from
        del connection.passive_server
        assert "passive_server" not in connection

    server = seen(root, change)
    async with server, Client(server.server_port) as client:
        await client.logs_in(binary=False)
        await client.says("SEE", 200)
        assert '"/directory"' in await client.says("PWD", 257)
        assert await client.downloads("RETR /file") == b"456789"

        async def checks(connection: ftpcluster.Connection, rest: str) -> bool:
            check(connection)
            connection.response("200", "checked")
            return True

        built_in = server.commands_mapping["rnto"]
        server.commands_mapping["rnto"] = checks
        await client.epsv()
        await client.says("RNFR /file", 350)
        await client.says("RNTO", 200)
        server.commands_mapping["rnto"] = built_in
        await client.says("RNTO other", 503)
        await client.says("LIST", 425)


@on_both_loops
async def test_deleting_user_or_logged_logs_out(root: Path) -> None:
    def log_out(connection: Any) -> None:
        del connection.logged

    async with seen(root, log_out) as server, Client(server.server_port) as client:
        await client.logs_in()
        await client.says("SEE", 200)
        await client.says("PWD", 530)
        await client.logs_in()


@on_both_loops
async def test_a_command_may_say_that_somebody_is_logged_in_before_it_says_who(root: Path) -> None:
    user = ftpcluster.User("alice", "12345", base_path=root)

    async def vouch(connection: Any, rest: str) -> bool:
        connection.logged = True
        assert "logged" not in connection  # nobody is, yet
        if rest:
            connection.user = user
        connection.response("230", "logged in")
        return True

    async def name(connection: Any, rest: str) -> bool:
        connection.user = user
        connection.response("331", "say PASS")
        return True

    async with serve(root, vouch=vouch, name=name) as server, Client(server.server_port) as client:
        await client.says("VOUCH alice", 230)
        await client.says("PWD", 257)
        await client.says("REIN", 220)
        await client.says("VOUCH", 230)
        await client.says("PWD", 530)
        await client.says("REIN", 220)  # what was said before is forgotten
        await client.says("NAME", 331)
        await client.says("PWD", 530)


@on_both_loops
async def test_a_command_may_wait_for_a_value_that_another_one_sets(root: Path) -> None:
    async def waits(connection: ftpcluster.Connection, rest: str) -> bool:
        connections.append(connection)
        connection.response("200", str(await connection.future.gift))
        return True

    connections: list[Any] = []
    server = serve(root, waits=waits)
    async with server, Client(server.server_port) as one, Client(server.server_port) as other:

        async def gives(connection: ftpcluster.Connection, rest: str) -> bool:
            connections[0].gift = rest
            connection.response("200", "given")
            return True

        server.commands_mapping["gives"] = gives
        one.send("WAITS")
        while not connections:
            await asyncio.sleep(0)
        await other.says("GIVES a book", 200)
        assert await one.expects(200) == "200 a book"


@on_both_loops
async def test_a_container_of_ones_own_equates_its_three_ways_to_a_value() -> None:
    connection = ftpcluster.Connection(foo=1, bar=2)
    assert connection.foo == 1
    assert connection.future.foo is connection["foo"]
    assert connection["foo"].result() == 1
    connection.foo = 3
    assert connection["foo"].result() == connection.foo == 3
    waiting = connection["later"]
    assert not waiting.done()
    connection.later = "now"
    assert await waiting == "now"
    del connection.foo
    del connection.future.bar
    del connection["later"]
    for name in ("foo", "bar", "later", "never"):
        assert name not in connection
        with pytest.raises(AttributeError):
            getattr(connection, name)
    with pytest.raises(AttributeError):
        del connection.never


class Echo(ftpcluster.Server):
    """Reads from the data connection and writes to it, in the ways that it has."""

    @ConnectionConditions(ConnectionConditions.data_connection_made, wait=True)
    async def xrecv(self, connection: Any, rest: str) -> bool:
        connection.response("150", "go on")
        async with connection.data_connection as stream:
            if rest == "blocks":
                self.received = [block async for block in stream.iter_by_block(1000)]
            elif rest == "all":
                self.received = [await stream.read()]
            else:
                self.received = []
                while block := await stream.read(1000):
                    self.received.append(block)
        connection.response("226", "done")
        return True

    @ConnectionConditions(ConnectionConditions.data_connection_made, wait=True)
    async def xsend(self, connection: Any, rest: str) -> bool:
        connection.response("150", "go on")
        async with connection.data_connection as stream:
            for _ in range(4):
                await stream.write(bytes(int(rest) // 4))
        connection.response("226", "done")
        return True


@pytest.mark.parametrize("how", ["blocks", "all", "count"])
@on_both_loops
async def test_the_data_connection_reads_under_the_sessions_limits(
    root: Path, how: str, sleeps: Sleeps
) -> None:
    server = Echo([ftpcluster.User(base_path=root, read_speed_limit=1000)])
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        sleeps.restart()
        await client.uploads(f"XRECV {how}", b"0123456789" * 2000)
    assert b"".join(server.received) == b"0123456789" * 2000
    assert how == "all" or max(map(len, server.received)) <= 1000
    assert sleeps.until == pytest.approx(20, rel=0.05)


@on_both_loops
async def test_the_data_connection_writes_under_the_sessions_limits(
    root: Path, sleeps: Sleeps
) -> None:
    server = Echo([ftpcluster.User(base_path=root)], write_speed_limit_per_connection=1000)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        sleeps.restart()
        assert await client.downloads("XSEND 20000") == bytes(20000)
    assert sleeps.until == pytest.approx(20, rel=0.05)


# ---------------------------------------------------------------------- row 6


@on_both_loops
async def test_build_list_string_may_be_overridden_by_a_subclass(root: Path) -> None:
    (root / "a").touch()
    (root / "b").touch()

    class Marked(ftpcluster.Server):
        async def build_list_string(self, connection: ftpcluster.Connection, path: Any) -> str:
            return ">> " + await super().build_list_string(connection, path)

    server = Marked([ftpcluster.User(base_path=root)])
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        lines = await client.lines("LIST")
        assert sorted(line[-2:] for line in lines) == [" a", " b"]
        assert all(re.match(r">> -rw", line) for line in lines)
        (line,) = await client.lines("LIST a")
        assert line.startswith(">> -rw")
        (root / "link").symlink_to("nowhere")
        assert ">> lrwxrwxrwx" in "".join(await client.lines("LIST"))
        (line,) = await client.lines("LIST link")
        assert re.match(r">> l.* link -> nowhere$", line)


@on_both_loops
async def test_a_build_list_string_that_fails_late_leaves_stat_one_reply(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What has begun as 213 cannot end as 451. It begins when what is sorted is there."""
    (root / "few").mkdir()
    (root / "few/file").touch()
    (root / "many").mkdir()
    for number in range(11_000):
        os.mknod(root / f"many/{number:05}")

    class Failing(ftpcluster.Server):
        made = 0

        async def build_list_string(self, connection: ftpcluster.Connection, path: Any) -> str:
            self.made += 1
            if self.made > 10_800:
                raise ValueError("a bug")
            return str(path.name)

    async with Failing([ftpcluster.User(base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in()
            reply = await client.says("STAT /many", 213)
            assert 10_000 < reply.count("\n") < 10_900
            assert "could not be read" in reply
            await client.says("STAT /few", 451)
            await client.says("NOOP", 200)
    assert "a bug" in caplog.text


@on_both_loops
async def test_build_list_string_may_be_overridden_on_the_instance(root: Path, layer: Any) -> None:
    async def build(connection: ftpcluster.Connection, path: Any) -> str:
        await asyncio.sleep(0)  # it may wait
        return f"<{path.name}>"

    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=layer)
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", b"content")
        server.build_list_string = build  # type: ignore[method-assign]
        assert await client.lines("LIST") == ["<file>"]
        assert await client.lines("LIST file") == ["<file>"]
        assert await client.lines("NLST") == ["file"]


@on_both_loops
async def test_build_list_string_is_given_the_real_path_and_says_what_list_says(
    root: Path, layer: Any
) -> None:
    made: list[str] = []

    async def see(connection: Any, rest: str) -> bool:
        for name in ("file", "directory"):
            made.append(await server.build_list_string(connection, root / name))
        connection.response("200", "seen")
        return True

    server = ftpcluster.Server([ftpcluster.User(base_path=root)], path_io_factory=layer)
    server.commands_mapping["see"] = see
    async with server, Client(server.server_port) as client:
        await client.logs_in()
        await client.uploads("STOR file", bytes(12345))
        await client.says("MKD directory", 257)
        await client.says("SEE", 200)
    file, directory = made
    assert re.fullmatch(r"-rw\S+ +1 \S+ \S+ +12345 [A-Z][a-z]{2} [ \d]\d \d\d:\d\d file", file)
    assert directory.startswith("d")


def test_times_of_listings_have_a_clock_for_half_a_year_and_then_a_year() -> None:
    build = ftpcluster.Server.build_list_mtime
    now = time.mktime((2002, 1, 1, 0, 0, 0, 0, 0, -1))
    past = time.mktime((2001, 1, 1, 0, 0, 0, 0, 0, -1))
    assert build(now, now) == "Jan  1 00:00"
    assert build(past, now) == "Jan  1  2001"
    assert build(now - 86400 * 30, now) == "Dec  2 00:00"
    assert re.fullmatch(r"\w{3} [ \d]\d \d\d:\d\d", build(time.time()))


@pytest.mark.parametrize(
    ("current", "argument", "virtual"),
    [
        ("/", "file", "/file"),
        ("/a/b", "file", "/a/b/file"),
        ("/a/b", "../c", "/a/c"),
        ("/a", "/b", "/b"),
        ("/a", "../../../etc/passwd", "/etc/passwd"),
        ("/", "..", "/"),
        ("/a", ".", "/a"),
        ("/", PurePosixPath("/x/../y"), "/y"),
    ],
)
@on_both_loops
async def test_get_paths_gives_the_real_and_the_virtual_path(
    current: str, argument: Any, virtual: str
) -> None:
    connection = ftpcluster.Connection(
        current_directory=PurePosixPath(current), user=ftpcluster.User(base_path="/srv/ftp")
    )
    real, found = ftpcluster.Server.get_paths(connection, argument)
    assert found == PurePosixPath(virtual)
    assert real == Path("/srv/ftp" + virtual)


@pytest.mark.parametrize(
    "argument",
    [
        "/foo/C:\\windows",
        "C:\\windows",
        "C:windows",
        "D:file",
        "\\windows",
        "\\\\server\\share\\file",
        "..\\..\\windows",
        "/foo/..\\..\\..\\windows",
        "foo\\..\\..\\..\\windows",
        "../..\\windows",
    ],
)
@on_both_loops
async def test_get_paths_never_leaves_a_windows_base(argument: str) -> None:
    """A backslash or a drive is nothing to us, and a way out for a Windows path."""
    base = PureWindowsPath("C:\\srv\\ftp")
    user = ftpcluster.User()
    user.base_path = base  # type: ignore[assignment]
    connection = ftpcluster.Connection(current_directory=PurePosixPath("/"), user=user)
    real, virtual = ftpcluster.Server.get_paths(connection, PurePosixPath(argument))
    assert real.is_relative_to(base)
    assert ".." not in real.parts
    assert virtual.is_absolute()
