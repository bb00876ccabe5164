"""What docs/library.md shows is executed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue

PAGE = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "asyncio.run" in block]
MODULES = [block for block in BLOCKS if re.match(r"# \w+\.py\n", block)]
COMMANDS = re.findall(r"^\$ ftpcluster run (.+)$", PAGE, re.MULTILINE)


def can_count(client: Dialogue) -> None:
    client.says("XCOUNT", 200)
    assert client.says("XLINES file", 213) == "213 2 lines"
    client.says("XLINES missing", 550)


def is_in_capitals(client: Dialogue) -> None:
    assert client.downloads("RETR file") == b"ONE\nTWO\n"


def has_a_reading_public(client: Dialogue) -> None:
    client.says("MKD private", 257)
    client.logs_in("anybody", "")
    assert client.downloads("RETR file") == b"one\ntwo\n"
    client.says("DELE file", 550)
    client.says("CWD private", 550)


def keeps_files_elsewhere(client: Dialogue) -> None:
    assert client.downloads("NLST") == b"file\r\n"
    assert client.downloads("RETR file") == b"one\ntwo\n"
    client.uploads("APPE file", b"three\n")
    client.says("RNFR file", 350)
    client.says("RNTO moved", 250)
    client.says("REST 4", 350)
    assert client.downloads("RETR moved") == b"two\nthree\n"
    client.says("CWD /", 250)
    client.says("MKD directory", 502, 504, 550)  # that has no method
    client.says("SITE CHMOD 600 moved", 502, 504, 550)
    client.says("STOR directory/file", 425, 550)
    client.says("DELE moved", 250)
    client.says("SIZE moved", 550)


SHOWN: dict[str, Callable[[Dialogue], None]] = {
    "class Shop": can_count,
    "class Capitals": is_in_capitals,
    "class Blobs": keeps_files_elsewhere,
    "reader =": has_a_reading_public,
}


def test_every_python_block_of_the_page_is_executed() -> None:
    assert sorted(PROGRAMS + MODULES) == sorted(BLOCKS)
    assert len(PROGRAMS) == 7
    for mark in SHOWN:
        assert any(mark in program for program in PROGRAMS), mark


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_of_the_page_serve(program: str, tmp_path: Path) -> None:
    """They run until they are killed; what they print says that they serve."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[-1])
        with Dialogue(port) as client:
            client.says("USER alice", 331)
            client.logs_in("alice", "secret")
            client.uploads("STOR file", b"one\ntwo\n")
            if "class Blobs" not in program:
                assert (tmp_path / "file").read_bytes() == b"one\ntwo\n"
            for mark, check in SHOWN.items():
                if mark in program:
                    check(client)
        if "sqlite3" in program:
            # one for each user that get_user gave: for the USER that another one follows, too
            until(lambda: logouts(tmp_path / "users.db") == 2)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("program", [each for each in PROGRAMS if "sqlite3" in each])
def test_a_program_with_a_database_serves_again_over_what_it_left(
    program: str, tmp_path: Path
) -> None:
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-u", "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                with Dialogue(int(process.stdout.readline().split()[-1])) as client:
                    client.logs_in("alice", "secret")
            finally:
                process.kill()


def logouts(database: Path) -> int:
    import sqlite3

    connection = sqlite3.connect(database, timeout=10)
    try:
        ((count,),) = connection.execute("SELECT logouts FROM users").fetchall()
    finally:
        connection.close()
    return int(count)


def test_the_test_of_the_page_succeeds(tmp_path: Path) -> None:
    (test,) = (module for module in MODULES if module.startswith("# test_"))
    (tmp_path / "test_upload.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_upload.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in MODULES:
        name = re.match(r"# (\w+\.py)\n", module)
        assert name is not None
        (tmp_path / name[1]).write_text(module)
    monkeypatch.chdir(tmp_path)
    with Cluster(*shlex.split(command)) as cluster, Dialogue(cluster.port) as client:
        client.logs_in("alice", "secret")
        assert client.says("XHELLO world", 200) == "200 hello world"
        client.uploads("STOR file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
