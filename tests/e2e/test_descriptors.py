"""No file descriptors left, in the supervisor and in a worker."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.cluster import (
    DEADLINE,
    SPAWNED,
    Cluster,
    open_files,
    processor_time,
    restore,
    starve,
    until,
)
from tests.support.command import AS_ROOT
from tests.support.dialogue import Dialogue
from tests.support.forking import environment


def greeted(port: int) -> bool:
    with Dialogue(port, greeting=None) as client:
        return client.reply()[0] == 220


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster("--workers", "2", "--root", str(tmp_path))


def test_a_supervisor_without_descriptors_says_421_and_recovers(cluster: Cluster) -> None:
    with cluster, contextlib.ExitStack() as stack:
        before = len(open_files(cluster.pid))
        early = stack.enter_context(Dialogue(cluster.port))
        until(lambda: len(open_files(cluster.pid)) == before)  # the worker alone has it
        starve(cluster.pid)
        spent, began = processor_time(cluster.pid), time.monotonic()
        waiting = [Dialogue(cluster.port, greeting=None) for _ in range(20)]
        try:
            assert waiting[0].reply()[0] == 421
            early.logs_in("anonymous")  # who was let in before is served as ever
            time.sleep(3)  # what the supervisor does meanwhile is what is measured
            took = time.monotonic() - began
            share = (processor_time(cluster.pid) - spent) / took
            lines = len(re.findall("cannot accept connections", cluster.log))
        finally:
            restore(cluster.pid)
            for client in waiting:
                client.sock.close()
        assert share < 0.05
        assert 1 <= lines <= took + 1
        restored = time.monotonic()
        until(lambda: greeted(cluster.port))
        assert time.monotonic() - restored < 5
        until(lambda: len(open_files(cluster.pid)) == before)


def test_connections_of_a_worker_without_descriptors_go_to_another(cluster: Cluster) -> None:
    began = time.monotonic()
    with cluster:
        with Dialogue(cluster.port) as one, Dialogue(cluster.port) as other:
            full = cluster.worker_of(one.sock)
            one.says("QUIT", 221)
            assert one.is_closed()
            starve(full)
            try:
                for _ in range(8):  # the first is offered to it, since it has nobody
                    with Dialogue(cluster.port) as client:
                        assert cluster.worker_of(client.sock) != full
            finally:
                restore(full)
            other.says("NOOP", 200)
        cluster.wait_for(re.compile(rf"\(pid {full}\) has no file descriptors left"))
        until(lambda: serves(cluster, full))
    # one line a second
    assert 1 <= cluster.log.count("has no file descriptors left") <= 1 + time.monotonic() - began


def serves(cluster: Cluster, worker: int) -> bool:
    with Dialogue(cluster.port) as one, Dialogue(cluster.port) as other:
        return worker in (cluster.worker_of(one.sock), cluster.worker_of(other.sock))


def test_where_no_worker_has_descriptors_clients_are_told_421(cluster: Cluster) -> None:
    with cluster:
        workers = cluster.workers()
        held = {pid: len(open_files(pid)) for pid in workers}
        for pid in workers:
            starve(pid)
        began = time.monotonic()
        try:
            for _ in range(20):
                with Dialogue(cluster.port, greeting=421) as client:
                    assert client.is_closed()
        finally:
            for pid in workers:
                restore(pid)
        cluster.wait_for(re.compile("has no file descriptors left"))
        lines = cluster.log.count("has no file descriptors left")
        assert 1 <= lines <= 2 * (time.monotonic() - began + 1)
        until(lambda: greeted(cluster.port))
        for pid in workers:
            until(lambda pid=pid: len(open_files(pid)) <= held[pid])  # type: ignore[misc]


def limited(directory: Path, files: int) -> str:
    """A Python that may have so many files open."""
    program = directory / "python"
    program.write_text(f'#!/bin/sh\nulimit -n {files}\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return str(program)


def started(directory: Path, files: int) -> subprocess.CompletedProcess[str]:
    """What comes of a start that cannot succeed."""
    command = [limited(directory, files), "-m", "ftpcluster", "run", "--root", str(directory)]
    command += ["--port", "0", "--host", "127.0.0.1", "--workers", "2"]
    env = environment({"RUNTIME_DIRECTORY": str(directory), **SPAWNED})
    return subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE, env=env, check=False
    )


@pytest.mark.parametrize("files", [16, 27])
def test_a_limit_that_holds_no_workers_is_an_error(tmp_path: Path, files: int) -> None:
    done = started(tmp_path, files)
    assert done.returncode == 2, done.stderr
    assert done.stderr.replace(AS_ROOT, "") == (
        f"ftpcluster: error: a process may have {files} files open, and this one needs 28 "
        "before anybody connects, and up to three for each session: raise the limit "
        "(`ulimit -n 4096`, LimitNOFILE= of a service)\n"
    )


def test_a_start_that_lacks_descriptors_for_a_worker_is_an_error(tmp_path: Path) -> None:
    done = started(tmp_path, 29)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == (
        "ftpcluster: error: worker 2 cannot be started: Too many open files; "
        "raise the limit (`ulimit -n 4096`, LimitNOFILE= of a service)"
    )


def test_few_descriptors_serve_few_sessions(tmp_path: Path) -> None:
    python = limited(tmp_path, 40)
    with Cluster("--workers", "2", "--root", str(tmp_path), python=python) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "")
            assert client.downloads("RETR python")
