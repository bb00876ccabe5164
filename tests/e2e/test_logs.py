"""The logs of a production server: their format, their files, and rotation."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, begin_download, until
from tests.support.dialogue import Dialogue
from tests.support.programs import attempt, need
from tests.support.xferlog import parse_all

SECRET = "kilogram-7"
ALICE = f"alice:{SECRET}"


def objects(text: str) -> list[dict[str, Any]]:
    """The whole lines of a JSON log; what is no object fails."""
    lines = text.split("\n")[:-1]
    return [json.loads(line) for line in lines if not line.startswith("ready on ")]


def arguments(root: Path, *more: str) -> list[str]:
    return ["--workers", "2", "--root", str(root), "--user", ALICE, "--writable", *more]


def logs_in(client: Dialogue) -> None:
    client.says("USER alice", 331)
    client.says(f"PASS {SECRET}", 230)


def test_a_json_log_has_what_programs_ask_for_in_fields(tmp_path: Path) -> None:
    with Cluster(*arguments(tmp_path, "--log-format", "json", "--log-level", "debug")) as cluster:
        with Dialogue(cluster.port) as client:
            host, port = client.sock.getsockname()[:2]
            logs_in(client)
            client.uploads("STOR a b", b"12345")
            client.says("RNFR a b", 350)
            client.says("RNTO c", 250)
            client.says("TYPE I", 200)
            client.says("QUIT", 221)
        cluster.wait_for(re.compile("the session ends"))
    found = objects(cluster.log)
    assert {each["process"] for each in found} >= {"supervisor", "worker 1"}
    assert {each["level"] for each in found} >= {"debug", "info"}
    for each in found:
        time = datetime.fromisoformat(each["time"])
        assert time.utcoffset() is not None
        assert re.fullmatch(r"\S+T\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", each["time"])
    of_session = [each for each in found if "session" in each]
    assert {each["peer"] for each in of_session} == {f"{host}:{port}"}
    by_verb = {each["verb"]: each for each in of_session if "verb" in each}
    stored = by_verb["STOR"]
    assert (stored["user"], stored["path"], stored["code"]) == ("alice", "/a b", 226)
    assert stored["bytes"] == 5
    assert 0 <= stored["seconds"] < 60
    assert re.fullmatch(r'STOR "/a b": 226, 5 bytes in \d+\.\d\d s', stored["message"])
    assert (by_verb["RNTO"]["path"], by_verb["RNTO"]["to"]) == ("/a b", "/c")
    assert by_verb["TYPE"]["argument"] == "I"
    assert by_verb["PASS"].keys() == {
        *("time", "level", "process", "message", "session", "peer", "verb", "code")
    }
    assert SECRET not in cluster.log


def test_a_json_log_stays_json_whatever_names_and_errors_there_are(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import ftpcluster\n"
        "class Mine(ftpcluster.Server):\n"
        "    @ftpcluster.command('BUG')\n"
        "    async def bug(self, connection, rest):\n"
        "        raise RuntimeError('unforeseen')\n"
    )
    flags = arguments(tmp_path, "--log-format", "json", "--server", "mine:Mine")
    with Cluster(*flags, env={"PYTHONPATH": str(tmp_path)}) as cluster:
        with Dialogue(cluster.port) as client:
            logs_in(client)
            client.send(b'DELE "\xe9\\\x01\xe2\x80\xa8"')
            assert client.reply()[0] == 550
            client.send("BUG")
            assert client.reply()[0] == 451
        cluster.wait_for(re.compile("unforeseen"))
    found = objects(cluster.log)
    (deleted,) = (each for each in found if each.get("verb") == "DELE")
    assert deleted["path"] == '/"\\udce9\\\x01\u2028"'
    (bug,) = (each for each in found if "traceback" in each)
    assert "RuntimeError: unforeseen" in bug["traceback"].splitlines()[-1]


def test_the_format_changes_with_a_reload(tmp_path: Path) -> None:
    file = tmp_path / "ftpcluster.toml"
    file.write_text("[anonymous]\nroot = '.'\n")
    with Cluster("-c", str(file), "--workers", "1") as cluster:
        file.write_text("log.format = 'json'\n" + file.read_text())
        cluster.process.send_signal(signal.SIGHUP)
        cluster.wait_for(re.compile(r'^\{.*"reloaded: .*\}$', re.MULTILINE))
        with Dialogue(cluster.port) as client:
            client.says("USER ftp", 331)
            client.says("PASS x", 230)
        until(lambda: '"message":"logged in"' in cluster.log)


def test_who_wants_warnings_only_is_told_of_a_disk_that_fails(tmp_path: Path) -> None:
    flags = arguments(tmp_path, "--log-level", "warning", "--server", "tests.support.disks:Local")
    with Cluster(*flags) as cluster, Dialogue(cluster.port) as client:
        logs_in(client)
        client.uploads("STOR good", b"12345")
        client.uploads("STOR write-ENOSPC", b"12345", 452)
        told = cluster.wait_for(re.compile(r"^.* STOR .*$", re.MULTILINE)).group()
    assert re.search(r'WARNING worker \d: \[\d+\] \S+ alice: STOR "/write-ENOSPC": 452 ', told)


# ---------------------------------------------------------------------- files


def test_a_start_that_fails_leaves_no_files(tmp_path: Path) -> None:
    """Made by root, they could be nobody else's."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ["--port", str(port), "--root", str(tmp_path)]
        cluster = Cluster(*flags, "--log-file", str(tmp_path / "log"), hosts=("127.0.0.1",))
        assert cluster.wait() == 2
    assert "cannot listen" in cluster.log
    assert not (tmp_path / "log").exists()


