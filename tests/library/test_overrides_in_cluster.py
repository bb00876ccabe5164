"""What overrides decide, they decide in workers, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.library.test_cluster import fails
from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue

MODULE = """
import ftpcluster

async def refuse(connection, rest):
    connection.response("550", "no")
    return True

class Overriding(ftpcluster.Server):
    mkd = None

    def __init__(self, users):
        self.dele = refuse
        super().__init__(users)

    @property
    def rmd(self):
        return refuse

    async def stor(self, connection, rest, mode="wb"):
        if mode == "ab":
            return await super().appe(connection, rest)
        return await super().stor(connection, rest, mode)

class Alone(ftpcluster.Server):
    def __init__(self):
        super().__init__(welcome_message="alone")

class WithUsers(ftpcluster.Server):
    def __init__(self):
        super().__init__([ftpcluster.User("a", "b")])

class Strict(ftpcluster.MemoryUserManager):
    def __init__(self):
        super().__init__([ftpcluster.User("strict", "12345", base_path=".")])
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A current directory with somebody's module in it."""
    (tmp_path / "anyhow.py").write_text(MODULE)
    return tmp_path


def test_overrides_decide_in_workers(place: Path, root: Path) -> None:
    (root / "file").write_bytes(b"one")
    account = ("--root", str(root), "--user", "alice:12345", "--writable")
    arguments = ("--workers", "2", *account, "--server", "anyhow:Overriding")
    with Cluster(*arguments, cwd=place) as cluster:
        for _ in range(2):
            with Dialogue(cluster.port) as client:
                client.logs_in("alice", "12345")
                client.says("DELE file", 550)
                client.says("RMD file", 550)
                client.says("MKD d", 500)
                client.says("XMKD d", 500)
                client.uploads("APPE file", b" two")
    assert (root / "file").read_bytes() == b"one two two"


def test_a_server_that_takes_no_argument_has_the_users_that_are_configured(place: Path) -> None:
    arguments = ("--workers", "2", "--server", "anyhow:Alone", "--user-manager", "anyhow:Strict")
    with Cluster(*arguments, "--confine-allow-write", ".", cwd=place) as cluster:
        for _ in range(2):
            with Dialogue(cluster.port) as client:
                client.says("USER anonymous", 331)
                client.says("PASS x", 530)
                client.logs_in("strict", "12345")


def test_a_server_with_users_of_its_own_refuses_others(place: Path) -> None:
    line = fails("--server", "anyhow:WithUsers", "--user-manager", "anyhow:Strict", cwd=place)
    assert "it has users of its own and takes no others" in line
