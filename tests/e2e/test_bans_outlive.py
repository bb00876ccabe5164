"""Bans outlive the server, however it ends; a file that is not there or hangs keeps nobody."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.admin.client import AdminConnection, OrderRefused
from ftpcluster.admin.requests import BanList, BanNetwork, ListBans, Unban
from tests.support.cluster import Cluster, until
from tests.support.command import command
from tests.support.configured import configured
from tests.support.dialogue import Dialogue
from tests.support.hanging import answer, hang, on_storage_that_may_hang
from tests.support.unprivileged import PACKAGES, python_for_nobody

USER = "[[user]]\nlogin = 'user'\npassword = 'plain:12345'\nroot = 'root'\n"
STRICT = "[ban]\nfailures = 1\nallow = []\n"
MALLORY, ALICE = "127.0.0.7", "127.0.0.8"


def guess(port: int, source: str) -> None:
    with Dialogue(port, source=source) as client:
        client.guesses()


def is_refused(port: int, source: str) -> bool:
    with Dialogue(port, source=source, greeting=None) as client:
        return client.reply()[0] == 421


def bans(cluster: Cluster) -> dict[str, float | None]:
    """The bans that hold, with the seconds that are left."""
    with contextlib.closing(AdminConnection(cluster.admin)) as admin:
        found = admin.ask(ListBans())
    assert isinstance(found, BanList)
    return {ban.network: ban.left for ban in found.bans}


def test_bans_are_there_again_after_kill_9_and_lifted_ones_are_not(root: Path) -> None:
    directory = root.parent
    (directory / "state").mkdir()
    text = f"{USER}{STRICT}file = 'state/bans'\n"
    file = directory / "state" / "bans"
    with configured(directory, text) as cluster:
        with contextlib.closing(AdminConnection(cluster.admin)) as admin:
            admin.ask(BanNetwork("198.51.100.0/24", 600, "spam"))
            admin.ask(BanNetwork("127.0.0.9", None, "for ever"))
            guess(cluster.port, MALLORY)
            until(lambda: file.exists() and MALLORY in file.read_text())
            admin.ask(Unban("127.0.0.9"))
            until(lambda: "127.0.0.9" not in file.read_text())
        cluster.stop(signal.SIGKILL)
    # what a killed server may leave, and a line of somebody else
    (directory / "state" / "bans.new").write_text("{")
    with file.open("a") as damaged:
        damaged.write("nonsense\n")
    with configured(directory, text) as cluster:
        left = bans(cluster)
        assert {*left} == {MALLORY, "198.51.100.0/24"}
        assert 500 < (left["198.51.100.0/24"] or 0) < 600
        assert is_refused(cluster.port, MALLORY)
        assert not is_refused(cluster.port, ALICE)
        assert not is_refused(cluster.port, "127.0.0.9")
        assert "(ban.file) is damaged: line 4: " in cluster.log
        with contextlib.closing(AdminConnection(cluster.admin)) as admin:
            admin.ask(Unban(MALLORY))
            with pytest.raises(OrderRefused, match="is not banned"):
                admin.ask(Unban(MALLORY))
        assert not is_refused(cluster.port, MALLORY)
        assert cluster.stop() == 0  # at once: the change is not lost
    names = sorted(each.name.partition("-")[0] for each in file.parent.iterdir())
    assert names == ["bans", "bans.damaged"]
    assert [json.loads(line).get("network") for line in file.read_text().splitlines()] == [
        None,
        "198.51.100.0/24",
    ]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        directory.chmod(0o755)
        (directory / "root").mkdir(mode=0o755)
        (directory / "state").mkdir(mode=0o700)
        yield directory
    finally:
        shutil.rmtree(directory)


def test_the_state_directory_is_given_to_the_user_who_serves(place: Path) -> None:
    """As systemd makes it for a unit without User=: for root, who is given up."""
    python = python_for_nobody()
    state = place / "state"
    (state / "bans").write_text("")  # of a server that ran as root
    (state / "bans").chmod(0o600)
    env = {"PYTHONPATH": ":".join(PACKAGES), "STATE_DIRECTORY": str(state)}
    text = f"run_as = 'nobody'\n{USER}{STRICT}"
    for _ in range(2):
        with configured(place, text, python=python, env=env) as cluster:
            if not bans(cluster):
                guess(cluster.port, MALLORY)
            until(lambda: MALLORY in (state / "bans").read_text())
            assert {*bans(cluster)} == {MALLORY}
        os.chown(state, 0, 0)  # as systemd does at each start
    assert (state / "bans").stat().st_uid != 0


def test_a_directory_where_nobody_writes_is_told_of_and_the_server_serves(root: Path) -> None:
    directory = root.parent
    (directory / "file").touch()
    env = {"STATE_DIRECTORY": str(directory / "file")}
    with configured(directory, USER + STRICT, env=env) as cluster:
        guess(cluster.port, MALLORY)
        assert is_refused(cluster.port, MALLORY)
        cluster.wait_for(re.compile(r"file/bans \(ban.file\) cannot be .*: Not a directory"))


def test_a_state_directory_that_hangs_delays_a_start_and_nothing_else(tmp_path: Path) -> None:
    storage, root = tmp_path / "storage", tmp_path / "root"
    program = on_storage_that_may_hang(storage)
    root.mkdir()
    hang(storage)
    env = {"STATE_DIRECTORY": str(storage), "FTPCLUSTER__BAN__FAILURES": "1"}
    env["FTPCLUSTER__BAN__ALLOW"] = "[]"
    arguments = ["--workers", "2", "--root", str(root), "--user", "user:12345"]
    try:
        with Cluster(*arguments, program=program, env=env) as cluster:
            assert "(ban.file) does not answer: the bans in it hold when it does" in cluster.log
            guess(cluster.port, MALLORY)
            assert is_refused(cluster.port, MALLORY)
            with Dialogue(cluster.port, source=ALICE) as client:
                client.logs_in()
            answer(storage)
            # this file system makes no files
            cluster.wait_for(re.compile(r"storage/bans \(ban.file\) cannot be written"))
    finally:
        answer(storage)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("'root'", "ban.file: {0}/root: is no regular file"),
        ("'none/bans'", "ban.file: {0}/none/bans: its directory is not there; make it"),
        ("'ftpcluster.toml'", "ban.file: {0}/ftpcluster.toml: is the configuration, too"),
        ("'ftpcluster.toml/bans'", "ban.file: {0}/ftpcluster.toml/bans: cannot be used: Not a dir"),
    ],
)
def test_check_and_run_refuse_a_file_that_cannot_be(root: Path, key: str, words: str) -> None:
    file = root.parent / "ftpcluster.toml"
    file.touch(mode=0o600)
    file.write_text(f"{USER}[admin]\nenabled = false\n[ban]\nfile = {key}\n")
    for name in ("check", "run") if "root" in key else ("check",):
        done = command(name, "-c", str(file))
        assert done.returncode == 2
        assert words.format(root.parent) in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root")
def test_check_asks_whether_the_user_who_serves_may_write_there(place: Path) -> None:
    file, state = place / "ftpcluster.toml", place / "state"
    file.touch(mode=0o600)
    text = f"{USER}[admin]\nenabled = false\n[ban]\nfile = 'state/bans'\n"
    file.write_text(f"run_as = 'nobody'\n{text}")
    done = command("check", "-c", str(file))
    assert done.returncode == 2
    assert (
        f'ban.file: {state}/bans: "nobody" (run_as) may not write in its directory; `chown nobody '
        f"{state}`, or name another directory" in done.stderr
    )
    assert command("check", "-c", str(file), env={"STATE_DIRECTORY": str(state)}).returncode == 0
    shutil.chown(state, "nobody")
    assert command("check", "-c", str(file)).returncode == 0
    file.write_text(text)  # root would write where nobody leads
    done = command("check", "-c", str(file))
    assert done.returncode == 2
    assert f"{state} belongs to nobody, who could have root write elsewhere" in done.stderr
    assert [*state.iterdir()] == []
