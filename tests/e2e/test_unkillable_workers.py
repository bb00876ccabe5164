"""Workers that not even SIGKILL ends: they are inside a system call of storage that hangs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, until
from tests.support.command import command
from tests.support.dialogue import Dialogue
from tests.support.hanging import answer, hang, is_stuck, on_storage_that_may_hang

LOOKING = """
import os
import ftpcluster

class Looking(ftpcluster.Server):
    @ftpcluster.command("LOOK")
    async def look(self, connection, rest):
        os.stat(rest)
"""
BOUND = 15.0
"""Seconds within which a server ends that is told to, whatever its workers do. It takes three."""


@contextlib.contextmanager
def serving(directory: Path, more: str = "") -> Iterator[tuple[Cluster, Path]]:
    """Two workers that have a verb to hang with, and the storage for that."""
    storage = directory / "storage"
    program = on_storage_that_may_hang(storage)
    (directory / "looking.py").write_text(LOOKING)
    (directory / "files").mkdir()
    file = directory / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(
        f'workers = 2\nserver = "looking:Looking"\n{more}\n[timeouts]\nworker = 2\nshutdown = 1\n'
        '[[user]]\nlogin = "alice"\npassword = "plain:x"\nroot = "files"\nconnections = 2\n'
    )
    with Cluster("-c", str(file), program=program, env={"PYTHONPATH": str(directory)}) as cluster:
        try:
            yield cluster, storage
        finally:
            answer(storage)


def logged_in(port: int) -> Dialogue:
    client = Dialogue(port)
    client.says("USER alice", 331)
    client.says("PASS x", 230)
    return client


def block(cluster: Cluster, storage: Path, *clients: Dialogue) -> list[int]:
    """Let the workers of these clients hang; their process ids."""
    found = [cluster.worker_of(client.sock) for client in clients]
    hang(storage)
    for client, pid in zip(clients, found, strict=True):
        client.send(f"LOOK {storage}")
        until(lambda pid=pid: is_stuck(pid))  # type: ignore[misc]
    return found


def test_they_are_replaced_and_all_that_they_held_is_free(tmp_path: Path) -> None:
    with serving(tmp_path) as (cluster, storage):
        with logged_in(cluster.port) as one, logged_in(cluster.port) as other:
            stuck = block(cluster, storage, one, other)
            assert len(set(stuck)) == 2
            for pid in stuck:
                cluster.wait_for(re.compile(rf"pid {pid} cannot be killed: it is in a system"))
            assert one.is_closed()  # who had been served there need not wait for ever
            assert other.is_closed()
        with logged_in(cluster.port) as one, logged_in(cluster.port) as other:
            one.says("PWD", 257)  # both slots of this user are free
            other.downloads("NLST")
        until(lambda: len(set(cluster.workers()) - set(stuck)) == 2)
        assert all(is_stuck(pid) for pid in stuck)
        answer(storage)
        for pid in stuck:
            cluster.wait_for(re.compile(rf"pid {pid}, which could not be killed, has ended"))
            assert not Path(f"/proc/{pid}").exists()
    assert len(re.findall("cannot be killed", cluster.log)) == 2


_SLOW = pytest.mark.slow
"""Each way to end it, and each state of the worker, has its test by default."""


@pytest.mark.parametrize(
    ("is_replaced", "how"),
    [
        (False, "SIGTERM"),
        pytest.param(False, "twice", marks=_SLOW),
        pytest.param(False, "stop", marks=_SLOW),
        (False, "stop --now"),
        pytest.param(True, "SIGTERM", marks=_SLOW),
        (True, "twice"),
        (True, "stop"),
        pytest.param(True, "stop --now", marks=_SLOW),
    ],
)
def test_the_server_ends_all_the_same(tmp_path: Path, how: str, is_replaced: bool) -> None:
    with serving(tmp_path) as (cluster, storage), logged_in(cluster.port) as client:
        (stuck,) = block(cluster, storage, client)
        if is_replaced:
            cluster.wait_for(re.compile(f"pid {stuck} cannot be killed"))
            until(lambda: len(cluster.workers()) == 3)
        if how.startswith("stop"):
            assert command(*how.split(), "--socket", cluster.admin).returncode == 0
        else:
            cluster.process.send_signal(signal.SIGTERM)
            cluster.wait_for(re.compile("stopping"))
        if how == "twice":
            cluster.process.send_signal(signal.SIGTERM)
        assert cluster.process.wait(BOUND) == 0
        assert is_stuck(stuck)
        cluster.wait_for(re.compile(f"pid {stuck} cannot be killed"))


def test_a_reload_does_not_wait_for_them(tmp_path: Path) -> None:
    with serving(tmp_path) as (cluster, storage), logged_in(cluster.port) as client:
        (stuck,) = block(cluster, storage, client)
        assert " reloaded: " in cluster.hang_up()
        with logged_in(cluster.port) as other:
            other.says("PWD", 257)
        cluster.wait_for(re.compile(f"pid {stuck} cannot be killed"))
        assert " reloaded: " in cluster.hang_up()
        with logged_in(cluster.port) as other:
            other.says("PWD", 257)


def test_a_worker_starts_without_a_root_that_hangs(tmp_path: Path) -> None:
    """Its confinement names all roots; one user's storage must not keep the others out."""
    storage = tmp_path / "storage"
    program = on_storage_that_may_hang(storage)
    (tmp_path / "files").mkdir()
    file = tmp_path / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(
        "workers = 2\n[timeouts]\nworker = 4\n"
        + "".join(
            f'[[user]]\nlogin = "{login}"\npassword = "plain:x"\nroot = "{root}"\n'
            for login, root in (*(("a", storage), ("b", f"{storage}/inner"), ("alice", "files")),)
        )
    )
    with Cluster("-c", str(file), program=program) as cluster:
        try:
            before = cluster.workers()
            hang(storage)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            told = rf"WARNING worker \d: this worker serves without {storage}, {storage}/inner,"
            until(lambda: len(re.findall(told, cluster.log)) == 2)
            with logged_in(cluster.port) as client:
                client.downloads("NLST")
            until(lambda: len(set(cluster.workers()) - set(before)) == 2)
        finally:
            answer(storage)
        # the first login of each worker has it replaced, and nobody has to reload
        until(lambda: logs_in(cluster.port, "b"))
        assert "was not there, or did not answer, when this worker started" in cluster.log


def logs_in(port: int, login: str) -> bool:
    with Dialogue(port) as client:
        client.says(f"USER {login}", 331)
        client.send("PASS x")
        return client.reply()[0] == 230
