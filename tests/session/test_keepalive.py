"""TCP keepalive on control and data connections: protocol.md, "Data connections"."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from ftpcluster import Server
from tests.session.conftest import Maker
from tests.support.apart import apart
from tests.support.cluster import Cluster
from tests.support.dialogue import DEADLINE, Dialogue
from tests.support.tcp import keepalive_of

DEFAULT = range(50, 61)
"""Seconds until the next probe, of the 60 that are the default: the machine may be busy."""


def passive(client: Dialogue) -> socket.socket:
    return socket.create_connection((client.host, client.epsv()), DEADLINE)


def active(client: Dialogue, command: str) -> socket.socket:
    with socket.create_server((client.host, 0)) as listener:
        listener.settimeout(DEADLINE)
        client.says(f"EPRT |1|{client.host}|{listener.getsockname()[1]}|", 200)
        client.says(command, 150)
        return listener.accept()[0]


def test_control_and_data_connections_are_asked_after_a_minute(
    client: Dialogue, root: Path
) -> None:
    assert keepalive_of(client.sock) in DEFAULT
    with passive(client) as data:
        client.says("STOR passive", 150)
        assert keepalive_of(data) in DEFAULT
        data.sendall(b"x")
    client.expects(226)
    with active(client, "STOR active") as data:
        assert keepalive_of(data) in DEFAULT
        data.sendall(b"x")
    client.expects(226)


@pytest.mark.parametrize(("seconds", "expected"), [(7, 7), (0.5, 1), (0, None), (None, None)])
def test_the_library_has_the_setting(
    serve: Maker, seconds: float | None, expected: int | None
) -> None:
    with Dialogue(serve(keepalive=seconds)) as client:
        client.logs_in()
        assert keepalive_of(client.sock) in (expected, expected and expected - 1)
        with passive(client) as data:
            client.says("STOR passive", 150)
            assert keepalive_of(data) in (expected, expected and expected - 1)
        client.expects(226)
        with active(client, "STOR active") as data:
            assert keepalive_of(data) in (expected, expected and expected - 1)
        client.expects(226)


class Patient(Server):
    """Its class says what the configuration does not."""

    def __init__(self) -> None:
        super().__init__(keepalive=20)


def test_a_reload_changes_it_for_new_connections(tmp_path: Path) -> None:
    file = tmp_path / "ftpcluster.toml"
    text = '[timeouts]\nkeepalive = "{}s"\n[[listen]]\naddress = "127.0.0.1"\nport = 0\n'
    text += f'[anonymous]\nroot = "{tmp_path}"\n'
    file.write_text(text.format(7))
    with Cluster("-c", str(file), "--workers", "2", hosts=None) as cluster:
        with Dialogue(cluster.port) as client:
            assert keepalive_of(client.sock) in (6, 7)
            file.write_text(text.format(30))
            assert " reloaded: " in cluster.hang_up()
            with Dialogue(cluster.port) as another:
                assert keepalive_of(another.sock) in range(25, 31)
            file.write_text(text.format(0))
            assert " reloaded: " in cluster.hang_up()
            with Dialogue(cluster.port) as another:
                assert keepalive_of(another.sock) is None


def test_a_server_class_may_say_it(tmp_path: Path) -> None:
    name = f"{Patient.__module__}:{Patient.__qualname__}"
    accounts = ("--user", "user:12345", "--writable", "--root", str(tmp_path))
    with Cluster("--workers", "2", "--server", name, *accounts) as cluster:
        with Dialogue(cluster.port) as client:
            assert keepalive_of(client.sock) in range(15, 21)
            client.logs_in()
            with passive(client) as data:
                client.says("STOR file", 150)
                assert keepalive_of(data) in range(15, 21)
            client.expects(226)


@pytest.mark.slow
def test_a_firewall_that_forgets_silent_connections_forgets_none() -> None:
    """An upload takes longer than the firewall remembers the control connection."""
    told = json.loads(apart(sys.executable, "-m", "tests.support.forgetful"))
    assert told == {"1": 226, "0": None}
