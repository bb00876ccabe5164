"""SIGHUP: everything is read again.

“bad: one clear error, everything as before; good: new workers of a new generation, old ones drain,
old sessions still count against the limits, no connection refused, no transfer cut.”
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.admin.client import AdminConnection, OrderRefused
from ftpcluster.admin.requests import Done, Reload, Stop
from tests.support.cluster import (
    SPAWNED,
    Cluster,
    begin_download,
    open_files,
    restore,
    starve,
    until,
)
from tests.support.dialogue import Dialogue

CONTENT = os.urandom(16 << 20)


class Site:
    """A configuration file, and the cluster that serves by it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "ftpcluster.toml"
        (directory / "files").mkdir()
        (directory / "files" / "file").write_bytes(CONTENT)
        self.write()
        self.cluster = Cluster("-c", str(self.file))

    def write(self, head: str = "workers = 2", users: str = "", tail: str = "") -> None:
        """``users``: keys of alice, who is always there."""
        self.file.write_text(
            f'{head}\n[[user]]\nlogin = "alice"\npassword = "plain:secret"\nroot = "files"\n'
            f"{users}\n{tail}\n"
        )
        self.file.chmod(0o600)

    def reload(self) -> None:
        line = self.cluster.hang_up()
        assert "not reloaded" not in line, line

    def joins(self, port: int | None = None) -> Dialogue:
        client = Dialogue(port or self.cluster.port)
        client.logs_in("alice", "secret")
        return client


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with site.cluster:
        yield site
    assert "Traceback" not in site.cluster.log, site.cluster.log


