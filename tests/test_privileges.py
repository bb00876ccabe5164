"""Giving up root. What a drop does is looked at in processes of their own."""

from __future__ import annotations

import grp
import multiprocessing.spawn
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.privileges import CannotRunAs, Identity, check_python, parse_run_as
from tests.support.said import said_by

DEADLINE = 30.0

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# Modules first: the user may be unable to read this Python's directory.
BEGIN = """
import ctypes, encodings.idna, os, signal, subprocess, threading
from ftpcluster.prctl import no_new_privs
from ftpcluster.privileges import *
"""


def run(code: str, *, cwd: Path | None = None) -> dict[str, Any]:
    """What a process says that runs ``code``."""
    return said_by(BEGIN + code, cwd=cwd)


# ---------------------------------------------------------------------- USER[:GROUP]


def test_a_user_runs_with_the_group_of_its_entry() -> None:
    nobody = pwd.getpwnam("nobody")
    expected = Identity(nobody.pw_uid, nobody.pw_gid, "nobody", nobody.pw_dir)
    assert parse_run_as("nobody") == expected
    assert parse_run_as(str(nobody.pw_uid)) == expected


def test_a_group_is_a_name_or_a_number() -> None:
    daemon = grp.getgrnam("daemon")
    assert parse_run_as("nobody:daemon").gid == daemon.gr_gid
    assert parse_run_as(f"nobody:{daemon.gr_gid}").gid == daemon.gr_gid


def test_numbers_without_an_entry_will_do() -> None:
    assert parse_run_as("4242424:4242425") == Identity(4242424, 4242425, "4242424", "/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected USER or USER:GROUP"),
        (":daemon", "expected USER or USER:GROUP"),
        ("nobody:", "expected USER or USER:GROUP"),
        ("no-such-user", "there is no user no-such-user"),
        ("nobody:no-such-group", "there is no group no-such-group"),
        ("4242424", "add a group: 4242424:GROUP"),
        ("root", "name another user"),
        ("0:daemon", "name another user"),
        ("4294967295:1", "ids end at 4294967294"),  # "leave it" to the kernel
        ("nobody:4294967295", "ids end at 4294967294"),
        ("-1:1", "there is no user -1"),
        ("nobody:²", "there is no group ²"),
    ],
)
def test_what_names_nobody_else_is_an_error(text: str, said: str) -> None:
    with pytest.raises(CannotRunAs) as caught:
        parse_run_as(text)
    assert str(caught.value).startswith("cannot run as ")
    assert said in str(caught.value)


# ---------------------------------------------------------------------- the drop


@needs_root
def test_after_the_drop_nothing_of_root_is_left() -> None:
    said = run("""
drop(parse_run_as("nobody:daemon"))
say(ids=[os.getresuid(), os.getresgid()], groups=os.getgroups(),
    back=[refused(os.setuid, 0), refused(os.seteuid, 0), refused(os.setgid, 0)],
    shadow=refused(open, "/etc/shadow"),
    capabilities=[line for line in open("/proc/self/status") if line[:6] in ("CapPrm", "CapEff")])
""")
    uid, gid = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("daemon").gr_gid
    assert said["ids"] == [[uid] * 3, [gid] * 3]
    assert said["groups"] == []
    assert said["back"] == ["PermissionError"] * 3
    assert said["shadow"] == "PermissionError"
    assert [int(line.split()[1], 16) for line in said["capabilities"]] == [0, 0]


@needs_root
def test_threads_that_run_already_are_dropped_too() -> None:
    said = run("""
go, found = threading.Event(), []
def look():
    go.wait()
    found.append([line.split()[1:] for line in open("/proc/thread-self/status") if "id:" in line])
    found.append(refused(open, "/etc/shadow"))
thread = threading.Thread(target=look)
thread.start()
drop(parse_run_as("nobody:daemon"))
go.set()
thread.join()
say(status=found[0], shadow=found[1])
""")
    assert [str(pwd.getpwnam("nobody").pw_uid)] * 4 in said["status"]
    assert said["shadow"] == "PermissionError"


