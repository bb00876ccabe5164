"""A log file on a file system that hangs: nobody waits for it, and what is lost is counted."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ftpcluster import linewriter
from tests.e2e.test_unread_logs import talk
from tests.support.cluster import Cluster, environment, until
from tests.support.dialogue import Dialogue
from tests.support.hanging import answer, hang, on_storage_that_may_hang

LOST = re.compile(r"(\d+) lines could not be written here: its file system did not take them")


@pytest.mark.parametrize("kind", ["file", "transfers"])
def test_sessions_go_on_while_the_file_system_of_a_log_hangs(tmp_path: Path, kind: str) -> None:
    storage, root = tmp_path / "storage", tmp_path / "root"
    program = on_storage_that_may_hang(storage)
    written = Path(f"{storage}.written")
    root.mkdir()
    env = {f"FTPCLUSTER__LOG__{kind.upper()}": str(storage / "log")}
    arguments = ["--workers", "2", "--root", str(root), "--user", "user:12345", "--writable"]
    arguments += ["--log-level", "debug"]
    with Cluster(*arguments, program=program, env=env) as cluster:
        try:
            with Dialogue(cluster.port) as client:
                client.logs_in()
                client.uploads("STOR before", b"content")
                until(lambda: b"before" in written.read_bytes())
                hang(storage)
                client.uploads("STOR during", b"content")
                if kind == "file":
                    talk(client, 6_000)  # more than waits for a file system
                for _ in range(3):
                    with Dialogue(cluster.port) as other:  # the supervisor has lines, too
                        other.logs_in()
                        assert other.downloads("RETR before") == b"content"
                assert b"during" not in written.read_bytes()
                answer(storage)
                until(lambda: b"during" in written.read_bytes())
                if kind == "file":
                    until(lambda: LOST.search(written.read_text()))
                client.uploads("STOR after", b"content")
                until(lambda: b"after" in written.read_bytes())
        finally:
            answer(storage)


def test_files_of_disks_are_written_at_once_and_others_by_a_thread(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, open("/proc/self/comm", "wb") as served:
        assert linewriter._is_local(file.fileno())
        assert not linewriter._is_local(served.fileno())
        for fd in (file.fileno(), served.fileno()):
            writer = linewriter.LineWriter(fd, linewriter.Losses())
            assert writer._blocks is not linewriter._is_local(fd)
            linewriter._writers.remove(writer)


@pytest.mark.parametrize("kind", ["file", pytest.param("transfers", marks=pytest.mark.slow)])
def test_a_log_whose_file_system_hangs_is_opened_again_when_it_answers(
    tmp_path: Path, kind: str
) -> None:
    """SIGUSR1 is the supervisor's: it goes on accepting and answering meanwhile."""
    storage, root = tmp_path / "storage", tmp_path / "root"
    program = on_storage_that_may_hang(storage)
    written = Path(f"{storage}.written")
    root.mkdir()
    env = {f"FTPCLUSTER__LOG__{kind.upper()}": str(storage / "log")}
    arguments = ["--workers", "1", "--root", str(root), "--user", "user:12345", "--writable"]
    with Cluster(*arguments, program=program, env=env) as cluster:
        try:
            hang(storage)
            tasks = Path(f"/proc/{cluster.pid}/task")
            threads = len(list(tasks.iterdir()))
            cluster.process.send_signal(signal.SIGUSR1)
            until(lambda: len(list(tasks.iterdir())) > threads)
            cluster.process.send_signal(signal.SIGUSR1)
            for _ in range(3):
                with Dialogue(cluster.port) as client:
                    client.logs_in()
                    client.uploads("STOR during", b"content")
            command = (sys.executable, "-m", "ftpcluster", "who", "--socket", cluster.admin)
            subprocess.run(command, env=environment({}), check=True, stdout=subprocess.DEVNULL)
        finally:
            answer(storage)
        if kind == "file":
            until(lambda: written.read_bytes().count(b"log was opened again") == 2)
        else:
            until(lambda: cluster.log.count("log was opened again") == 2)
        with Dialogue(cluster.port) as client:
            client.logs_in()
            client.uploads("STOR after", b"content")
        until(lambda: b"after" in written.read_bytes())
