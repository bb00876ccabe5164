"""Rows 10 and 14: one's own server and user manager in a cluster."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.library.examples.sqlite_users import SQLiteUsers
from tests.support.cluster import Cluster, until
from tests.support.command import command
from tests.support.dialogue import Dialogue

SHOP = "tests.library.examples.shop"
MAY_WRITE_HERE = ("--confine-allow-write", ".")
"""For users, or a database, that custom code has in the current directory."""
MODULE = """
import ftpcluster

class Mine(ftpcluster.Server):
    @ftpcluster.command("XMINE", login=False)
    async def xmine(self, connection, rest):
        connection.response("200", "mine")
        return True

    @ftpcluster.command("XEXIT", login=False)
    async def xexit(self, connection, rest):
        raise SystemExit(3)

    @ftpcluster.command("XINTERRUPT", login=False)
    async def xinterrupt(self, connection, rest):
        raise KeyboardInterrupt

    class Inner(ftpcluster.Server):
        pass

class Counted(ftpcluster.PathIO):
    def __init__(self, timeout=None, connection=None, state=None):
        super().__init__(timeout, connection, {} if state is None else state)

class OwnState(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, path_io_factory=Counted)

class InMemory(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, path_io_factory=ftpcluster.MemoryPathIO)

class Limited(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, maximum_connections=3)

class Banning(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, ban_failures=3)

class Denying(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, ban_deny=["192.0.2.0/24"])

class Counting(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, new_connections_per_address="60/m")

class Slow(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, write_speed_limit=1000)

class Broken(ftpcluster.Server):
    def __init__(self):
        raise RuntimeError("it is broken")

