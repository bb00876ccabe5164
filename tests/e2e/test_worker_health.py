"""Workers that do not answer: stopped ones, blocked ones, and those that are only busy."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue

BLOCKING = """
import time
import ftpcluster

class Blocking(ftpcluster.Server):
    @ftpcluster.command("BLOCK")
    async def block(self, connection, rest):
        time.sleep(600)
"""


def written(directory: Path, timeout: int, head: str = "") -> str:
    file = directory / "ftpcluster.toml"
    file.write_text(
        f'workers = 2\n{head}\n[timeouts]\nworker = {timeout}\n[anonymous]\nroot = "."\n'
    )
    return str(file)


def test_a_stopped_worker_gets_no_connections_and_is_ended_with_its_stacks(tmp_path: Path) -> None:
    with Cluster("-c", written(tmp_path, 3)) as cluster:
        with Dialogue(cluster.port) as one, Dialogue(cluster.port) as other:
            stopped, well = cluster.worker_of(one.sock), cluster.worker_of(other.sock)
            os.kill(stopped, signal.SIGSTOP)
            cluster.wait_for(re.compile(rf"worker \d \(pid {stopped}\) does not answer"))
            for _ in range(4):
                with Dialogue(cluster.port) as client:
                    assert cluster.worker_of(client.sock) == well
            cluster.wait_for(
                re.compile(rf"\(pid {stopped}\) did not answer for 3 s: it is aborted")
            )
            cluster.wait_for(re.compile(r"^Fatal Python error: Aborted$", re.MULTILINE))
            # of the thread that was asked first, which is the main one
            stack = r"^Current thread .*\n(  File .*\n)*  File .*/(asyncio/runners|core)\.py"
            cluster.wait_for(re.compile(stack, re.MULTILINE))
            until(lambda: stopped not in cluster.processes())
            until(lambda: len(cluster.workers()) == 2)
            other.says("NOOP", 200)
            assert one.is_closed()


def test_a_worker_whose_loop_is_blocked_says_where_and_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "blocking.py").write_text(BLOCKING)
    file = written(tmp_path, 2, 'server = "blocking:Blocking"')
    with Cluster("-c", file, env={"PYTHONPATH": str(tmp_path)}) as cluster:
        with Dialogue(cluster.port) as one, Dialogue(cluster.port) as other:
            for client in (one, other):
                client.says("USER anonymous", 331)
                client.says("PASS x", 230)
            blocked = cluster.worker_of(one.sock)
            one.send("BLOCK")
            cluster.wait_for(re.compile(r'File ".*/blocking\.py", line \d+ in block'))
            assert one.is_closed()
            until(lambda: blocked not in cluster.workers() and len(cluster.workers()) == 2)
            other.says("PWD", 257)


def test_a_worker_that_ignores_the_abort_is_killed(tmp_path: Path) -> None:
    """Only SIGKILL ends one that has another handler for SIGABRT."""
    (tmp_path / "blocking.py").write_text(
        BLOCKING.replace(
            "        time", "        __import__('signal').signal(6, 1)\n        time", 1
        )
    )
    file = written(tmp_path, 1, 'server = "blocking:Blocking"')
    with Cluster("-c", file, env={"PYTHONPATH": str(tmp_path)}) as cluster:
        with Dialogue(cluster.port) as client:
            client.says("USER anonymous", 331)
            client.says("PASS x", 230)
            blocked = cluster.worker_of(client.sock)
            client.send("BLOCK")
            cluster.wait_for(re.compile("is aborted"))
            until(lambda: blocked not in cluster.processes())


CLOSING = """
import os
import ftpcluster

class Closing(ftpcluster.Server):
    @ftpcluster.command("CONCEAL")
    async def conceal(self, connection, rest):
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                if fd > 2 and os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:"):
                    os.close(fd)
            except FileNotFoundError:
                pass  # that of the list
        connection.response("200", "hidden")
        return True