def seen(file: Path, pattern: str) -> re.Match[str]:
    """Look until a file has it."""
    return until(
        lambda: re.search(pattern, file.read_text() if file.exists() else "", re.MULTILINE)
    )


def written(directory: Path, text: str) -> str:
    """A configuration that serves ``files`` in the directory, with ``text`` as ``[log]``."""
    (directory / "files").mkdir(exist_ok=True)
    file = directory / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(
        f"workers = 2\n[log]\n{text}\n[timeouts]\nworker = 3\nshutdown = 1\n[anonymous]\nroot = "
        f'"files"\n[[user]]\nlogin = "alice"\npassword = "plain:{SECRET}"\nroot = "files"\n'
    )
    return str(file)


def rotate(cluster: Cluster, *files: Path, to: str) -> None:
    """As logrotate does."""
    for file in files:
        file.rename(f"{file}.{to}")
    cluster.process.send_signal(signal.SIGUSR1)


def test_all_processes_log_to_the_file_and_ready_stays_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with Cluster(*arguments(tmp_path, "--log-file", str(file))) as cluster:
        for _ in range(2):
            with Dialogue(cluster.port) as client:
                logs_in(client)
        for number in (1, 2):
            seen(file, rf"^\S+ \S+ INFO worker {number}: \[\d\] \S+ alice: logged in$")
    seen(file, r"^\S+ \S+ INFO supervisor: ready on .+ \(2 workers\)$")
    assert file.read_text().splitlines()[-1].endswith(" INFO supervisor: stopped")
    assert re.fullmatch(r"ready on .*\n", cluster.log)
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_terminal_hears_of_ctrl_c_also_where_the_log_is_a_file(tmp_path: Path) -> None:
    with Cluster(*arguments(tmp_path, "--log-file", str(tmp_path / "log"))) as cluster:
        cluster.process.send_signal(signal.SIGINT)
        assert cluster.wait() == 130
    assert cluster.log.endswith("stopping: transfers have 30 s to finish; Ctrl-C again cuts them\n")


def test_what_was_logged_before_a_restart_stays(tmp_path: Path) -> None:
    file = tmp_path / "log"
    for _ in range(2):
        with Cluster(*arguments(tmp_path, "--log-file", str(file))):
            pass
    assert file.read_text().count("supervisor: stopping\n") == 2


@pytest.mark.parametrize("key", ["file", "transfers"])
@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("no directory", "cannot be opened: "),
        ("a directory", "is a directory; name a file in it"),
        ("a fifo", "is a FIFO that nobody reads; start its reader before"),
    ],
)
def test_a_file_that_cannot_be_opened_is_one_line_and_exit_code_2(
    tmp_path: Path, key: str, what: str, why: str
) -> None:
    path = tmp_path / "here"
    if what == "no directory":
        path = tmp_path / "nowhere" / "log"
    elif what == "a directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    cluster = Cluster("-c", written(tmp_path, f'{key} = "{path}"'))
    assert cluster.wait() == 2
    (line,) = cluster.log.splitlines()
    assert f"log.{key}: {path}: {why}" in line


def test_a_worker_that_cannot_start_has_its_reason_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(
        "import os, ftpcluster\nclass Mortal(ftpcluster.Server):\n"
        "    def __init__(self, users):\n        os.abort()\n"
    )
    flags = arguments(tmp_path, "--log-file", f"{tmp_path}/log", "--server", "mortal:Mortal")
    cluster = Cluster(*flags, env={"PYTHONPATH": str(tmp_path)})
    assert cluster.wait() == 1
    assert cluster.log.splitlines()[-1].endswith(f"; the reason is in {tmp_path}/log")
    seen(tmp_path / "log", r"^Fatal Python error: Aborted$")