number = 1
kind = dict
"""


def fails(*arguments: str, cwd: Path) -> str:
    """Run the server, which must end with code 2 and one line; the line."""
    done = command("run", "--host", "127.0.0.1", "--port", "0", *arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.rstrip("\n")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A current directory with somebody's module in it."""
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_server_of_ones_own_runs_in_every_worker(loop: str, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    arguments = ("--workers", "2", "--root", str(root), "--server", f"{SHOP}:Shop", "--loop", loop)
    with Cluster(*arguments) as cluster:
        clients = [Dialogue(cluster.port) for _ in range(4)]
        workers = set()
        for client in clients:
            client.logs_in("anonymous", "")
            client.says("XCOUNT", 200)
            assert client.downloads("RETR file") == b"content"
            digest = hashlib.sha256(b"content").hexdigest()
            assert client.says("XDIGEST file", 213) == f"213 {digest} /file"
            client.says("XDIGEST missing", 550)
            client.says("STOR other", 550)  # the users of the flags, who may not write
            workers.add(cluster.worker_of(client.sock))
        for client in clients:
            client.sock.close()
        assert len(workers) == 2


def test_a_module_of_the_current_directory_is_found(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    with Cluster("--workers", "2", "--server", "mine:Mine") as cluster:
        with Dialogue(cluster.port) as client:
            client.says("XMINE", 200)
    with Cluster("--workers", "1", "--server", "mine:Mine.Inner") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("verb", ["XEXIT", "XINTERRUPT"])
def test_a_command_that_would_end_its_process_ends_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, verb: str, loop: str
) -> None:
    monkeypatch.chdir(directory)
    with Cluster("--workers", "1", "--server", "mine:Mine", "--loop", loop) as cluster:
        workers = cluster.workers()
        with Dialogue(cluster.port) as client, Dialogue(cluster.port) as other:
            client.says(verb, 451)
            client.says("XMINE", 200)
            other.says("XMINE", 200)
        assert cluster.workers() == workers


def test_a_path_layer_of_ones_own_serves_in_a_cluster(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    arguments = ("--workers", "2", "--root", str(root), "--server", f"{SHOP}:InCapitals")
    with Cluster(*arguments) as cluster, Dialogue(cluster.port) as client:
        client.logs_in("anonymous", "")
        assert client.downloads("RETR file") == b"CONTENT"


def test_a_user_manager_of_ones_own_decides_in_every_worker(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    arguments = ("--workers", "2", "--user-manager", f"{SHOP}:customers")
    with Cluster(*arguments, *MAY_WRITE_HERE) as cluster:
        clients = [Dialogue(cluster.port) for _ in range(4)]
        for number, client in enumerate(clients):
            client.logs_in("alice", "sesame")
            client.uploads(f"STOR file{number}", b"content")
        assert len({cluster.worker_of(client.sock) for client in clients}) == 2
        for client in clients:
            client.sock.close()
    assert len(list(root.iterdir())) == 4


def test_a_server_and_a_user_manager_go_together(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    arguments = ("--server", f"{SHOP}:Shop", "--user-manager", f"{SHOP}:customers")
    with Cluster("--workers", "2", *arguments, *MAY_WRITE_HERE) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("alice", "sesame")
            client.says("XCOUNT", 200)


@pytest.mark.parametrize("how", ["QUIT", "lost", "stop"])
def test_notify_logout_is_called_once_per_login_in_a_cluster(
    how: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    manager = SQLiteUsers(root / "users.db")
    manager.create()
    manager.add("alice", "12345", root)

    def logouts() -> list[tuple[str, ...]]:
        return manager.execute("SELECT logouts FROM users WHERE logouts > 0")

    module = "tests.library.examples.sqlite_users:factory"
    with Cluster("--workers", "2", "--user-manager", module, *MAY_WRITE_HERE) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("alice", "12345")
            if how == "QUIT":
                client.says("QUIT", 221)
                assert client.is_closed()
            elif how == "stop":
                assert cluster.stop() == 0
                client.expects(421)
        if how != "stop":
            until(logouts)
    assert logouts() == [(1,)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--server", "missing.module:Server"), ("server", "missing")),
        (("--server", "mine:Missing"), ("server mine:Missing", "Missing")),
        (("--server", "mine"), ("server mine", "module:name")),
        (("--server", "mine:number"), ("server mine:number",)),
        (("--server", "mine:kind"), ("server mine:kind", "ftpcluster.Server")),
        (("--server", "mine:Limited"), ("server mine:Limited", "--max-connections")),
        (("--server", "mine:Banning"), ("server mine:Banning", "[ban]")),
        (("--server", "mine:Denying"), ("server mine:Denying", "ban_deny belongs into [ban]")),
        (("--server", "mine:Counting"), ("server mine:Counting", "[limits]")),
        (("--server", "mine:Slow"), ("server mine:Slow", "--download-limit")),
        (("--server", "mine:Broken"), ("server mine:Broken", "it is broken")),
        (("--server", "faulty:Server"), ("server faulty:Server", "division")),
        (("--user-manager", "missing:factory"), ("user_manager", "missing")),
        (("--user-manager", "mine:kind"), ("user_manager mine:kind", "AbstractUserManager")),
        (("--user-manager", "mine:number"), ("user_manager mine:number",)),
    ],
    ids=lambda value: value[1] if value[0].startswith("--") and len(value) == 2 else "",
)
def test_what_cannot_be_used_is_one_line_that_says_why(
    arguments: tuple[str, ...], words: tuple[str, ...], directory: Path
) -> None:
    (directory / "faulty.py").write_text("1 / 0\n")
    line = fails("--workers", "2", *arguments, cwd=directory)
    for word in words:
        assert word in line, line


@pytest.mark.parametrize("name", ["InMemory", "OwnState"])
def test_a_layer_whose_state_lives_in_one_process_is_refused_with_two_workers(
    name: str, directory: Path
) -> None:
    line = fails("--workers", "2", "--server", f"mine:{name}", cwd=directory)
    assert "one process" in line
    assert "--workers 1" in line


def test_a_layer_in_memory_is_fine_with_one_worker(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    arguments = ("--workers", "1", "--server", "mine:InMemory", "--user", "a:1", "--writable")
    with Cluster(*arguments) as cluster, Dialogue(cluster.port) as client:
        client.logs_in("a", "1")
        client.uploads("STOR file", b"content")
        with Dialogue(cluster.port) as other:
            other.logs_in("a", "1")
            assert other.downloads("RETR file") == b"content"
    assert not os.path.exists("file")


OVERRIDES = """
from pathlib import Path

import ftpcluster

class ReadOnly(ftpcluster.User):
    async def get_permissions(self, path):
        return ftpcluster.Permission(path, writable=False)

class Users(ftpcluster.AbstractUserManager):
    async def get_user(self, login):
        user = (ReadOnly if login == "reader" else ftpcluster.User)(login, base_path=Path.cwd())
        if login == "locked":
            return self.GetUserResponse.ERROR, user, "locked"
        return self.GetUserResponse.PASSWORD_REQUIRED, user, ""

    async def authenticate(self, user, password):
        return password == "12345"

class Refusing(ftpcluster.Server):
    async def stor(self, connection, rest):
        connection.response("550", "no uploads")
        return True

    async def cwd(self, connection, rest):
        connection.response("550", "no way")
        return True

    async def purge(self, connection, rest):
        connection.response("200", "purged")
        return True

class Demanding(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, require_tls=True)
"""


def test_overrides_decide_in_every_worker_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(OVERRIDES)
    (tmp_path / "file").write_bytes(b"content")
    monkeypatch.chdir(tmp_path)
    arguments = ("--server", "own:Refusing", "--user-manager", "own:Users")
    with Cluster("--workers", "2", *arguments, *MAY_WRITE_HERE) as cluster:
        with Dialogue(cluster.port) as client:
            client.says("PURGE", 500)
            client.says("USER locked", 331)
            client.says("PASS 12345", 530)
            client.logs_in("writer")
            for command in ("STOR x", "STOU", "CWD /", "CDUP", "XCWD /", "XCUP"):
                client.says(command, 550)
            client.says("APPE file", 502)
            client.says("PURGE", 500)
            client.logs_in("reader")
            for command in ("DELE file", "MKD x", "RNFR file", "MFMT 20200101000000 file"):
                client.says(command, 550)
        assert "Refusing.purge is no verb" in cluster.log
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_class_that_requires_tls_is_obeyed_where_the_configuration_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(OVERRIDES)
    monkeypatch.chdir(tmp_path)
    with Cluster("--workers", "2", "--server", "own:Demanding", "--user", "a:12345") as cluster:
        with Dialogue(cluster.port) as client:
            client.says("USER a", 530)
