"""Accounts of the configuration file, seen by clients of ``run --workers 2 -c FILE``."""

from __future__ import annotations

from pathlib import Path

from tests.support.configured import configured
from tests.support.dialogue import Dialogue

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
