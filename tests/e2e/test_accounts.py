"""Accounts of the configuration file, seen by clients of ``run --workers 2 -c FILE``."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftpcluster.admin.client import AdminConnection, OrderRefused
from ftpcluster.admin.requests import ChangedUser, Done
from tests.support.cluster import Cluster, begin_download, until
from tests.support.configured import configured
from tests.support.dialogue import Dialogue, rest_of

FILE = """
users = "users.d/*.toml"
[user_defaults]
root = "{login}"
[[group]]
name = "staff"
connections = 2
[[user]]
login = "a"
password = "plain:x"
group = "staff"
[[user]]
login = "b"
password = "plain:x"
group = "staff"
[[user]]
login = "alone"
password = "plain:x"
root = "a"
[[user]]
login = "disabled"
password = "plain:x"
root = "a"
enabled = false
[[user]]
login = "damaged"
password = "$6$x"
root = "a"
"""
ALICE = '[[user]]\nlogin = "alice"\npassword = "plain:x"\nroot = "files"\n'
OTHER = '[[user]]\nlogin = "other"\npassword_file = "secret"\nroot = "../a"\n'


def test_accounts_of_all_kinds_are_served_or_refused_with_a_reason(tmp_path: Path) -> None:
    for name in ("a", "b", "users.d"):
        (tmp_path / name).mkdir()
    (tmp_path / "users.d/other.toml").write_text(OTHER)
    (tmp_path / "users.d/secret").write_text("hidden\n")
    with configured(tmp_path, FILE) as cluster:
        for login, password in (("other", "hidden"), ("alone", "x")):
            with Dialogue(cluster.port) as client:
                client.logs_in(login, password)
        for login in ("disabled", "damaged", "nobody"):
            with Dialogue(cluster.port) as client:
                client.says(f"USER {login}", 331)
                client.says("PASS x", 530)
        log = cluster.log
    assert "failed login of 'disabled' from 127.0.0.1: the account is disabled" in log
    why = f"{tmp_path}/ftpcluster.toml:27: user[4].password: is"
    assert f"failed login of 'damaged' from 127.0.0.1: {why}" in log


def test_the_users_of_a_group_share_its_connections_over_all_workers(tmp_path: Path) -> None:
    """“`connections` … of a group are totals of its users”; “Group full: 530”"""
    for name in ("a", "b", "users.d"):
        (tmp_path / name).mkdir()
    with configured(tmp_path, FILE) as cluster:
        clients = [Dialogue(cluster.port) for _ in range(5)]
        clients[0].logs_in("a", "x")
        clients[1].logs_in("b", "x")
        for login in ("a", "b"):
            clients[2].says(f"USER {login}", 331)
            clients[2].says("PASS x", 530)
        clients[3].logs_in("alone", "x")
        clients[0].says("QUIT", 221)
        clients[0].sock.recv(1)
        clients[4].logs_in("b", "x")
        for client in clients:
            client.sock.close()


@pytest.mark.parametrize("kind", ["download", "upload"])
def test_the_users_of_a_group_share_its_speed_over_all_workers(tmp_path: Path, kind: str) -> None:
    """“`download`, `upload` … of a group are totals of its users, beside each user's own.”"""
    (tmp_path / "files").mkdir()
    (tmp_path / "files/file").write_bytes(bytes(120_000))
    users = "".join(
        ALICE.replace("alice", login) + 'group = "staff"\n' for login in ("alice", "bob")
    )
    group = f'[[group]]\nname = "staff"\n{kind} = "100KB"\n'
    with configured(tmp_path, users + group) as cluster, ThreadPoolExecutor(2) as pool:
        clients = [Dialogue(cluster.port), Dialogue(cluster.port)]
        assert len({cluster.worker_of(client.sock) for client in clients}) == 2

        def transfer(client: Dialogue, login: str) -> None:
            with client:
                client.logs_in(login, "x")
                if kind == "download":
                    assert len(client.downloads("RETR file")) == 120_000
                else:
                    client.uploads(f"STOR {login}", bytes(120_000))

        begun = time.monotonic()
        list(pool.map(transfer, clients, ("alice", "bob")))
        assert time.monotonic() - begun > 2.25  # each alone would take 1.2 s


