"""Steering a running server with the commands, as an administrator does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, begin_download, until
from tests.support.command import command
from tests.support.dialogue import Dialogue, rest_of
from tests.support.kept import Kept
from tests.support.programs import need

CONTENT = os.urandom(16 << 20)
CONFIGURATION = """
workers = 2
[[user]]
login = "alice"
password = "plain:secret"
root = "files"
download = "{download}"
[[user]]
login = "bob"
password = "plain:secret"
root = "files"
download_per_connection = "300kB"
[[user]]
login = "carol"
password = "plain:secret"
root = "files"
"""


def order(
    cluster: Cluster, *arguments: str, status: int = 0, env: dict[str, str] | None = None
) -> str:
    """Run a command against a server; the only line that it prints, wherever."""
    runtime = {"RUNTIME_DIRECTORY": str(Path(cluster.admin).parent)}
    done = command(*arguments, env={**runtime, **(env or {})})
    assert done.returncode == status, done.stdout + done.stderr
    return (done.stdout + done.stderr).removesuffix("\n")


def overview(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(order(cluster, "who", "--json"))
    return found


def sessions_of(cluster: Cluster, user: str) -> list[dict[str, Any]]:
    return [each for each in overview(cluster)["sessions"] if each["user"] == user]


def written(directory: Path, text: str) -> Path:
    """A configuration, and the files that it serves."""
    (directory / "files").mkdir()
    (directory / "files" / "file").write_bytes(CONTENT)
    file = directory / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(text)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path, CONFIGURATION.format(download="1MB"))


@pytest.fixture
def own_cluster(file: Path) -> Iterator[Cluster]:
    """For tests that change limits, which hold until a reload, or the file."""
    with Cluster("-c", str(file)) as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    file = written(tmp_path_factory.mktemp("kept"), CONFIGURATION.format(download="1MB"))
    with Kept(lambda: Cluster("-c", str(file))) as kept:
        yield kept


@pytest.fixture
def cluster(kept: Kept) -> Iterator[Cluster]:
    with kept.lent() as cluster:
        yield cluster


def joins(cluster: Cluster, login: str) -> Dialogue:
    client = Dialogue(cluster.port)
    client.logs_in(login, "secret")
    return client


# ---------------------------------------------------------------------- who


def test_who_shows_workers_and_sessions(cluster: Cluster) -> None:
    with joins(cluster, "carol"), Dialogue(cluster.port):
        until(lambda: len(overview(cluster)["sessions"]) == 2)
        seen = overview(cluster)
        assert seen["listening"][0] == f"127.0.0.1:{cluster.port}"
        assert seen["connections"] == 2
        assert {each["pid"] for each in seen["workers"]} == set(cluster.workers())
        assert [(each["worker"], each["state"]) for each in seen["workers"]] == [
            (1, "serving"),
            (2, "serving"),
        ]
        assert sorted(
            (each["user"], each["address"], each["tls"], each["command"])
            for each in seen["sessions"]
        ) == [("", "127.0.0.1", False, ""), ("carol", "127.0.0.1", False, "")]
        text = order(cluster, "who")
        assert re.search(r"^ftpcluster \S+ on 127\.0\.0\.1:\d+, .*: 2 connections, ", text)
        assert re.search(r"^\d+ +\d +carol +127\.0\.0\.1 +no ", text, re.MULTILINE)
        assert re.search(rf"^1 +{cluster.workers()[0]} +serving +1 ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("login", "reads", "held_by"),
    [("alice", True, "user limit"), ("bob", True, "connection limit"), ("carol", False, "client")],
)
def test_who_says_what_holds_a_transfer_back(
    cluster: Cluster, login: str, reads: bool, held_by: str
) -> None:
    with joins(cluster, login) as client, begin_download(client, "file") as data:

        def look() -> dict[str, Any] | None:
            if reads:
                data.recv(1 << 20)
            (seen,) = sessions_of(cluster, login)
            return seen if seen["held_by"] == held_by else None

        seen = until(look)
        assert (seen["command"], seen["direction"]) == ('RETR "/file"', "download")
        assert seen["size"] == len(CONTENT)
        assert 0 < seen["moved"] < len(CONTENT)


def test_the_server_s_limit_is_told_from_a_user_s(own_cluster: Cluster) -> None:
    order(own_cluster, "limit", "server", "--download", "300kB", "--upload", "none")
    with joins(own_cluster, "alice") as client, begin_download(client, "file") as data:
        until(
            lambda: (
                data.recv(1 << 20)
                and sessions_of(own_cluster, "alice")[0]["held_by"] == "server limit"
            )
        )


def test_a_worker_that_hangs_hides_nobody_else(cluster: Cluster) -> None:
    with joins(cluster, "alice") as one, joins(cluster, "carol") as other:
        stopped = cluster.worker_of(one.sock)
        assert cluster.worker_of(other.sock) != stopped
        os.kill(stopped, 19)
        try:
            assert [each["user"] for each in overview(cluster)["sessions"]] == ["carol"]
        finally:
            os.kill(stopped, 18)
        until(lambda: len(overview(cluster)["sessions"]) == 2)


# ---------------------------------------------------------------------- orders


def test_a_session_is_ended_by_its_number(cluster: Cluster) -> None:
    with joins(cluster, "alice") as one, joins(cluster, "alice") as other:
        number = sorted(each["session"] for each in sessions_of(cluster, "alice"))[0]
        assert order(cluster, "kick", str(number)) == "1 session ended"
        assert one.expects(421) == "421 Closed by the administrator."
        assert one.is_closed()
        other.says("NOOP", 200)
        assert order(cluster, "kick", "9999", status=1).endswith("there is no such session")


def test_a_connection_that_its_worker_has_not_begun_is_ended_by_its_address(
    cluster: Cluster,
) -> None:
    workers = cluster.workers()
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        with Dialogue(cluster.port, greeting=None) as client:
            until(lambda: overview(cluster)["connections"] == 1)
            assert order(cluster, "kick", "127.0.0.1") == "1 session ended"
            for worker in workers:
                os.kill(worker, signal.SIGCONT)
            client.expects(220)
            client.expects(421)
            assert client.is_closed()
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)


def test_a_transfer_whose_client_has_hung_up_is_shown_and_can_be_ended(cluster: Cluster) -> None:
    with Dialogue(cluster.port) as client:
        client.logs_in("carol", "secret")
        with begin_download(client, "file") as data:
            client.sock.close()
            for _ in range(2):  # it stays there
                (session,) = until(lambda: sessions_of(cluster, "carol"))
                assert session["direction"] == "download", session
            assert order(cluster, "kick", "carol") == "1 session ended"
            until(lambda: not sessions_of(cluster, "carol"))
            assert len(rest_of(data)) < len(CONTENT)


@pytest.mark.parametrize("whom", ["alice", "127.0.0.1"])
def test_the_sessions_of_a_user_or_an_address_are_ended_wherever_they_run(
    cluster: Cluster, whom: str
) -> None:
    with joins(cluster, "alice") as one, joins(cluster, "alice") as two:
        with begin_download(one, "file") as data, joins(cluster, "carol") as other:
            count = 2 if whom == "alice" else 3
            assert order(cluster, "kick", whom) == f"{count} sessions ended"
            for client in (one, two):
                client.expects(421)
            while data.recv(1 << 20):
                pass
            if whom == "alice":
                other.says("NOOP", 200)
            else:
                other.expects(421)


def test_who_is_banned_is_thrown_out_and_turned_away_until_that_is_lifted(
    cluster: Cluster,
) -> None:
    with joins(cluster, "alice") as client, begin_download(client, "file") as data:
        with Dialogue(cluster.port, source="127.0.0.9") as other:
            other.logs_in("carol", "secret")
            said = order(cluster, "ban", "127.0.0.1", "--for", "2h", "--reason", "spam [1]")
            assert said == "127.0.0.1 is banned for 7200 s"
            client.expects(421)
            while data.recv(1 << 20):
                pass
            other.says("NOOP", 200)
    with Dialogue(cluster.port, greeting=421) as refused:
        assert refused.is_closed()
    heading, row = order(cluster, "bans").splitlines()
    assert heading.split() == ["ADDRESS", "FOR", "BY", "REASON"]
    assert re.fullmatch(r"127\.0\.0\.1 +1h 59m +hand +spam \[1\] *", row)
    (ban,) = json.loads(order(cluster, "bans", "--json"))["bans"]
    assert 7000 < ban.pop("left") < 7200
    assert ban == {"network": "127.0.0.1", "by_hand": True, "reason": "spam [1]"}
    assert order(cluster, "unban", "127.0.0.1") == "127.0.0.1 is no longer banned"
    with joins(cluster, "alice"):
        pass


def test_bans_outlive_a_reload(own_cluster: Cluster) -> None:
    order(own_cluster, "ban", "127.0.0.0/30")
    order(own_cluster, "reload")
    with Dialogue(own_cluster.port, greeting=421) as refused:
        assert refused.is_closed()
    with Dialogue(own_cluster.port, source="127.0.0.4") as other:
        other.says("NOOP", 200)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("ban", "bob"), 1, 'expected an address such as "192.0.2.7", or a network such as '),
        (("ban", "10.0.0.0/64"), 1, "or a network such as \"192.0.2.0/24\", got '10.0.0.0/64'"),
        (("unban", "bob"), 1, 'expected an address such as "192.0.2.7", or a network such as '),
        (("ban", "10.0.0.1/8"), 1, "10.0.0.1/8 has host bits set; the network is 10.0.0.0/8"),
        (("ban", "10.0.0.1", "--for", "long"), 2, '--for long: expected a time such as "30m"'),
        (("ban", "10.0.0.1", "--for", "0"), 1, "a ban has to last from 1 to 1000000000 s"),
        (("ban", "10.0.0.1", "--for", 400 * "9"), 1, "a ban has to last from 1 to 1000000000 "),
        (("ban", "10.0.0.1", "--reason", "a\nb"), 1, "a reason is one line of at most 200 "),
        (("unban", "10.0.0.1"), 1, "10.0.0.1 is not banned"),
        (("unban", "10.0.0.0/8"), 1, "10.0.0.0/8 is not banned"),
        (("unban", "192.0.2.7"), 1, "192.0.2.7 is still banned, with 192.0.2.0/24"),
    ],
)
def test_a_ban_that_cannot_be_is_refused(
    cluster: Cluster, arguments: tuple[str, ...], status: int, said: str
) -> None:
    order(cluster, "ban", "192.0.2.0/24")
    assert said in order(cluster, *arguments, status=status)
    assert len(json.loads(order(cluster, "bans", "--json"))["bans"]) == 1


def test_a_file_that_has_become_wrong_still_says_where_its_server_is_steered(
    tmp_path: Path,
) -> None:
    (tmp_path / "files").mkdir()
    file = tmp_path / "ftpcluster.toml"
    good = "[admin]\nsocket = 'here.sock'\n[anonymous]\nroot = 'files'\n"
    file.write_text(good)
    with Cluster("-c", str(file), "--workers", "1") as cluster:
        file.write_text(f"wrokers = 0\n{good}[tls]\ncertificate = 'no.pem'\n")
        assert ": 0 connections" in order(cluster, "who", "-c", str(file))
        refused = order(cluster, "reload", "-c", str(file), status=1)
        assert "not reloaded: " in refused
        assert 'did you mean "workers"?' in refused
        file.write_text("[admin]\nsocket = 5\n")
        refused = order(cluster, "who", "-c", str(file), status=2)
        assert f"{file}:2: admin.socket: expected the path of a file, got 5" in refused


def test_limits_change_transfers_that_run(own_cluster: Cluster) -> None:
    with joins(own_cluster, "alice") as client, begin_download(client, "file") as data:
        order(own_cluster, "limit", "alice", "--download", "none", "--upload", "none")
        began, rest = time.monotonic(), 0
        while block := data.recv(1 << 20):
            rest += len(block)
        # with her 1 MB/s it would have taken 16 s
        assert time.monotonic() - began < 8
        client.expects(226)
    assert "an administrator set the speed limits of user alice" in own_cluster.log


def test_limits_of_a_user_who_is_not_there_are_said_to_be_so(cluster: Cluster) -> None:
    said = order(cluster, "limit", "nobody", "--download", "1MB", "--upload", "none")
    assert said.endswith("; nobody of that name is logged in")


NAMES = """
workers = 1
[anonymous]
root = "files"
[[user]]
login = "17"
password = "plain:secret"
root = "files"
[[user]]
login = "server"
password = "plain:secret"
root = "files"
"""


@pytest.fixture
def names(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose users have names that mean something else as well."""
    with Cluster("-c", str(written(tmp_path, NAMES))) as cluster:
        yield cluster


