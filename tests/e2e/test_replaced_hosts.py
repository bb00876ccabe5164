"""/etc/hosts is replaced, as ``sed -i`` does: confined workers cannot read the new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.own_etc import with_etc

_NAMES = "127.0.0.1 localhost\n192.0.2.{} ftp.example.invalid\n"


@pytest.mark.parametrize("confine", ["true", "false"])
def test_masquerade_names_are_looked_up_in_the_new_file(tmp_path: Path, confine: str) -> None:
    etc = tmp_path / "etc"
    program = with_etc(etc)
    (etc / "hosts").write_text(_NAMES.format(1))
    (etc / "nsswitch.conf").write_text("hosts: files\n")
    root = tmp_path / "root"
    root.mkdir()
    flags = ("--workers", "1", "--user", "user:12345", "--root", str(root))
    flags += ("--masquerade", "ftp.example.invalid")
    env = {"FTPCLUSTER__CONFINE": confine}
    with Cluster(*flags, program=program, hosts=("127.0.0.1",), env=env) as cluster:
        (etc / "new").write_text(_NAMES.format(9))
        (etc / "new").rename(etc / "hosts")
        with Dialogue(cluster.port) as client:
            client.logs_in()
            assert "(192,0,2,9," in client.says("PASV", 227)
