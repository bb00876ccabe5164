"""Streams that are closed, full or gone, and Ctrl-C at any time."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import DEADLINE
from tests.support.command import AS_ROOT, command
from tests.support.dialogue import Dialogue
from tests.support.forking import environment

PYTHON = (sys.executable, "-m", "ftpcluster")
SERVE = (*PYTHON, "run", "--host", "127.0.0.1", "--port", "0", "--workers", "1")


def in_shell(streams: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command with streams as the shell makes them."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {streams}', "sh", *PYTHON, *arguments],
        cwd=cwd,
        env=environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", ["schema", "--help", "run --help", "check", "hash", "init x"])
def test_a_stdout_that_is_full_is_said_in_one_line(arguments: str, tmp_path: Path) -> None:
    (tmp_path / "ftpcluster.toml").write_text("[anonymous]\nroot = '.'\n")
    streams = "</etc/hostname >/dev/full" if arguments == "hash" else ">/dev/full"
    done = in_shell(streams, *arguments.split(), cwd=tmp_path)
    assert done.returncode == 1
    stderr = done.stderr.replace(AS_ROOT, "")
    assert stderr == ("ftpcluster: error: stdout cannot be written: No space left on device\n")


def test_a_reader_that_has_enough_is_told_nothing(tmp_path: Path) -> None:
    done = in_shell("| true", "schema", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_wrong_is_an_exit_code_also_where_stderr_is_full(tmp_path: Path) -> None:
    assert in_shell("2>/dev/full", "run", "--workers", "0", cwd=tmp_path).returncode == 2


def test_hash_without_stdin_says_that_there_is_no_password(tmp_path: Path) -> None:
    done = in_shell("<&-", "hash", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "ftpcluster: error: the password is empty\n")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{tmp_path}/notify")
        sock.settimeout(DEADLINE)
        yield sock


def port_of(manager: socket.socket) -> int:
    """What a server that is ready tells."""
    while True:
        told = manager.recv(65536).decode()
        if "READY=1" in told:
            return int(told.partition("ready on 127.0.0.1:")[2].partition(" ")[0])


@pytest.mark.parametrize("streams", ["2>/dev/full", "<&- >&- 2>&-"])
def test_a_server_whose_stderr_is_full_or_closed_serves_and_says_that_it_is_ready(
    streams: str, manager: socket.socket, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {streams}', "sh", *SERVE, "--log-file", "log"],
        cwd=tmp_path,
        env=environment({"NOTIFY_SOCKET": f"{tmp_path}/notify", "RUNTIME_DIRECTORY": "/no"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        with Dialogue(port_of(manager)) as client:
            client.logs_in("anonymous", "")
            assert client.downloads("RETR file") == b"content"
            for number in range(3):
                assert Path(f"/proc/{process.pid}/fd/{number}").readlink().parent == Path("/dev")
        process.terminate()
        assert process.wait(DEADLINE) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_while_it_is_still_imported_ends_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(
        "import signal\nprint('importing', flush=True)\nwhile True: signal.pause()\n"
    )
    with subprocess.Popen(
        SERVE,
        env=environment({"PYTHONPATH": str(tmp_path)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "importing\n"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert (process.returncode, said) == (130, "")


@pytest.mark.parametrize("flag", ["--server", "--user-manager"])
def test_a_module_that_ends_python_when_it_is_imported_is_named(flag: str, tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\nsys.exit('usage: ends')\n")
    done = command("run", "--port", "0", "--workers", "1", flag, "ends:X", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "ends:X: its import failed: SystemExit('usage: ends')" in line
