"""Rows 7 to 10: users, permissions, limits of connections, passwords, user managers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import argon2
import bcrypt
import hypothesis
import pytest
from hypothesis import strategies as st

import ftpcluster
from ftpcluster import Permission, libcrypt, passwords
from ftpcluster.session.rights import DeclaredRights
from ftpcluster.users import nearest_permission
from tests.library.client import Client
from tests.library.examples.sqlite_users import SQLiteUsers
from tests.library.loops import on_both_loops

SECRET = "correct horse ü"


def argon2id(secret: str = SECRET) -> str:
    return argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(secret)


def scrypt(secret: str = SECRET) -> str:
    salt = b"sixteen bytes..."
    key = hashlib.scrypt(secret.encode(), salt=salt, n=1 << 4, r=8, p=1, dklen=32)
    salt_text, key_text = (base64.b64encode(each).decode().rstrip("=") for each in (salt, key))
    return f"$scrypt$ln=4,r=8,p=1${salt_text}${key_text}"


def bcrypted(secret: str = SECRET) -> str:
    return bcrypt.hashpw(secret.encode(), bcrypt.gensalt(4)).decode()


def crypted(setting: str) -> str:
    computed = libcrypt._crypt(SECRET.encode(), setting.encode())
    assert computed is not None
    return computed.decode()


HASHES: dict[str, Callable[[], str]] = {
    "plain": lambda: SECRET,
    "md5crypt": lambda: crypted("$1$saltsalt$"),
    "sha256crypt": lambda: crypted("$5$rounds=1000$saltsalt$"),
    "sha512crypt": lambda: crypted("$6$rounds=1000$salt$"),
    "yescrypt": lambda: crypted("$y$j75$saltsaltsalt$"),
    "argon2id": argon2id,
    "scrypt": scrypt,
    "bcrypt": bcrypted,
}

# ---------------------------------------------------------------------- users, permissions


@pytest.mark.parametrize("home", ["foo", ".", "", PurePosixPath("a/b")])
def test_a_home_path_must_be_absolute(home: Any) -> None:
    with pytest.raises(ftpcluster.PathIsNotAbsolute):
        ftpcluster.User(home_path=home)


@pytest.mark.parametrize("path", ["foo", ".", "", PurePosixPath("a/b")])
def test_a_permission_that_would_never_match_is_refused(path: Any) -> None:
    with pytest.raises(ftpcluster.PathIsNotAbsolute, match="expected a path"):
        ftpcluster.Permission(path, readable=False)


@pytest.mark.parametrize("path", ["/a/b", "//a/b", "/a//b/", "/a/./b", "/a/c/../b", "/../a/b"])
def test_paths_are_looked_up_in_normal_form(path: str) -> None:
    closed = ftpcluster.Permission(path, readable=False)
    user = ftpcluster.User(home_path=path, permissions=[ftpcluster.Permission(), closed])
    assert closed.path == user.home_path == PurePosixPath("/a/b")
    assert closed.is_parent("/a/b/c")
    assert not nearest_permission(user.permissions, "/a/b").readable
    assert nearest_permission(user.permissions, "/a").readable


def test_a_users_paths_are_paths_whatever_they_were_given_as() -> None:
    user = ftpcluster.User("a", "b", base_path="/srv", home_path="/home")
    assert (user.base_path, user.home_path) == (Path("/srv"), PurePosixPath("/home"))
    assert (user.login, user.password) == ("a", "b")


@pytest.mark.parametrize("kind", HASHES)
def test_no_repr_shows_a_password(kind: str) -> None:
    stored = HASHES[kind]()
    user = ftpcluster.User("login", stored)
    manager = ftpcluster.MemoryUserManager([user])
    assert "login" in repr(user)
    for text in (repr(user), str(user), f"{user}", repr([user]), repr(manager)):
        assert stored not in text
        assert SECRET not in text


@pytest.mark.parametrize(
    ("parent", "path", "expected"),
    [
        ("/", "/", True),
        ("/", "/foo/bar", True),
        ("/foo", "/foo", True),
        ("/foo", "/foo/bar/baz", True),
        ("/foo", "/foobar", False),
        ("/foo/bar", "/foo", False),
        ("/foo", "/", False),
        ("/foo/", "/foo/bar", True),
    ],
)
def test_a_permission_is_parent_by_path_components(parent: str, path: str, expected: bool) -> None:
    permission = ftpcluster.Permission(parent)
    assert permission.is_parent(PurePosixPath(path)) is expected
    assert permission.is_parent(path) is expected  # type: ignore[arg-type]


@on_both_loops
async def test_the_nearest_parent_decides_wherever_it_stands_in_the_list() -> None:
    permissions = [
        ftpcluster.Permission("/a/b", writable=False),
        ftpcluster.Permission("/"),
        ftpcluster.Permission("/a", readable=False),
    ]
    for order in (permissions, permissions[::-1]):
        user = ftpcluster.User(permissions=order)
        for path, nearest in (("/a/b/c", "/a/b"), ("/a/bc", "/a"), ("/ab", "/"), ("/a", "/a")):
            found = await user.get_permissions(PurePosixPath(path))
            assert found.path == PurePosixPath(nearest), path
            assert (await user.get_permissions(path)).path == found.path  # type: ignore[arg-type]


@hypothesis.given(
    st.lists(st.tuples(st.lists(st.sampled_from("ab"), max_size=4), st.booleans()), max_size=5),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=6),
)
def test_the_nearest_directory_above_that_may_not_be_written_is_found(
    rules: list[tuple[list[str], bool]], components: list[str]
) -> None:
    permissions = [Permission("/" + "/".join(path), writable=may) for path, may in rules]
    user = ftpcluster.User(permissions=permissions)
    above = [f"/{'/'.join(components[:count])}" for count in reversed(range(len(components)))]
    decides = user.permissions
    unwritable = [each for each in above if not nearest_permission(decides, each).writable]
    found = DeclaredRights(user).unwritable_above("/" + "/".join(components))
    assert found == next(iter(unwritable), None)


@on_both_loops
async def test_what_no_permission_covers_may_not_be_touched() -> None:
    user = ftpcluster.User(permissions=[ftpcluster.Permission("/foo")])
    found = await user.get_permissions(PurePosixPath("/foobar"))
    assert (found.readable, found.writable) == (False, False)


@on_both_loops
async def test_without_permissions_a_user_may_do_all() -> None:
    for given in (None, [], ()):
        found = await ftpcluster.User(permissions=given).get_permissions(PurePosixPath("/a"))
        assert (found.readable, found.writable) == (True, True)


@on_both_loops
async def test_a_user_without_a_login_takes_any_name_that_nobody_else_has(root: Path) -> None:
    (root / "named").mkdir()
    users = [ftpcluster.User(base_path=root), ftpcluster.User("a", "1", base_path=root / "named")]
    async with ftpcluster.Server(users, login_delay=0) as server:
        async with Client(server.server_port) as client:
            await client.logs_in("whoever", "whatever")
            assert await client.lines("NLST") == ["named"]
            await client.says("USER a", 331)
            await client.says("PASS 2", 530)
            await client.logs_in("a", "1")
            assert await client.lines("NLST") == []


@on_both_loops
async def test_a_user_without_a_password_takes_any_and_an_empty_one(root: Path) -> None:
    async with ftpcluster.Server([ftpcluster.User("a", base_path=root)]) as server:
        async with Client(server.server_port) as client:
            await client.logs_in("a", "x")
            await client.says("USER a", 331)
            await client.says("PASS", 230)


@on_both_loops
async def test_a_session_begins_in_the_users_home(root: Path) -> None:
    (root / "home").mkdir()
    user = ftpcluster.User(base_path=root, home_path="/home")
    async with ftpcluster.Server([user]) as server, Client(server.server_port) as client:
        await client.logs_in()
        assert '"/home"' in await client.says("PWD", 257)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"login": b"a"}, "login: expected a str or None, got bytes"),
        ({"login": "a", "password": b"secret"}, "password: expected a str or None, got bytes"),
        (
            {"permissions": ["/"]},
            r"permissions: expected a list of Permission objects, got \['/'\]",
        ),
        ({"permissions": ftpcluster.Permission()}, "permissions: expected a list of Permission"),
        ({"permissions": "/"}, "permissions: expected a list of Permission objects, got '/'"),
    ],
)
def test_wrong_arguments_of_a_user_are_refused_at_once(
    arguments: dict[str, Any], expected: str
) -> None:
    with pytest.raises(TypeError, match=expected):
        ftpcluster.User(**arguments)
    user = ftpcluster.User()
    name = list(arguments)[-1]
    with pytest.raises(TypeError, match=expected):
        setattr(user, name, arguments[name])


# ---------------------------------------------------------------------- connections


def test_available_connections_raise_past_either_bound() -> None:
    available = ftpcluster.AvailableConnections(2)
    with pytest.raises(ValueError, match=r".+"):
        available.release()
    available.acquire()
    assert not available.locked()
    available.acquire()
    assert available.locked()
    with pytest.raises(ValueError, match=r".+"):
        available.acquire()
    available.release()
    assert not available.locked()
    available.release()
    with pytest.raises(ValueError, match=r".+"):
        available.release()


def test_available_connections_without_a_number_have_no_bounds() -> None:
    for available in (ftpcluster.AvailableConnections(), ftpcluster.AvailableConnections(None)):
        available.release()
        for _ in range(100):
            available.acquire()
            assert not available.locked()
    assert ftpcluster.AvailableConnections(0).locked()


@on_both_loops
async def test_the_users_slot_is_taken_after_a_successful_pass(root: Path) -> None:
    user = ftpcluster.User("a", "1", base_path=root, maximum_connections=1)
    async with ftpcluster.Server([user], login_delay=0) as server:
        port = server.server_port
        async with Client(port) as idle, Client(port) as first, Client(port) as second:
            await idle.says("USER a", 331)  # holds nothing
            await second.says("USER a", 331)
            await second.says("PASS wrong", 530)
            await first.logs_in("a", "1")
            await second.says("USER a", 331)
            await second.says("PASS 1", 530)
            await first.says("USER a", 331)  # this logs out
            await second.logs_in("a", "1")


# ---------------------------------------------------------------------- passwords


@pytest.mark.parametrize("kind", HASHES)
@on_both_loops
async def test_a_password_may_be_plain_or_a_hash(kind: str, root: Path) -> None:
    user = ftpcluster.User("a", HASHES[kind](), base_path=root)
    async with ftpcluster.Server([user], login_delay=0) as server:
        async with Client(server.server_port) as client:
            for wrong in ("wrong", SECRET + "x", ""):
                async with Client(server.server_port) as other:
                    await other.says("USER a", 331)
                    await other.says(f"PASS {wrong}", 530)
            await client.logs_in("a", SECRET)


@pytest.mark.parametrize("kind", [kind for kind in HASHES if kind != "plain"])
@on_both_loops
async def test_a_hash_is_no_password_itself(kind: str, root: Path) -> None:
    stored = HASHES[kind]()
    user = ftpcluster.User("a", stored, base_path=root)
    async with ftpcluster.Server([user], login_delay=0) as server:
        async with Client(server.server_port) as client:
            await client.says("USER a", 331)
            await client.says(f"PASS {stored}", 530)


BAD = [
    "$argon2id$nonsense",
    "$argon2id$v=19$m=65536,t=3,p=4$abc$xyz",
    "$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHRzYWx0$" + "A" * 43,  # 4 TiB of memory
    "$scrypt$ln=4,r=8",
    "$scrypt$ln=99,r=8,p=1$AAAA$AAAA",
    "$2b$nonsense",
    "$2b$04$" + "a" * 53,
    "$6$salt$cut",
    "$apr1$GxpoFL5N$uVLvYlxlFoEm8RSnPJcvJ/",
]


@pytest.mark.parametrize("stored", [each for each in BAD if "=4294967295" not in each])
def test_what_is_no_whole_hash_is_known_by_its_form(stored: str) -> None:
    with pytest.raises(passwords.BadHash) as caught:
        passwords.check_hash(stored)
    assert stored not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in HASHES if kind != "plain"])
@pytest.mark.parametrize("lost", [1, 2, 3, 7, 30, 50])
def test_a_hash_whose_end_is_lost_is_known_to_be_cut_off(kind: str, lost: int) -> None:
    stored = HASHES[kind]()
    passwords.check_hash(stored)
    with pytest.raises(passwords.BadHash, match=r"not a whole \S+ hash \(cut off\?\)"):
        passwords.check_hash(stored[:-lost])


@pytest.mark.parametrize("stored", BAD)
@on_both_loops
async def test_a_bad_hash_lets_nobody_in_and_is_not_told(
    stored: str, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = [
        ftpcluster.User("a", stored, base_path=root),
        ftpcluster.User("b", "1", base_path=root),
    ]
    with caplog.at_level(logging.DEBUG):
        async with ftpcluster.Server(users, login_delay=0) as server:
            async with Client(server.server_port) as client:
                await client.says("USER a", 331)
                assert await client.says(f"PASS {stored}", 530) == "530 Login incorrect."
                await client.logs_in("b", "1")
    (error,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert error.exc_info is None
    assert "nobody can log in as 'a': the stored password is " in error.getMessage()
    assert stored not in caplog.text


@on_both_loops
async def test_a_bad_hash_of_a_user_manager_is_a_failed_login(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Manager(ftpcluster.AbstractUserManager):
        async def get_user(self, login: str) -> Any:
            user = ftpcluster.User(login, BAD[0], base_path=root)
            return self.GetUserResponse.PASSWORD_REQUIRED, user, ""

        async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
            return await passwords.verify_off_loop(user.password or "", password)

    async with ftpcluster.Server(Manager(), login_delay=0) as server:
        async with Client(server.server_port) as client:
            await client.says("USER a", 331)
            assert await client.says("PASS secret", 530) == "530 Login incorrect."
    assert [each.levelname for each in caplog.records].count("ERROR") == 1


@on_both_loops
async def test_a_bad_hash_costs_what_others_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its speed would tell which name has one; nor is it what unknown names are checked by."""
    checked: list[str] = []
    verify = passwords.verify

    def counting(stored: str, given: str) -> bool:
        checked.append(stored)
        return verify(stored, given)

    monkeypatch.setattr(passwords, "verify", counting)
    good = argon2id()
    users = [ftpcluster.User("a", BAD[1]), ftpcluster.User("b", good)]
    async with ftpcluster.Server(users, login_delay=0) as server:
        async with Client(server.server_port) as client:
            for login in ("a", "nobody"):
                await client.says(f"USER {login}", 331)
                await client.says("PASS wrong", 530)
    assert checked == [BAD[1], good, good]


