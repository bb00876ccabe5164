"""No file descriptors left, in the supervisor and in a worker."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, open_files, processor_time, restore, starve, until
from tests.support.dialogue import Dialogue


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
