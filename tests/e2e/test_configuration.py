"""What each key of the configuration file does, seen by clients of ``run --workers 2 -c FILE``."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.passwords import hash_password
from tests.support.cluster import Cluster, loop_of, until
from tests.support.configured import configured, ports
from tests.support.dialogue import DEADLINE, Dialogue

SECRET = "s3cr3t"
USER = "[[user]]\nlogin = 'user'\npassword = 'plain:12345'\nroot = 'root'\n"


@pytest.fixture
def directory(root: Path) -> Path:
    """Where the file is; the directory that is served is in it."""
    return root.parent


# ---------------------------------------------------------------------- the server


def test_workers_are_as_many_as_the_file_says(directory: Path) -> None:
    with configured(directory, f"workers = 3\n{USER}", workers=()) as cluster:
        assert len(cluster.workers()) == 3
        assert "(3 workers)" in cluster.log


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_loop_is_the_one_that_the_file_names(directory: Path, loop: str) -> None:
    with configured(directory, f"loop = '{loop}'\n{USER}") as cluster:
        for pid in (cluster.pid, *cluster.workers()):
            assert loop_of(pid) == loop


def test_clients_are_greeted_with_the_welcome_of_the_file(directory: Path) -> None:
    with configured(directory, f"welcome = 'Grüße from files.example.com'\n{USER}") as cluster:
        with Dialogue(cluster.port, greeting=None) as client:
            assert client.expects(220) == "220 Grüße from files.example.com"


MINE = """
import ftpcluster

class Mine(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, welcome_message="mine", rename_replaces=False)

class Guests(ftpcluster.AbstractUserManager):
    async def get_user(self, login):
        return self.GetUserResponse.OK, ftpcluster.User(login, base_path="root"), ""

    async def authenticate(self, user, password):
        return True