@pytest.fixture(scope="module")
def lasting_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For tests that leave it as it was."""
    site = Site(tmp_path_factory.mktemp("lasting"))
    with site.cluster:
        yield site
    assert "Traceback" not in site.cluster.log, site.cluster.log


def test_new_workers_take_over_and_old_sessions_go_on(site: Site) -> None:
    old = set(site.cluster.workers())
    with site.joins() as before:
        serves = site.cluster.worker_of(before.sock)
        site.reload()
        with site.joins() as after:
            assert site.cluster.worker_of(after.sock) not in old
        before.says("PWD", 257)
        assert before.downloads("RETR file") == CONTENT
        until(lambda: old & set(site.cluster.workers()) == {serves})  # the other one had nobody
        before.says("QUIT", 221)
    until(lambda: not old & set(site.cluster.workers()))
    assert len(site.cluster.workers()) == 2


def test_a_transfer_is_not_cut(site: Site) -> None:
    with site.joins() as client, begin_download(client, "file") as data:
        begin = data.recv(1000)
        site.reload()
        site.reload()
        rest = b"".join(iter(lambda: data.recv(1 << 16), b""))
        assert hashlib.sha256(begin + rest).digest() == hashlib.sha256(CONTENT).digest()
        client.expects(226)


def test_old_sessions_count_against_the_limits_of_users_addresses_and_server(site: Site) -> None:
    limits = "[limits]\nconnections_per_address = 3\nconnections = 4"
    site.write(users="connections = 2", tail=limits)
    site.reload()
    with site.joins():
        site.reload()
        with site.joins(), Dialogue(site.cluster.port) as third:
            third.says("USER alice", 331)
            third.says("PASS secret", 530)
            with Dialogue(site.cluster.port, greeting=421):
                pass


def test_a_limit_that_is_lowered_counts_who_is_there(site: Site) -> None:
    with site.joins(), site.joins():
        site.write(users="connections = 2")
        site.reload()
        with Dialogue(site.cluster.port) as third:
            third.says("USER alice", 331)
            third.says("PASS secret", 530)


@pytest.mark.parametrize("before", ["", "download = '64MB'"], ids=["no limit", "another limit"])
def test_a_speed_limit_holds_for_old_transfers_too(site: Site, before: str) -> None:
    """Also where nobody has come anew."""
    site.write(users=before)
    site.reload()
    with site.joins() as client, begin_download(client, "file") as data:
        data.recv(1000)
        site.write(users="download = '2MB'")
        site.reload()
        client.sock.settimeout(20)
        began, got = time.monotonic(), 0
        while time.monotonic() - began < 3:
            got += len(data.recv(1 << 20))
    # beside it there is what was on its way
    assert got < 2_000_000 * 3 + 7_000_000


def test_keys_that_cannot_change_are_told_until_they_are_as_they_were(site: Site) -> None:
    site.write(tail="[metrics]\nlisten = '127.0.0.1:0'")
    with contextlib.closing(AdminConnection(site.cluster.admin)) as admin:
        reply = admin.ask(Reload())
        assert isinstance(reply, Done)
        assert reply.text.endswith(
            "; metrics cannot change while the server runs: restart it for that"
        )
        site.write()
        reply = admin.ask(Reload())
        assert isinstance(reply, Done)
        assert "cannot change" not in reply.text


@pytest.mark.parametrize("clients", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_no_connection_is_refused_meanwhile(site: Site, clients: int) -> None:
    stop = threading.Event()
    codes: list[int | str] = []

    def connect() -> None:
        while not stop.is_set():
            try:
                with Dialogue(site.cluster.port, greeting=None) as client:
                    codes.append(client.reply()[0])
                    client.says("QUIT", 221)
            except (OSError, EOFError, AssertionError) as error:
                codes.append(repr(error))

    threads = [threading.Thread(target=connect) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            site.reload()
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert len(codes) > 10
    assert set(codes) == {220}


def test_users_and_workers_change(site: Site) -> None:
    site.write("workers = 3", tail='[[user]]\nlogin = "bob"\npassword = "plain:b"\nroot = "files"')
    site.reload()
    with Dialogue(site.cluster.port) as client:
        client.logs_in("bob", "b")
    until(lambda: len(site.cluster.workers()) == 3)


def test_a_session_that_outlives_the_grace_is_told_421(site: Site) -> None:
    site.write(tail="[timeouts]\ndrain = 1")
    site.reload()
    with site.joins() as client:
        site.reload()
        client.says("NOOP", 200)
        assert client.reply()[0] == 421
        assert client.is_closed()


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_supervisor_without_descriptors_serves_as_before(site: Site, step: int) -> None:
    """So many descriptors are left that the reload fails with the first, or with a later one."""
    reloaded = []
    idle = len(open_files(site.cluster.pid))
    for spare in range(0, 25, step):
        start = len(site.cluster.log)
        starve(site.cluster.pid, spare)
        line = site.cluster.hang_up()
        restore(site.cluster.pid)
        reloaded.append("not reloaded" not in line)
        # the worker's own line where it has not enough, since it has the supervisor's limit
        assert reloaded[-1] or "Too many open files" in site.cluster.log[start:], line
        with site.joins() as client:
            client.says("NOOP", 200)
    assert not reloaded[0]
    assert reloaded[-1]
    until(lambda: len(site.cluster.workers()) == 2)
    until(lambda: len(open_files(site.cluster.pid)) == idle)


@pytest.mark.parametrize(
    ("head", "tail", "says"),
    [
        ("workers = = 2", "", r"ftpcluster\.toml:1: "),
        ("wokers = 2", "", r"ftpcluster\.toml:1: wokers: .*workers"),
        ("workers = 2", '[tls]\ncertificate = "missing.pem"', r"missing\.pem"),
        ("workers = 2", "[data]\nports = '50000-50000'", r"data\.ports: "),
        ('server = "nobody:Nothing"', "", "nobody:Nothing"),
    ],
)
def test_what_is_wrong_changes_nothing_and_is_told_in_one_line(
    lasting_site: Site, head: str, tail: str, says: str
) -> None:
    site = lasting_site
    old = set(site.cluster.workers())
    with site.joins() as client:
        site.write(head, tail=tail)
        start = len(site.cluster.log)
        line = site.cluster.hang_up()
        assert " ERROR supervisor: not reloaded: " in line
        assert re.search(says, line), line
        told = [each for each in site.cluster.log[start:].splitlines() if "supervisor:" in each]
        assert told[1:] == [line]  # behind "reloading"
        client.says("PWD", 257)
        with site.joins():
            pass
    assert set(until(lambda: len(site.cluster.workers()) == 2 and site.cluster.workers())) == old
    site.write()
    if head.startswith("server"):  # the one that failed last: its workers had been started
        site.reload()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there are no accounts"),
        ("workers = 2\n", "there are no accounts"),
        ('# [[user]]\n# login = "alice"\n', "there are no accounts"),
        ("workers = 2\n[[us", r"ftpcluster\.toml:2: "),
        ('workers = 2\n[[user]]\nlogin = "alice"\n', r"user\[0\]\.password: "),
        (None, "there is no such file"),
    ],
)
def test_a_file_that_was_cut_off_lets_nobody_in(
    lasting_site: Site, text: str | None, says: str
) -> None:
    """The disk was full, or ``>`` stood where ``>>`` was meant: the old configuration goes on."""
    site = lasting_site
    if text is None:
        site.file.unlink()
    else:
        site.file.write_text(text)
    start = len(site.cluster.log)
    with contextlib.closing(AdminConnection(site.cluster.admin)) as admin:
        with pytest.raises(OrderRefused, match=says):
            admin.ask(Reload())
    line = site.cluster.wait_for(re.compile(".* not reloaded: .*"), start)[0]
    assert " ERROR supervisor: not reloaded: " in line
    assert re.search(says, line), line
    with site.joins() as client:
        client.says("PWD", 257)
    with Dialogue(site.cluster.port) as other:
        other.says("USER anonymous", 331)
        other.says("PASS x", 530)
    site.write()


class Listeners:
    """A cluster that listens where its file says."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "ftpcluster.toml"
        self.write(0)
        self.cluster = Cluster("-c", str(self._file), hosts=None)

    def write(self, *ports: int) -> None:
        tables = "".join(f'[[listen]]\naddress = "127.0.0.1"\nport = {port}\n' for port in ports)
        self._file.write_text(f'workers = 1\n{tables}[anonymous]\nroot = "."\n')

    def reload(self, *ports: int) -> str:
        self.write(*ports)
        return self.cluster.hang_up()


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    listeners = Listeners(tmp_path)
    with listeners.cluster:
        yield listeners


