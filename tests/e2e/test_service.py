"""As a service of the machine: sockets from systemd, what it is told, and as whom it runs."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from ftpcluster.admin.client import AdminConnection
from ftpcluster.admin.requests import Done, Stop
from tests.support.cluster import Cluster, until
from tests.support.command import command
from tests.support.dialogue import Dialogue
from tests.support.forking import CHECKOUT
from tests.support.unprivileged import PACKAGES, python_for_nobody


class Manager:
    """The socket on which a service says how it is."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(20)

    def hears(self, first: str) -> str:
        """The next message that begins so."""
        while not (message := self.sock.recv(4096).decode()).startswith(first):
            pass
        return message


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    with manager.sock:
        yield manager


def test_the_service_manager_is_told_how_it_is(tmp_path: Path, manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"}
    arguments = ["--workers", "2", "--root", str(tmp_path)]
    with Cluster(*arguments, env=environment) as cluster:
        ready = manager.hears("READY=1\n")
        assert f"STATUS=ready on 127.0.0.1:{cluster.port}" in ready
        for _ in range(3):
            manager.hears("WATCHDOG=1")
        assert " reloaded: " in cluster.hang_up()
        assert re.search(r"^MONOTONIC_USEC=\d+$", manager.hears("RELOADING=1\n"), re.MULTILINE)
        manager.hears("READY=1\n")
        with Dialogue(cluster.port):
            while "STATUS=1 sessions; ready" not in manager.hears("STATUS="):
                pass
        cluster.process.send_signal(signal.SIGTERM)
        manager.hears("STOPPING=1")
        assert cluster.wait() == 0


def test_the_service_manager_is_told_that_an_administrator_stops_it(
    tmp_path: Path, manager: Manager
) -> None:
    environment = {"NOTIFY_SOCKET": manager.path}
    with Cluster("--root", str(tmp_path), env=environment) as cluster:
        with contextlib.closing(AdminConnection(cluster.admin)) as admin:
            assert isinstance(admin.ask(Stop()), Done)
        manager.hears("STOPPING=1")
        assert cluster.wait() == 0


def test_a_reload_that_fails_is_ready_again(tmp_path: Path, manager: Manager) -> None:
    file = tmp_path / "ftpcluster.toml"
    file.write_text("workers = 1\n[anonymous]\nroot = '.'\n")
    with Cluster("-c", str(file), env={"NOTIFY_SOCKET": manager.path}, cwd=tmp_path) as cluster:
        manager.hears("READY=1\n")
        file.write_text("workers = 0")
        assert "not reloaded" in cluster.hang_up()
        manager.hears("RELOADING=1\n")
        manager.hears("READY=1\n")


SLOW = """
import os, time
import ftpcluster

class Slow(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users)
        while not os.path.exists("go"):
            time.sleep(0.01)
"""


def test_a_server_is_not_ready_before_it_serves_however_often_it_is_told_to_reload(
    tmp_path: Path, manager: Manager
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    file = tmp_path / "ftpcluster.toml"
    good = 'workers = 1\nserver = "slow:Slow"\n[anonymous]\nroot = "."\n'
    file.write_text(good)
    environment = {"NOTIFY_SOCKET": manager.path, "PYTHONPATH": str(tmp_path)}
    cluster = Cluster("-c", str(file), env=environment, cwd=tmp_path)
    try:
        until(cluster.workers)
        file.write_text("workers = 0")
        for _ in range(2):  # the second one begins when all of the first is done
            assert "not reloaded" in cluster.hang_up()
            assert manager.sock.recv(4096).startswith(b"RELOADING=1\n")
        file.write_text(good)
        (tmp_path / "go").touch()
        with cluster:
            manager.hears("READY=1\n")
    finally:
        cluster.process.kill()
        cluster.wait()


def test_workers_speak_for_nobody(tmp_path: Path, manager: Manager) -> None:
    with Cluster("--root", str(tmp_path), env={"NOTIFY_SOCKET": manager.path}) as cluster:
        for pid in cluster.workers():
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_sockets_of_the_service_manager_are_served(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    arguments = ["run", "--workers", "2", "--root", str(tmp_path), "--tls-cert", str(pem)]
    with Cluster(
        *arguments, program=("tests.support.activated",), hosts=None, cwd=CHECKOUT
    ) as cluster:
        match = re.search(
            r"ready on 127\.0\.0\.1:\d+, 127\.0\.0\.1:(\d+) implicit TLS", cluster.log
        )
        assert match is not None
        for _ in range(2):
            with Dialogue(cluster.port) as client:
                client.says("AUTH TLS", 234)
            with socket.create_connection(("127.0.0.1", int(match[1])), 20) as raw:
                with trusting.wrap_socket(raw, server_hostname="localhost") as protected:
                    assert protected.recv(100).startswith(b"220 ")
            assert " reloaded: " in cluster.hang_up()  # they go on
        fds = [os.readlink(f"/proc/{pid}/fd/3") for pid in cluster.workers()]
        assert not any(
            fd == os.readlink(f"/proc/{cluster.pid}/fd/3") for fd in fds
        )  # they are the supervisor's alone


# ---------------------------------------------------------------------- as whom


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter, for a server that begins as root."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        directory.chmod(0o755)
        files = directory / "files"
        files.mkdir()
        shutil.chown(files, "nobody")
        yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def as_root() -> dict[str, Any]:
    """How a cluster has to be started to give up root."""
    return {"python": python_for_nobody(), "env": {"PYTHONPATH": ":".join(PACKAGES)}}


def statuses(cluster: Cluster) -> list[dict[str, str]]:
    found = []
    for pid in (cluster.pid, *cluster.workers()):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found.append({name: value.strip() for name, _, value in (x.partition(":") for x in lines)})
    return found


def test_root_is_given_up_by_supervisor_and_workers_once_ports_are_bound(
    place: Path, as_root: dict[str, Any]
) -> None:
    with socket.socket() as probe:
        low = next(port for port in range(1000, 1024) if probe.connect_ex(("127.0.0.1", port)))
    uid = pwd.getpwnam("nobody").pw_uid
    file = place / "ftpcluster.toml"
    file.write_text(
        f'workers = 2\nrun_as = "nobody:daemon"\n[[listen]]\naddress = "127.0.0.1"\nport = {low}\n'
        '[[user]]\nlogin = "user"\npassword = "plain:12345"\nroot = "files"\n'
    )
    with Cluster("-c", str(file), hosts=None, **as_root) as cluster:
        for status in statuses(cluster):
            assert set(status["Uid"].split()) == {str(uid)}
            assert set(status["Gid"].split()) == {"1"}
            assert status["Groups"] == ""
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
            assert status["NoNewPrivs"] == "1"
        with Dialogue(low) as client:
            client.logs_in()
            client.uploads("STOR new", b"content")
            assert " reloaded: " in cluster.hang_up()
        assert (place / "files" / "new").stat().st_uid == uid
        with Dialogue(low) as client:
            client.logs_in()
        assert {status["Uid"].split()[0] for status in statuses(cluster)} == {str(uid)}


def test_a_key_that_only_root_reads_serves_until_a_reload_needs_it(
    place: Path, as_root: dict[str, Any]
) -> None:
    pem = place / "pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    pem.chmod(0o600)
    arguments = ["--workers", "1", "--root", str(place / "files"), "--tls-cert", str(pem)]
    with Cluster(*arguments, "--run-as", "nobody", **as_root) as cluster:
        (worker,) = cluster.workers()
        os.kill(worker, signal.SIGKILL)  # the next one has the key from the supervisor
        until(lambda: cluster.workers() not in ([], [worker]))
        with Dialogue(cluster.port) as client:
            client.says("AUTH TLS", 234)
        line = cluster.hang_up()
        assert "not reloaded" in line
        assert f"{pem}: Permission denied" in line
        with Dialogue(cluster.port) as client:
            client.says("AUTH TLS", 234)
        shutil.chown(pem, "nobody")
        assert " reloaded: " in cluster.hang_up()


def test_logs_that_root_opened_can_be_opened_again_by_who_serves(
    place: Path, as_root: dict[str, Any]
) -> None:
    """Where the directory is root's the new file has to be made by logrotate."""
    log, old = place / "log", place / "log.1"
    arguments = ["--workers", "1", "--root", str(place / "files"), "--log-file", str(log)]
    with Cluster(*arguments, "--run-as", "nobody", **as_root) as cluster:
        assert log.stat().st_uid == pwd.getpwnam("nobody").pw_uid
        cluster.process.send_signal(signal.SIGUSR1)
        until(lambda: "was opened again" in log.read_text())
        log.rename(old)
        cluster.process.send_signal(signal.SIGUSR1)
        until(lambda: "the old file goes on: Permission denied" in old.read_text())
        log.touch()
        shutil.chown(log, "nobody")
        cluster.process.send_signal(signal.SIGUSR1)
        until(lambda: "was opened again" in log.read_text())
        with Dialogue(cluster.port) as client:
            client.says("USER ftp", 331)
            client.says("PASS x", 230)
        until(lambda: "worker 1: [1] " in log.read_text())


@pytest.mark.parametrize(
    ("who", "says"),
    [
        ("nobody-has-this", "there is no user nobody-has-this"),
        ("nobody:no-such-group", "there is no group no-such-group"),
        ("root", "root is what is given up"),
    ],
)
def test_a_user_that_cannot_serve_is_named(tmp_path: Path, who: str, says: str) -> None:
    done = command("run", "--port", "0", "--run-as", who, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"ftpcluster: error: --run-as {who}: ")
    assert says in line


# ---------------------------------------------------------------------- what workers can do


def test_workers_can_open_nothing_but_what_they_serve(tmp_path: Path) -> None:
    """A command of somebody else's would not be confined: so this asks the kernel."""
    (tmp_path / "served").mkdir()
    with Cluster("--root", str(tmp_path / "served"), "--log-level", "debug") as cluster:
        told = cluster.wait_for(re.compile(r"worker 1: files: (.*)"))[1]
        if not told.startswith("Landlock"):
            pytest.skip(told)
        for status in statuses(cluster)[1:]:
            assert status["NoNewPrivs"] == "1"


def test_confinement_can_be_turned_off(tmp_path: Path) -> None:
    file = tmp_path / "ftpcluster.toml"
    file.write_text('workers = 1\nconfine = false\n[anonymous]\nroot = "link"\n')
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("one")
    with Cluster("-c", str(file)) as cluster:
        assert statuses(cluster)[1]["NoNewPrivs"] == "0"
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("two")
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "x")
    assert stat.S_ISLNK((tmp_path / "link").lstat().st_mode)
