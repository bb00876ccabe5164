"""``check``: what is wrong, as ``run`` would say it, what is doubtful, and what is served."""

from __future__ import annotations

import os
import select
import shutil
import tempfile
from pathlib import Path

import pytest
import trustme

from tests.support.command import AS_ROOT, command

SECRET = "s3cr3t"
HASH = "$2b$04$" + "a" * 21 + "u" + "a" * 31

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

[ban]
deny = ["203.0.113.0/24", "2001:db8::7"]

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
    (tmp_path / "mine.py").write_text("import ftpcluster\nclass Server(ftpcluster.Server): pass")
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
        "always turned away: 203.0.113.0/24, 2001:db8::7/128",
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


def wrong_file(directory: Path, text: str) -> list[str]:
    """What ``check`` and ``run`` say of a file alike: lines of an error that ends them."""
    (directory / "f.toml").write_text(text)
    said = []
    for name in ("check", "run"):
        done = command(name, "-c", "f.toml", cwd=directory)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        said.append([line.removeprefix("ftpcluster: error: ") for line in done.stderr.splitlines()])
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("key", ["file", "transfers"])
@pytest.mark.parametrize(
    ("path", "why"), [("no/log", "No such file or directory"), ("f.toml/log", "Not a directory")]
)
def test_check_and_run_refuse_a_log_in_no_directory_with_its_line(
    key: str, path: str, why: str, tmp_path: Path
) -> None:
    assert wrong_file(tmp_path, f"\n[log]\n{key} = '{path}'\n") == [
        f"f.toml:3: log.{key}: {tmp_path}/{path}: cannot be opened: {why}; "
        "make its directory, and let the user who starts the server write there"
    ]


