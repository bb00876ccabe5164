"""Owners and groups with names that are no single word: a listing keeps its columns."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.own_etc import with_etc

NAMES = {4711: "domain users", 4712: "a\tb", 4713: "x\u00a0y", 4714: "staff-ä"}
SHOWN = {number: str(number) for number in NAMES} | {4714: "staff-ä"}


def test_a_name_that_is_no_word_is_a_number_in_a_listing(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    etc = tmp_path / "etc"
    program = with_etc(etc)
    groups = [f"{name}:x:{number}:\n" for number, name in NAMES.items()]
    (etc / "group").write_text("".join(groups), encoding="utf-8")
    users = [f"{name}:x:{number}:{number}::/:/bin/false\n" for number, name in NAMES.items()]
    (etc / "passwd").write_text("".join(users), encoding="utf-8")
    root = tmp_path / "root"
    root.mkdir()
    for number in NAMES:
        (root / f"file-{number}").touch()
        os.chown(root / f"file-{number}", number, number)
    flags = ("--workers", "2", "--user", "alice:x", "--root", str(root))
    with Cluster(*flags, program=program) as cluster, Dialogue(cluster.port) as client:
        client.says("USER alice", 331)
        client.says("PASS x", 230)
        lines = client.downloads("LIST").decode().splitlines()
    for line, (number, shown) in zip(lines, SHOWN.items(), strict=True):
        fields = line.split()
        assert fields[2:4] == [shown, shown]
        assert (len(fields), fields[-1]) == (9, f"file-{number}")
