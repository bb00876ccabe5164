"""What is wrong on the command line is said in one line, and nothing starts."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.support.command import command

SECRET = "s3cr3t"

# without these a process of root may do what its files' modes and low ports say: little
_WITHOUT_PRIVILEGES = """
import ctypes, os, sys
for capability in (1, 2, 10):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails where it has none
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def run(*arguments: str | bytes, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """``python -m ftpcluster …`` to its end, which has to come soon."""
    if not prefix:
        return command(*arguments)
    return subprocess.run(
        [sys.executable, *prefix, "-m", "ftpcluster", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60,
        check=False,
    )


def complaint(*arguments: str | bytes, prefix: tuple[str, ...] = ()) -> str:
    """The one line that a command with something wrong ends with."""
    done = run(*arguments, prefix=prefix)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("ftpcluster: error: ")
    assert "Traceback" not in line
    assert SECRET not in line
    return line


RUN = ("run", "--host", "127.0.0.1", "--port", "0")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--workers", "0"), ["--workers 0", "from 1 to 1024"]),
        (("--workers", "-1"), ["--workers -1", "from 1 to 1024"]),
        (("--workers", "many"), ["--workers", "many"]),
        (("--port", "65536"), ["--port 65536", "0 to 65535"]),
        (("--port", "-1"), ["--port -1", "0 to 65535"]),
        (("--port", "ftp"), ["--port", "ftp"]),
        (("--max-connections", "0"), ["--max-connections 0", "at least 1"]),
        (("--root", "/no/such/directory"), ["--root /no/such/directory", "no such directory"]),
        (("--root", "/dev/null"), ["--root /dev/null", "not a directory"]),
        (("--root", "/dev/null/below"), ["--root /dev/null/below"]),
        (("--root", "/" + "x" * 300), ["--root /xxx"]),
        (("--root", b"/no/\xff\n"), ["--root", "no such directory"]),
        (("--user", "alice"), ["--user alice", "no password", "FTPCLUSTER_USER_ALICE"]),
        (("--user", "alice:"), ["--user alice", "empty"]),
        (("--user", f":{SECRET}"), ["--user", "NAME:PASSWORD"]),
        (("--user", f"two words:{SECRET}"), ["--user", "NAME:PASSWORD"]),
        (("--user", f"{SECRET} "), ["--user", "NAME:PASSWORD"]),
        (("--user", f"bell\a:{SECRET}"), ["--user", "NAME:PASSWORD"]),
        (("--user", ""), ["--user", "NAME:PASSWORD"]),
        (("--user", f"bob:{SECRET}", "--user", f"bob:{SECRET}2"), ["--user bob", "twice"]),
        (("--data-ports", "x"), ["--data-ports x", "50000-50999"]),
        (("--data-ports", "50000"), ["--data-ports 50000", "50000-50999"]),
        (("--data-ports", "50009-50000"), ["--data-ports 50009-50000", "lower one first"]),
        (("--data-ports", "0-9"), ["--data-ports 0-9", "1 to 65535"]),
        (("--data-ports", "65000-65536"), ["--data-ports 65000-65536", "1 to 65535"]),
        (("--data-ports", "50000-50002", "--workers", "4"), ["3 ports", "4 workers"]),
        (("--masquerade", "no name"), ["--masquerade no name", "203.0.113.7", "host name"]),
        (("--masquerade", "10.0.0.0/8=1.2.3"), ["--masquerade 10.0.0.0/8=1.2.3", "IPv4"]),
        (("--masquerade", "10.0.0.1/8=1.2.3.4"), ["--masquerade 10.0.0.1/8=1.2.3.4", "host bits"]),
        (
            ("--masquerade", "1.2.3.4", "--masquerade", "2.3.4.5"),
            ["--masquerade 2.3.4.5", "given already"],
        ),
        (("--proxy-protocol", "proxy"), ["--proxy-protocol proxy"]),
        (("--masquerade", "::1"), ["--masquerade ::1", "IPv4"]),
        (("--masquerade", "1.2.3.400"), ["--masquerade 1.2.3.400", "IPv4"]),
        (("--host", "192.0.2.77"), ["192.0.2.77", "no such address"]),
        (("--host", "2001:db8::77"), ["2001:db8::77", "no such address"]),
        (("--host", "1.2.3.400"), ["1.2.3.400"]),
        (("--host", ""), ["listen"]),
        (("--loop", "trio"), ["--loop", "trio", "uvloop", "asyncio"]),
        (("--log-level", "loud"), ["--log-level", "loud", "debug"]),
        (("--nonsense",), ["--nonsense", "ftpcluster run --help"]),
        (("surplus",), ["surplus", "ftpcluster run --help"]),
        (("--root",), ["--root"]),
    ],
    ids=lambda value: repr(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_flag_is_named_with_what_to_do(
    arguments: tuple[str | bytes, ...], says: list[str]
) -> None:
    line = complaint(*RUN, *arguments)
    for words in says:
        assert words in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*RUN, "--root", ""), "'--root': expected the path of a directory, got"),
        ((*RUN, "--tls-cert", ""), "'--tls-cert': expected the path of a file, got"),
        (
            (*RUN, "--tls-cert", "x", "--tls-key", ""),
            "'--tls-key': expected the path of a file, got",
        ),
        ((*RUN, "--log-file", ""), "'--log-file': expected the path of a file, got"),
        ((*RUN, "-c", ""), "'--config': expected the path of a file, got"),
        (("check", "-c", ""), "'--config': expected the path of a file, got"),
        (("who", "--socket", ""), "'--socket': expected the path of a file, got"),
        (("init", ""), "'[FILE]': expected the path of a file, got"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(map(repr, value)),
)
def test_an_empty_path_as_of_an_unset_variable_is_not_the_current_directory(
    arguments: tuple[str, ...], says: str
) -> None:
    assert says in complaint(*arguments)


