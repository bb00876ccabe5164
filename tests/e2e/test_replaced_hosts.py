"""/etc/hosts is replaced, as ``sed -i`` does: confined workers cannot read it, and say so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.own_etc import with_etc


def test_a_worker_that_cannot_read_the_new_hosts_says_what_to_do(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    program = with_etc(etc)
    names = "127.0.0.1 localhost\n192.0.2.{} ftp.example.invalid\n"
    (etc / "hosts").write_text(names.format(1))
    (etc / "nsswitch.conf").write_text("hosts: files\n")
    root = tmp_path / "root"
    root.mkdir()
    flags = ("--workers", "1", "--user", "alice:x", "--root", str(root))
    masquerade = ("--masquerade", "ftp.example.invalid", "--log-level", "debug")
    with Cluster(*flags, *masquerade, program=program, hosts=("127.0.0.1",)) as cluster:
        if "files: not confined" in cluster.log:
            pytest.skip("this kernel confines nobody")
        (etc / "new").write_text(names.format(9))
        (etc / "new").rename(etc / "hosts")
        with Dialogue(cluster.port) as client:
            client.says("USER alice", 331)
            client.says("PASS x", 230)
            client.send("PASV")
            assert client.reply()[0] == 425
        cluster.wait_for(re.compile(r"WARNING worker 1: /etc/hosts was replaced, and confined"))
        assert " reloaded: " in cluster.hang_up()
        with Dialogue(cluster.port) as client:
            client.says("USER alice", 331)
            client.says("PASS x", 230)
            assert "(192,0,2,9," in client.says("PASV", 227)
