"""Patterns in NLST, LIST and STAT (protocol.md, “Listing”: “Clients' `mget` needs patterns”)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftpcluster import Permission, User
from tests.session.conftest import Maker
from tests.session.test_listings import LONG
from tests.support.dialogue import Dialogue

FILES = (
    "a.txt",
    "b.txt",
    "c.TXT",
    "ab.txt",
    "notes",
    ".hidden.txt",
    ".x",
    "two words.txt",
    "ü.txt",
)


@pytest.fixture
def tree(root: Path) -> Path:
    """Files for patterns, directories that have some too, and an empty one."""
    for directory in (root, root / "dir", root / "dir/sub", root / "d2"):
        directory.mkdir(exist_ok=True)
    for directory in (root, root / "dir"):
        for name in FILES:
            (directory / name).write_bytes(b"content")
    (root / "dir/sub/deep.txt").write_bytes(b"")
    (root / "empty").mkdir()
    return root


def names(client: Dialogue, argument: str) -> list[str]:
    """What NLST gives; LIST and STAT must give lines of the same names."""
    found = sorted(client.downloads(f"NLST {argument}").decode().splitlines())
    for lines in (
        client.downloads(f"LIST {argument}").decode().splitlines(),
        [line[1:] for line in client.says(f"STAT {argument}", 213).split("\n")[1:-1]],
    ):
        matches = [LONG.fullmatch(line) for line in lines]
        assert all(matches), lines
        assert sorted(match["name"] for match in matches if match) == found
    return found


def refused(client: Dialogue, argument: str) -> None:
    """550 before 150, in all three."""
    with client.passive():
        client.says(f"NLST {argument}", 550)
        client.says(f"LIST {argument}", 550)
    client.says(f"STAT {argument}", 550)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["a.txt", "ab.txt", "b.txt", "two words.txt", "ü.txt"]),
        ("?.txt", ["a.txt", "b.txt", "ü.txt"]),
        ("[ab].txt", ["a.txt", "b.txt"]),
        ("[!a].txt", ["b.txt", "ü.txt"]),
        ("[^a].txt", ["b.txt", "ü.txt"]),
        ("[a-c].*", ["a.txt", "b.txt", "c.TXT"]),
        ("a*", ["a.txt", "ab.txt"]),
        ("*b*t", ["ab.txt", "b.txt"]),
        ("*o*", ["notes", "two words.txt"]),
        ("* *", ["two words.txt"]),
        ("two *", ["two words.txt"]),
        ("/*.TXT", ["/c.TXT"]),
        ("./n*", ["./notes"]),
        ("dir/../n*", ["dir/../notes"]),
        ("em*", ["empty"]),
    ],
)
def test_a_pattern_finds_what_it_fits(
    client: Dialogue, tree: Path, pattern: str, expected: list[str]
) -> None:
    """“`* ? […]` in the last component”"""
    assert names(client, pattern) == sorted(expected)


@pytest.mark.parametrize(
    ("pattern", "directory"),
    [("dir/*.txt", "dir/"), ("/dir/*.txt", "/dir/"), ("./dir/*.txt", "./dir/"), ("dir//*.txt", "")],
)
def test_names_beneath_come_with_the_directory_as_it_was_written(
    client: Dialogue, tree: Path, pattern: str, directory: str
) -> None:
    """“Clients' `mget` needs patterns”: what they find must be what they can ask for."""
    found = names(client, pattern)
    if directory:
        plain = ["a.txt", "ab.txt", "b.txt", "two words.txt", "ü.txt"]
        assert found == [f"{directory}{name}" for name in plain]
    assert len(found) == 5
    for name in found:
        assert client.downloads(f"RETR {name}") == b"content"


def test_a_pattern_is_seen_from_the_current_directory(client: Dialogue, tree: Path) -> None:
    """“in the last component”: of a path that is resolved as any other."""
    client.says("CWD dir", 250)
    assert names(client, "[ab].txt") == ["a.txt", "b.txt"]
    assert names(client, "../[ab].txt") == ["../a.txt", "../b.txt"]
    assert names(client, "sub/*") == ["sub/deep.txt"]


@pytest.mark.parametrize("argument", ["d*/a.txt", "*/a.txt", "d?r/*.txt", "*/*", "[d]ir/*"])
def test_only_the_last_component_is_a_pattern(client: Dialogue, tree: Path, argument: str) -> None:
    """“`* ? […]` in the last component”: elsewhere they are letters of a name that is missing."""
    refused(client, argument)


def test_a_directory_may_have_such_a_name(client: Dialogue, tree: Path) -> None:
    """“in the last component”: above it they are letters."""
    (tree / "[x]").mkdir()
    (tree / "[x]/a.txt").write_bytes(b"")
    assert names(client, "[x]/*.txt") == ["[x]/a.txt"]
    assert client.downloads("NLST [x]") == b"[x]/a.txt\r\n"


@pytest.mark.parametrize("name", ["*.txt", "?.txt", "[ab].txt", "[!a]*", "*", "["])
def test_a_file_of_that_very_name_goes_before(client: Dialogue, tree: Path, name: str) -> None:
    """“only where no file has that very name”"""
    (tree / name).write_bytes(b"")
    assert names(client, name) == [name]
    (tree / "dir" / name).write_bytes(b"")
    assert names(client, f"dir/{name}") == [f"dir/{name}"]