def test_an_unknown_command_is_named() -> None:
    assert "serve" in complaint("serve")


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = complaint("run", "--root", str(tmp_path), "--host", "127.0.0.1", "--port", str(port))
    assert f"127.0.0.1 port {port}: the port is taken" in line
    assert "--port" in line


def test_a_port_for_implicit_tls_that_is_taken_is_named_with_its_flag(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        certificate = ("--tls-cert", str(tmp_path / "server.pem"))
        line = complaint(*RUN, "--root", str(tmp_path), *certificate, "--implicit-tls-port", port)
    assert f"127.0.0.1 port {port}: the port is taken" in line
    assert "--implicit-tls-port" in line


def test_a_log_that_is_a_directory_is_named(tmp_path: Path) -> None:
    line = complaint(*RUN, "--root", str(tmp_path), "--log-file", str(tmp_path))
    assert line == f"ftpcluster: error: --log-file {tmp_path}: is a directory; name a file in it"


def test_a_port_that_is_taken_on_the_second_address_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.2", 0)) as taken:
        port = taken.getsockname()[1]
        hosts = ("--host", "127.0.0.1", "--host", "127.0.0.2")
        line = complaint("run", "--root", str(tmp_path), *hosts, "--port", str(port))
    assert f"127.0.0.2 port {port}: the port is taken" in line


def test_a_directory_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "private"
    directory.mkdir(mode=0)
    line = complaint(*RUN, "--root", str(directory), prefix=("-c", _WITHOUT_PRIVILEGES))
    assert f"--root {directory}: not permitted" in line


def test_a_directory_in_one_that_may_not_be_entered_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "private" / "below"
    directory.mkdir(parents=True)
    directory.parent.chmod(0)
    try:
        line = complaint(*RUN, "--root", str(directory), prefix=("-c", _WITHOUT_PRIVILEGES))
    finally:
        directory.parent.chmod(0o700)
    assert f"--root {directory}" in line


def test_a_directory_behind_a_loop_of_links_is_named(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert f"--root {tmp_path / 'loop'}" in complaint(*RUN, "--root", str(tmp_path / "loop"))


def test_a_low_port_that_is_not_permitted_is_named(tmp_path: Path) -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first < 2:
        pytest.skip("every port is permitted to everybody here")
    port = min(first - 1, 21)
    arguments = ("run", "--root", str(tmp_path), "--host", "127.0.0.1", "--port", str(port))
    line = complaint(*arguments, prefix=("-c", _WITHOUT_PRIVILEGES))
    assert line.startswith(f"ftpcluster: error: --port {port}: port {port} is not permitted; ")


def test_a_password_from_the_environment_may_not_be_empty(tmp_path: Path) -> None:
    password = {"FTPCLUSTER_USER_ALICE": ""}
    done = command(*RUN, "--root", str(tmp_path), "--user", "alice", env=password)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["ftpcluster: error: --user alice: the password is empty"]
