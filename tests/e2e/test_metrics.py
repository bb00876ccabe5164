"""What Prometheus is told, and whoever asks how the server is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
import ssl
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from ftpcluster.admin.client import AdminConnection
from ftpcluster.admin.requests import BanNetwork, Unban
from ftpcluster.cli.metrics import Metrics
from tests.support.cluster import (
    DEADLINE,
    Cluster,
    open_files,
    processor_time,
    restore,
    starve,
    until,
)
from tests.support.configured import configured
from tests.support.dialogue import Dialogue
from tests.support.fake_workers import supervised
from tests.tls.support import Client

WHERE = re.compile(r"metrics on (http://[^/]+)/metrics")


class Told:
    """A cluster with metrics."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.base = cluster.wait_for(WHERE)[1]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self.base}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def samples(self) -> dict[tuple[str, ...], float]:
        """Values by the metric's name and the values of its labels, whose names are in order."""
        status, text = self.get("/metrics")
        assert status == 200
        return {
            (
                sample.name.removeprefix("ftpcluster_"),
                *(value for _, value in sorted(sample.labels.items())),
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    pem = tmp_path / "pem"
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    (tmp_path / "ca").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "root").mkdir()
    arguments = ["--workers", "2", "--root", str(tmp_path / "root"), "--tls-cert", str(pem)]
    arguments += ["--user", "user:12345", "--writable", "--metrics", "127.0.0.1:0"]
    arguments += ["--download-limit", "100MB", "--max-connections", "50"]
    with Cluster(*arguments) as cluster:
        yield Told(cluster)
    assert "Traceback" not in cluster.log, cluster.log


def test_what_sessions_did_is_counted_over_all_workers_and_stays_when_they_are_gone(
    told: Told, tmp_path: Path
) -> None:
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca"))
    with Dialogue(told.cluster.port) as plain, Client(told.cluster.port, trusting) as protected:
        plain.logs_in()
        plain.uploads("STOR file", b"x" * 1000)
        plain.downloads("RETR file")
        plain.downloads("LIST")
        plain.says("DELE missing", 550)
        protected.secures(protected=True)
        protected.fetches("RETR file")
        with plain.begins("STOR other") as data:
            data.sendall(b"1234")
            plain.says("ABOR", 426)
        plain.expects(226)
        expected = {
            ("logins_total", "ok"): 2,
            ("logins_total", "failed"): 0,
            ("transfers_total", "upload", "complete", "no"): 1,
            ("transfers_total", "upload", "failed", "no"): 1,
            ("transfers_total", "download", "complete", "no"): 1,
            ("transfers_total", "download", "complete", "yes"): 1,
            ("transfers_total", "listing", "complete", "no"): 1,
            ("transferred_bytes_total", "download", "yes"): 1000,
            ("replies_total", "550"): 1,
            ("replies_total", "230"): 2,
            ("connections",): 2,
            ("connections_limit",): 50,
            ("speed_limit_bytes_per_second", "download"): 100_000_000,
            ("worker_sessions", "serving", "1"): 1,
        }
        until(lambda: not {k: v for k, v in expected.items() if told.samples().get(k) != v})
        assert told.samples()["lease_wait_seconds_count",] > 0
        for pid in told.cluster.workers():
            os.kill(pid, signal.SIGKILL)
        expected = {
            ("logins_total", "ok"): 2,
            ("transferred_bytes_total", "download", "yes"): 1000,
            ("workers_replaced_total", "died"): 2,
            ("workers_replaced_total", "hung"): 0,
            ("connections",): 0,
        }
        until(lambda: not {k: v for k, v in expected.items() if told.samples().get(k) != v})


def test_the_file_says_where_metrics_are_told(tmp_path: Path) -> None:
    with configured(tmp_path, "[anonymous]\nroot = '.'\n[metrics]\nlisten = '127.0.0.1:0'\n") as it:
        assert Told(it).get("/readyz") == (200, "all workers serve\n")


def test_who_is_turned_away_and_who_is_banned_is_counted(told: Told, tmp_path: Path) -> None:
    expected = {("bans", "hand"): 0, ("bans_made_total", "hand"): 0}
    assert expected.items() <= told.samples().items()
    with contextlib.closing(AdminConnection(told.cluster.admin)) as admin:
        admin.ask(BanNetwork("127.0.0.9", None, "spam"))
        for _ in range(3):
            Dialogue(told.cluster.port, greeting=421, source="127.0.0.9").sock.close()
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(Dialogue(told.cluster.port))
            Dialogue(told.cluster.port, greeting=421).sock.close()
        expected = {
            ("bans", "hand"): 1,
            ("bans", "server"): 0,
            ("bans_made_total", "hand"): 1,
            ("refused_connections_total", "banned"): 3,
            ("refused_connections_total", "server full"): 1,
            ("refused_connections_total", "address full"): 0,
        }
        assert expected.items() <= told.samples().items()
        admin.ask(Unban("127.0.0.9"))
    expected = {("bans", "hand"): 0, ("bans_made_total", "hand"): 1}
    assert expected.items() <= told.samples().items()


def test_workers_and_the_version_are_told(told: Told) -> None:
    until(lambda: told.samples().get(("worker_memory_bytes", "serving", "2"), 0) > 10_000_000)
    samples = told.samples()
    assert ("build_info", "0.1.0") in samples
    for name in ("loop_lag_seconds", "load_ratio"):
        assert 0 <= samples[f"worker_{name}", "serving", "1"] < 100


def test_workers_of_two_generations_that_drain_are_told_as_one_series(told: Told) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            for _ in told.cluster.workers():
                stack.enter_context(Dialogue(told.cluster.port)).logs_in()
            start = len(told.cluster.log)
            told.cluster.process.send_signal(signal.SIGHUP)
            told.cluster.wait_for(re.compile(" reloaded: "), start)
        until(lambda: told.samples().get(("worker_sessions", "draining", "1")) == 3)
        _, text = told.get("/metrics")
    series = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert sorted(set(series)) == sorted(series)


def test_it_says_whether_it_is_alive_and_ready(told: Told) -> None:
    assert told.get("/healthz") == (200, "alive\n")
    assert told.get("/readyz") == (200, "all workers serve\n")
    victim = told.cluster.workers()[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        until(lambda: told.get("/readyz")[0] == 503)
        assert told.get("/healthz")[0] == 200
    finally:
        os.kill(victim, signal.SIGCONT)
    until(lambda: told.get("/readyz")[0] == 200)
    assert told.get("/")[0] == 404


def test_a_supervisor_without_descriptors_does_not_spin_for_a_scrape(told: Told) -> None:
    host, _, port = told.base.removeprefix("http://").partition(":")
    starve(told.cluster.pid)
    with socket.create_connection((host, int(port)), 20) as scrape:
        scrape.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        spent = processor_time(told.cluster.pid)
        select.select([scrape], [], [], 2.0)  # it cannot be answered
        spent = processor_time(told.cluster.pid) - spent
        restore(told.cluster.pid)
        assert scrape.recv(100).startswith(b"HTTP/1.0 200 ")
    assert spent < 0.5


def connects(told: Told) -> socket.socket:
    host, _, port = told.base.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), DEADLINE)


