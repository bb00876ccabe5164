"""``ftpcluster top`` in a terminal whose screen is read back."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest

from tests.support.cluster import Cluster, begin_download
from tests.support.dialogue import Dialogue
from tests.support.forking import CHECKOUT

LINES, COLUMNS = 24, 120
DEADLINE = 30.0
SIZES = ("COLUMNS", "LINES")


def _take_terminal() -> None:
    """For Ctrl-C to become a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A terminal in which a program runs."""

    def __init__(self, *command: str, env: dict[str, str]) -> None:
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(self._ours, (LINES, COLUMNS))
        kept = {name: value for name, value in os.environ.items() if name not in SIZES}
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,
            env={**kept, "TERM": "xterm", **env},
        )
        os.close(theirs)

    def shows(self, pattern: str) -> re.Match[str]:
        """Wait until the screen has this on it."""
        end = time.monotonic() + DEADLINE
        while True:
            match = re.search(pattern, "\n".join(self._screen.display), re.MULTILINE)
            if match is not None:
                return match
            left = end - time.monotonic()
            assert left > 0, "\n".join(self._screen.display)
            if select.select([self._ours], [], [], left)[0]:
                try:
                    self._stream.feed(os.read(self._ours, 65536))
                except OSError:  # the program has ended
                    end = 0.0

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def ends(self) -> int:
        """The exit code."""
        end = time.monotonic() + DEADLINE
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self._stream.feed(os.read(self._ours, 65536))
                except OSError:
                    self.process.wait(DEADLINE)
        code = self.process.poll()
        assert code is not None, "\n".join(self._screen.display)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "file").write_bytes(bytes(16 << 20))
    arguments = ["--workers", "2", "--root", str(tmp_path), "--user", "user:12345"]
    with Cluster(*arguments, "--download-limit-per-user", "500kB") as cluster:
        yield cluster


@pytest.fixture
def terminal(cluster: Cluster) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "ftpcluster", "top", "--interval", "0.3"]
    runtime = {"RUNTIME_DIRECTORY": os.path.dirname(cluster.admin)}
    terminal = Terminal(*command, env=runtime)
    yield terminal
    terminal.close()


def test_it_shows_workers_and_the_sessions_as_they_are(
    cluster: Cluster, terminal: Terminal
) -> None:
    terminal.shows(rf"^ftpcluster \S+ on 127\.0\.0\.1:{cluster.port}, .* 0 connections")
    for number, pid in enumerate(sorted(cluster.workers()), 1):
        terminal.shows(rf"^{number} +\d+ +serving +0 +\d+ % +\d+ ms +\d+")
        terminal.shows(rf"^\d +{pid} +serving")
    with Dialogue(cluster.port) as idle, Dialogue(cluster.port) as busy:
        for client in (idle, busy):
            client.logs_in()
        terminal.shows(" 2 connections, ")
        with begin_download(busy, "file") as data:
            data.settimeout(0.2)
            for _ in range(10):
                data.recv(1 << 20)
            # the one that does something stands before the one that does nothing
            terminal.shows(
                r'^2 +2 +user +127\.0\.0\.1 +no +\d+s +RETR "/file" +\d+ % of 16\.8 MB +'
                r"\S+ [kM]?B/s(?s:.*)^1 +1 +user "
            )
            terminal.shows("user limit|client")
        idle.says("QUIT", 221)
    terminal.shows(" 0 connections, ")


@pytest.mark.parametrize("key", ["q", "\x03"], ids=["q", "Ctrl-C"])
def test_it_ends_with_a_key(terminal: Terminal, key: str) -> None:
    terminal.shows("WORKER")
    terminal.press(key)
    assert terminal.ends() in (0, 130)


def test_more_sessions_than_lines_are_counted(cluster: Cluster, terminal: Terminal) -> None:
    clients = [Dialogue(cluster.port) for _ in range(30)]
    try:
        terminal.shows(r"^and 14 more")
    finally:
        for client in clients:
            client.sock.close()


def test_it_says_when_the_server_has_ended(cluster: Cluster, terminal: Terminal) -> None:
    terminal.shows("WORKER")
    cluster.stop(signal.SIGTERM)
    terminal.shows("ftpcluster: error: the server at ")
    assert terminal.ends() == 1


def test_without_a_terminal_it_names_the_command_that_prints_once(cluster: Cluster) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ftpcluster", "top", "--socket", cluster.admin],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "ftpcluster: error: top needs a terminal; `ftpcluster who` prints once\n"


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_that_can_show_lines_only_is_none(kind: str) -> None:
    terminal = Terminal(sys.executable, "-m", "ftpcluster", "top", env={"TERM": kind})
    try:
        terminal.shows("ftpcluster: error: top needs a terminal; `ftpcluster who` prints once")
        assert terminal.ends() == 2
    finally:
        terminal.close()


def test_the_picture_in_the_docs_has_what_top_shows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.picture", str(tmp_path / "top.svg")]
    subprocess.run(command, cwd=CHECKOUT, check=True, timeout=60)
    new, shown = (
        re.findall(r">([^<>]+)</text>", path.read_text())
        for path in (tmp_path / "top.svg", CHECKOUT / "docs" / "top.svg")
    )
    assert new == shown
