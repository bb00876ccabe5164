"""What is left to whoever has taken a worker over, and that sessions do not miss the rest."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from ftpcluster.passwords import hash_password
from tests.support.cluster import SPAWNED, Cluster, open_files, until
from tests.support.configured import configured
from tests.support.dialogue import DEADLINE, Dialogue, rest_of
from tests.support.programs import need
from tests.support.unprivileged import PACKAGES, python_for_nobody

ASK = """
import contextlib, socket

def ask(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    with contextlib.suppress(OSError):  # it was turned away before it said anything
        sock.sendall(b'{"type":"bans"}\\n')
    return sock.recv(999).decode()
"""
TAKEN_OVER = (
    ASK
    + """
import os, subprocess, sys
import ftpcluster
import taken

class Server(ftpcluster.Server):
    async def noop(self, connection, rest):
        path = os.environ["ADMIN"]
        child = [sys.executable, "-c", f"import taken; print(taken.ask({path!r}))"]
        again = [sys.executable, "-c", f"import subprocess; subprocess.run({child!r})"]
        answers = [ask(path)]
        answers += [subprocess.run(each, capture_output=True, text=True).stdout
                    for each in (child, again)]
        with open(os.environ["ANSWERS"], "w") as file:
            file.write("".join(answers))
        connection.response("200", "done")
        return True
"""
)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_workers_are_filtered_and_have_no_capabilities_beyond_what_serving_takes(
    tmp_path: Path,
) -> None:
    with Cluster("--workers", "2", "--root", str(tmp_path)) as cluster:
        ours = int(status(cluster.pid).get("Seccomp_filters", 0))
        for worker in cluster.workers():
            found = status(worker)
            if "Seccomp_filters" in found:
                assert int(found["Seccomp_filters"]) > ours
            allowed = sum(1 << each for each in (0, 1, 3, 4, 10))
            assert int(found["CapPrm"], 16) & ~allowed == 0
            if os.geteuid() == 0:
                assert int(found["CapBnd"], 16) == 0
            assert found["NoNewPrivs"] == "1"


def test_workers_hold_nothing_that_speaks_for_the_server(tmp_path: Path) -> None:
    """Neither the resource tracker's pipe, which has names in /dev/shm unlinked, nor an io_uring,
    which no filter sees into."""
    with Cluster("--workers", "2", "--root", str(tmp_path), env=SPAWNED) as cluster:
        until(lambda: len(cluster.workers()) == 2)
        tracker = next(pid for pid in cluster.processes() if is_tracker(pid))
        pipes = {each for each in open_files(tracker) if each.startswith("pipe:")}
        assert pipes & set(open_files(cluster.pid))
        for worker in cluster.workers():
            files = open_files(worker)
            assert not (pipes - standard(worker)) & set(files)
            assert not [each for each in files if "io_uring" in each]


def is_tracker(pid: int) -> bool:
    return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def standard(pid: int) -> set[str]:
    return {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_gives_no_orders_and_neither_do_its_children(tmp_path: Path, loop: str) -> None:
    """With a class of somebody else's, in workers that are not confined."""
    (tmp_path / "taken.py").write_text(ASK)
    (tmp_path / "mine.py").write_text(TAKEN_OVER)
    answers = tmp_path / "answers"
    admin = tmp_path / "admin.sock"
    env = {"PYTHONPATH": str(tmp_path), "ADMIN": str(admin), "ANSWERS": str(answers)}
    text = f'confine = false\n[admin]\nsocket = "{admin}"\n[anonymous]\nroot = "{tmp_path}"\n'
    flags = ("--server", "mine:Server", "--loop", loop)
    with configured(tmp_path, text, *flags, env=env) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "")
            client.says("NOOP", 200)
        refused = '{"type":"refused","text":"a worker may not, nor what it has started"}'
        assert answers.read_text().split() == (f"{refused}\n" * 3).split()
        # who is no child of the server's may, as ever
        done = subprocess.run(
            ["python3", "-c", ASK + f"print(ask({str(admin)!r}))"],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
        assert done.stdout.startswith('{"type":"banned"')


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter, for a server that begins as root."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        directory.chmod(0o755)
        (directory / "files").mkdir()
        shutil.chown(directory / "files", "nobody")
        yield directory
    finally:
        shutil.rmtree(directory)


def test_where_root_is_given_up_orders_stay_root_s(place: Path) -> None:
    as_nobody: dict[str, Any] = {
        "python": python_for_nobody(),
        "env": {"PYTHONPATH": ":".join(PACKAGES)},
    }
    admin = place / "admin.sock"
    (place / "ftpcluster.toml").write_text(
        f'workers = 2\nrun_as = "nobody"\n[admin]\nsocket = "{admin}"\n'
        f'[[listen]]\naddress = "127.0.0.1"\nport = 0\n[anonymous]\nroot = "{place}/files"\n'
    )
    with Cluster("-c", str(place / "ftpcluster.toml"), hosts=None, **as_nobody):
        assert (admin.stat().st_uid, admin.stat().st_mode & 0o777) == (0, 0o600)
        code = ASK + f"print(ask({str(admin)!r}))"
        become = [need("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        command = [as_nobody["python"], "-c", code]

        def said(*prefix: str) -> str:
            done = subprocess.run(
                [*prefix, *command],
                capture_output=True,
                text=True,
                timeout=DEADLINE,
                cwd="/",
                check=False,
            )
            return done.stdout + done.stderr

        assert said().startswith('{"type":"banned"')
        assert "PermissionError" in said(*become)
        admin.chmod(0o666)  # also where the file would let it in
        assert "only root and the user who started the server may" in said(*become)


def test_sessions_miss_nothing(tmp_path: Path) -> None:
    """All that workers do, under all that confines them."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "there").write_bytes(b"content" * 100_000)
    pem = tmp_path / "pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    log = tmp_path / "log"
    text = (
        f'[log]\nfile = "{log}"\nlevel = "debug"\n'
        f'[tls]\ncertificate = "{pem}"\nkey = "{pem}"\n'
        f'[[user]]\nlogin = "user"\npassword = "{hash_password("12345")}"\nroot = "{served}"\n'
        'upload = "50MB"\n'
    )
    with configured(tmp_path, text) as cluster:
        assert log.read_text().count("system calls are filtered") == 2 or not is_filtering(log)
        for _ in range(2):
            serves(cluster, served)
            assert "reloaded" in reloaded(cluster, log)
        log.rename(tmp_path / "log.1")
        cluster.process.send_signal(signal.SIGUSR1)
        until(lambda: log.exists() and "was opened again" in log.read_text())
        serves(cluster, served)
        until(lambda: "STOR" in log.read_text())


def is_filtering(log: Path) -> bool:
    return "are not filtered" not in log.read_text() and "no filter" not in log.read_text()


def reloaded(cluster: Cluster, log: Path) -> str:
    begun = len(log.read_text())
    cluster.process.send_signal(signal.SIGHUP)
    match = until(lambda: re.search(r"(?:not )?reloaded: .*", log.read_text()[begun:]))
    assert not match[0].startswith("not")
    return match[0]


def serves(cluster: Cluster, served: Path) -> None:
    for _ in range(3):  # one worker and the other
        with Dialogue(cluster.port) as client:
            client.logs_in()
            works(client)
            assert b"there" in actively(client, "MLSD", None)
            assert actively(client, "RETR there", None) == b"content" * 100_000
            actively(client, "STOR active", b"new")
            client.says("DELE active", 250)
        with Dialogue(cluster.port) as client:
            client.says("AUTH TLS", 234)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client.sock = context.wrap_socket(client.sock)
            client.logs_in()
            works(client)


def works(client: Dialogue) -> None:
    client.uploads("STOR new", b"abc" * 1000)
    assert client.downloads("RETR new") == b"abc" * 1000
    assert b"new" in client.downloads("LIST")
    client.says("SITE CHMOD 600 new", 200)
    client.says("MFMT 20200101000000 new", 213)
    client.says("HASH new", 213)
    client.says("RNFR new", 350)
    client.says("RNTO newer", 250)
    client.says("DELE newer", 250)


def actively(client: Dialogue, command: str, content: bytes | None) -> bytes:
    """A transfer over a connection that the server makes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        port = listener.getsockname()[1]
        client.says(f"PORT 127,0,0,1,{port // 256},{port % 256}", 200)
        client.send(command)
        data, _ = listener.accept()
        with data:
            data.settimeout(DEADLINE)
            client.expects(150)
            if content is None:
                received = rest_of(data)
            else:
                received = b""
                data.sendall(content)
        client.expects(226)
    return received
