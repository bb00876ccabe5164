"""``check``, ``init``, ``schema`` and ``hash``; and what ``run`` says of a wrong file."""

from __future__ import annotations

import json
import os
import pty
import select
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from ftpcluster.passwords import verify
from tests.support.cluster import Cluster, environment
from tests.support.dialogue import DEADLINE, Dialogue

SECRET = "s3cr3t"
HASH = "$2b$04$" + "a" * 21 + "u" + "a" * 31

WRONG = f"""\
wrokers = 2
[[user]]
login = "alice"
password = "{SECRET}"
root = "."
"""
ERRORS = [
    'f.toml:1: wrokers: unknown key; did you mean "workers"?',
    "f.toml:4: user[0].password: expected a hash (`ftpcluster hash` makes one), or "
    '"plain:" with the password behind it',
]


def command(
    *arguments: str, cwd: Path, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m ftpcluster …`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "ftpcluster", *arguments],
        cwd=cwd,
        env=environment({}),
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# ---------------------------------------------------------------------- wrong files


@pytest.mark.parametrize("name", ["run", "check"])
def test_each_error_is_a_line_of_its_own(name: str, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(WRONG)
    done = command(name, "-c", "f.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [f"ftpcluster: error: {line}" for line in ERRORS]


def test_errors_of_file_and_flags_are_said_together(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(WRONG)
    done = command("run", "-c", "f.toml", "--port", "-1", "--user", "bob", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"ftpcluster: error: {line}"
        for line in (
            *ERRORS,
            "--user bob: no password; give bob:PASSWORD or set FTPCLUSTER_USER_BOB",
            "--port -1: expected a whole number from 0 to 65535",
        )
    ]


def test_run_reads_no_file_that_it_was_not_told_of(tmp_path: Path) -> None:
    (tmp_path / "ftpcluster.toml").write_text(WRONG)
    with Cluster("--workers", "2", cwd=tmp_path) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "")


# ---------------------------------------------------------------------- check

GOOD = f"""\
workers = 3
server = "mine:Server"

[[listen]]
address = ["127.0.0.1", "::1"]
port = 2100

[[listen]]
port = 2990
proxy_protocol = ["10.0.0.0/8"]

[data]
ports = "50000-50999"

[limits]
connections = 100
connections_per_address = 10
download = 20_000_000

[timeouts]
idle = "1h"
drain = "12h"
shutdown = 30

[log]
format = "json"
file = "log"
transfers = "xferlog"

[metrics]
listen = "[::1]:9121"

[admin]
socket = "admin.sock"

[storage]
durable_uploads = true
atomic_uploads = true
hide = ["*.tmp", ".*"]
forbid = ["*.php"]

[[user]]
login = "alice"
password = "{HASH}"
root = "home of {{login}}"
home = "/in"
connections = 8
upload = "10MiB"
download_per_connection = 1500
permissions = [
  {{ path = "/" }},
  {{ path = "/in", write = true }},
  {{ path = "/drop", read = false, write = true }},
  {{ path = "/no", read = false }},
]

[anonymous]
root = "."
"""


def test_check_says_what_will_be_served_and_no_password(tmp_path: Path) -> None:
    (tmp_path / "home of alice" / "in").mkdir(parents=True)
    file = tmp_path / "ftpcluster.toml"
    file.write_text(GOOD)
    file.chmod(0o600)
    (tmp_path / "mine.py").write_text("class Server: pass")
    done = command("check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "listen on 127.0.0.1:2100, [::1]:2100: no TLS",
        "listen on 0.0.0.0:2990, [::]:2990: no TLS; PROXY protocol from 10.0.0.0/8",
        "workers: 3 (uvloop)",
        "server mine:Server",
        "data ports 50000-50999",
        "timeouts: idle 3600 s, drain 43200 s",
        "uploads: durable and atomic",
        'hidden names: "*.tmp", ".*"',
        'forbidden names: "*.php"',
        "limits of the server: connections 100, connections per address 10, download 20MB/s",
        "bans: an address with 10 failed logins in 600 s, for 1800 s; never 127.0.0.0/8, ::1/128",
        f"user alice: {tmp_path}/home of alice from /in on; / read, /in read and write, "
        "/drop write, /no nothing; connections 8, upload 10MiB/s, "
        "download per connection 1500B/s",
        f"anonymous: {tmp_path}; / read; no limits",
        f"log: info, json, on {tmp_path}/log",
        f"log of transfers: {tmp_path}/xferlog",
        "metrics on [::1]:9121",
        f"admin socket {tmp_path}/admin.sock",
    ]
    assert not (tmp_path / "log").exists()


def wrong_file(folder: Path, text: str) -> list[str]:
    """What ``check`` and ``run`` say of a file alike: lines of an error that ends them."""
    (folder / "f.toml").write_text(text)
    said = []
    for name in ("check", "run"):
        done = command(name, "-c", "f.toml", cwd=folder)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        said.append([line.removeprefix("ftpcluster: error: ") for line in done.stderr.splitlines()])
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("key", ["file", "transfers"])
@pytest.mark.parametrize(
    ("path", "why"), [("no/log", "No such file or directory"), ("f.toml/log", "Not a directory")]
)
def test_check_and_run_refuse_a_log_in_no_folder_with_its_line(
    key: str, path: str, why: str, tmp_path: Path
) -> None:
    assert wrong_file(tmp_path, f"\n[log]\n{key} = '{path}'\n") == [
        f"f.toml:3: log.{key}: {tmp_path}/{path}: cannot be opened: {why}; "
        "make its folder, and let who starts the server write there"
    ]


def test_a_log_that_is_a_fifo_is_not_opened_by_check(tmp_path: Path) -> None:
    """Whoever reads it would see its end, and end."""
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        (tmp_path / "f.toml").write_text("[log]\nfile = 'log'\n")
        assert command("check", "-c", "f.toml", cwd=tmp_path).returncode == 0
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        assert poll.poll(0) == []  # POLLHUP, once somebody who wrote is gone
    finally:
        os.close(reader)


def test_check_and_run_name_the_line_of_a_certificate(tmp_path: Path) -> None:
    assert wrong_file(tmp_path, "[tls]\n\ncertificate = 'no.pem'\n") == [
        f"f.toml:3: tls.certificate: {tmp_path}/no.pem: No such file or directory"
    ]


def test_check_and_run_say_what_metrics_need_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError")
    assert wrong_file(tmp_path, "[metrics]\nlisten = '127.0.0.1:0'\n") == [
        "f.toml:2: metrics.listen: needs prometheus-client: pip install 'ftpcluster[metrics]'"
    ]


@pytest.mark.parametrize("arguments", [("check",), ("run", "--port", "0")])
def test_what_nobody_named_is_not_served_where_that_is_the_whole_machine(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """A service is started in “/”, and the file that ``init`` writes names no folder."""
    file = tmp_path / "f.toml"
    assert command("init", str(file), cwd=tmp_path).returncode == 0
    done = command(arguments[0], "-c", str(file), *arguments[1:], cwd=Path("/"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"ftpcluster: error: {file}: anonymous users would read all of /, where it was started: "
        'say what is served: root = "/srv/ftp" in [anonymous], a [[user]], or --root DIR\n'
    )


def test_a_home_that_is_not_there_is_warned_of(tmp_path: Path) -> None:
    """Its user may have removed it, which must not keep a server from starting."""
    (tmp_path / "outside").mkdir()
    root = tmp_path / "root"
    (root / "there").mkdir(parents=True)
    (root / "away").symlink_to("../outside")
    file = tmp_path / "f.toml"
    homes = ("/there", "/nope", "/away")
    file.write_text(
        "".join(
            f"[[user]]\nlogin = 'user{n}'\npassword = '{HASH}'\nroot = 'root'\nhome = '{home}'\n"
            for n, home in enumerate(homes)
        )
    )
    file.chmod(0o600)
    done = command("check", "-c", "f.toml", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        f"ftpcluster: warning: user[{n}].home: {homes[n]} is no folder in {root}: make it, or "
        f"sessions of user{n} begin where nothing is"
        for n in (1, 2)
    ]


def test_check_says_where_there_is_tls(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    (tmp_path / "f.toml").write_text(
        "[[listen]]\nport = 1\n[[listen]]\nport = 2\ntls = 'implicit'\n"
        "[tls]\ncertificate = 'server.pem'\nrequired = true\nrequired_data = true\n"
    )
    done = command("check", "-c", "f.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:3] == [
        "listen on 0.0.0.0:1, [::]:1: explicit TLS, required, required for data",
        "listen on 0.0.0.0:2, [::]:2: implicit TLS, required, required for data",
        f"certificate {tmp_path}/server.pem, TLS 1.2 or later",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.such:Server", "server no.such:Server: cannot be imported: No module named 'no'"),
        ("mine:Ours", "server mine:Ours: cannot be imported: module 'mine' has no attribute"),
        ("mine:Mine", ""),
    ],
)
def test_check_looks_for_what_is_not_ours(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import ftpcluster\nclass Mine(ftpcluster.Server): pass\n")
    (tmp_path / "f.toml").write_text(f"server = '{name}'\n[anonymous]\nroot = '.'\n")
    done = command("check", "-c", "f.toml", cwd=tmp_path)
    assert done.returncode == (2 if said else 0)
    assert done.stderr.startswith(f"ftpcluster: error: {said}" if said else "")


def test_check_warns_of_passwords_that_others_may_read(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(f"[[user]]\nlogin = 'a'\npassword = 'plain:{SECRET}'\nroot = '.'\n")
    file.chmod(0o644)
    done = command("check", "-c", "f.toml", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "ftpcluster: warning: f.toml: others may read the passwords in it; `chmod 600 f.toml`"
    ]
    assert SECRET not in done.stdout


def test_check_says_how_to_begin_where_there_is_no_file(tmp_path: Path) -> None:
    done = command("check", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "ftpcluster: error: ftpcluster.toml: there is no such file; "
        "`ftpcluster init ftpcluster.toml` writes one\n"
    )


# ---------------------------------------------------------------------- init, schema


def test_what_init_writes_is_right_and_runs(tmp_path: Path) -> None:
    done = command("init", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path / "ftpcluster.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    checked = command("check", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    (tmp_path / "file").write_bytes(b"content")
    arguments = ("-c", "ftpcluster.toml", "--workers", "2")
    with Cluster(*arguments, cwd=tmp_path) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "")
            assert client.downloads("RETR file") == b"content"


def test_init_writes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("# mine")
    done = command("init", "mine.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("ftpcluster: error: mine.toml exists; nothing was written")
    assert (tmp_path / "mine.toml").read_text() == "# mine"


def test_init_says_where_it_cannot_write(tmp_path: Path) -> None:
    done = command("init", "no/such/folder.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "ftpcluster: error: no/such/folder.toml cannot be written: No such file or directory\n"
    )


def test_schema_prints_json(tmp_path: Path) -> None:
    done = command("schema", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "listen" in json.loads(done.stdout)["properties"]


# ---------------------------------------------------------------------- hash


def test_hash_reads_a_line_and_prints_what_a_file_may_have(tmp_path: Path) -> None:
    done = command("hash", cwd=tmp_path, stdin=f"{SECRET}\nmore\n")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("$argon2id$")
    assert verify(line, SECRET)
    (tmp_path / "f.toml").write_text(f"[[user]]\nlogin = 'a'\npassword = '{line}'\nroot = '.'\n")
    assert command("check", "-c", "f.toml", cwd=tmp_path).returncode == 0


def test_hash_of_nothing_is_refused(tmp_path: Path) -> None:
    done = command("hash", cwd=tmp_path, stdin="\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ftpcluster: error: the password is empty\n"


class Terminal:
    """A command on a terminal, as somebody who types sees it."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ftpcluster", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment({}),
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def waits_for(self, text: str) -> None:
        """Read what is shown until ``text`` is, which has not been before."""
        start = len(self.seen)
        while text not in self.seen[start:]:
            assert select.select([self._ours], [], [], DEADLINE)[0], self.seen
            self.seen += os.read(self._ours, 4096).decode()

    def types(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self._ours)

    def ends(self) -> int:
        try:
            while data := os.read(self._ours, 4096):
                self.seen += data.decode()
        except OSError:
            pass  # so Linux says that nobody has the other end any more
        return self.process.wait(DEADLINE)


def test_hash_asks_twice_and_shows_nothing_of_the_password() -> None:
    with Terminal("hash") as terminal:
        terminal.waits_for("Password: ")
        terminal.types(SECRET)
        terminal.waits_for("Once more: ")
        terminal.types("another")
        terminal.waits_for("Password: ")  # they were not the same
        terminal.types(SECRET)
        terminal.waits_for("Once more: ")
        terminal.types(SECRET)
        assert terminal.ends() == 0
    assert SECRET not in terminal.seen
    line = terminal.seen.splitlines()[-1]
    assert verify(line, SECRET)


def test_a_port_of_the_file_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "f.toml").write_text(f"[[listen]]\naddress = '127.0.0.1'\nport = {port}\n")
        done = command("run", "-c", "f.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert f"127.0.0.1 port {port}: the port is taken" in done.stderr
    assert len(done.stderr.splitlines()) == 1