"""


def test_a_worker_that_closes_its_pipes_and_lives_on_holds_nobody_up(tmp_path: Path) -> None:
    """One of them ends with the process as a rule, and so looked like its end."""
    (tmp_path / "closing.py").write_text(CLOSING)
    file = written(tmp_path, 30, 'server = "closing:Closing"\nconfine = false')
    with Cluster("-c", file, env={"PYTHONPATH": str(tmp_path)}) as cluster:
        workers = cluster.workers()
        with Dialogue(cluster.port) as hidden:
            hidden.says("USER anonymous", 331)
            hidden.says("PASS x", 230)
            hidden.says("CONCEAL", 200)
            for _ in range(4):
                with Dialogue(cluster.port) as client:
                    client.says("USER anonymous", 331)
            hidden.says("PWD", 257)
            victim = cluster.worker_of(hidden.sock)
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in cluster.workers() and len(cluster.workers()) == 2)
            until(lambda: not Path(f"/proc/{victim}").exists())
        assert len({*workers, *cluster.workers()}) == 3
        assert cluster.stop() == 0


def test_workers_that_have_hardly_any_time_are_not_taken_for_lost(tmp_path: Path) -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    with Cluster("-c", written(tmp_path, 5)) as cluster:
        workers = cluster.workers()
        spinners = [subprocess.Popen(spin) for _ in range(4)]
        for pid in (*workers, *(spinner.pid for spinner in spinners)):
            os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})
        try:
            end = time.monotonic() + 7
            while time.monotonic() < end:
                with Dialogue(cluster.port) as client:
                    client.says("USER anonymous", 331)
                    client.says("PASS x", 230)
                    client.downloads("LIST")
        finally:
            for spinner in spinners:
                spinner.kill()
                spinner.wait()
        assert cluster.workers() == workers
        assert "aborted" not in cluster.log


MORTAL = """
import os, threading
import ftpcluster

class Mortal(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users)
        if {if_named}:
            if not os.path.exists('mortal'):
                return
            os.rename('mortal', f'dead.{{os.getpid()}}')
        threading.Timer(0.5, os._exit, (1,)).start()
"""


def mortal(directory: Path, *, if_named: bool) -> str:
    """The configuration of workers that die soon: all, or whoever finds a file ``mortal``."""
    (directory / "mortal.py").write_text(MORTAL.format(if_named=if_named))
    return written(directory, 30, 'server = "mortal:Mortal"\nconfine = false')


def test_a_worker_that_dies_soon_after_its_start_again_and_again_leaves_the_server_alive(
    tmp_path: Path,
) -> None:
    """The other one serves; the one that dies comes back later each time."""
    (tmp_path / "mortal").touch()
    file = mortal(tmp_path, if_named=True)
    with Cluster("-c", file, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path) as cluster:
        for number in range(1, 5):
            until(lambda number=number: len(list(tmp_path.glob("dead.*"))) >= number)  # type: ignore[misc]
            (tmp_path / "mortal").touch()
            with Dialogue(cluster.port) as client:
                client.says("USER anonymous", 331)
        assert cluster.process.poll() is None
    assert len(re.findall(r"worker \d \(pid \d+\) died", cluster.log)) >= 3


def test_workers_that_always_die_soon_after_their_start_end_the_server_that_was_just_started(
    tmp_path: Path,
) -> None:
    file = mortal(tmp_path, if_named=False)
    cluster = Cluster("-c", file, env={"PYTHONPATH": str(tmp_path)})
    assert cluster.wait() == 1
    assert cluster.log.splitlines()[-1] == (
        "ftpcluster: error: the workers die soon after their start, again and again; "
        "the reason stands above"
    )
    assert len(re.findall(r"worker \d \(pid \d+\) died", cluster.log)) >= 8


RECYCLING = ("tests.support.early_recycling", "run")


def recycling(directory: Path, key: str) -> str:
    file = directory / "ftpcluster.toml"
    file.write_text(f'workers = 2\n[recycle]\n{key}\n[anonymous]\nroot = "."\n')
    return str(file)


def test_workers_that_are_old_are_replaced_one_after_the_other(tmp_path: Path) -> None:
    with Cluster("-c", recycling(tmp_path, "age = 2"), program=RECYCLING) as cluster:
        first = set(cluster.workers())
        with Dialogue(cluster.port) as client:
            client.says("USER anonymous", 331)
            until(lambda: len(first - set(cluster.workers())) == 1)  # the one that has nobody
            client.says("PASS x", 230)
            for _ in range(2):
                cluster.wait_for(
                    re.compile(r"worker \d \(pid \d+\) is replaced: it is [2-9] s old")
                )
            client.says("QUIT", 221)
        until(lambda: not first & set(cluster.workers()))
        assert len(cluster.workers()) >= 2


@pytest.mark.soak
def test_workers_that_are_large_are_replaced_from_their_second_minute_on(tmp_path: Path) -> None:
    with Cluster("-c", recycling(tmp_path, 'memory = "1MB"'), program=RECYCLING) as cluster:
        first, began = set(cluster.workers()), time.monotonic()
        until(lambda: not first & set(cluster.workers()), 90.0)
        assert time.monotonic() - began > 55
        assert re.search(r"worker \d \(pid \d+\) is replaced: it has \d+ MB", cluster.log)
