"""What the flags of ``ftpcluster run`` do, seen from outside."""

from __future__ import annotations

import importlib.metadata
import os
import random
import re
import socket
import subprocess
import sysconfig
from pathlib import Path

import pytest

from ftpcluster.native import DESCRIPTION
from tests.support.cluster import Cluster
from tests.support.command import command
from tests.support.dialogue import Dialogue

SECRET = "s3cr3t"


def output(*arguments: str) -> str:
    """What a command that succeeds says on stdout."""
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_version_is_the_package_s() -> None:
    assert (
        output("--version")
        == f"ftpcluster {importlib.metadata.version('ftpcluster')} {DESCRIPTION}\n"
    )


def test_help_lists_commands_and_flags() -> None:
    assert re.search(r"^  run ", output("--help"), re.MULTILINE)
    text = output("run", "--help")
    for flag in (
        "--workers N", "--host ADDR", "--port P", "--root DIR", "--user NAME:PASSWORD",
        "--anonymous", "--writable", "--data-ports A-B", "--masquerade [NET=]ADDR",
        "--proxy-protocol NET",
        "--max-connections N", "--loop [uvloop|asyncio]", "--log-level", "FTPCLUSTER_USER_<NAME>",
    ):  # fmt: skip
        assert flag in text
    words = " ".join(text.split())
    assert 'The speed of all downloads together: bytes per second such as "10MB"' in words
    assert "The event loop [default: uvloop]" in words


def test_the_script_is_the_module() -> None:
    script = Path(sysconfig.get_path("scripts")) / "ftpcluster"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == output("--version")


# ---------------------------------------------------------------------- where it listens


@pytest.mark.parametrize(
    ("hosts", "workers", "says"),
    [
        (("127.0.0.1", "::1"), 2, "ready on 127.0.0.1:{0}, [::1]:{0} (2 workers)"),
        (("::1",), 1, "ready on [::1]:{0} (1 worker)"),
        (("127.0.0.1",), 3, "ready on 127.0.0.1:{0} (3 workers)"),
        ((), 1, "ready on 0.0.0.0:{0}, [::]:{0} (1 worker)"),
        (("::",), 1, "ready on [::]:{0} (1 worker)"),
    ],
)
def test_the_ready_line_names_addresses_and_the_real_port(
    root: Path, hosts: tuple[str, ...], workers: int, says: str
) -> None:
    with Cluster("--root", str(root), "--workers", str(workers), hosts=hosts) as cluster:
        assert cluster.port != 0
        assert cluster.log.splitlines()[1:] == [says.format(cluster.port)]
        assert len(cluster.workers()) == workers
        for host in {"127.0.0.1", "::1"} & set(hosts) or {"127.0.0.1", "::1"}:
            with Dialogue(cluster.port, host) as client:
                client.logs_in("anonymous", "")


def test_the_workers_are_as_many_as_the_cores_by_default(root: Path) -> None:
    with Cluster("--root", str(root)) as cluster:
        assert len(cluster.workers()) == len(os.sched_getaffinity(0))


def test_an_ipv4_client_of_the_address_that_serves_both_families_gets_an_ipv4_address(
    root: Path,
) -> None:
    (root / "file").write_bytes(b"content")
    with (
        Cluster("--root", str(root), "--workers", "1", hosts=("::",)) as cluster,
        Dialogue(cluster.port, "127.0.0.1") as client,
    ):
        client.logs_in("anonymous", "")
        with socket.create_connection(data_address(client.says("PASV", 227)), 20) as data:
            client.says("RETR file", 150)
            assert data.makefile("rb").read() == b"content"
        client.expects(226)


def data_address(reply: str) -> tuple[str, int]:
    """What a reply to PASV says."""
    match = re.search(r"\((\d+,\d+,\d+,\d+),(\d+),(\d+)\)", reply)
    assert match is not None
    return match[1].replace(",", "."), int(match[2]) * 256 + int(match[3])


def test_pasv_names_the_masquerade_address(root: Path) -> None:
    arguments = ("--root", str(root), "--workers", "1", "--masquerade", "203.0.113.7")
    with Cluster(*arguments) as cluster, Dialogue(cluster.port) as client:
        client.logs_in("anonymous", "")
        assert data_address(client.says("PASV", 227))[0] == "203.0.113.7"
        assert client.downloads("NLST") == b""  # EPSV names a port alone


def free_range(count: int) -> range:
    """Ports next to each other that nobody has; the kernel gives none of them by itself."""
    while True:
        start = random.randrange(20_000, 30_000)
        ports = range(start, start + count)
        if all(is_free(port) for port in ports):
            return ports