@pytest.mark.parametrize("name", ["ftp", "anonymous"])
def test_anonymous_users_go_by_both_of_their_names(names: Cluster, name: str) -> None:
    with joins(names, "ftp") as client, begin_download(client, "file") as data:
        assert [each["user"] for each in overview(names)["sessions"]] == ["anonymous"]
        said = order(names, "limit", name, "--download", "300kB", "--upload", "none")
        assert said == ("the limits of user anonymous hold from now on, until the next reload")
        until(
            lambda: data.recv(1 << 20) and overview(names)["sessions"][0]["held_by"] == "user limit"
        )
        assert order(names, "kick", name) == "1 session ended"


def test_a_user_whose_name_is_a_number_can_be_named(names: Cluster) -> None:
    with joins(names, "17") as client:
        refused = order(names, "kick", "17", status=1)
        assert refused.endswith("there is no such session; the user of that name is user:17")
        assert order(names, "kick", "user:17") == "1 session ended"
        client.expects(421)


def test_a_user_with_the_name_server_can_be_limited(names: Cluster) -> None:
    with joins(names, "server"):
        said = order(names, "limit", "user:server", "--download", "1MB", "--upload", "none")
        assert said == "the limits of user server hold from now on, until the next reload"
        assert overview(names)["download_limit"] is None
        said = order(names, "limit", "server", "--download", "1MB", "--upload", "none")
        assert said.startswith("the limits of the server hold")
        assert said.endswith("; the user of that name is user:server")
        assert overview(names)["download_limit"] == 1_000_000


