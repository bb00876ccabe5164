"""Logs that nobody reads, or whose disk is full: nobody waits, and what is lost is counted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue
from tests.support.forking import environment
from tests.support.unprivileged import PACKAGES, python_for_nobody
from tests.support.xferlog import parse_all

NOOPS = 12_000
"""Commands whose lines fill any pipe, and what waits for it."""
BOUND = 15.0
LOST = re.compile(r"WARNING worker \d: (\d+) lines could not be written here: nobody read them")


def talk(client: Dialogue, count: int = NOOPS) -> None:
    """Say many commands, each of which has a line in the log."""
    for _ in range(count // 500):
        client.sock.sendall(b"NOOP\r\n" * 500)
        for _ in range(500):
            assert client.reply()[0] == 200


def logged_in(port: int) -> Dialogue:
    client = Dialogue(port)
    client.says("USER alice", 331)
    client.says("PASS x", 230)
    return client


def flags(root: Path, *more: str) -> list[str]:
    account = ("--user", "alice:x", "--writable")
    return ["--workers", "2", "--root", str(root), *account, "--log-level", "debug", *more]


@contextlib.contextmanager
def with_stderr(kind: str, root: Path) -> Iterator[Cluster]:
    """A cluster whose stderr is of a kind."""
    if kind == "socket":  # as journald's
        ends = [each.detach() for each in socket.socketpair()]
        cluster = Cluster(*flags(root), stderr=(ends[0], ends[1]))
    elif kind == "another user's pipe":  # as of a container that was started by root
        python = python_for_nobody()
        root.chmod(0o755)
        for parent in root.parents[:-2]:
            parent.chmod(parent.stat().st_mode | 0o011)
        env = {"PYTHONPATH": ":".join(PACKAGES)}
        command = (*flags(root), "--run-as", "nobody:nogroup")
        cluster = Cluster(*command, python=python, env=env)
    else:
        cluster = Cluster(*flags(root))
    with cluster:
        yield cluster


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_nobody_waits_for_whoever_has_stopped_to_read_the_log(kind: str, tmp_path: Path) -> None:
    with with_stderr(kind, tmp_path) as cluster:
        with logged_in(cluster.port) as one, logged_in(cluster.port) as other:
            cluster.is_read.clear()
            for client in (one, other):
                talk(client)
            with logged_in(cluster.port) as another:  # the supervisor accepts
                another.uploads("STOR f", b"content")
            who = (sys.executable, "-m", "ftpcluster", "who", "--socket", cluster.admin)
            done = subprocess.run(
                who, env=environment({}), capture_output=True, text=True, timeout=BOUND, check=True
            )
            assert "alice" in done.stdout
            cluster.is_read.set()
            until(lambda: len(LOST.findall(cluster.log)) == 2)
            one.says("PWD", 257)
            cluster.wait_for(re.compile(r"PWD: 257"))
    lines = [line for line in cluster.log.splitlines() if not line.startswith("ready on ")]
    assert all(re.match(r"\d{4}-\d\d-\d\d \S+ [A-Z]+ (worker|supervisor)", line) for line in lines)
    noops = sum(line.endswith("NOOP: 200") for line in lines)
    assert noops + sum(int(count) for count in LOST.findall(cluster.log)) >= 2 * NOOPS


def test_a_server_whose_log_nobody_reads_can_be_stopped(tmp_path: Path) -> None:
    with Cluster(*flags(tmp_path)) as cluster:
        with logged_in(cluster.port) as client:
            cluster.is_read.clear()
            talk(client)
        cluster.process.send_signal(signal.SIGTERM)
        assert cluster.process.wait(BOUND) == 0
        cluster.is_read.set()


def test_a_pipe_that_cannot_be_opened_anew_holds_nobody_up(tmp_path: Path) -> None:
    """The server's user may not: threads write, those of confined workers as well."""
    with with_stderr("another user's pipe", tmp_path) as cluster, logged_in(cluster.port) as client:
        cluster.is_read.clear()
        talk(client)
        cluster.is_read.set()
        cluster.wait_for(LOST)


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_log_whose_disk_is_full_for_a_while_has_whole_lines_and_their_number(
    tmp_path: Path, form: str
) -> None:
    file = tmp_path / "log"
    more = ("--log-file", str(file), "--log-format", form)
    with Cluster(*flags(tmp_path, *more)) as cluster, logged_in(cluster.port) as client:
        worker = cluster.worker_of(client.sock)
        _, most = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (file.stat().st_size + 5050, most))
        talk(client, 500)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (most, most))
        client.says("PWD", 257)
        until(lambda: "PWD" in file.read_text())
        lines = file.read_text().splitlines()
        if form == "json":
            lines = [json.loads(line)["message"] for line in lines]
        (lost,) = (line for line in lines if "could not be written here: File too large" in line)
        count = int(re.findall(r"(\d+) lines could", lost)[0])
        noops = sum("NOOP: 200" in line for line in lines)
        assert count
        assert noops + count == 500
        if form == "text":
            assert all(
                re.match(r"\d{4}-\d\d-\d\d .* (\S+ \d|supervisor): ", line) for line in lines
            )


def with_transfers(directory: Path, log: Path) -> str:
    (directory / "files").mkdir()
    file = directory / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(
        f'workers = 2\n[log]\ntransfers = "{log}"\n'
        '[[user]]\nlogin = "alice"\npassword = "plain:x"\nroot = "files"\n'
        'permissions = [{ path = "/", read = true, write = true }]\n'
    )
    return str(file)


def test_a_log_of_transfers_that_nobody_reads_loses_lines_and_says_how_many(tmp_path: Path) -> None:
    fifo = tmp_path / "xferlog"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    seen = b""
    with Cluster("-c", with_transfers(tmp_path, fifo)) as cluster:
        with logged_in(cluster.port) as client:
            name = "n" * 200
            client.uploads(f"STOR {name}", b"1")
            for _ in range(1500):
                client.downloads(f"RETR {name}")
            cluster.wait_for(re.compile("ERROR worker .: the log of transfers cannot be written"))
            os.set_blocking(reader, True)
            again = re.compile(
                "the log of transfers is written again; lines that it has lost: (.*)"
            )
            done = threading.Event()

            def read() -> None:
                nonlocal seen
                while data := os.read(reader, 65536):
                    seen += data
                done.set()

            threading.Thread(target=read, daemon=True).start()
            count = int(cluster.wait_for(again)[1])
            client.downloads(f"RETR {name}")
    assert done.wait(BOUND)
    assert len(parse_all(seen)) + count == 1502
    os.close(reader)
