"""FEAT, HELP, SYST, and the facts of MLST and MLSD (protocol.md, “FEAT”)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ftpcluster.session.commands.table import ROWS
from tests.support.dialogue import Dialogue

FIRST = ["type", "perm", "size", "modify", "unique"]
THEN = ["unix.mode", "unix.uid", "unix.gid"]
SPECIFIED = [
    *("USER", "PASS", "QUIT", "SYST", "FEAT", "NOOP", "HELP", "PWD", "CWD", "CDUP", "TYPE"),
    *("MODE", "STRU", "PASV", "EPSV", "REST", "RETR", "STOR", "APPE", "LIST", "NLST"),
    *("MLSD", "MLST", "SIZE", "MDTM", "DELE", "MKD", "RMD", "RNFR", "RNTO", "ABOR", "XCWD"),
    *("XCUP", "XPWD", "XMKD", "XRMD", "ACCT", "REIN", "PORT", "EPRT", "STOU", "ALLO"),
    *("STAT", "SITE", "OPTS", "MFMT", "AUTH", "PBSZ", "PROT", "CCC", "HASH", "RANG"),
    *("XCRC", "XMD5", "XSHA1", "XSHA256", "AVBL", "CLNT", "HOST"),
]
"""The verbs that the server has to have."""
VERBS = sorted({*SPECIFIED, *(row.verb for row in ROWS)})


def features(client: Dialogue) -> list[str]:
    """The lines of FEAT between its first and its last."""
    return client.says("FEAT", 211).split("\n")[1:-1]


def listed_facts(client: Dialogue) -> list[str]:
    """The names of the facts that FEAT lists, in its order."""
    line = next(line for line in features(client) if line.startswith(" MLST "))
    return re.findall(r"([^;*]+)\*?;", line.removeprefix(" MLST "))


def facts_of(line: str) -> dict[str, str]:
    """The facts of a line of MLSD, or of MLST's without its leading space."""
    facts = line.partition(" ")[0]
    assert re.fullmatch(r"(?:[^;= ]+=[^;]*;)+", facts), line
    return dict(fact.split("=", 1) for fact in facts[:-1].split(";"))


def mlst(client: Dialogue, path: str) -> dict[str, str]:
    """The facts in the reply to MLST."""
    return facts_of(client.says(f"MLST {path}", 250).split("\n")[1][1:])


def test_features_come_one_to_a_line_behind_a_space(client: Dialogue) -> None:
    """“FEAT has …”, in the form of RFC 2389 section 3.2."""
    first, *lines, last = client.says("FEAT", 211).split("\n")
    assert first.startswith("211-")
    assert last.startswith("211 ")
    assert lines
    assert all(re.fullmatch(r" [!-~][ -~]*", line) for line in lines), lines


def test_the_first_features_are_in_their_order(client: Dialogue) -> None:
    """“FEAT has UTF8, TVFS, `MLST type*;perm*;size*;modify*;unique*;…`”"""
    first, second, third, *_ = features(client)
    assert (first, second) == (" UTF8", " TVFS")
    assert third.startswith(" MLST type*;perm*;size*;modify*;unique*;")


def test_the_facts_are_in_their_order(client: Dialogue) -> None:
    """“(these first four first), then unix.mode, unix.uid, unix.gid”"""
    facts = [fact for fact in listed_facts(client) if fact != "create"]
    assert facts == FIRST + THEN


@pytest.mark.parametrize(
    "feature",
    ["EPRT", "EPSV", "MDTM", "MFMT", "SIZE", "REST STREAM", "HASH SHA-256*;SHA-1;MD5;CRC32"],
)
def test_what_can_be_done_is_a_feature(client: Dialogue, feature: str) -> None:
    """“EPRT EPSV MDTM MFMT SIZE `REST STREAM` HASH”"""
    assert f" {feature}" in features(client)


def test_what_needs_tls_is_no_feature_without_it(client: Dialogue) -> None:
    """“and, with TLS, AUTH TLS, AUTH SSL, PBSZ, PROT”: here there is none."""
    words = {line.split()[0] for line in features(client)}
    assert not words & {"AUTH", "PBSZ", "PROT", "CCC"}


def test_no_feature_is_named_twice(client: Dialogue) -> None:
    """“FEAT has …”: once each."""
    lines = features(client)
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("kind", ["file", "dir"])
def test_every_listed_fact_is_given(client: Dialogue, root: Path, kind: str) -> None:
    """“Every listed fact is given, for directories too.”"""
    (root / "file").write_bytes(b"content")
    (root / "dir").mkdir()
    listed = listed_facts(client)
    assert list(mlst(client, kind)) == listed
    lines = client.downloads("MLSD").decode().splitlines()
    line = next(line for line in lines if line.endswith(f"; {kind}"))
    assert list(facts_of(line)) == listed