def test_who_shows_who_holds_up_a_stop(cluster: Cluster) -> None:
    with joins(cluster, "alice") as client, begin_download(client, "file") as data:
        order(cluster, "stop")
        with pytest.raises(ConnectionRefusedError):
            until(lambda: socket.create_connection(("127.0.0.1", cluster.port)).close())
        seen = overview(cluster)
        assert seen["listening"][0] == f"127.0.0.1:{cluster.port}"
        assert [each["user"] for each in seen["sessions"]] == ["alice"]
        data.close()


@pytest.mark.parametrize("speed", ["fast", "0", "-1"])
def test_a_speed_that_is_none_is_refused(cluster: Cluster, speed: str) -> None:
    said = order(cluster, "limit", "server", f"--download={speed}", "--upload=none", status=2)
    assert said.startswith(f"ftpcluster: error: --download {speed}: expected bytes per second")


def test_a_speed_that_no_worker_could_be_told_is_refused_and_does_no_harm(
    own_cluster: Cluster,
) -> None:
    said = order(own_cluster, "limit", "bob", "--download=100000000TB", "--upload=none", status=2)
    assert said == (
        'ftpcluster: error: --download 100000000TB: is more than "1000TB"; "none" is no limit'
    )
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
        sock.settimeout(20)
        sock.connect(own_cluster.admin)
        for speed in (10**20, 0, -1):
            limit = {"type": "limit", "login": "bob", "download": speed, "upload": None}
            sock.sendall(json.dumps(limit).encode() + b"\n")
            assert json.loads(answers.readline()) == {
                "type": "refused",
                "text": f"a speed has to be from 1 to {10**15} bytes per second",
            }
    assert order(own_cluster, "drain", "1").startswith("another worker 1 starts")
    until(lambda: len(own_cluster.workers()) == 2)
    assert "Traceback" not in own_cluster.log