# ---------------------------------------------------------------------- changes while it serves


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration whose users stand in other files; alice is one of them."""
    for name in ("files", "users.d"):
        (tmp_path / name).mkdir()
    (tmp_path / "files/file").write_bytes(bytes(16 << 20))
    (tmp_path / "files/small").write_bytes(b"x" * 4096)
    (tmp_path / "users.d/alice.toml").write_text(ALICE.replace("files", "../files"))
    return tmp_path


def write(site: Path, login: str, keys: str = "") -> None:
    text = ALICE.replace("alice", login).replace("files", "../files")
    (site / f"users.d/{login}.toml").write_text(text + keys)


def reloads_in_place(cluster: Cluster) -> None:
    before = cluster.workers()
    line = cluster.hang_up()
    assert "no worker was replaced" in line, line
    assert cluster.workers() == before


def test_users_are_added_changed_and_removed_without_replacing_a_worker(site: Path) -> None:
    """“No worker is replaced, no transfer of anybody else notices.”"""
    with configured(site, 'users = "users.d/*.toml"\n') as cluster:
        alice, witness = Dialogue(cluster.port), Dialogue(cluster.port)
        alice.logs_in("alice", "x")
        write(site, "bob")
        reloads_in_place(cluster)
        witness.logs_in("bob", "x")
        data = begin_download(witness, "file")

        write(site, "alice", 'permissions = [{ path = "/", read = false }]\n')
        reloads_in_place(cluster)
        alice.says("SIZE file", 550)

        write(site, "alice", 'forbid = ["file"]\n')
        reloads_in_place(cluster)
        alice.says("SIZE file", 550)
        alice.says("SIZE small", 213)

        write(site, "alice", "enabled = false\n")
        reloads_in_place(cluster)
        assert alice.line() == "421 This account was disabled."
        alice.sock.close()
        with Dialogue(cluster.port) as other:
            other.says("USER alice", 331)
            other.says("PASS x", 530)

        write(site, "alice")
        reloads_in_place(cluster)
        with Dialogue(cluster.port) as other:
            other.logs_in("alice", "x")
            (site / "users.d/alice.toml").unlink()
            reloads_in_place(cluster)
            assert other.line() == "421 This account was removed."
        with data, witness:
            assert len(rest_of(data)) == 16 << 20
    assert "Traceback" not in cluster.log


def test_a_broken_change_ends_the_sessions_of_its_user_alone(site: Path) -> None:
    with configured(site, 'users = "users.d/*.toml"\n') as cluster:
        write(site, "bob")
        reloads_in_place(cluster)
        with Dialogue(cluster.port) as alice, Dialogue(cluster.port) as bob:
            alice.logs_in("alice", "x")
            bob.logs_in("bob", "x")
            write(site, "alice", "download = 'fast'\n")
            reloads_in_place(cluster)
            assert alice.line() == "421 This account cannot be used any more."
            bob.says("NOOP", 200)


def test_users_who_are_all_gone_at_once_stay_until_a_restart(site: Path) -> None:
    """Their storage may not be mounted. One who is removed by command is gone all the same."""
    with configured(site, 'users = "users.d/*.toml"\n') as cluster:
        (site / "users.d/alice.toml").rename(site / "alice.toml")
        line = cluster.hang_up()
        assert "not reloaded: " in line
        assert "there were 1 users, and no file is there now" in line
        with Dialogue(cluster.port) as alice:
            alice.logs_in("alice", "x")
            tell(cluster, "alice")
            assert alice.line() == "421 This account was removed."


def test_a_worker_that_starts_later_has_the_accounts_of_today(site: Path) -> None:
    with configured(site, 'users = "users.d/*.toml"\n', workers=("--workers", "1")) as cluster:
        write(site, "bob")
        reloads_in_place(cluster)
        (worker,) = cluster.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: cluster.workers() not in ([], [worker]))
        with Dialogue(cluster.port) as client:
            client.logs_in("bob", "x")


def test_a_user_whose_directory_workers_may_not_open_gets_new_workers(site: Path) -> None:
    (site / "elsewhere").mkdir()
    with configured(site, 'users = "users.d/*.toml"\n') as cluster:
        text = ALICE.replace("alice", "bob").replace("files", "../elsewhere")
        (site / "users.d/bob.toml").write_text(text)
        assert "reloaded" in cluster.hang_up()
        with Dialogue(cluster.port) as client:
            client.logs_in("bob", "x")
            client.says("MKD a", 257)


@pytest.mark.parametrize("key", ['roots = ["."]', '[user_defaults]\nroot = "{login}"'])
def test_a_user_beneath_the_roots_needs_no_new_worker(site: Path, key: str) -> None:
    with configured(site, f'users = "users.d/*.toml"\n{key}\n') as cluster:
        (site / "users.d/bob.toml").write_text(
            '[[user]]\nlogin = "bob"\npassword = "plain:x"\nroot = "../bob"\ncreate_home = true\n'
        )
        reloads_in_place(cluster)
        with Dialogue(cluster.port) as client:
            client.logs_in("bob", "x")
            client.says("MKD a", 257)


def test_new_speed_limits_hold_for_running_transfers(site: Path) -> None:
    """“it takes effect at once: new limits on running transfers”"""
    with configured(site, 'users = "users.d/*.toml"\n') as cluster:
        write(site, "alice", 'download = "1MB"\n')
        reloads_in_place(cluster)
        with Dialogue(cluster.port) as alice:
            alice.logs_in("alice", "x")
            data = begin_download(alice, "file")
            write(site, "alice")
            reloads_in_place(cluster)
            began = time.monotonic()
            with data:
                assert len(rest_of(data)) == 16 << 20
            assert time.monotonic() - began < 10  # at 1 MB/s it would take 16 s


# ---------------------------------------------------------------------- one user alone


def tell(cluster: Cluster, login: str) -> str:
    """What the server answers when it hears that a user's file has changed."""
    with contextlib.closing(AdminConnection(cluster.admin)) as connection:
        answer = connection.ask(ChangedUser(login))
    assert isinstance(answer, Done)
    return answer.text


