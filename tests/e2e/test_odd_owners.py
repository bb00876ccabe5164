"""Owners and groups with names that are no single word: a listing keeps its columns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.own_etc import with_etc


@pytest.mark.parametrize(
    ("name", "shown"),
    [("domain users", "4711"), ("a\tb", "4711"), ("x\u00a0y", "4711"), ("staff-ä", "staff-ä")],
)
def test_a_name_that_is_no_word_is_a_number_in_a_listing(
    tmp_path: Path, name: str, shown: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    etc = tmp_path / "etc"
    program = with_etc(etc)
    (etc / "group").write_text(f"{name}:x:4711:\n", encoding="utf-8")
    (etc / "passwd").write_text(f"{name}:x:4711:4711::/:/bin/false\n", encoding="utf-8")
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").touch()
    os.chown(root / "file", 4711, 4711)
    flags = ("--workers", "2", "--user", "alice:x", "--root", str(root))
    with Cluster(*flags, program=program) as cluster, Dialogue(cluster.port) as client:
        client.says("USER alice", 331)
        client.says("PASS x", 230)
        fields = client.downloads("LIST").decode().split()
    assert fields[2:4] == [shown, shown]
    assert (len(fields), fields[-1]) == (9, "file")