def test_a_worker_is_drained(own_cluster: Cluster) -> None:
    (first, second) = (each["pid"] for each in overview(own_cluster)["workers"])
    assert order(own_cluster, "drain", "2").startswith("another worker 2 starts")
    until(lambda: second not in own_cluster.workers() and len(own_cluster.workers()) == 2)
    assert first in own_cluster.workers()
    assert "there is no worker 3" in order(own_cluster, "drain", "3", status=1)


def test_a_reload_is_waited_for_and_tells_what_is_wrong(own_cluster: Cluster, file: Path) -> None:
    before = own_cluster.workers()
    assert order(own_cluster, "reload").startswith(f"reloaded: 127.0.0.1:{own_cluster.port}, ")
    assert not set(before) & {
        each["pid"] for each in overview(own_cluster)["workers"] if each["state"] == "serving"
    }
    file.write_text("wokers = 2")
    said = order(own_cluster, "reload", status=1)
    assert said.startswith("ftpcluster: error: not reloaded: ")
    assert "ftpcluster.toml:1: wokers: unknown key" in said


@pytest.mark.parametrize("now", [False, True])
def test_a_server_is_stopped_with_or_without_its_transfers(cluster: Cluster, now: bool) -> None:
    with joins(cluster, "carol") as client, begin_download(client, "file") as data:
        assert order(cluster, "stop", *["--now"] * now).startswith("the server ends")
        received = 0
        try:
            while block := data.recv(1 << 20):
                received += len(block)
        except ConnectionResetError:
            pass
        assert (received == len(CONTENT)) is not now
        assert cluster.wait() == 0
    assert not os.path.exists(cluster.admin)