def test_a_user_s_file_is_used_when_the_server_is_told_of_it(site: Path) -> None:
    with configured(site, 'users = "users.d/*.toml"\n') as cluster:
        before = cluster.workers()
        write(site, "bob")
        assert tell(cluster, "bob") == "bob: the change is in force; no worker was replaced"
        with Dialogue(cluster.port) as bob:
            bob.logs_in("bob", "x")
            (site / "users.d/bob.toml").unlink()
            tell(cluster, "bob")
            assert bob.line() == "421 This account was removed."
        assert tell(cluster, "bob") == "bob: nothing has changed"
        assert cluster.workers() == before
        assert "reloading" not in cluster.log


def test_a_change_to_what_cannot_be_used_is_answered_with_the_reason(site: Path) -> None:
    with configured(site, 'users = "users.d/*.toml"\n') as cluster:
        write(site, "bob", "download = 'fast'\n")
        assert "user[0].download: expected bytes per second" in tell(cluster, "bob")
        (site / "ftpcluster.toml").write_text("workers = ")
        with pytest.raises(OrderRefused, match=r"not in force: .*ftpcluster\.toml:1: expected a"):
            tell(cluster, "bob")


def test_a_user_of_another_file_is_not_taken_for_a_removed_one(site: Path) -> None:
    (site / "users.d/alice.toml").rename(site / "users.d/team.toml")
    with configured(site, 'users = "users.d/*.toml"\n') as cluster:
        tell(cluster, "alice")
        with Dialogue(cluster.port) as client:
            client.logs_in("alice", "x")


def test_a_group_that_has_changed_meanwhile_concerns_all_its_users(site: Path) -> None:
    """Then all is read again, as by a reload."""
    group = '[[group]]\nname = "staff"\nconnections = 1\n'
    users = 'users = "users.d/*.toml"\n'
    write(site, "alice", 'group = "staff"\n')
    with configured(site, users + group.replace("1", "2")) as cluster:
        (site / "ftpcluster.toml").write_text(users + group)
        write(site, "bob", 'group = "staff"\n')
        tell(cluster, "bob")
        with Dialogue(cluster.port) as alice, Dialogue(cluster.port) as bob:
            alice.logs_in("alice", "x")
            bob.says("USER bob", 331)
            bob.says("PASS x", 530)


@pytest.mark.slow
def test_a_thousand_changes_under_clients_that_transfer_all_the_time(site: Path) -> None:
    """“under 12 clients that transfer all the time, 1,000 additions, changes and removals by
    command without one transfer noticing”"""
    stop = threading.Event()
    counts: list[int] = []

    def transfer() -> None:
        count = 0
        with Dialogue(cluster.port) as client:
            client.logs_in("alice", "x")
            while not stop.is_set():
                assert client.downloads("RETR small") == b"x" * 4096
                count += 1
        counts.append(count)

    with configured(site, 'users = "users.d/*.toml"\n') as cluster:
        before = cluster.workers()
        with ThreadPoolExecutor(12) as pool:
            clients = [pool.submit(transfer) for _ in range(12)]
            try:
                for number in range(1000):
                    login = f"user{number % 50}"
                    file = site / f"users.d/{login}.toml"
                    if number % 3 == 2:
                        file.unlink(missing_ok=True)
                    else:
                        write(site, login, f"connections = {number + 1}\n")
                    tell(cluster, login)
            finally:
                stop.set()
            for client in clients:
                client.result()
        assert cluster.workers() == before
    assert min(counts) > 1