def test_the_facts_of_a_file_are_true(client: Dialogue, root: Path) -> None:
    """“Every listed fact is given”: and says what is so, times in UTC."""
    file = root / "file"
    file.write_bytes(b"content")
    file.chmod(0o640)
    os.utime(file, (981173106, 981173106))  # 2001-02-03 04:05:06
    facts = mlst(client, "file")
    status = file.stat()
    assert (facts["type"], facts["size"], facts["modify"]) == ("file", "7", "20010203040506")
    assert facts["unix.mode"] == "0640"
    assert (facts["unix.uid"], facts["unix.gid"]) == (str(status.st_uid), str(status.st_gid))
    assert set("rwadf") <= set(facts["perm"])


def test_the_facts_of_a_directory_are_true(client: Dialogue, root: Path) -> None:
    """“Every listed fact is given, for directories too.”"""
    (root / "directory").mkdir(0o750)
    facts = mlst(client, "directory")
    assert facts["type"] == "dir"
    assert facts["unix.mode"] == "0750"
    assert set("elcmfdp") <= set(facts["perm"])


def test_who_may_only_read_is_told_so(port: int, root: Path) -> None:
    """“Every listed fact is given”: perm says what this user may do (RFC 3659, 7.5.5)."""
    (root / "file").write_bytes(b"")
    (root / "directory").mkdir()
    with Dialogue(port) as client:
        client.logs_in("anonymous", "me@example.com")
        assert mlst(client, "file")["perm"] == "r"
        assert set(mlst(client, "directory")["perm"]) == set("el")


def test_unique_is_what_makes_files_one(client: Dialogue, root: Path) -> None:
    """“unique*”: the same for two names of one file, another for another (RFC 3659, 7.5.2)."""
    (root / "a").write_bytes(b"")
    (root / "b").write_bytes(b"")
    os.link(root / "a", root / "c")
    unique = {name: mlst(client, name)["unique"] for name in "abc"}
    assert unique["a"] == unique["c"] != unique["b"]


@pytest.mark.parametrize(
    "path", ["directory/file", "/directory/file", "directory/../directory/./file"]
)
def test_mlst_names_the_full_path(client: Dialogue, root: Path, path: str) -> None:
    """“In the reply to MLST the middle line is: space, facts, space, full path.”"""
    (root / "directory").mkdir()
    (root / "directory/file").write_bytes(b"")
    first, line, last = client.says(f"MLST {path}", 250).split("\n")
    assert first.startswith("250-")
    assert last.startswith("250 ")
    assert re.fullmatch(r" (?:[^;= ]+=[^;]*;)+ /directory/file", line), line


def test_mlst_alone_is_about_the_current_directory(client: Dialogue) -> None:
    """“In the reply to MLST the middle line is …” (RFC 3659, 7.1: without a path, this)."""
    client.says("MKD directory", 257)
    client.says("CWD directory", 250)
    line = client.says("MLST", 250).split("\n")[1]
    assert line.endswith("; /directory")
    assert facts_of(line[1:])["type"] in ("dir", "cdir")


def test_mlst_of_a_missing_path_is_refused(client: Dialogue) -> None:
    """“a missing path 550”"""
    client.says("MLST missing", 550)


def test_help_names_every_verb(client: Dialogue) -> None:
    """“Verbs.”: HELP knows them all."""
    text = client.says("HELP", 214)
    assert set(VERBS) <= set(text.split())


@pytest.mark.parametrize("verb", VERBS)
def test_help_tells_about_each_verb(client: Dialogue, verb: str) -> None:
    """“Verbs.”, each with a line of its own, asked for in any case."""
    assert verb in client.says(f"HELP {verb}", 214)
    assert verb in client.says(f"help {verb.lower()}", 214)


def test_help_for_an_unknown_verb_is_refused(client: Dialogue) -> None:
    """“Unknown verb 500 or 502 … unknown parameter 504”: here the verb is HELP's parameter."""
    client.says("HELP XYZZY", 501, 502, 504)


def test_the_system_is_named(client: Dialogue) -> None:
    """library.md: “SYST exactly `215 UNIX Type: L8`”."""
    assert client.says("SYST", 215) == "215 UNIX Type: L8"