@pytest.mark.parametrize("pattern", ["*.none", "????????????????", "[z]*", "empty/*", "dir/*.x"])
def test_a_pattern_that_fits_nothing_finds_nothing(
    client: Dialogue, tree: Path, pattern: str
) -> None:
    """“an empty directory no line”: no match is no line and 226."""
    assert names(client, pattern) == []


@pytest.mark.parametrize("pattern", ["missing/*", "a.txt/*", "missing/sub/*.txt", "out/*"])
def test_a_pattern_in_a_missing_directory_is_refused(
    client: Dialogue, tree: Path, pattern: str
) -> None:
    """“a missing path 550 before 150”: also one that leads out."""
    (tree / "out").symlink_to("/etc")
    refused(client, pattern)


def test_hidden_names_need_a_dot_or_an_option(client: Dialogue, tree: Path) -> None:
    """“and, but for hidden names, ignored”: a star finds them with `-a` only, as in shells."""
    assert names(client, ".*") == [".hidden.txt", ".x"]
    assert names(client, ".h*") == [".hidden.txt"]
    assert names(client, "dir/.*") == ["dir/.hidden.txt", "dir/.x"]
    assert names(client, "?x") == names(client, "[.]x") == []
    assert names(client, "-a ?x") == names(client, "-a [.]x") == [".x"]
    assert ".hidden.txt" not in names(client, "*.txt")
    assert ".hidden.txt" in names(client, "-la *.txt")
    assert "dir/.hidden.txt" in names(client, "-a -l dir/*.txt")


@pytest.mark.parametrize("options", ["-l", "-1", "-lt", "-l -1"])
def test_options_stand_before_a_pattern(client: Dialogue, tree: Path, options: str) -> None:
    """“Options … before the path are accepted and … ignored.”"""
    assert names(client, f"{options} [ab].txt") == ["a.txt", "b.txt"]


def test_braces_are_letters(client: Dialogue, tree: Path) -> None:
    """“no braces”"""
    refused(client, "{a,b}.txt")
    assert names(client, "{a,b}.*") == []
    (tree / "{a,b}.txt").write_bytes(b"")
    assert names(client, "{a,b}.*") == ["{a,b}.txt"]


def test_nothing_is_looked_for_further_down(client: Dialogue, tree: Path) -> None:
    """“no -R”, and two stars are one."""
    assert names(client, "**") == names(client, "*")
    assert names(client, "-R") == names(client, ".")
    assert names(client, "-lR *.txt") == names(client, "*.txt")
    found = client.downloads("NLST -R dir").split()
    assert b"dir/sub" in found
    assert not any(b"deep.txt" in name for name in found)
    refused(client, "**/deep.txt")


def test_a_directory_that_fits_is_named_and_not_opened(client: Dialogue, tree: Path) -> None:
    """“Clients' `mget` needs patterns”: one line for each name that fits."""
    assert names(client, "d*") == ["d2", "dir"]


def test_names_that_are_not_text_fit_too(client: Dialogue, root: Path) -> None:
    """“File names are bytes: what is not UTF-8 survives both ways (surrogateescape).”"""
    for name in (b"caf\xe9.txt", b"x\nforged.txt"):
        (root / os.fsdecode(name)).write_bytes(b"")
    assert client.downloads(b"NLST caf\xe9*") == b"caf\xe9.txt\r\n"
    assert client.downloads(b"NLST c?f?.txt") == b"caf\xe9.txt\r\n"
    assert client.downloads(b"NLST x*") == b"x?forged.txt\r\n"


def test_a_pattern_shows_nothing_that_may_not_be_read(serve: Maker) -> None:
    """library.md row 7: the nearest permission decides, of the directory that is looked through."""
    for name in ("secret", "open"):
        (serve.directory / name).mkdir()
        (serve.directory / name / "a.txt").write_bytes(b"")
    rules = [Permission("/"), Permission("/secret", readable=False)]
    users = [User("user", "12345", base_path=serve.directory, permissions=rules)]
    with Dialogue(serve(users=users)) as client:
        client.logs_in()
        assert names(client, "open/*") == ["open/a.txt"]
        for argument in ("secret/*", "/secret/?.txt", "open/../secret/*"):
            refused(client, argument)


def test_a_pattern_that_is_made_to_take_long_does_not(client: Dialogue, root: Path) -> None:
    """“matched in linear time”: a backtracking matcher would not come back from this one."""
    for number in range(100):
        (root / f"{'a' * 240}{number}").write_bytes(b"")
    assert names(client, "*a" * 60 + "*b") == []
    assert names(client, "*?" * 60 + "*b") == []
    assert len(names(client, "*a" * 60 + "*")) == 100


def test_facts_have_no_patterns(client: Dialogue, tree: Path) -> None:
    """“patterns in NLST and LIST”: MLSD and MLST take a path (RFC 3659, 7.2)."""
    with client.passive():
        client.says("MLSD *", 501, 550)
    client.says("MLST *.txt", 501, 550)
