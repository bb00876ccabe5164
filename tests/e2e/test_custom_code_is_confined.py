"""Workers that run custom code are confined as all are, and ``[confine_allow]`` names its files."""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, until
from tests.support.command import command
from tests.support.configured import configured
from tests.support.dialogue import Dialogue

MODULE = """
import os
import socket
import subprocess
from pathlib import Path

import ftpcluster

BESIDE = (Path(__file__).parent / "beside.txt").read_text()  # an import may read what it likes

class Custom(ftpcluster.Server):
    @ftpcluster.command("XREAD", login=False)
    async def xread(self, connection, rest):
        connection.response("200", self.tried(lambda: Path(rest).read_text()))
        return True

    @ftpcluster.command("XWRITE", login=False)
    async def xwrite(self, connection, rest):
        connection.response("200", self.tried(lambda: Path(rest).write_text("written")))
        return True

    @ftpcluster.command("XASK", login=False)
    async def xask(self, connection, rest):
        host, port = rest.split()
        def ask():
            with socket.create_connection((host, int(port)), 20) as sock:
                sock.sendall(b"SELECT")
                return sock.recv(100).decode()
        connection.response("200", self.tried(ask))
        return True

    @ftpcluster.command("XUNIX", login=False)
    async def xunix(self, connection, rest):
        connection.response("200", self.tried(lambda: socket.socket(socket.AF_UNIX)))
        return True

    @ftpcluster.command("XRUN", login=False)
    async def xrun(self, connection, rest):
        connection.response("200", self.tried(lambda: subprocess.run(["/bin/true"])))
        return True

    @ftpcluster.command("XBESIDE", login=False)
    async def xbeside(self, connection, rest):
        connection.response("200", BESIDE)
        return True

    def tried(self, function):
        try:
            return str(function())
        except OSError as error:
            return type(error).__name__ + ": " + os.strerror(error.errno)

class Reading(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users)
        Path(os.environ["SETTINGS"]).read_text()

class Elsewhere(ftpcluster.MemoryUserManager):
    def __init__(self):
        users = [ftpcluster.User(name, "x", base_path=os.environ[name]) for name in ("IN", "OUT")]
        super().__init__(users)
"""
THREADS = """
import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
"""
DENIED = "200 PermissionError: Permission denied"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A module, what it may read and write, and what it may not."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "mine.py").write_text(MODULE)
    (tmp_path / "modules" / "beside.txt").write_text("beside")
    for name in ("readable", "writable", "other", "root"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"of {name}")
    return tmp_path


def text_of(place: Path, more: str = "", server: str = "mine:Custom") -> str:
    return f'server = "{server}"\n{more}\n[log]\nlevel = "debug"\n[anonymous]\nroot = "root"\n'


ALLOW = 'confine_allow = { read = ["readable"], write = ["writable"] }'