def test_the_stacks_of_a_worker_that_hangs_are_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with Cluster("-c", written(tmp_path, 'file = "log"')) as cluster:
        rotate(cluster, file, to="1")
        seen(file, "was opened again")
        stopped = cluster.workers()[0]
        with Dialogue(cluster.port) as one, Dialogue(cluster.port) as other:
            logs_in(one)  # so both have read what came before
            logs_in(other)
            os.kill(stopped, signal.SIGSTOP)
            seen(file, r"^Fatal Python error: Aborted$")
            seen(file, r'File ".*asyncio/runners\.py"|File ".*/core\.py"')
    assert "Fatal" not in cluster.log


def test_no_line_is_lost_or_cut_while_logs_are_rotated_under_traffic(tmp_path: Path) -> None:
    """200 transfers in 4 sessions, on both workers; each stands once in either log."""
    logs = [tmp_path / "log", tmp_path / "xferlog"]
    (tmp_path / "files").mkdir()
    for number in range(200):
        (tmp_path / "files" / f"f{number}").write_bytes(b"x" * number)
    may, done = threading.Semaphore(40), threading.Semaphore(0)

    def downloads(port: int, numbers: range) -> None:
        with Dialogue(port) as client:
            logs_in(client)
            client.says("TYPE I", 200)
            for number in numbers:
                assert may.acquire(timeout=60)
                assert client.downloads(f"RETR f{number}") == b"x" * number
                done.release()

    text = 'file = "log"\nformat = "json"\ntransfers = "xferlog"'
    with Cluster("-c", written(tmp_path, text)) as cluster, ThreadPoolExecutor(4) as pool:
        parts = [pool.submit(downloads, cluster.port, range(i, 200, 4)) for i in range(4)]
        for turn in range(5):
            for _ in range(33):
                assert done.acquire(timeout=30)
            rotate(cluster, *logs, to=str(turn))
            may.release(40)
            for log in logs:
                seen(logs[0], rf'"supervisor","message":"{log} was opened again"')
        for part in parts:
            part.result()
    told = [each for file in tmp_path.glob("log*") for each in objects(file.read_text())]
    paths = [each["path"] for each in told if each.get("verb") == "RETR"]
    kept = [each for file in tmp_path.glob("xferlog*") for each in parse_all(file.read_bytes())]
    assert len(list(tmp_path.glob("xferlog*"))) == 6
    expected = sorted(f"/f{number}" for number in range(200))
    assert sorted(paths) == expected
    assert sorted(each.name for each in kept) == expected
    assert all(each.name == f"/f{each.size}" and each.completion == "c" for each in kept)


def test_a_worker_that_starts_after_a_rotation_writes_to_the_new_files(tmp_path: Path) -> None:
    log, transfers = tmp_path / "log", tmp_path / "xferlog"
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f").write_bytes(b"content")
    with Cluster("-c", written(tmp_path, 'file = "log"\ntransfers = "xferlog"')) as cluster:
        rotate(cluster, log, transfers, to="1")
        seen(log, f"{transfers} was opened again")
        before = cluster.workers()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(set(cluster.workers()) - set(before)) == 2)
        with Dialogue(cluster.port) as client:
            logs_in(client)
            client.downloads("RETR f")
        seen(log, r'RETR "/f": 226')
        seen(transfers, " /f ")


def test_a_file_that_cannot_be_opened_again_goes_on_and_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with Cluster("-c", written(tmp_path, 'file = "logs/log"')) as cluster:
        (tmp_path / "logs").rename(tmp_path / "elsewhere")
        cluster.process.send_signal(signal.SIGUSR1)
        old = tmp_path / "elsewhere" / "log"
        seen(old, "supervisor: .*/logs/log cannot be opened again, the old file goes on: No such")
        with Dialogue(cluster.port) as client:
            logs_in(client)
        seen(old, r"worker \d: .* alice: logged in$")
        (tmp_path / "logs").mkdir()
        cluster.process.send_signal(signal.SIGUSR1)
        seen(tmp_path / "logs" / "log", "was opened again")


def test_sigusr1_to_every_process_ends_none(tmp_path: Path) -> None:
    """``systemctl kill`` does that where nobody says "main"."""
    with Cluster("-c", written(tmp_path, 'file = "log"')) as cluster:
        processes = cluster.processes()
        with Dialogue(cluster.port) as client:
            logs_in(client)
            for pid in processes:
                os.kill(pid, signal.SIGUSR1)
            seen(tmp_path / "log", "was opened again")
            client.says("NOOP", 200)
        assert cluster.processes() == processes