def test_a_port_that_is_taken_changes_nothing(listeners: Listeners) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = listeners.reload(0, port)
        assert "not reloaded: " in line
        assert f"127.0.0.1 port {port}" in line
        with Dialogue(listeners.cluster.port):
            pass
    line = listeners.reload(0, port)
    assert f" reloaded: 127.0.0.1:{listeners.cluster.port}, 127.0.0.1:{port} " in line
    with Dialogue(port):
        pass


def test_listeners_go_while_the_others_stay(listeners: Listeners) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert " reloaded: " in listeners.reload(0, port)
    with Dialogue(listeners.cluster.port) as old:
        assert f" reloaded: 127.0.0.1:{port} (1 worker)" in listeners.reload(port)
        with Dialogue(port):
            pass
        with pytest.raises(ConnectionRefusedError):
            Dialogue(listeners.cluster.port)
        old.says("NOOP", 200)


def test_a_reload_that_is_asked_for_during_one_is_done_after_it(site: Site) -> None:
    site.write("workers = 3")
    start = len(site.cluster.log)
    site.cluster.process.send_signal(signal.SIGHUP)
    site.cluster.wait_for(re.compile("supervisor: reloading"), start)
    site.write("workers = 1")
    site.cluster.process.send_signal(signal.SIGHUP)
    site.cluster.wait_for(re.compile(r" reloaded: .*\(1 worker\)"), start)
    until(lambda: len(site.cluster.workers()) == 1)