@needs_root
def test_the_environment_is_the_new_users() -> None:
    said = run("""
drop(Identity(4242424, 4242425, "somebody", "/srv"))
say(**{name: os.environ[name] for name in ("HOME", "USER", "LOGNAME")})
""")
    assert said == {"HOME": "/srv", "USER": "somebody", "LOGNAME": "somebody"}


@needs_root
def test_a_directory_that_the_user_may_not_enter_is_left(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    said = run('drop(parse_run_as("nobody")); say(cwd=os.getcwd())', cwd=tmp_path)
    assert said["cwd"] == "/"


@needs_root
def test_children_of_the_dropped_process_can_watch_it_and_die_with_it() -> None:
    said = run("""
down, up = os.pipe()
drop(parse_run_as("nobody"))
dropped, child = os.getpid(), os.fork()
if child == 0:
    os.write(up, b"w" if os.pidfd_open(dropped) > 0 else b"-")
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.write(up, b"r")
    signal.pause()
os.close(up)
watched = os.read(down, 1) + os.read(down, 1)
os.kill(child, signal.SIGKILL)
ended = os.read(down, 1) == b""  # nobody has the other end any more
os.waitpid(child, 0)
say(own=len(os.listdir("/proc/self/fd")), watched=watched.decode(), ended=ended)
""")
    assert said["own"] > 2
    assert said["watched"] == "wr"
    assert said["ended"]


@needs_root
@pytest.mark.parametrize("bit", [2, 4], ids=["NO_SETUID_FIXUP", "KEEP_CAPS"])
def test_capabilities_that_outlive_the_change_are_noticed(bit: int) -> None:
    said = run(f"""
set = ctypes.CDLL(None).prctl(28, 1 << {bit}, 0, 0, 0) == 0  # PR_SET_SECUREBITS
try:
    drop(parse_run_as("nobody"))
except CannotRunAs as error:
    say(set=set, error=str(error))
else:
    say(set=set, error="")
""")
    if not said["set"]:
        pytest.skip("this root may not set securebits")
    assert "this process could become root again" in said["error"]


def test_somebody_who_is_not_root_is_told_so() -> None:
    said = run("""
if os.geteuid() == 0:
    os.setresuid(4242424, 4242424, 4242424)
try:
    drop(Identity(4242426, 4242426, "ftp"))
except CannotRunAs as error:
    say(error=str(error))
""")
    assert said["error"] == (
        "cannot run as ftp: Operation not permitted; start the server as root, "
        "or as ftp and without this setting"
    )


def test_whoever_is_that_user_already_drops_nothing() -> None:
    said = run("""
if os.geteuid() == 0:
    os.setresgid(4242425, 4242425, 4242425)
    os.setresuid(4242424, 4242424, 4242424)
drop(Identity(os.getuid(), os.getgid(), "ftp"))
say(ids=os.getresuid(), expected=[os.getuid()] * 3)
""")
    assert said["ids"] == said["expected"]


def test_a_python_that_the_user_may_not_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = Identity(os.getuid(), os.getgid(), "ftp")
    check_python(me)  # whoever runs this test may
    python = tmp_path / "python"
    python.touch(0o600)  # not even root executes what nobody may
    monkeypatch.setattr(multiprocessing.spawn, "get_executable", lambda: str(python))
    with pytest.raises(CannotRunAs, match=f"may not use {python}; install"):
        check_python(me)


@needs_root
def test_after_no_new_privs_a_setuid_program_gains_nothing() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        shutil.copy("/usr/bin/id", directory)
        os.chmod(f"{directory}/id", 0o4755)
        said = run(f"""
drop(Identity(4242424, 4242424, "somebody"))
before = subprocess.check_output(["{directory}/id", "-u"], text=True)
no_new_privs()
say(before=before, after=subprocess.check_output(["{directory}/id", "-u"], text=True))
""")
    if said["before"] != "0\n":
        pytest.skip("temporary files are on a file system without setuid")
    assert said["after"] == "4242424\n"