def test_a_reload_leaves_the_files_as_they_are_and_says_so(tmp_path: Path) -> None:
    with Cluster("-c", written(tmp_path, 'file = "log"')) as cluster:
        written(tmp_path, 'file = "other"\ntransfers = "xferlog"\nlevel = "debug"')
        cluster.process.send_signal(signal.SIGHUP)
        log = tmp_path / "log"
        seen(log, "reloaded: ")
        for key in ("log.file", "log.transfers"):
            seen(log, f"WARNING supervisor: {key} cannot change while the server runs")
        with Dialogue(cluster.port) as client:
            logs_in(client)
        seen(log, r"DEBUG worker \d: .* USER alice")
    assert not (tmp_path / "other").exists()


# ---------------------------------------------------------------------- transfers


def test_the_log_of_transfers_has_each_file_that_was_moved_and_nothing_else(
    tmp_path: Path,
) -> None:
    log = tmp_path / "xferlog"
    text = 'level = "error"\ntransfers = "xferlog"'
    with Cluster("-c", written(tmp_path, text)) as cluster:
        with Dialogue(cluster.port) as client:
            host = client.sock.getsockname()[0]
            logs_in(client)
            client.uploads("STOR a b", b"12345\r\n")  # TYPE A
            client.says("TYPE I", 200)
            client.uploads("APPE a b", b"678")
            name = client.uploads("STOU new", b"x").rpartition(" ")[2]
            client.downloads("RETR a b")
            client.downloads("LIST")
            client.says("RETR nothing", 550)
            client.says("STOR no-data-connection", 425)
            client.says("MKD directory", 257)
        with Dialogue(cluster.port) as client:
            client.says("USER ftp", 331)
            client.says(f"PASS {SECRET}", 230)
            client.downloads("RETR a b")
        until(lambda: log.read_bytes().count(b"\n") >= 5)
    found = parse_all(log.read_bytes())
    assert {each.host for each in found} == {host}
    assert [
        (each.size, each.name, each.kind, each.direction, each.access, each.user, each.completion)
        for each in found
    ] == [
        (7, "/a_b", "a", "i", "r", "alice", "c"),
        (3, "/a_b", "b", "i", "r", "alice", "c"),
        (1, f"/{name}", "b", "i", "r", "alice", "c"),
        (9, "/a_b", "b", "o", "r", "alice", "c"),
        (10, "/a_b", "a", "o", "a", "ftp", "c"),
    ]
    assert SECRET not in log.read_text()
    assert re.fullmatch(r"ready on .*\n", cluster.log)


@pytest.mark.parametrize("how", ["ABOR", "the client leaves", "the server stops"])
def test_a_transfer_that_was_cut_is_incomplete(tmp_path: Path, how: str) -> None:
    log = tmp_path / "xferlog"
    file = written(tmp_path, 'transfers = "xferlog"')
    size = 64 << 20
    with open(tmp_path / "files" / "large", "wb") as large:
        large.truncate(size)
    with Cluster("-c", file) as cluster, Dialogue(cluster.port) as client:
        logs_in(client)
        client.says("TYPE I", 200)
        with begin_download(client, "large") as data:
            if how == "ABOR":
                client.send("ABOR")
                client.expects(426)
            elif how == "the client leaves":
                data.close()
                client.sock.close()
            else:
                cluster.stop()
            until(lambda: log.read_bytes())
    (found,) = parse_all(log.read_bytes())
    assert (found.name, found.direction, found.completion) == ("/large", "o", "i")
    assert (found.user, found.access) == ("alice", "r")
    assert 0 <= found.size < size


def test_a_log_of_transfers_that_cannot_be_written_is_told_and_nothing_else_suffers(
    tmp_path: Path,
) -> None:
    with Cluster("-c", written(tmp_path, 'transfers = "/dev/full"')) as cluster:
        with Dialogue(cluster.port) as client:
            logs_in(client)
            client.uploads("STOR f", b"content")
        cluster.wait_for(re.compile(r"ERROR worker \d: the log of transfers cannot be written"))


def test_webalizer_reads_the_log_of_transfers(tmp_path: Path) -> None:
    program = need("webalizer")
    log, out = tmp_path / "xferlog", tmp_path / "out"
    out.mkdir()
    with Cluster("-c", written(tmp_path, 'transfers = "xferlog"')) as cluster:
        with Dialogue(cluster.port) as client:
            logs_in(client)
            for number in range(3):
                client.uploads(f"STOR a file {number}", b"x" * 1000)
        until(lambda: log.read_bytes().count(b"\n") >= 3)
    done = attempt((program, "-F", "ftp", "-o", str(out), "-n", "here", str(log)), home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\b3 records\b", done.stdout + done.stderr), done.stdout + done.stderr
    assert not re.search(r"bad|ignored", done.stdout + done.stderr), done.stdout + done.stderr
