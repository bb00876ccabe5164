"""Limits and timeouts of the configuration file, seen by clients of ``run --workers 2 -c FILE``."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftpcluster.admin.client import AdminConnection, OrderRefused
from ftpcluster.admin.requests import Unban
from tests.support.cluster import Cluster, begin_download, fill
from tests.support.configured import configured
from tests.support.dialogue import Dialogue
from tests.support.tree import make_file

USER = "[[user]]\nlogin = 'user'\npassword = 'plain:12345'\nroot = 'root'\n"


@pytest.fixture
def directory(root: Path) -> Path:
    """Where the file is; the directory that is served is in it."""
    return root.parent


# ---------------------------------------------------------------------- limits


def test_connections_are_limited(directory: Path) -> None:
    with configured(directory, f"{USER}[limits]\nconnections = 3\n") as cluster:
        for client in fill(cluster.port, 3):
            client.sock.close()


def test_connections_of_an_address_are_limited(directory: Path) -> None:
    with configured(directory, f"{USER}[limits]\nconnections_per_address = 2\n") as cluster:
        held = fill(cluster.port, 2)
        with Dialogue(cluster.port, "::1") as other:
            other.logs_in()
        for client in held:
            client.sock.close()


def test_new_connections_and_networks_are_turned_away(directory: Path) -> None:
    text = (
        f"{USER}[limits]\nnew_connections_per_address = '20/h'\n"
        "[ban]\nallow = ['127.0.0.1']\ndeny = ['127.0.9.0/24']\n"
    )
    with configured(directory, text) as cluster:

        def is_refused(source: str) -> bool:
            with Dialogue(cluster.port, source=source, greeting=None) as client:
                code, _ = client.reply()
                assert code == 220 or (code == 421 and client.is_closed())
                return code == 421

        with ThreadPoolExecutor(8) as pool:  # exact, over both workers
            assert [*pool.map(is_refused, ["127.0.0.8"] * 60)].count(False) == 20
            assert not any(pool.map(is_refused, ["127.0.0.1"] * 30))
            assert all(pool.map(is_refused, ["127.0.9.1"] * 3))
        cluster.wait_for(re.compile(r"refused \d+ connections? \(too often\).* 127.0.0.8"))
        cluster.wait_for(re.compile(r"refused \d+ connections? \(denied\).* 127.0.9.1"))
        with contextlib.closing(AdminConnection(cluster.admin)) as admin:
            with pytest.raises(OrderRefused, match=r"denied, with 127\.0\.9\.0/24: change \[ban\]"):
                admin.ask(Unban("127.0.9.1"))
        directory.joinpath("ftpcluster.toml").write_text(USER)
        assert "reloaded: " in cluster.hang_up()
        assert not is_refused("127.0.9.1")
        assert not is_refused("127.0.0.8")


def test_connections_that_have_not_logged_in_are_limited(directory: Path) -> None:
    with configured(directory, f"{USER}[limits]\nconnections_not_logged_in = 2\n") as cluster:
        held = fill(cluster.port, 2)
        held[0].logs_in()
        with Dialogue(cluster.port, greeting=220) as third:
            third.logs_in()
        for client in held:
            client.sock.close()


def test_sessions_of_a_user_are_limited(directory: Path) -> None:
    with configured(directory, f"{USER}connections = 2\n") as cluster:
        clients = [Dialogue(cluster.port) for _ in range(3)]
        for client in clients[:2]:
            client.logs_in()
        clients[2].says("USER user", 331)
        clients[2].says("PASS 12345", 530)
        for client in clients:
            client.sock.close()


SIZE, LIMIT = 120_000, "100KB"
ALONE = SIZE / 100_000 - 0.15  # seconds: what a limit may be behind, and the clock
ANONYMOUS = "[anonymous]\nroot = 'root'\n"


def transfers(cluster: Cluster, login: str, kind: str, count: int) -> float:
    """Seconds for so many transfers at once."""
    clients = [Dialogue(cluster.port) for _ in range(count)]
    try:
        for client in clients:
            client.logs_in(login)

        def transfer(number: int) -> None:
            if kind == "download":
                assert len(clients[number].downloads("RETR file")) == SIZE
            else:
                clients[number].uploads(f"STOR {number}", bytes(SIZE))

        begun = time.monotonic()
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(transfer, range(count)))
        return time.monotonic() - begun
    finally:
        for client in clients:
            client.sock.close()


@pytest.mark.parametrize("kind", ["download", "upload"])
@pytest.mark.parametrize(
    ("login", "text"),
    [
        ("user", f"{USER}[limits]\n"),
        ("user", USER),
        ("anonymous", "permissions = [{ path = '/', write = true }]\n"),
    ],
    ids=["server", "user", "anonymous"],
)
def test_a_speed_is_shared_by_all_whom_it_is_for(
    directory: Path, kind: str, login: str, text: str
) -> None:
    make_file(directory / "root" / "file", SIZE)
    text = ANONYMOUS + text if login == "anonymous" else text
    with configured(directory, f"{text}{kind} = '{LIMIT}'\n") as cluster:
        assert transfers(cluster, login, kind, 2) > 2 * ALONE


@pytest.mark.parametrize("kind", ["download", "upload"])
@pytest.mark.parametrize("text", [f"{USER}[limits]\n", USER], ids=["server", "user"])
def test_the_speed_of_each_connection_is_limited(directory: Path, kind: str, text: str) -> None:
    make_file(directory / "root" / "file", SIZE)
    with configured(directory, f"{text}{kind}_per_connection = '{LIMIT}'\n") as cluster:
        assert transfers(cluster, "user", kind, 1) > ALONE


# ---------------------------------------------------------------------- timeouts


def test_who_does_not_log_in_is_gone_after_the_login_timeout(directory: Path) -> None:
    with configured(directory, f"{USER}[timeouts]\nlogin = 1\n") as cluster:
        with Dialogue(cluster.port) as client:
            client.expects(421)
            assert client.is_closed()


def test_who_does_nothing_is_gone_after_the_idle_timeout(directory: Path) -> None:
    with configured(directory, f"{USER}[timeouts]\nidle = '1s'\n") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            client.expects(421)


def test_a_data_connection_is_awaited_for_the_data_timeout(directory: Path) -> None:
    with configured(directory, f"{USER}[timeouts]\ndata = 1\n") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            client.epsv()
            client.says("NLST", 150)
            client.expects(425)


def test_a_transfer_that_does_not_move_ends_after_the_stalled_timeout(directory: Path) -> None:
    make_file(directory / "root" / "file", 16 << 20)
    with configured(directory, f"{USER}[timeouts]\nstalled = 1\n") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            with begin_download(client, "file"):
                client.expects(426)


def test_transfers_have_the_shutdown_timeout_when_the_server_stops(directory: Path) -> None:
    """With the default it would be 30 seconds, after which nobody waits here."""
    make_file(directory / "root" / "file", 16 << 20)
    with configured(directory, f"{USER}[timeouts]\nshutdown = 1\n") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            with begin_download(client, "file"):
                begun = time.monotonic()
                assert cluster.stop(signal.SIGTERM) == 0
                assert time.monotonic() - begun < 20
            assert client.expects(421) == "421 The server is shutting down."
    told = re.compile(r'WARNING .* user: RETR "/file": cut: The server is shutting down, \d+ bytes')
    assert told.search(cluster.log)


def test_a_file_above_the_digest_size_of_the_file_has_none(root: Path) -> None:
    (root / "large").write_bytes(b"x" * 2001)
    (root / "small").write_bytes(b"x" * 2000)
    text = "[limits]\ndigest_size = '2kB'\n[[user]]\nlogin = 'user'\npassword = 'plain:12345'\n"
    with configured(root.parent, f"{text}root = 'root'\n") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            assert "2000 bytes" in client.says("HASH large", 550)
            client.says("HASH small", 213)
