"""The process that workers are forked from: what they have of it, and what happens without it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import DEADLINE, Cluster, children, open_files, until
from tests.support.dialogue import Dialogue
from tests.support.kept import Kept


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    root = tmp_path_factory.mktemp("root")
    with Kept(lambda: Cluster("--workers", "2", "--root", str(root))) as kept:
        yield kept


def title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
    except OSError:
        return b""


def fork_server(cluster: Cluster) -> int | None:
    found = [pid for pid in children(cluster.pid) if title(pid) == b"ftpcluster: fork server"]
    return found[0] if found else None


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def another_worker(cluster: Cluster, victim: int) -> int:
    """The worker that replaces one, which is killed for that."""
    known = cluster.workers()
    os.kill(victim, signal.SIGKILL)
    return until(lambda: next(iter(set(cluster.workers()) - set(known)), None))


def serves(cluster: Cluster) -> None:
    """Wait until each of two workers serves somebody."""

    def do_both() -> bool:
        with Dialogue(cluster.port) as one, Dialogue(cluster.port) as other:
            return len({cluster.worker_of(one.sock), cluster.worker_of(other.sock)}) == 2

    until(do_both)


def test_processes_have_titles_and_nothing_of_the_supervisors(kept: Kept) -> None:
    with kept.lent() as cluster:
        forks, workers = fork_server(cluster), cluster.workers()
        assert forks is not None
        assert sorted(title(pid) for pid in workers) == [
            b"ftpcluster: worker 1",
            b"ftpcluster: worker 2",
        ]
        assert set(children(cluster.pid)) == {forks, *workers}
        supervisors = {each for each in open_files(cluster.pid) if each.startswith("socket:")}
        links = open_files(forks)
        assert len(links) == 4
        assert [each for each in links if each.startswith("socket:")] == links[3:]
        for pid in (forks, *workers):
            assert supervisors.isdisjoint(open_files(pid))
            assert set(Path(f"/proc/{pid}/environ").read_bytes()) <= {0}
        assert set(open_files(forks)).isdisjoint(set(open_files(workers[0])[3:]))
        first, second = (
            {each for each in open_files(pid) if each.startswith(("socket:", "pipe:"))}
            for pid in workers
        )
        assert len(first & second) <= 1  # stderr


def test_a_worker_that_is_killed_is_forked_again_as_a_child_of_the_supervisor(kept: Kept) -> None:
    with kept.lent() as cluster:
        new = another_worker(cluster, cluster.workers()[0])
        assert title(new).startswith(b"ftpcluster: worker")
        assert new in children(cluster.pid)
        serves(cluster)
        assert fork_server(cluster) is not None
        zombies = [pid for pid in children(cluster.pid) if state(pid) == "Z"]
        assert zombies == []


def test_signals_that_a_whole_process_group_gets_leave_it_alone(kept: Kept) -> None:
    with kept.lent() as cluster:
        forks, workers = fork_server(cluster), cluster.workers()
        assert forks is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            for pid in (forks, *workers):
                os.kill(pid, number)
        serves(cluster)
        assert (fork_server(cluster), cluster.workers()) == (forks, workers)


def test_without_it_workers_go_on_and_are_spawned(kept: Kept) -> None:
    with kept.lent() as cluster:
        forks = fork_server(cluster)
        assert forks is not None
        with Dialogue(cluster.port) as client, Dialogue(cluster.port) as other:
            client.logs_in("anonymous")
            os.kill(forks, signal.SIGKILL)
            cluster.wait_for(re.compile("the fork server has ended: workers start without it"))
            until(lambda: not Path(f"/proc/{forks}").exists())  # reaped behind that line
            another_worker(cluster, cluster.worker_of(other.sock))
            client.says("PWD", 257)
        cluster.hang_up()
        serves(cluster)
        cluster.stop()


def test_one_that_is_stopped_keeps_nobody_waiting_for_ever(kept: Kept) -> None:
    with kept.lent() as cluster:
        forks = fork_server(cluster)
        assert forks is not None
        os.kill(forks, signal.SIGSTOP)
        began = time.monotonic()
        assert " reloaded: " in cluster.hang_up()
        assert 4 < time.monotonic() - began < DEADLINE
        assert "the fork server did not answer for 5 s" in cluster.log
        serves(cluster)
        until(lambda: not Path(f"/proc/{forks}").exists())
        cluster.stop()


def test_it_ends_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with Cluster("--workers", "1", "--root", str(tmp_path)) as cluster:
        forks = fork_server(cluster)
        os.kill(cluster.pid, signal.SIGKILL)
        cluster.wait()
        assert forks not in cluster.processes()
        cluster.stop()


def test_passwords_of_the_environment_are_passed_on_to_nobody(tmp_path: Path) -> None:
    variable = {"FTPCLUSTER_USER_ME": "secret"}
    arguments = ("--workers", "1", "--root", str(tmp_path), "--user", "me")
    with Cluster(*arguments, env=variable) as cluster:
        assert fork_server(cluster) is None
        (worker,) = cluster.workers()
        assert b"secret" not in Path(f"/proc/{worker}/environ").read_bytes()
