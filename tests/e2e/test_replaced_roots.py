"""Users' directories that are mounted over, replaced, re-pointed, missing, or to be unmounted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, until
from tests.support.configured import configured
from tests.support.dialogue import Dialogue
from tests.support.kinds import Running, running

KINDS = ("cluster", "uvloop")
REPLACED = re.compile(
    r"ERROR worker \d: \[\d+\] \S+ -: the directory of user user cannot be opened: \S+ is not what "
    r"it was when the workers started"
)


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "old").touch()
    with running(request.param, tmp_path) as made:
        yield made


def listed(port: int) -> str | None:
    """What a new session finds; None where its login is refused, as its directory was replaced."""
    with Dialogue(port) as client:
        client.says("USER user", 331)
        client.send("PASS 12345")
        if client.expects(230, 530).startswith("530"):
            return None
        return client.downloads("NLST").decode()


def finds_the_new_one(server: Running) -> None:
    """At once; or after a refusal and a line in the log, where a confined worker may not."""
    first = listed(server.port)
    if server.cluster is None:
        assert first == "new\r\n"
        return
    if first is None:
        server.cluster.wait_for(REPLACED)
    assert until(lambda: listed(server.port)) == "new\r\n"
    assert len(server.cluster.workers()) >= 2


def replace(root: Path) -> None:
    root.rename(root.with_name("put away"))
    root.mkdir()
    (root / "new").touch()


def test_a_directory_that_is_replaced_is_served(server: Running) -> None:
    """``mv x x.old; mkdir x``, as a restore does it."""
    assert listed(server.port) == "old\r\n"
    replace(server.root)
    finds_the_new_one(server)


def test_sessions_keep_the_directory_that_they_have(server: Running) -> None:
    with Dialogue(server.port) as client:
        client.logs_in()
        replace(server.root)
        finds_the_new_one(server)
        assert client.downloads("NLST") == b"old\r\n"


def mount_or_skip(root: Path) -> None:
    command = ["mount", "-t", "tmpfs", "tmpfs", str(root)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount")


def test_a_directory_that_is_mounted_over_is_served(server: Running) -> None:
    mount_or_skip(server.root)
    try:
        (server.root / "new").touch()
        finds_the_new_one(server)
    finally:
        subprocess.run(["umount", "--lazy", str(server.root)], check=True)


def is_unmounted(root: Path) -> bool:
    return not subprocess.run(["umount", str(root)], capture_output=True, check=False).returncode


def test_what_nobody_uses_can_be_unmounted(tmp_path: Path) -> None:
    """Seconds after QUIT, though the server goes on."""
    root = tmp_path / "root"
    root.mkdir()
    mount_or_skip(root)
    is_mounted = True
    try:
        for kind in KINDS:
            with running(kind, tmp_path) as server, Dialogue(server.port) as client:
                client.logs_in()
                client.uploads("STOR new", b"content")
                client.says("QUIT", 221)
                unmounted = until(
                    lambda: subprocess.run(["umount", str(root)], check=False).returncode == 0
                )
                is_mounted = not unmounted
            mount_or_skip(root)
            is_mounted = True
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(root)], check=True)


USER = "[[user]]\nlogin = '{0}'\npassword = 'plain:12345'\nroot = '{1}'\n"


def linked(directory: Path) -> Path:
    """``current`` leads to one of two releases."""
    for name in ("old", "new"):
        (directory / f"{name} release").mkdir()
        (directory / f"{name} release" / name).touch()
    link = directory / "current"
    link.symlink_to("old release")
    return link


def point(link: Path, target: str) -> None:
    """In one step, as deployments do."""
    other = link.with_name("next")
    other.symlink_to(target)
    other.replace(link)


@pytest.mark.parametrize("confine", ["true", "false"])
def test_a_link_that_is_pointed_elsewhere_is_followed(tmp_path: Path, confine: str) -> None:
    link = linked(tmp_path)
    text = f"confine = {confine}\n" + USER.format("user", "current")
    with configured(tmp_path, text) as cluster:
        assert listed(cluster.port) == "old\r\n"
        point(link, "new release")
        assert until(lambda: listed(cluster.port)) == "new\r\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives links away")
def test_a_link_that_a_user_puts_in_the_way_is_not(tmp_path: Path) -> None:
    """Who has a shell may swap the directory for a link to another user's files."""
    (tmp_path / "home" / "www").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").touch()
    os.chown(tmp_path / "home", 1234, 1234)
    with configured(tmp_path, USER.format("user", "home/www")) as cluster:
        assert listed(cluster.port) == ""
        (tmp_path / "home" / "www").rmdir()
        (tmp_path / "home" / "www").symlink_to(tmp_path / "secret")
        assert listed(cluster.port) is None
        cluster.wait_for(re.compile("a link leads from .*/www to .*/secret, and others control it"))


# ---------------------------------------------------------------------- missing directories


def as_user(cluster: Cluster, login: str) -> int:
    with Dialogue(cluster.port) as client:
        return client.guesses(login, "12345")[0]


def test_a_directory_that_is_missing_harms_its_user_only(tmp_path: Path) -> None:
    """“a warning with file and line, that login is refused …, everyone else is served, at start
    and at reload”, and it is served when it is there."""
    (tmp_path / "files").mkdir()
    text = USER.format("alice", "files") + USER.format("bob", "gone")
    warning = re.compile(r"ftpcluster.toml:\d+: user\[1\].root: \S+: there is no such directory")
    with configured(tmp_path, text) as cluster:
        cluster.wait_for(warning)
        assert as_user(cluster, "alice") == 230
        assert as_user(cluster, "bob") == 530
        cluster.wait_for(re.compile("the directory of user bob cannot be opened: No such file"))
        start = len(cluster.log)
        cluster.process.send_signal(signal.SIGHUP)
        cluster.wait_for(warning, start)
        cluster.wait_for(re.compile("supervisor: reloaded: "), start)
        assert as_user(cluster, "alice") == 230
        (tmp_path / "gone").mkdir()
        assert until(lambda: as_user(cluster, "bob") == 230)


def test_strict_users_makes_it_an_error(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    text = "strict_users = true\n" + USER.format("alice", "files") + USER.format("bob", "gone")
    (tmp_path / "ftpcluster.toml").touch(mode=0o600)
    (tmp_path / "ftpcluster.toml").write_text(text)
    cluster = Cluster("-c", str(tmp_path / "ftpcluster.toml"))
    assert cluster.wait() == 2
    assert re.search(r"user\[1\].root: \S+: there is no such directory", cluster.log)