"""


def test_a_server_class_gets_the_users_and_fills_what_the_file_leaves_open(directory: Path) -> None:
    (directory / "mine.py").write_text(MINE)
    (directory / "root" / "old").touch()
    (directory / "root" / "new").touch()
    text = "server = 'mine:Mine'\n[storage]\nrename_replaces = true\n"
    with configured(directory, text + USER, cwd=directory) as cluster:
        with Dialogue(cluster.port, greeting=None) as client:
            assert client.expects(220) == "220 mine"
            client.logs_in()
            client.says("RNFR old", 350)
            client.says("RNTO new", 250)


def test_a_user_manager_knows_the_users(directory: Path) -> None:
    text = "user_manager = 'mine:Guests'\nconfine_allow = { write = ['root'] }\n"
    (directory / "mine.py").write_text(MINE)
    with configured(directory, text, cwd=directory) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("whoever", "whatever")
            client.says("MKD here", 257)
    assert (directory / "root" / "here").is_dir()


def but_for_information(log: str) -> list[str]:
    """The lines but the one that says which Python runs the server."""
    return [line for line in log.splitlines() if " INFO supervisor: Python " not in line]


def test_what_a_file_names_and_cannot_be_imported_is_one_line(directory: Path) -> None:
    (directory / "f.toml").write_text("server = 'no.such:Server'\n")
    cluster = Cluster("-c", str(directory / "f.toml"), "--workers", "2")
    assert cluster.wait() == 2
    (line,) = but_for_information(cluster.log)
    assert line.startswith("ftpcluster: error: server no.such:Server: cannot be imported")


@pytest.mark.parametrize("level", ["debug", "warning"])
def test_as_much_is_logged_as_the_file_says(directory: Path, level: str) -> None:
    with configured(directory, f"[log]\nlevel = '{level}'\n{USER}") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            client.says("USER nobody", 331)
            client.says("PASS wrong", 530)
        cluster.wait_for(re.compile("failed login of 'nobody'"))
    assert ("user: logged in" in cluster.log) == (level == "debug")
    assert ("INFO supervisor: stopping" in cluster.log) == (level == "debug")


def test_a_file_whose_passwords_others_may_read_is_warned_of(directory: Path) -> None:
    (directory / "f.toml").write_text(USER)
    (directory / "f.toml").chmod(0o644)
    with Cluster("-c", str(directory / "f.toml"), "--workers", "2") as cluster:
        warning, ready = but_for_information(cluster.log)
    assert warning.startswith(f"ftpcluster: warning: {directory}/f.toml: others may read")
    assert ready.startswith("ready on ")


# ---------------------------------------------------------------------- listeners


def test_every_listener_listens_on_all_its_addresses(directory: Path) -> None:
    text = (
        f"{USER}[[listen]]\nport = 1\n[[listen]]\naddress = ['127.0.0.2', '::1']\nport = 0\n"
        "[[listen]]\naddress = '127.0.0.3'\nport = 0\n"
    )
    with configured(directory, text, hosts=("127.0.0.1",)) as cluster:
        first, second, same, third = ports(cluster)
        assert second == same
        where = [("127.0.0.1", first), ("127.0.0.2", second), ("::1", second), ("127.0.0.3", third)]
        for host, port in where:
            with Dialogue(port, host) as client:
                client.logs_in()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.4", third), DEADLINE)


def test_only_the_listener_that_says_so_expects_a_proxy(directory: Path) -> None:
    text = (
        f"{USER}[[listen]]\nport = 0\n"
        "[[listen]]\naddress = '127.0.0.1'\nport = 0\nproxy_protocol = ['127.0.0.1/32']\n"
        "[[listen]]\naddress = '127.0.0.1'\nport = 0\nproxy_protocol = ['192.0.2.0/24', '::1']\n"
    )
    with configured(directory, text, hosts=("127.0.0.1",)) as cluster:
        direct, proxied, foreign = ports(cluster)
        with Dialogue(direct) as client:
            assert "Connected from 127.0.0.1" in client.says("STAT", 211)
        with Dialogue(proxied, greeting=None) as client:
            client.send("PROXY TCP4 192.0.2.9 192.0.2.1 50000 21")
            client.expects(220)
            assert "Connected from 192.0.2.9" in client.says("STAT", 211)
        with Dialogue(foreign, greeting=None) as client:
            assert client.is_closed()


# ---------------------------------------------------------------------- data connections


def test_data_ports_and_masquerade_addresses_are_those_of_the_file(directory: Path) -> None:
    text = (
        f"{USER}[data]\nports = '18100-18199'\nmasquerade = '203.0.113.7'\n"
        "masquerade_for = { '192.0.2.0/24' = '203.0.113.8' }\n"
        "[[listen]]\nport = 0\nproxy_protocol = ['127.0.0.1']\n"
    )
    announced = {"198.51.100.1": "203.0.113.7", "192.0.2.9": "203.0.113.8"}
    with configured(directory, text, hosts=("127.0.0.1",)) as cluster:
        for peer, address in announced.items():
            with Dialogue(cluster.port, greeting=None) as client:
                client.send(f"PROXY TCP4 {peer} 127.0.0.1 50000 21")
                client.expects(220)
                client.logs_in()
                for _ in range(3):
                    host, port = client.pasv()
                    assert host == address
                    assert 18100 <= port <= 18199


def test_without_active_mode_port_and_eprt_are_not_there(directory: Path) -> None:
    (directory / "root" / "file").write_bytes(b"content")
    with configured(directory, f"{USER}[data]\nactive = false\n") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            client.says("PORT 127,0,0,1,100,100", 502)
            client.says("EPRT |1|127.0.0.1|50000|", 502)
            features = client.says("FEAT", 211).splitlines()
            assert " EPSV" in features
            assert " EPRT" not in features
            assert client.downloads("RETR file") == b"content"


# ---------------------------------------------------------------------- storage


def test_rename_replaces_no_file_where_the_file_says_so(directory: Path) -> None:
    for name in ("old", "new"):
        (directory / "root" / name).write_text(name)
    with configured(directory, f"{USER}[storage]\nrename_replaces = false\n") as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in()
            client.says("RNFR old", 350)
            client.says("RNTO new", 550)
            client.says("RNFR old", 350)
            client.says("RNTO other", 250)
    assert (directory / "root" / "new").read_text() == "new"


@pytest.mark.parametrize(("umask", "modes"), [("027", (0o640, 0o750)), ("0002", (0o664, 0o775))])
def test_new_files_and_directories_have_the_modes_that_the_umask_leaves(
    directory: Path, umask: str, modes: tuple[int, int]
) -> None:
    text = f"{USER}[storage]\numask = '{umask}'\n"
    with configured(directory, text) as cluster, Dialogue(cluster.port) as client:
        client.logs_in()
        client.uploads("STOR file", b"content")
        client.says("MKD inner", 257)
        made = [(directory / "root" / name).stat().st_mode & 0o7777 for name in ("file", "inner")]
    assert tuple(made) == modes


# ---------------------------------------------------------------------- accounts

ANONYMOUS = "[anonymous]\nroot = 'root'\n"
ACCOUNTS = f"""
[[user]]
login = "alice"
password = "HASH"
root = "homes/{{login}}"
home = "/in"
permissions = [
  {{ path = "/", read = true, write = false }},
  {{ path = "/in", read = true, write = true }},
  {{ path = "/in/hidden", read = false, write = false }},
]