def test_sighup_to_processes_that_are_just_starting_ends_none(tmp_path: Path) -> None:
    """``systemctl kill`` sends it to all, and the group of a terminal that closes gets it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "if 'from multiprocessing' in ' '.join(sys.orig_argv):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    environment = {"PYTHONPATH": str(tmp_path), **SPAWNED}
    with Cluster("--root", str(tmp_path), "--workers", "2", env=environment) as cluster:
        began = set(cluster.processes())
        assert len(began) == 4  # with the resource tracker
        assert "not reloaded" not in cluster.hang_up()
        until(lambda: len(began & set(cluster.processes())) == 2)
        assert len(cluster.workers()) == 2
    assert "resource_tracker" not in cluster.log


# ---------------------------------------------------------------------- while it stops


def begin_reload(site: Site) -> Path:
    """Its file is a FIFO then, which the reload waits for."""
    site.file.unlink()
    os.mkfifo(site.file, 0o600)
    start = len(site.cluster.log)
    site.cluster.process.send_signal(signal.SIGHUP)
    site.cluster.wait_for(re.compile("supervisor: reloading"), start)
    return site.file


def assert_ends(cluster: Cluster) -> None:
    """Soon, without having been reloaded."""
    began = time.monotonic()
    assert cluster.wait() == 0
    assert time.monotonic() - began < 20  # the grace alone is 30
    assert "supervisor: reloaded: " not in cluster.log
    assert "ERROR" not in cluster.log


def test_a_server_that_is_stopping_is_not_reloaded(site: Site) -> None:
    with site.joins() as client, begin_download(client, "file") as data:
        site.cluster.process.send_signal(signal.SIGTERM)
        site.cluster.wait_for(re.compile("supervisor: stopping"))
        assert "not reloaded: the server is stopping" in site.cluster.hang_up()
        with contextlib.closing(AdminConnection(site.cluster.admin)) as admin:
            with pytest.raises(OrderRefused, match="not reloaded: the server is stopping"):
                admin.ask(Reload())
        with pytest.raises(ConnectionRefusedError):
            Dialogue(site.cluster.port)
        data.close()
    assert_ends(site.cluster)


def test_a_stop_ends_a_reload_that_still_reads_its_file(site: Site) -> None:
    with site.joins() as client, begin_download(client, "file") as data:
        fifo = begin_reload(site)
        site.cluster.process.send_signal(signal.SIGTERM)
        site.cluster.wait_for(re.compile("supervisor: stopping"))
        fifo.write_text('workers = 1\n[anonymous]\nroot = "files"\n')
        site.cluster.wait_for(re.compile("not reloaded: the server is stopping"))
        with pytest.raises(ConnectionRefusedError):
            Dialogue(site.cluster.port)
        assert len(site.cluster.workers()) <= 2
        data.close()
    assert_ends(site.cluster)


def test_an_administrator_s_stop_ends_a_reload_and_the_one_that_waits_behind_it(
    site: Site,
) -> None:
    with (
        site.joins() as client,
        begin_download(client, "file") as data,
        contextlib.closing(AdminConnection(site.cluster.admin)) as admin,
        contextlib.closing(AdminConnection(site.cluster.admin)) as waits,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        fifo = begin_reload(site)
        answer = pool.submit(waits.ask, Reload())
        site.cluster.process.send_signal(signal.SIGHUP)
        assert isinstance(admin.ask(Stop()), Done)
        site.cluster.wait_for(re.compile("supervisor: stopping"))
        fifo.write_text('workers = 1\n[anonymous]\nroot = "files"\n')
        with pytest.raises(OrderRefused, match="not reloaded: the server is stopping"):
            answer.result(30)
        data.close()
    assert_ends(site.cluster)
    assert site.cluster.log.count("supervisor: reloading") == 1