def environment(place: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{place}/modules"}


def expect_confinement(cluster: Cluster) -> None:
    """All workers are confined, as the kernel tells; skips where it confines nobody."""
    if "files: not confined" in cluster.log:
        pytest.skip("this kernel confines nobody")
    assert cluster.log.count("files: Landlock") == 2
    for pid in cluster.workers():
        found = re.search(r"^Seccomp:\s*2$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert found is not None or "not filtered" in cluster.log or "no filter" in cluster.log


def clients_of_both(cluster: Cluster) -> Iterator[Dialogue]:
    """A client of each worker, one after the other, while the one before stays."""
    with Dialogue(cluster.port) as one, Dialogue(cluster.port) as other:
        assert len({cluster.worker_of(each.sock) for each in (one, other)}) == 2
        yield from (one, other)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_custom_code_has_the_files_that_are_named_and_no_others(place: Path, loop: str) -> None:
    flags = ("--loop", loop)
    with configured(place, text_of(place, ALLOW), *flags, env=environment(place)) as cluster:
        expect_confinement(cluster)
        for client in clients_of_both(cluster):
            assert client.says("XBESIDE", 200) == "200 beside"
            assert client.says(f"XREAD {place}/readable/file", 200) == "200 of readable"
            assert client.says(f"XWRITE {place}/writable/new", 200) == "200 7"
            assert client.says(f"XREAD {place}/writable/new", 200) == "200 written"
            assert client.says(f"XWRITE {place}/readable/file", 200) == DENIED
            for file in (f"{place}/other/file", "/etc/shadow", f"{place}/ftpcluster.toml"):
                assert client.says(f"XREAD {file}", 200) == DENIED
                assert client.says(f"XWRITE {file}", 200) == DENIED
            client.logs_in("anonymous", "")
            assert client.downloads("RETR file") == b"of root"


def test_a_reload_names_others(place: Path) -> None:
    with configured(place, text_of(place, ALLOW), env=environment(place)) as cluster:
        expect_confinement(cluster)
        (place / "ftpcluster.toml").write_text(text_of(place, ALLOW.replace("readable", "other")))
        assert " reloaded: " in cluster.hang_up()
        with Dialogue(cluster.port) as client:
            assert client.says(f"XREAD {place}/other/file", 200) == "200 of other"
            assert client.says(f"XREAD {place}/readable/file", 200) == DENIED
        (place / "ftpcluster.toml").write_text(text_of(place, ALLOW.replace("readable", "gone")))
        assert "confine_allow.read[0]: " in cluster.hang_up()
        with Dialogue(cluster.port) as client:
            client.says("XBESIDE", 200)


def test_flags_and_the_environment_name_files_as_well(place: Path) -> None:
    env = {**environment(place), "FTPCLUSTER__CONFINE_ALLOW__READ": f'["{place}/readable"]'}
    flags = ("--server", "mine:Custom", "--confine-allow-write", "writable", "--root", "root")
    flags += ("--confine-allow-write", "other", "--log-level", "debug", "--workers", "2")
    with Cluster(*flags, env=env, cwd=place) as cluster:
        expect_confinement(cluster)
        with Dialogue(cluster.port) as client:
            for name in ("writable", "other"):
                client.says(f"XWRITE {place}/{name}/new", 200)
                assert (place / name / "new").read_text() == "written"
            assert client.says(f"XREAD {place}/readable/file", 200) == "200 of readable"


def test_without_confinement_nothing_is_refused(place: Path) -> None:
    with configured(place, text_of(place, "confine = false"), env=environment(place)) as cluster:
        with Dialogue(cluster.port) as client:
            assert client.says(f"XREAD {place}/other/file", 200) == "200 of other"


def test_custom_code_speaks_with_hosts_and_neither_with_unix_sockets_nor_programs(
    place: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:

        def answer() -> None:
            for _ in range(2):
                client, _ = database.accept()
                with client:
                    client.sendall(b"row for " + client.recv(100))

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        port = database.getsockname()[1]
        with configured(place, text_of(place), env=environment(place)) as cluster:
            expect_confinement(cluster)
            for client in clients_of_both(cluster):
                assert client.says(f"XASK localhost {port}", 200) == "200 row for SELECT"
                assert "Address family not supported" in client.says("XUNIX", 200)
                assert "Operation not permitted" in client.says("XRUN", 200)
        thread.join(20)


def test_a_storage_in_memory_needs_no_key(place: Path) -> None:
    text = text_of(place, server="tests.support.object_storage:BucketServer").replace(
        "[anonymous]", '[[user]]\nlogin = "user"\npassword = "plain:12345"'
    )
    with configured(place, text) as cluster:
        expect_confinement(cluster)
        for client in clients_of_both(cluster):
            client.logs_in()
            client.uploads("STOR object", b"content")
            assert client.downloads("RETR object") == b"content"
    assert [each.name for each in (place / "root").iterdir()] == ["file"]


def test_a_root_that_no_key_names_is_refused_at_the_login_and_the_log_says_what_to_do(
    place: Path,
) -> None:
    env = {**environment(place), "IN": f"{place}/writable", "OUT": f"{place}/other"}
    text = f'user_manager = "mine:Elsewhere"\n{ALLOW}\n[log]\nlevel = "debug"\n'
    with configured(place, text, env=env) as cluster:
        expect_confinement(cluster)
        for client in clients_of_both(cluster):
            client.says("USER OUT", 331)
            client.says("PASS x", 530)
            cluster.wait_for(
                re.compile(
                    rf"the directory of user OUT cannot be opened: confined workers may not open "
                    rf"{place}/other: name it in \[confine_allow\]"
                )
            )
            client.logs_in("IN", "x")
            client.uploads("STOR new", b"content")


@pytest.mark.parametrize("name", ["run", "check"])
@pytest.mark.parametrize(
    ("key", "why"),
    [
        ('read = ["readable", "gone"]', "gone: there is no such file or directory; make it, or"),
        ('write = ["other", "gone/deeper"]', "gone/deeper: there is no such file"),
        ('write = ["writable", "other/file/x"]', "other/file/x: Not a directory"),
    ],
)
def test_what_is_not_there_is_refused(place: Path, name: str, key: str, why: str) -> None:
    file = place / "f.toml"
    file.touch(mode=0o600)
    file.write_text(text_of(place, f"confine_allow = {{ {key} }}"))
    more = ("--port", "0") if name == "run" else ()
    done = command(name, "-c", str(file), *more, env=environment(place))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"ftpcluster: error: {file}:2: confine_allow.{key.split()[0]}[1]: {place}/{why}"
    )


def test_check_says_what_custom_code_may_open(place: Path) -> None:
    file = place / "f.toml"
    file.touch(mode=0o600)
    file.write_text(text_of(place, ALLOW))
    done = command("check", "-c", str(file), env=environment(place))
    assert f"custom code may read: {place}/readable\n" in done.stdout
    assert f"custom code may write: {place}/writable\n" in done.stdout
    file.write_text(text_of(place, f"confine = false\n{ALLOW}"))
    done = command("check", "-c", str(file), env=environment(place))
    assert "workers are not confined\n" in done.stdout


def fails(place: Path, server: str, **env: str) -> str:
    """Run the server, which must end with code 2 and one line; the line."""
    flags = ("run", "--host", "127.0.0.1", "--port", "0", "--root", f"{place}/root")
    done = command(*flags, "--server", server, env={**environment(place), **env})
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_an_import_that_starts_threads_is_refused(place: Path) -> None:
    (place / "modules" / "busy.py").write_text(f"{THREADS}{MODULE}")
    line = fails(place, "busy:Custom")
    assert "server busy:Custom: its import starts threads, which could not be confined" in line
    assert "start them when the object is made, or set confine = false" in line


def test_a_constructor_that_may_not_read_its_file_is_told_of_the_key(place: Path) -> None:
    line = fails(place, "mine:Reading", SETTINGS=f"{place}/other/file")
    assert "server mine:Reading: calling it failed: PermissionError" in line
    assert "; [confine_allow] names the files that custom code may open" in line


def test_an_import_that_hangs_ends_with_the_supervisor(place: Path) -> None:
    (place / "modules" / "stuck.py").write_text("import os\nos.read(os.pipe()[0], 1)\n")
    flags = ("--workers", "2", "--root", f"{place}/root", "--server", "stuck:Custom")
    cluster = Cluster(*flags, env=environment(place))
    try:
        workers = until(lambda: len(found := cluster.workers()) == 2 and found)
        until(lambda: all("pipe" in waits(pid) for pid in workers))
        cluster.process.send_signal(signal.SIGKILL)
        cluster.process.wait(20)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    finally:
        cluster._kill_all()


def waits(pid: int) -> str:
    """The function of the kernel that a process waits in."""
    return Path(f"/proc/{pid}/wchan").read_text()
