"""Large files that threads send, while the server's processes are killed, reloaded or stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.admin.client import AdminConnection
from ftpcluster.admin.requests import Limit
from tests.support.cluster import DEADLINE, Cluster, begin_download, until
from tests.support.dialogue import Dialogue

SIZE = 1 << 36
PAUSE = 0.005
"""Seconds between two reads: the file would be read to its end else."""
_SENDFILE = "40 "
"""The number of the call, on x86-64."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(SIZE)
    config = tmp_path / "f.toml"
    config.write_text('workers = 2\n[timeouts]\ndrain = 1\nshutdown = 1\n[anonymous]\nroot = "."\n')
    with Cluster("-c", str(config)) as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


class Downloading:
    """A client that reads a huge file fast enough for a thread, until the connection ends."""

    def __init__(self, cluster: Cluster) -> None:
        self.client = Dialogue(cluster.port)
        self.client.logs_in("anonymous")
        self.worker = cluster.worker_of(self.client.sock)
        self.data = begin_download(self.client, "file")
        self.count = 0
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        until(lambda: is_sent_by_a_thread(self.worker))

    def _read(self) -> None:
        try:
            while block := self.data.recv(1 << 18):
                self.count += len(block)
                self.ended.wait(PAUSE)
        except OSError:
            pass
        self.ended.set()

    def close(self) -> None:
        self.client.sock.close()
        with contextlib.suppress(OSError):  # the server has ended it
            self.data.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)
        self.data.close()


def is_sent_by_a_thread(worker: int) -> bool:
    for task in Path(f"/proc/{worker}/task").iterdir():
        if int(task.name) != worker:
            try:
                if (task / "syscall").read_text().startswith(_SENDFILE):
                    return True
            except OSError:
                pytest.skip("/proc does not show system calls")
    return False


@pytest.fixture
def downloading(cluster: Cluster) -> Iterator[Downloading]:
    if os.uname().machine != "x86_64":
        pytest.skip("the number of sendfile is that of x86-64")
    it = Downloading(cluster)
    yield it
    it.close()


def test_a_worker_that_is_killed_ends_them_and_is_replaced(
    cluster: Cluster, downloading: Downloading
) -> None:
    os.kill(downloading.worker, signal.SIGKILL)
    assert downloading.ended.wait(DEADLINE)
    assert downloading.client.is_closed()
    until(lambda: len(cluster.workers()) == 2)
    with Dialogue(cluster.port) as client:
        client.logs_in("anonymous")


def test_after_a_reload_they_go_on_until_the_old_worker_has_to_end(
    cluster: Cluster, downloading: Downloading
) -> None:
    assert " reloaded: " in cluster.hang_up()
    before = downloading.count
    until(lambda: downloading.count > before)
    assert downloading.ended.wait(DEADLINE)
    until(lambda: downloading.worker not in cluster.workers())


def test_a_stop_waits_for_them_as_long_as_it_may(
    cluster: Cluster, downloading: Downloading
) -> None:
    assert cluster.stop() == 0
    assert downloading.ended.wait(DEADLINE)


def test_a_limit_that_is_set_meanwhile_holds(cluster: Cluster, downloading: Downloading) -> None:
    admin = AdminConnection(cluster.admin)
    admin.ask(Limit(login=None, download=1000, upload=None))
    admin.close()
    until(lambda: not is_sent_by_a_thread(downloading.worker))
    seen = [downloading.count]

    def is_slow() -> bool:
        seen.append(downloading.count)
        return len(seen) > 20 and seen[-1] - seen[-20] < 100_000

    until(is_slow)
    assert not downloading.ended.is_set()
    downloading.client.says("STAT", 213, 211)
    downloading.client.send("ABOR")
    downloading.client.expects(426)
    downloading.client.expects(226)