def test_a_log_that_is_a_fifo_is_not_opened_by_check(tmp_path: Path) -> None:
    """Whoever reads it would see its end, and end."""
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        (tmp_path / "f.toml").write_text("[log]\nfile = 'log'\n[anonymous]\nroot = '.'\n")
        done = command("check", "-c", "f.toml", cwd=tmp_path)
        assert done.returncode == 0
        assert f"on {tmp_path}/log, a FIFO: the server starts only while somebody" in done.stdout
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        assert poll.poll(0) == []  # POLLHUP, once somebody who wrote is gone
    finally:
        os.close(reader)
    done = command("run", "-c", "f.toml", "--host", "127.0.0.1", "--port", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "log: is a FIFO that nobody reads; start its reader before" in done.stderr


def test_check_and_run_name_the_line_of_a_certificate(tmp_path: Path) -> None:
    assert wrong_file(tmp_path, "[tls]\n\ncertificate = 'no.pem'\n") == [
        f"f.toml:3: tls.certificate: {tmp_path}/no.pem: No such file or directory"
    ]


def test_check_and_run_say_what_metrics_need_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError")
    assert wrong_file(tmp_path, "[metrics]\nlisten = '127.0.0.1:0'\n") == [
        "f.toml:2: metrics.listen: needs prometheus-client: pip install 'ftpcluster[metrics]'"
    ]


@pytest.mark.parametrize("arguments", [(), ("--anonymous",), ("-c", "f.toml", "--anonymous")])
def test_what_nobody_named_is_not_served_where_that_is_the_whole_machine(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """A service is started in “/”."""
    (tmp_path / "f.toml").write_text("workers = 1\n")
    arguments = tuple(str(tmp_path / each) if each == "f.toml" else each for each in arguments)
    done = command("run", "--port", "0", *arguments, cwd=Path("/"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ftpcluster: error: anonymous users would read all of /, where it was started: "
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
        f"ftpcluster: warning: f.toml:{5 * n + 5}: user[{n}].home: {homes[n]} is no directory in "
        f"{root}: make it, or sessions of user{n} begin in a missing directory"
        for n in (1, 2)
    ]


def test_check_says_where_there_is_tls(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    (tmp_path / "f.toml").write_text(
        "[[listen]]\nport = 1\n[[listen]]\nport = 2\ntls = 'implicit'\n"
        "[tls]\ncertificate = 'server.pem'\nrequired = true\nrequired_data = true\n"
        "[anonymous]\nroot = '.'\n"
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
        (
            "mine:Other",
            "server mine:Other: expected a subclass of ftpcluster.Server, got the class Other",
        ),
    ],
)
def test_check_looks_for_what_is_not_ours(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import ftpcluster\nclass Mine(ftpcluster.Server): pass\nclass Other: pass\n"
    )
    (tmp_path / "f.toml").write_text(f"server = '{name}'\n[anonymous]\nroot = '.'\n")
    done = command("check", "-c", "f.toml", cwd=tmp_path)
    assert done.returncode == (2 if said else 0)
    assert done.stderr.startswith(f"ftpcluster: error: {said}" if said else "")


def test_check_looks_at_the_environment_and_says_which_variables_there_are(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("[limits]\nconnections = 5\n[anonymous]\nroot = '.'\n")
    variables = {"FTPCLUSTER__LIMITS__CONNECTIONS": "7", "FTPCLUSTER__WORKERS": "3"}
    done = command("check", "-c", "f.toml", cwd=tmp_path, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "limits of the server: connections 7" in done.stdout
    assert done.stdout.splitlines()[-1] == (
        "from the environment: FTPCLUSTER__LIMITS__CONNECTIONS, FTPCLUSTER__WORKERS"
    )


def test_check_looks_at_the_environment_alone_where_the_usual_file_is_missing(
    tmp_path: Path,
) -> None:
    (tmp_path / "pub").mkdir()
    variables = {"FTPCLUSTER__ANONYMOUS__ROOT": "pub", "FTPCLUSTER__LIMITS__CONNECTIONS": "7"}
    done = command("check", cwd=tmp_path, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"anonymous: {tmp_path}/pub; / read; no limits" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == (
        "from the environment alone, as there is no ftpcluster.toml: "
        "FTPCLUSTER__ANONYMOUS__ROOT, FTPCLUSTER__LIMITS__CONNECTIONS"
    )
    done = command("check", "-c", "f.toml", cwd=tmp_path, env=variables)
    assert (done.returncode, done.stdout) == (2, "")
    (tmp_path / "ftpcluster.toml").write_text("workers = 0\n")
    done = command("check", cwd=tmp_path, env=variables)
    assert done.stderr.startswith("ftpcluster: error: ftpcluster.toml:1: workers: ")


def test_check_warns_of_a_variable_that_has_no_effect(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("[anonymous]\nroot = '.'\n")
    variables = {"FTPCLUSTER_LIMITS_CONNECTIONS": "7"}
    done = command("check", "-c", "f.toml", cwd=tmp_path, env=variables)
    assert done.returncode == 0
    assert done.stderr == (
        "ftpcluster: warning: FTPCLUSTER_LIMITS_CONNECTIONS: has no effect; did you mean "
        "FTPCLUSTER__LIMITS__CONNECTIONS?\n"
    )


@pytest.mark.parametrize("name", ["check", "run"])
def test_check_and_run_name_the_variable_whose_value_is_wrong(name: str, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text("[anonymous]\nroot = '.'\n")
    variables = {"FTPCLUSTER__LIMITS__CONNECTIONS": "many", "FTPCLUSTER__LIMIT__UPLOAD": "1"}
    done = command(name, "-c", "f.toml", cwd=tmp_path, env=variables)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "ftpcluster: error: FTPCLUSTER__LIMIT__UPLOAD: unknown key; did you mean "
        "FTPCLUSTER__LIMITS__UPLOAD?",
        "ftpcluster: error: FTPCLUSTER__LIMITS__CONNECTIONS: expected a whole number, at least 1, "
        'got "many"',
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is warned")
def test_root_is_warned_where_nobody_else_is_to_serve(tmp_path: Path) -> None:
    """`run` says the same: it loads the configuration with the same function."""
    file = tmp_path / "ftpcluster.toml"
    file.write_text("[anonymous]\nroot = '/usr'\n")
    done = command("check", cwd=tmp_path, as_root=True)
    assert (done.returncode, done.stderr) == (0, AS_ROOT)
    file.write_text("run_as = 'nobody'\n[anonymous]\nroot = '/usr'\n")
    done = command("check", cwd=tmp_path, as_root=True)
    assert "run_as is not set" not in done.stderr


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


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def warnings_of_check(directory: Path, *, mode: int, group: str, password: str) -> list[str]:
    """What is said of a file of root's in ``directory`` that ``nobody:daemon`` is to serve by."""
    file = directory / "f.toml"
    file.write_text(
        f"run_as = 'nobody:daemon'\n[[user]]\nlogin = 'a'\npassword = '{password}'\nroot = '/usr'\n"
    )
    shutil.chown(file, "root", group)
    file.chmod(mode)
    done = command("check", "-c", str(file), cwd=directory)
    assert done.returncode == 0, done.stderr
    said = done.stderr.replace(str(file), "FILE")
    return [line.removeprefix("ftpcluster: warning: FILE: ") for line in said.splitlines()]


MEND = "`chgrp daemon FILE && chmod 640 FILE`"
UNREADABLE = (
    f'"nobody" (run_as) may not read it, so every reload would fail; {MEND}, in a directory that '
    '"nobody" may enter'
)


@needs_root
@pytest.mark.parametrize(
    ("mode", "group", "password", "said"),
    [
        (0o640, "daemon", f"plain:{SECRET}", []),
        (0o640, "daemon", HASH, []),
        (0o644, "daemon", f"plain:{SECRET}", [f"others may read the passwords in it; {MEND}"]),
        (0o644, "root", HASH, [f"others may read the password hashes in it; {MEND}"]),
        (0o600, "daemon", HASH, [UNREADABLE]),
    ],
)
def test_who_serves_has_to_be_able_to_read_the_file_and_others_not(
    mode: int, group: str, password: str, said: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        assert warnings_of_check(Path(name), mode=mode, group=group, password=password) == said


@needs_root
def test_a_key_that_its_server_may_not_read_is_warned_of() -> None:
    """The start reads it as root; each reload would fail, of a renewed certificate, too."""
    issued = trustme.CA().issue_cert("localhost")
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        here.chmod(0o711)
        issued.private_key_pem.write_to_path(str(here / "key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(here / "cert.pem"))
        (here / "f.toml").write_text(
            "run_as = 'nobody:daemon'\n[tls]\ncertificate = 'cert.pem'\nkey = 'key.pem'\n"
            "[anonymous]\nroot = '/usr'\n"
        )
        for file, mode in (("f.toml", 0o644), ("cert.pem", 0o644), ("key.pem", 0o600)):
            (here / file).chmod(mode)
        done = command("check", "-c", "f.toml", cwd=here)
    said = UNREADABLE.replace("FILE", f"{here}/key.pem")
    assert done.stderr == f"ftpcluster: warning: {here}/key.pem: {said}\n"


@needs_root
def test_a_file_in_a_directory_that_its_server_may_not_enter_is_warned_of() -> None:
    with tempfile.TemporaryDirectory() as name:  # mode 700
        said = warnings_of_check(Path(name), mode=0o640, group="daemon", password=HASH)
    assert said == [UNREADABLE]


@needs_root
@pytest.mark.parametrize(
    ("directory", "mode", "group", "text"),
    [
        ("root", 0o700, "root", "read this directory; `chmod o+rx {here}/root`"),
        ("root", 0o711, "root", "read this directory; `chmod o+rx {here}/root`"),
        ("root", 0o705, "daemon", "read this directory; `chmod g+rx {here}/root`"),
        (
            "root/it's below",
            0o700,
            "root",
            "enter {here}/root, above it; `chmod o+x {here}/root`, or serve a directory elsewhere",
        ),
    ],
)
def test_a_root_that_its_server_could_not_read_is_refused_by_check_and_run(
    directory: str, mode: int, group: str, text: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        here.chmod(0o711)
        (here / directory).mkdir(parents=True)
        shutil.chown(here / "root", "root", group)
        (here / "root").chmod(mode)
        said = f'"nobody" (run_as), who serves, may not {text.format(here=here)}'
        assert wrong_file(
            here, f'run_as = "nobody:daemon"\n[anonymous]\nroot = "{directory}"\n'
        ) == [f"f.toml:3: anonymous.root: {here / directory}: {said}"]
        flags = ("--port", "0", "--run-as", "nobody:daemon", "--root", directory)
        done = command("run", *flags, cwd=here)
        assert done.returncode == 2
        assert done.stderr == f"ftpcluster: error: --root {directory}: {said}\n"


@needs_root
def test_a_root_that_its_server_could_not_make_at_a_login_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        here.chmod(0o711)
        (here / "srv").mkdir()
        text = 'run_as = "nobody:daemon"\n[anonymous]\nroot = "srv/new"\ncreate_home = true\n'
        (here / "f.toml").write_text(f"roots = ['srv']\n{text}")
        done = command("check", "-c", "f.toml", cwd=here)
        assert done.stderr == (
            f'ftpcluster: error: f.toml:4: anonymous.root: {here}/srv/new: "nobody" (run_as), '
            f"who serves, may not make it in {here}/srv; `chown nobody {here}/srv`\n"
        )
        shutil.chown(here / "srv", "nobody")
        done = command("check", "-c", "f.toml", cwd=here)
        assert (done.returncode, done.stderr) == (0, "")


def test_check_says_what_groups_share(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text(
        "[[group]]\nname = 'staff'\nconnections = 4\ndownload = '2MB'\n"
        "download_per_connection = '1MB'\n"
        f"[[user]]\nlogin = 'a'\npassword = '{HASH}'\nroot = '/usr'\ngroup = 'staff'\n"
    )
    said = command("check", "-c", "f.toml", cwd=tmp_path).stdout.splitlines()
    assert "group staff, all its users together: connections 4, download 2MB/s" in said
    assert "user a: /usr; / read and write; download per connection 1MB/s; in group staff" in said


def test_check_says_how_to_begin_where_there_is_no_file(tmp_path: Path) -> None:
    done = command("check", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "ftpcluster: error: ftpcluster.toml: there is no such file; "
        "`ftpcluster init ftpcluster.toml` writes one\n"
    )
