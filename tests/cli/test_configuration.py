"""``init``, ``schema`` and ``hash``; and what ``run`` says of a wrong file."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ftpcluster.passwords import verify
from tests.support.cluster import Cluster
from tests.support.command import command
from tests.support.dialogue import DEADLINE, Dialogue
from tests.support.forking import environment

SECRET = "s3cr3t"

WRONG = f"""\
wrokers = 2
[[user]]
login = "alice"
password = "{SECRET}"
root = "."
"""
ERRORS = [
    'f.toml:1: wrokers: unknown key; did you mean "workers"?',
    "f.toml:4: user[0].password: expected a hash (`ftpcluster hash` makes one), or "
    '"plain:" with the password behind it',
]


# ---------------------------------------------------------------------- wrong files


@pytest.mark.parametrize("name", ["run", "check"])
def test_each_error_is_a_line_of_its_own(name: str, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(WRONG)
    done = command(name, "-c", "f.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [f"ftpcluster: error: {line}" for line in ERRORS]


def test_errors_of_file_and_flags_are_said_together(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(WRONG)
    done = command("run", "-c", "f.toml", "--port", "-1", "--user", "bob", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"ftpcluster: error: {line}"
        for line in (
            *ERRORS,
            "--user bob: no password; give bob:PASSWORD or set FTPCLUSTER_USER_BOB",
            "--port -1: expected a whole number from 0 to 65535",
        )
    ]


def test_run_reads_no_file_that_it_was_not_told_of(tmp_path: Path) -> None:
    (tmp_path / "ftpcluster.toml").write_text(WRONG)
    with Cluster("--workers", "2", cwd=tmp_path) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "")


# ---------------------------------------------------------------------- init, schema


def test_what_init_writes_is_right_and_runs_once_somebody_may_log_in(tmp_path: Path) -> None:
    done = command("init", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path / "ftpcluster.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for arguments in (("check",), ("run", "-c", "ftpcluster.toml", "--port", "0")):
        refused = command(*arguments, cwd=tmp_path)
        assert refused.returncode == 2
        assert "ftpcluster.toml:1: user: there are no accounts" in refused.stderr
    with file.open("a") as stream:
        stream.write('[anonymous]\nroot = "."\n')
    checked = command("check", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    (tmp_path / "file").write_bytes(b"content")
    arguments = ("-c", "ftpcluster.toml", "--workers", "2")
    with Cluster(*arguments, cwd=tmp_path) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "")
            assert client.downloads("RETR file") == b"content"


def test_the_command_that_init_says_runs_as_it_stands(tmp_path: Path) -> None:
    done = command("init", "it's mine.toml", cwd=tmp_path)
    (said,) = re.findall("`(.+)`", done.stdout)
    assert shlex.split(said) == ["ftpcluster", "run", "-c", "it's mine.toml"]
    done = command("check", "-c", "not there.toml", cwd=tmp_path)
    (said,) = re.findall("`(.+)`", done.stderr)
    assert shlex.split(said) == ["ftpcluster", "init", "not there.toml"]


def test_init_writes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("# mine")
    done = command("init", "mine.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("ftpcluster: error: mine.toml exists; nothing was written")
    assert (tmp_path / "mine.toml").read_text() == "# mine"


def test_init_says_where_it_cannot_write(tmp_path: Path) -> None:
    done = command("init", "no/such/directory.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "ftpcluster: error: no/such/directory.toml cannot be written: No such file or directory\n"
    )


def test_schema_prints_json(tmp_path: Path) -> None:
    done = command("schema", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "listen" in json.loads(done.stdout)["properties"]


# ---------------------------------------------------------------------- hash


def test_hash_reads_a_line_and_prints_what_a_file_may_have(tmp_path: Path) -> None:
    done = command("hash", cwd=tmp_path, stdin=f"{SECRET}\nmore\n")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("$argon2id$")
    assert verify(line, SECRET)
    (tmp_path / "f.toml").write_text(f"[[user]]\nlogin = 'a'\npassword = '{line}'\nroot = '.'\n")
    assert command("check", "-c", "f.toml", cwd=tmp_path).returncode == 0


def test_hash_of_nothing_is_refused(tmp_path: Path) -> None:
    done = command("hash", cwd=tmp_path, stdin="\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ftpcluster: error: the password is empty\n"


class Terminal:
    """A command on a terminal, as somebody who types sees it."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ftpcluster", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment({}),
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def waits_for(self, text: str) -> None:
        """Read what is shown until ``text`` is, which has not been before."""
        start = len(self.seen)
        while text not in self.seen[start:]:
            assert select.select([self._ours], [], [], DEADLINE)[0], self.seen
            self.seen += os.read(self._ours, 4096).decode()

    def types(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self._ours)

    def ends(self) -> int:
        try:
            while data := os.read(self._ours, 4096):
                self.seen += data.decode()
        except OSError:
            pass  # so Linux says that nobody has the other end any more
        return self.process.wait(DEADLINE)


def test_hash_asks_twice_and_shows_nothing_of_the_password() -> None:
    with Terminal("hash") as terminal:
        terminal.waits_for("Password: ")
        terminal.types(SECRET)
        terminal.waits_for("Once more: ")
        terminal.types("another")
        terminal.waits_for("Password: ")  # they were not the same
        terminal.types(SECRET)
        terminal.waits_for("Once more: ")
        terminal.types(SECRET)
        assert terminal.ends() == 0
    assert SECRET not in terminal.seen
    line = terminal.seen.splitlines()[-1]
    assert verify(line, SECRET)


def test_a_port_of_the_file_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "f.toml").write_text(
            f"[[listen]]\naddress = '127.0.0.1'\nport = {port}\n[anonymous]\nroot = '.'\n"
        )
        done = command("run", "-c", "f.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert f"127.0.0.1 port {port}: the port is taken" in done.stderr
    assert len(done.stderr.splitlines()) == 1