def test_clients_that_say_nothing_take_few_threads_and_keep_nobody_from_an_answer(
    told: Told,
) -> None:
    def is_answered() -> bool:
        try:
            return told.get("/healthz") == (200, "alive\n")
        except OSError:
            return False  # those before it are still ending

    idle = len(open_files(told.cluster.pid))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connects(told)) for _ in range(100)]
        until(is_answered)
        # by now all of them have been accepted
        assert len(threads(told.cluster.pid)) < 50
        assert len(open_files(told.cluster.pid)) < idle + 50
        assert silent[0].recv(1) == b""
    until(lambda: len(open_files(told.cluster.pid)) == idle)


def threads(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/task")


def test_requests_that_come_in_drips_end_and_so_do_those_that_are_reset(told: Told) -> None:
    """Without a word: the log is searched for tracebacks."""
    with connects(told) as reset:
        reset.sendall(b"GET /metrics HTTP/1.1\r\n")
        reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with connects(told) as silent, connects(told) as dripping:
        end = time.monotonic() + DEADLINE
        while not select.select([dripping], [], [], 0.5)[0]:
            assert time.monotonic() < end
            dripping.sendall(b"x")
        assert silent.recv(1) == b""


async def test_a_supervisor_whose_loop_is_blocked_is_not_well() -> None:
    async with supervised(1) as scene:
        await scene.ready(1)
        metrics = Metrics("127.0.0.1", 0)
        metrics.start(scene.supervisor)
        url = f"http://{metrics.where}/healthz"

        def status() -> int:
            try:
                with urllib.request.urlopen(url, timeout=20) as answer:
                    code: int = answer.status
                    return code
            except urllib.error.HTTPError as error:
                return error.code

        try:
            assert await asyncio.to_thread(status) == 200
            asked = asyncio.get_running_loop().run_in_executor(None, status)
            time.sleep(2.5)
            assert await asked == 503
        finally:
            metrics.close()


def wrong(cluster: Cluster) -> str:
    assert cluster.wait() == 2
    (line,) = cluster.log.splitlines()
    return line


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        line = wrong(Cluster("--root", str(tmp_path), "--metrics", where))
    assert (
        f"cannot listen on {where} for metrics: the port is taken; end what uses it, or choose "
        "another with --metrics"
    ) in line


@pytest.mark.parametrize("where", ["9121", "localhost:9121", "127.0.0.1:99999", "::1:9121"])
def test_where_it_cannot_be_is_refused(tmp_path: Path, where: str) -> None:
    line = wrong(Cluster("--root", str(tmp_path), "--metrics", where))
    assert f"--metrics {where}: expected an address and a port" in line


def test_without_the_library_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError")
    environment = {"PYTHONPATH": str(tmp_path)}
    arguments = ("--root", str(tmp_path), "--metrics", "127.0.0.1:0")
    line = wrong(Cluster(*arguments, env=environment))
    assert line.endswith(
        "--metrics 127.0.0.1:0: needs prometheus-client: pip install 'ftpcluster[metrics]'"
    )