@pytest.mark.parametrize("stored", BAD)
@on_both_loops
async def test_one_bad_hash_does_not_change_what_unknown_names_are_told(
    stored: str, root: Path
) -> None:
    users = [ftpcluster.User("a", stored), ftpcluster.User("b", argon2id(), base_path=root)]
    async with ftpcluster.Server(users, login_delay=0) as server:
        async with Client(server.server_port) as client:
            for login in ("b", "nobody"):
                await client.says(f"USER {login}", 331)
                assert await client.says("PASS wrong", 530) == "530 Login incorrect."


@pytest.mark.parametrize("kind", HASHES)
@on_both_loops
async def test_an_unknown_login_gets_the_same_replies_and_costs_the_same(
    kind: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def verify(stored: str, given: str) -> bool:
        compared.append(stored.split("$")[1] if "$" in stored else "plain")
        return False

    monkeypatch.setattr(passwords, "verify", verify)
    users = [ftpcluster.User("known", HASHES[kind](), base_path=root)]
    replies, costs = [], []
    async with ftpcluster.Server(users, login_delay=0) as server:
        for login in ("known", "unknown"):
            async with Client(server.server_port) as client:
                said = await client.says(f"USER {login}", 331)
                replies.append((said, await client.says("PASS x", 530)))
            costs.append(tuple(compared))
            compared.clear()
    assert replies[0] == replies[1]
    assert costs[0] == costs[1]
    assert len(costs[0]) == 1


@on_both_loops
async def test_hashing_keeps_no_other_session_waiting(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def verify(stored: str, given: str) -> bool:
        began.set()
        return go_on.wait(20)

    monkeypatch.setattr(passwords, "verify", verify)
    users = [ftpcluster.User("a", argon2id(), base_path=root), ftpcluster.User(base_path=root)]
    async with ftpcluster.Server(users) as server:
        async with Client(server.server_port) as slow, Client(server.server_port) as other:
            try:
                await slow.says("USER a", 331)
                slow.send("PASS x")
                assert await asyncio.to_thread(began.wait, 20)
                await other.logs_in()
                await other.uploads("STOR file", b"content")
            finally:
                go_on.set()
            await slow.expects(230)


# ---------------------------------------------------------------------- managers


class Recorder(ftpcluster.AbstractUserManager):
    """Lets everybody in but "error"; writes down who has left. It waits, as a database would."""

    def __init__(self, root: Path, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.root = root
        self.logged_out: list[str | None] = []
        self.left = asyncio.Event()

    async def get_user(
        self, login: str
    ) -> tuple[ftpcluster.AbstractUserManager.GetUserResponse, ftpcluster.User | None, str]:
        await asyncio.sleep(0)
        if login == "error":
            return self.GetUserResponse.ERROR, None, "the secret reason"
        user = ftpcluster.User(login, base_path=self.root, maximum_connections=1)
        if login == "open":
            return self.GetUserResponse.OK, user, ""
        return self.GetUserResponse.PASSWORD_REQUIRED, user, ""

    async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
        async with asyncio.timeout(20):
            await asyncio.sleep(0)
        if password == "bug":
            raise ValueError("bug")
        return password == "12345"

    async def notify_logout(self, user: ftpcluster.User) -> None:
        await asyncio.sleep(0.01)
        self.logged_out.append(user.login)
        self.left.set()


class Down(Recorder):
    """Its database is: who logs in is told so, at USER or at PASS."""

    def __init__(self, root: Path, error: Exception) -> None:
        super().__init__(root)
        self.error = error

    async def get_user(self, login: str) -> Any:
        if login == "early":
            raise self.error
        return await super().get_user(login)

    async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
        raise self.error


@on_both_loops
@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "refused"),
        FileNotFoundError(2, "none", "/run/db"),
        TimeoutError(),
    ],
)
async def test_a_user_manager_whose_database_is_down_is_451_and_an_error_in_the_log(
    root: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Not what the same errors mean of data connections (426) and files (550)."""
    async with ftpcluster.Server(Down(root, error)) as server:
        async with Client(server.server_port) as client:
            await client.says("USER early", 451)
            await client.says("USER late", 331)
            await client.says("PASS 12345", 451)
            await client.says("NOOP", 200)
    told = [each for each in caplog.records if each.levelname == "ERROR"]
    assert len(told) == 2
    for each in told:
        assert "the user manager does not answer" in each.getMessage()
        assert each.exc_info is None


@on_both_loops
async def test_a_user_manager_of_ones_own_decides_and_its_reason_is_not_told(root: Path) -> None:
    async with ftpcluster.Server(Recorder(root), login_delay=0) as server:
        async with Client(server.server_port) as client:
            known = await client.says("USER a", 331)
            assert await client.says("USER error", 331) == known
            text = await client.says("PASS 12345", 530)
            assert "secret" not in text
            await client.says("USER a", 331)
            assert await client.says("PASS wrong", 530) == text
            await client.logs_in("open", "anything")
            await client.logs_in("a", "12345")


@on_both_loops
async def test_an_exception_of_the_user_manager_is_451_and_the_session_lives(root: Path) -> None:
    async with ftpcluster.Server(Recorder(root)) as server:
        async with Client(server.server_port) as client:
            await client.says("USER a", 331)
            await client.says("PASS bug", 451)
            await client.logs_in("a", "12345")


@pytest.mark.parametrize("how", ["QUIT", "lost", "USER", "close"])
@on_both_loops
async def test_notify_logout_is_called_once_for_a_login_that_succeeded(
    how: str, root: Path
) -> None:
    manager = Recorder(root)
    server = ftpcluster.Server(manager)
    await server.start("127.0.0.1")
    async with Client(server.server_port) as client:
        await client.logs_in("a", "12345")
        if how == "QUIT":
            await client.says("QUIT", 221)
            assert await client.is_ended()
        elif how == "USER":
            await client.says("USER b", 331)
        elif how == "close":
            await server.close()
        if how in ("QUIT", "USER"):
            await manager.left.wait()
            assert manager.logged_out == ["a"]
    if how == "lost":
        await manager.left.wait()
    await server.close()
    assert manager.logged_out == (["a", "b"] if how == "USER" else ["a"])


@on_both_loops
async def test_notify_logout_is_called_once_for_each_user_that_was_handed_out(root: Path) -> None:
    manager = Recorder(root)
    async with ftpcluster.Server(manager, login_delay=0) as server:
        port = server.server_port
        async with Client(port) as first, Client(port) as second, Client(port):
            await first.logs_in("a", "12345")
            await second.says("USER b", 331)
            await second.says("PASS wrong", 530)
            await second.says("USER a", 331)
            await second.says("PASS 12345", 530)  # a has one connection
            await second.says("USER error", 331)
            await second.says("PASS 12345", 530, 421)
    assert sorted(filter(None, manager.logged_out)) == ["a", "a", "b"]


@on_both_loops
async def test_several_logins_of_a_session_are_told_one_by_one(root: Path) -> None:
    manager = Recorder(root)
    async with ftpcluster.Server(manager) as server, Client(server.server_port) as client:
        for login in ("a", "b", "a"):
            await client.logs_in(login, "12345")
    assert sorted(filter(None, manager.logged_out)) == ["a", "a", "b"]


class Slow(Recorder):
    @ftpcluster.with_timeout
    async def authenticate(self, user: ftpcluster.User, password: str) -> bool:
        await asyncio.Event().wait()
        return True


@on_both_loops
async def test_with_timeout_bounds_a_user_managers_methods(root: Path) -> None:
    async with ftpcluster.Server(Slow(root, timeout=0.05)) as server:
        async with Client(server.server_port) as client:
            await client.says("USER a", 331)
            await client.says("PASS 12345", 451)
            await client.says("NOOP", 200)


@on_both_loops
async def test_users_in_a_database_log_in_and_out(root: Path, tmp_path: Path) -> None:
    manager = SQLiteUsers(tmp_path / "users.db")
    manager.create()
    manager.add("alice", SECRET, root)
    async with ftpcluster.Server(manager, login_delay=0) as server:
        async with Client(server.server_port) as client:
            await client.says("USER bob", 331)
            await client.says("PASS x", 530)
            await client.says("USER alice", 331)
            await client.says("PASS x", 530)
            await client.logs_in("alice", SECRET)
            await client.uploads("STOR file", b"content")
    assert manager.execute("SELECT logouts FROM users") == [(2,)]
    assert (root / "file").read_bytes() == b"content"


@on_both_loops
async def test_a_crypt_hash_where_no_libcrypt_knows_it_lets_nobody_in(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stored = HASHES["sha512crypt"]()
    monkeypatch.setattr(libcrypt, "_library", lambda: None)
    libcrypt.can_check.cache_clear()
    try:
        users = [ftpcluster.User("a", stored, base_path=root)]
        async with ftpcluster.Server(users, login_delay=0) as server:
            async with Client(server.server_port) as client:
                for given in (SECRET, stored):
                    await client.says("USER a", 331)
                    await client.says(f"PASS {given}", 530)
    finally:
        libcrypt.can_check.cache_clear()
    assert "a $6$ hash, which the libcrypt of this system cannot check" in caplog.text


def test_a_password_that_libcrypt_would_cut_off_is_wrong() -> None:
    stored = HASHES["sha512crypt"]()
    assert passwords.verify(stored, SECRET)
    assert not passwords.verify(stored, SECRET + "\0")