def is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def test_both_workers_keep_to_the_data_ports_and_share_none(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    ports = free_range(6)
    span = f"{ports[0]}-{ports[-1]}"
    used: dict[int, set[int]] = {}
    with Cluster("--root", str(root), "--workers", "2", "--data-ports", span) as cluster:
        for _ in range(2):
            # two at a time, one on each worker
            with Dialogue(cluster.port) as one, Dialogue(cluster.port) as other:
                for client in (one, other):
                    client.logs_in("anonymous", "")
                    worker = used.setdefault(cluster.worker_of(client.sock), set())
                    for _ in range(12):
                        address = data_address(client.says("PASV", 227))
                        worker.add(address[1])
                        with socket.create_connection(address, 20) as data:
                            client.says("RETR file", 150)
                            assert data.makefile("rb").read() == b"content"
                        client.expects(226)
    shares = list(used.values())
    assert len(shares) == 2
    assert shares[0] | shares[1] <= set(ports)
    assert not shares[0] & shares[1]


# ---------------------------------------------------------------------- who may do what


def is_read_only(client: Dialogue) -> None:
    assert client.downloads("RETR file") == b"content"
    assert client.downloads("NLST") == b"file\r\n"
    for line in ("DELE file", "MKD directory", "RNFR file", "RMD file"):
        client.says(line, 550)
    client.says("EPSV", 229)
    client.says("STOR other", 550)
    client.says("APPE file", 550)


def may_write(client: Dialogue) -> None:
    client.uploads("STOR other", b"new")
    assert client.downloads("RETR other") == b"new"
    client.says("DELE other", 250)


@pytest.mark.parametrize("flags", [(), ("--writable",), ("--anonymous",)])
def test_without_users_everybody_reads_and_nobody_writes(
    root: Path, flags: tuple[str, ...]
) -> None:
    (root / "file").write_bytes(b"content")
    with Cluster("--root", str(root), "--workers", "1", *flags) as cluster:
        for name in ("anonymous", "ftp"):
            with Dialogue(cluster.port) as client:
                client.logs_in(name, "me@example.org")
                is_read_only(client)
    doubted = "warning: --writable: has no effect without --user" in cluster.log
    assert doubted == ("--writable" in flags)
    assert [path.name for path in root.iterdir()] == ["file"]
    assert (root / "file").read_bytes() == b"content"


def test_users_write_where_writable_says_so_and_anonymous_beside_them_never(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    users = ("--user", f"alice:{SECRET}", "--user", "bob:pass:word with : colons")
    arguments = ("--root", str(root), "--workers", "1", "--anonymous", "--writable", *users)
    with Cluster(*arguments) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("alice", SECRET)
            may_write(client)
        with Dialogue(cluster.port) as client:
            client.logs_in("bob", "pass:word with : colons")
            may_write(client)
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", SECRET)
            is_read_only(client)


def test_users_only_read_without_writable_and_anonymous_is_not_let_in_beside_them(
    root: Path,
) -> None:
    (root / "file").write_bytes(b"content")
    arguments = ("--root", str(root), "--workers", "1", "--user", f"alice:{SECRET}")
    with Cluster(*arguments) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("alice", SECRET)
            is_read_only(client)
        with Dialogue(cluster.port) as client:
            client.says("USER anonymous", 331)
            client.says("PASS me@example.org", 530)
            client.says("NLST", 530)


def test_a_password_from_the_environment_works_and_is_seen_in_no_process(root: Path) -> None:
    environment = {
        "FTPCLUSTER_USER_ALICE_B": SECRET,
        "FTPCLUSTER_USER_NOBODY": f"{SECRET}, of no account",
        "FTPCLUSTER__USER__0__LOGIN": "bob",
        "FTPCLUSTER__USER__0__PASSWORD": f"plain:{SECRET} of bob",
        "FTPCLUSTER__USER__0__ROOT": str(root),
    }
    arguments = ("--root", str(root), "--workers", "2", "--user", "alice-b", "--log-level", "debug")
    with Cluster(*arguments, env=environment, fresh=True) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("alice-b", SECRET)
        with Dialogue(cluster.port) as client:
            client.logs_in("bob", f"{SECRET} of bob")
        for pid in cluster.processes():
            assert SECRET.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
            if pid != cluster.pid:  # the supervisor's is what the caller gave it
                assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    assert SECRET not in cluster.log


def test_a_password_on_the_command_line_reaches_no_worker_s(root: Path) -> None:
    arguments = ("--root", str(root), "--workers", "2", "--user", f"alice:{SECRET}")
    with Cluster(*arguments, fresh=True) as cluster:
        for pid in set(cluster.processes()) - {cluster.pid}:
            assert SECRET.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_current_directory_is_the_root_by_default(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "file").write_bytes(b"content")
    monkeypatch.chdir(root)
    with Cluster("--workers", "1") as cluster, Dialogue(cluster.port) as client:
        client.logs_in("anonymous", "")
        assert client.downloads("NLST") == b"file\r\n"