# ---------------------------------------------------------------------- the socket


def test_where_no_server_runs_the_error_says_so(tmp_path: Path) -> None:
    cluster = Cluster.__new__(Cluster)
    cluster.admin = str(tmp_path / "admin.sock")
    said = order(cluster, "who", status=1)
    assert said == (
        f"ftpcluster: error: no server answers at {tmp_path}/admin.sock; "
        "give the one that is meant: -c FILE or --socket PATH"
    )


def test_only_root_and_the_server_s_user_may(cluster: Cluster) -> None:
    mode = os.stat(cluster.admin).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    # even where the file would let them in
    os.chmod(cluster.admin, 0o666)
    os.chmod(os.path.dirname(cluster.admin), 0o755)
    ask = (
        "import socket; s = socket.socket(socket.AF_UNIX); "
        f"s.connect({cluster.admin!r}); print(s.recv(999).decode())"
    )
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    done = subprocess.run(
        [
            need("setpriv"),
            *["--reuid=nobody", "--regid=nogroup", "--clear-groups"],
            python,
            "-c",
            ask,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        cwd="/",
        check=False,
    )
    assert json.loads(done.stdout) == {
        "type": "refused",
        "text": "only root and the user who started the server may",
    }


@pytest.mark.parametrize(
    "junk",
    [
        b"\n",
        b"{}\n",
        b"who\n",
        b'{"type":"who","x":1}\n',
        b"\xff\n",
        b'{"type":"kick","session":"1"}\n',
    ],
)
def test_what_is_no_request_is_refused(cluster: Cluster, junk: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
        sock.settimeout(20)
        sock.connect(cluster.admin)
        for _ in range(2):
            sock.sendall(junk)
            assert json.loads(answers.readline())["type"] == "refused"
        sock.sendall(b'{"type":"who"}\n')
        assert json.loads(answers.readline())["type"] == "overview"


def test_who_is_connected_does_not_hold_up_a_stop_nor_is_that_an_error(cluster: Cluster) -> None:
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as answers:
        sock.settimeout(20)
        sock.connect(cluster.admin)
        sock.sendall(b'{"type":"stop"}\n')
        assert json.loads(answers.readline())["type"] == "done"
        assert answers.readline() == b""
        assert cluster.wait() == 0


def test_a_line_without_end_ends_that_connection_alone(cluster: Cluster) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(cluster.admin)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            sock.sendall(b"x" * 10_000_000)
    assert overview(cluster)["workers"]


def test_the_file_says_where_the_socket_is_and_whether_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "ftpcluster.toml"
    file.write_text('workers = 1\n[admin]\nsocket = "own/here.sock"\n[anonymous]\nroot = "."\n')
    with Cluster("-c", str(file)) as cluster:
        for arguments in (("-c", str(file)), ("--socket", f"{tmp_path}/own/here.sock")):
            assert "ftpcluster" in order(cluster, "who", *arguments)
        order(cluster, "who", status=1)  # nothing at the usual place
    file.write_text('workers = 1\n[admin]\nenabled = false\n[anonymous]\nroot = "."\n')
    with Cluster("-c", str(file)) as cluster:
        assert not os.path.exists(cluster.admin)


def test_the_socket_of_a_killed_server_is_replaced_that_of_a_living_one_is_not(
    tmp_path: Path,
) -> None:
    file = tmp_path / "ftpcluster.toml"
    file.write_text('workers = 1\n[admin]\nsocket = "sock"\n[anonymous]\nroot = "."\n')
    killed = Cluster("-c", str(file))
    with killed:
        killed.process.kill()
        killed.wait()
    assert (tmp_path / "sock").exists()
    with Cluster("-c", str(file)) as cluster:
        order(cluster, "who", "-c", str(file))
        second = Cluster("-c", str(file))
        assert second.wait() == 2
        assert second.log == (
            f"ftpcluster: error: {tmp_path}/sock: another server has it; "
            "give this one its own: [admin] socket\n"
        )
        order(cluster, "who", "-c", str(file))
    (tmp_path / "sock").write_text("precious")
    third = Cluster("-c", str(file))
    assert third.wait() == 2
    assert "there is something else; remove it, or name another path" in third.log
    assert (tmp_path / "sock").read_text() == "precious"


def test_a_server_s_end_leaves_the_socket_that_another_one_has_put_there(tmp_path: Path) -> None:
    file = tmp_path / "ftpcluster.toml"
    file.write_text('workers = 1\n[admin]\nsocket = "sock"\n[anonymous]\nroot = "."\n')
    with Cluster("-c", str(file)) as first:
        (tmp_path / "sock").unlink()  # by whoever tidies up there
        with Cluster("-c", str(file)) as second:
            first.stop()
            order(second, "who", "-c", str(file))
        assert not (tmp_path / "sock").exists()


def test_a_server_that_hangs_does_not_keep_another_one_waiting(tmp_path: Path) -> None:
    file = tmp_path / "ftpcluster.toml"
    file.write_text('workers = 1\n[admin]\nsocket = "sock"\n[anonymous]\nroot = "."\n')
    path = str(tmp_path / "sock")
    with contextlib.ExitStack() as stack:
        listening, *waiting = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        listening.bind(path)
        listening.listen(0)
        for each in waiting:
            each.settimeout(0)
        waiting[0].connect(path)
        with pytest.raises(BlockingIOError):  # its queue is full
            waiting[1].connect(path)
        second = Cluster("-c", str(file))
        assert second.wait() == 2
        assert "another server has it" in second.log


def test_a_second_server_at_the_usual_place_goes_on_without(tmp_path: Path) -> None:
    with Cluster("--root", str(tmp_path)) as first:
        runtime = {"RUNTIME_DIRECTORY": os.path.dirname(first.admin)}
        with Cluster("--root", str(tmp_path), env=runtime) as second:
            assert "cannot reach this server" in second.log
            with Dialogue(second.port):
                pass
        assert overview(first)["listening"][0] == f"127.0.0.1:{first.port}"


def test_an_order_that_lacks_something_is_refused(cluster: Cluster) -> None:
    said = order(cluster, "limit", "", "--download", "1MB", "--upload", "none", status=2)
    assert said == 'ftpcluster: error: limit "": expected a user, or "server"'
    said = order(cluster, "limit", "alice", "--download", "1MB", status=2)
    assert "limit alice: give both --download and --upload" in said
    said = order(cluster, "kick", "", status=2)
    assert said == 'ftpcluster: error: kick "": expected a session, a user, or an address'


def test_who_does_not_wait_for_a_stopped_server(cluster: Cluster) -> None:
    os.kill(cluster.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        said = order(cluster, "who", status=1)
        assert time.monotonic() - began < 60
    finally:
        os.kill(cluster.pid, signal.SIGCONT)
    why = "its process is stopped, or stuck (its log may say why)"
    assert said.endswith(f"the server at {cluster.admin} has not answered for 10 s: {why}")
    assert "SESSION" in command("who", "--socket", cluster.admin).stdout
