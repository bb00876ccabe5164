"""What a start would fail with, ``check`` says as well: sockets, logs, addresses."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import environment
from tests.support.command import command
from tests.support.programs import need

USER = '[[user]]\nlogin = "u"\npassword = "plain:p"\nroot = "."\n'
ALL, ONE = "[[listen]]\nport = 2121\n", '[[listen]]\naddress = "127.0.0.1"\nport = 2121\n'
NO_ADMIN = "[admin]\nenabled = false\n"
WRONG = {
    "a directory": ('[admin]\nsocket = "sub"\n', "admin.socket: {0}/sub: there is something else"),
    "a file": ('[admin]\nsocket = "file"\n', "admin.socket: {0}/file: there is something else"),
    "a long name": (f'[admin]\nsocket = "{"x" * 120}"\n', "admin.socket: longer than 107 bytes"),
    "no directory": (
        '[admin]\nsocket = "/proc/nowhere/a.sock"\n',
        "admin.socket: /proc/nowhere/a.sock: its directory cannot be made: ",
    ),
    "beneath a file": (
        '[admin]\nsocket = "file/a.sock"\n',
        "admin.socket: {0}/file/a.sock: cannot be used: Not a directory",
    ),
    "a port twice": (ALL + ONE + NO_ADMIN, "listen[1]: port 2121 is that of listen[0], too, and "),
    "a port twice, the other way": (ONE + ALL + NO_ADMIN, "listen[1]: port 2121 is that of "),
    "another machine's address": (
        ONE.replace("127.0.0.1", "192.0.2.9") + NO_ADMIN,
        "listen[0].address: cannot listen on 192.0.2.9",
    ),
    "a log in the configuration": (
        '[log]\nfile = "ftpcluster.toml"\n',
        "log.file: {0}/ftpcluster.toml: is the configuration, too",
    ),
    "two logs in one file": (
        '[log]\nfile = "log"\ntransfers = "sub/../log"\n',
        "log.transfers: {0}/sub/../log: is log.file, too",
    ),
    "addresses of one listener": (
        '[[listen]]\naddress = ["localhost", "127.0.0.1"]\nport = 2121\n' + NO_ADMIN,
        "listen",
    ),
    "all addresses and one": (
        '[[listen]]\naddress = ["::1", "::"]\nport = 2121\n' + NO_ADMIN,
        "listen",
    ),
    "metrics elsewhere": (NO_ADMIN + '[metrics]\nlisten = "192.0.2.9:9100"\n', "192.0.2.9"),
    "metrics where sessions are": (
        ONE + NO_ADMIN + '[metrics]\nlisten = "127.0.0.1:2121"\n',
        "metrics",
    ),
    "no address for PASV": ('[data]\nmasquerade = "0.0.0.0"\n', "data.masquerade: 0.0.0.0 is no "),
}


@pytest.mark.parametrize("what", WRONG)
def test_check_and_run_refuse_it_alike(what: str, tmp_path: Path) -> None:
    text, said = WRONG[what]
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    file = tmp_path / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(text + USER)
    for verb in ("check", "run"):
        done = command(verb, "-c", str(file))
        assert done.returncode == 2
        assert said.format(tmp_path) in done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "ftpcluster.toml", "sub"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_a_wrong_run_as_makes_nothing_else_wrong(tmp_path: Path) -> None:
    """The directory of the log is that user's, whom the name should have been."""
    (tmp_path / "log").mkdir()
    os.chown(tmp_path / "log", 65534, 65534)
    file = tmp_path / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text('run_as = "nobdy"\n[log]\nfile = "log/a"\ntransfers = "none/b"\n' + USER)
    said = command("check", "-c", str(file)).stderr
    assert [line.partition(": ")[2].split(": ")[1:3] for line in said.splitlines()] == [
        [f"{file}:1", "run_as"],
        [f"{file}:4", "log.transfers"],
    ]


def test_what_can_be_served_is_not_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """Also where a server runs already: its ports and its socket are in use."""
    with socket.socket(socket.AF_UNIX) as there, socket.create_server(("127.0.0.1", 0)) as taken:
        there.bind(str(tmp_path / "there.sock"))
        port = taken.getsockname()[1]
        file = tmp_path / "ftpcluster.toml"
        file.touch(mode=0o600)
        listen = (
            f'[[listen]]\naddress = "127.0.0.1"\nport = {port}\n'
            f'[[listen]]\naddress = "::1"\nport = {port}\n'
        )
        for place in ("there.sock", "a/b/new.sock"):
            file.write_text(f'{listen}[admin]\nsocket = "{place}"\n{USER}')
            done = command("check", "-c", str(file))
            assert (done.returncode, done.stderr) == (0, "")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ftpcluster.toml", "there.sock"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_port_to_listen_on_is_tried(tmp_path: Path, taken: bool) -> None:
    """By one who may not bind it; whoever has it now."""
    if os.geteuid() or int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 900:
        pytest.skip("no port of this machine is for root alone, or we are not root")
    port = reserved_port()
    file = tmp_path / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(ONE.replace("2121", str(port)) + NO_ADMIN + USER)
    with contextlib.ExitStack() as stack:
        if taken:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        without = [need("setpriv"), "--bounding-set=-net_bind_service", sys.executable]
        program = [*without, "-m", "ftpcluster", "check", "-c", str(file)]
        done = subprocess.run(
            program, capture_output=True, text=True, timeout=60, check=False, env=environment({})
        )
        assert done.returncode == 2, done
        assert (
            f"listen[0].port: port {port} is not permitted; start the server as root" in done.stderr
        )
        assert command("check", "-c", str(file)).returncode == 0


def reserved_port() -> int:
    """A port for root alone that is free now."""
    for port in range(899, 600, -1):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    pytest.skip("no port below 900 is free")


def test_a_port_for_active_connections_is_tried(tmp_path: Path) -> None:
    """By one who may not use it. Where only root may is for the system to say."""
    if os.geteuid() or int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 900:
        pytest.skip("no port of this machine is for root alone, or we are not root")
    file = tmp_path / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(ALL + "[data]\nactive_port = 777\n" + NO_ADMIN + USER)
    for verb in ("check", "run"):
        without = [need("setpriv"), "--bounding-set=-net_bind_service", sys.executable]
        program = [*without, "-m", "ftpcluster", verb, "-c", str(file)]
        done = subprocess.run(
            program, capture_output=True, text=True, timeout=60, check=False, env=environment({})
        )
        assert done.returncode == 2, done
        assert "data.active_port: port 777 cannot be used: Permission denied" in done.stderr
    assert command("check", "-c", str(file)).returncode == 0