[[user]]
login = "bob"
password = "plain:{SECRET}"
root = "homes/{{login}}"

[anonymous]
root = "root"
connections = 2
"""


@pytest.fixture
def accounts(directory: Path) -> Iterator[Cluster]:
    for name in ("alice/in/hidden", "bob"):
        (directory / "homes" / name).mkdir(parents=True)
    (directory / "root" / "file").write_bytes(b"public")
    with configured(directory, ACCOUNTS.replace("HASH", hash_password(SECRET))) as cluster:
        yield cluster
    assert SECRET not in cluster.log


def test_accounts_have_their_directories_and_permissions(
    accounts: Cluster, directory: Path
) -> None:
    with Dialogue(accounts.port) as alice:
        alice.logs_in("alice", SECRET)
        assert '"/in"' in alice.says("PWD", 257)
        alice.uploads("STOR file", b"alice's")
        alice.says("MKD /made", 550)
        alice.says("CWD /in/hidden", 550)
        alice.says("MKD /in/hidden/made", 550)
        assert set(alice.downloads("NLST /").split()) == {b"/in"}
    assert (directory / "homes" / "alice" / "in" / "file").read_bytes() == b"alice's"
    with Dialogue(accounts.port) as bob:
        bob.logs_in("bob", SECRET)
        bob.says("MKD /made", 257)
    assert (directory / "homes" / "bob" / "made").is_dir()
    with Dialogue(accounts.port) as other:
        other.says("USER bob", 331)
        other.says("PASS plain:" + SECRET, 530)


def test_anonymous_users_read_and_count_together_by_whatever_name(accounts: Cluster) -> None:
    clients = [Dialogue(accounts.port) for _ in range(3)]
    for client, name in zip(clients, ("anonymous", "ftp"), strict=False):
        client.logs_in(name, "me@example.org")
        assert client.downloads("RETR file") == b"public"
        client.says("DELE file", 550)
    clients[2].says("USER ftp", 331)
    clients[2].says("PASS me@example.org", 530)
    clients[0].says("QUIT", 221)
    assert clients[0].is_closed()
    until(lambda: is_let_in(clients[2]))
    for client in clients:
        client.sock.close()


def is_let_in(client: Dialogue) -> bool:
    """A slot that was given back just now may still be on its way."""
    client.says("USER ftp", 331)
    client.send("PASS me@example.org")
    return client.reply()[0] == 230


def test_a_named_account_may_be_called_ftp_beside_anonymous_users(directory: Path) -> None:
    text = f"{ANONYMOUS}[[user]]\nlogin = 'ftp'\npassword = 'plain:12345'\nroot = 'root'\n"
    with configured(directory, text) as cluster:
        with Dialogue(cluster.port) as client:
            client.logs_in("ftp", "12345")
            client.says("MKD made", 257)
        with Dialogue(cluster.port) as client:
            client.logs_in("anonymous", "any")
            client.says("RMD made", 550)


# ---------------------------------------------------------------------- the environment


def test_variables_win_over_the_file_also_after_a_reload_and_no_worker_has_them(
    directory: Path,
) -> None:
    text = "welcome = 'of the file'\n[timeouts]\nidle = '5m'\n"
    variables = {
        "FTPCLUSTER__WELCOME": "of the environment",
        "FTPCLUSTER__USER__0__LOGIN": "user",
        "FTPCLUSTER__USER__0__PASSWORD": f"plain:{SECRET}",
        "FTPCLUSTER__USER__0__ROOT": str(directory / "root"),
    }
    with configured(directory, text, env=variables) as cluster:
        for _ in range(2):
            with Dialogue(cluster.port, greeting=None) as client:
                assert client.expects(220) == "220 of the environment"
                client.logs_in("user", SECRET)
                # the one that serves: those of before a reload are about to end
                worker = cluster.worker_of(client.sock)
                assert b"FTPCLUSTER__" not in Path(f"/proc/{worker}/environ").read_bytes()
            assert "not reloaded" not in cluster.hang_up()
    assert SECRET not in cluster.log
