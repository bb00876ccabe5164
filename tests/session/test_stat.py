"""STAT in its three meanings: the session, its transfer, a listing (protocol.md, “Listing”)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ftpcluster.session.sending_threads import PIECE
from tests.session.conftest import Serving
from tests.support.cluster import open_files, until
from tests.support.dialogue import Dialogue, reset

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
BIG = 1 << 30


def listed(client: Dialogue, argument: str) -> list[str]:
    """The lines that STAT of a path has between its first and its last, without their space."""
    first, *lines, last = client.says(f"STAT {argument}", 213).split("\n")
    assert first.startswith("213-")
    assert last.startswith("213 ")
    assert all(line.startswith(" ") for line in lines), lines
    return [line[1:] for line in lines]


@pytest.fixture
def tree(root: Path) -> Path:
    """A directory with a file, a hidden one, an empty directory, and one with two files."""
    (root / "file.txt").write_bytes(b"content")
    (root / ".hidden").write_bytes(b"")
    (root / "empty").mkdir()
    (root / "directory").mkdir()
    (root / "directory/inner.txt").write_bytes(b"")
    (root / "directory/two words").write_bytes(b"")
    return root


@pytest.fixture
def big(root: Path) -> Path:
    """A file far larger than all that kernel and client hold unread."""
    path = root / "big"
    with path.open("wb") as file:
        file.truncate(BIG)
    return path


# ---------------------------------------------------------------------- the session


@pytest.mark.parametrize("line", ["STAT", "STAT ", "stat"])
def test_unauthenticated_clients_may_ask_about_their_session(port: int, line: str) -> None:
    """“Before login everything is 530 except … STAT (without argument)”"""
    with Dialogue(port) as client:
        first, *lines, last = client.says(line, 211).split("\n")
        assert first.startswith("211-")
        assert last.startswith("211 ")
        assert lines
        client.says("USER user", 331)
        client.says(line, 211)


@pytest.mark.parametrize("argument", ["/", "-l", "missing", "*"])
def test_unauthenticated_clients_may_not_list(port: int, root: Path, argument: str) -> None:
    """“Before login everything is 530 except … STAT (without argument)”: with one it is."""
    with Dialogue(port) as client:
        client.says(f"STAT {argument}", 530)


def test_stat_alone_describes_the_session(client: Dialogue) -> None:
    """“STAT alone describes the session”: who, from where, and the parameters that hold."""
    text = client.says("STAT", 211)
    assert re.search(r"\b127\.0\.0\.1\b", text)
    assert re.search(r"\buser\b", text)
    assert "12345" not in text
    assert "TYPE I" in text
    client.says("TYPE A", 200)
    assert "TYPE A" in client.says("STAT", 211)


def test_stat_alone_tells_where_the_next_transfer_begins(client: Dialogue) -> None:
    """“STAT alone describes the session”, of which a pending REST is a part."""
    assert "4711" not in client.says("STAT", 211)
    client.says("REST 4711", 350)
    assert "4711" in client.says("STAT", 211)


# ---------------------------------------------------------------------- the transfer


def progress(client: Dialogue, total: int | None = None) -> int:
    """The bytes that have been transferred, as STAT says."""
    text = client.says("STAT", 211)
    match = re.search(
        r"in progress: (\d+)" + ("" if total is None else f" of {total}") + r"\b", text
    )
    assert match, text
    return int(match[1])


def test_stat_during_a_download_tells_its_progress(client: Dialogue, big: Path) -> None:
    """“STAT alone describes the session, during a transfer its progress.”"""
    with client.begins("RETR big", window=65536) as data:
        before = progress(client, BIG)
        read = 0
        while read < 32 << 20:
            read += len(data.recv(1 << 20))
        # a thread that sends counts a piece when all of it has been sent
        assert BIG > progress(client, BIG) >= read - PIECE > before
    client.expects(426)
    assert "in progress:" not in client.says("STAT", 211)


@pytest.mark.parametrize("command", ["STOR file", "APPE file", "STOU file"])
def test_stat_during_an_upload_tells_its_progress(
    client: Dialogue, root: Path, command: str
) -> None:
    """“STAT alone describes the session, during a transfer its progress.”"""
    with client.begins(command) as data:
        assert progress(client) == 0
        data.sendall(b"x" * 100_000)
        until(lambda: progress(client) == 100_000)
    client.expects(226)


@pytest.mark.parametrize("prefix", [b"", b"\xff\xf4\xff\xf2"], ids=["plain", "Telnet Synch"])
def test_stat_is_answered_while_nobody_reads_the_data(
    client: Dialogue, big: Path, prefix: bytes
) -> None:
    """“NOOP and STAT are answered meanwhile” (with IP and Synch as RFC 959 has it)."""
    with client.begins("RETR big", window=4096):
        for _ in range(20):
            client.says(prefix + b"STAT", 211)
        client.says("ABOR", 426)
        client.expects(226)
    client.says("STAT", 211)


def test_stat_is_answered_while_a_listing_is_sent(client: Dialogue, big_directory: Path) -> None:
    """“NOOP and STAT are answered meanwhile”"""
    with client.begins("LIST directory", window=4096):
        client.says("STAT", 211)
        client.says("ABOR", 426)
        client.expects(226)


def test_stat_of_a_path_waits_for_the_transfer(client: Dialogue, tree: Path) -> None:
    """“STAT path lists over the control connection”: after the transfer that runs."""
    with client.begins("STOR new.txt") as data:
        # the answer to NOOP shows that the server has read what follows it in the same segment
        client.send("NOOP\r\nSTAT new.txt")
        client.expects(200)
        client.finds_silence(0.05)
        data.sendall(b"x" * 1234)
    client.expects(226)
    assert " 1234 " in client.expects(213)


# ---------------------------------------------------------------------- a listing


@pytest.mark.parametrize(
    "argument",
    [
        "/",
        "directory",
        "directory/",
        "file.txt",
        "directory/two words",
        "-a",
        "-la directory",
        "*.txt",
        "directory/*",
        "-a *",
        ".*",
    ],
)
def test_stat_of_a_path_lists_as_list_does(client: Dialogue, tree: Path, argument: str) -> None:
    """“STAT path lists over the control connection”: the lines that LIST sends."""
    expected = client.downloads(f"LIST {argument}").decode().splitlines()
    assert expected
    assert listed(client, argument) == expected


@pytest.mark.parametrize("argument", ["empty", "*.none", "empty/*"])
def test_stat_of_nothing_has_no_line(client: Dialogue, tree: Path, argument: str) -> None:
    """“STAT path lists …”: “an empty directory no line”, and what matches nothing neither."""
    assert listed(client, argument) == []


@pytest.mark.parametrize(
    "argument", ["missing", "missing/file", "file.txt/x", "missing/*", "out/x"]
)
def test_stat_of_what_is_missing_is_refused(client: Dialogue, tree: Path, argument: str) -> None:
    """“STAT path lists …”: “a missing path 550”; so is one behind a link that leads out."""
    (tree / "out").symlink_to("/")
    assert "\n" not in client.says(f"STAT {argument}", 550)


def test_stat_of_a_path_needs_no_data_connection_and_takes_none(
    client: Dialogue, tree: Path
) -> None:
    """“STAT path lists over the control connection”: one that was prepared stays so."""
    with client.passive() as data:
        listed(client, "directory")
        client.says("LIST directory", 150)
        assert b"inner.txt" in data.recv(65536)
    client.expects(226)


def test_rest_survives_stat(client: Dialogue, tree: Path) -> None:
    """“REST … survives … until the next transfer”, which STAT is none."""
    client.says("REST 3", 350)
    client.says("STAT", 211)
    listed(client, "directory")
    assert client.downloads("RETR file.txt") == b"tent"


@pytest.mark.parametrize(
    "name",
    [
        "a\r\n213 forged",
        "a\n213 forged",
        "a\x1b[2Jb",
        "\x7f\x08\x01",
        "a\x0bb",
        "a\x1cb",
        "a\x85b",
        "a\u2028b",
        "a\u2029213 forged",
    ],
)
def test_a_name_cannot_forge_a_line(client: Dialogue, root: Path, name: str) -> None:
    """“Control characters never reach a log or a listing unescaped.”"""
    (root / "directory").mkdir()
    (root / "directory" / name).write_bytes(b"")
    [line] = listed(client, "directory")
    assert not CONTROLS.search(line)
    client.says("NOOP", 200)


def test_the_name_that_was_asked_for_is_escaped_too(client: Dialogue, root: Path) -> None:
    """“Control characters never reach a log or a listing unescaped.”: nor 213's first line."""
    (root / "a\x1b[2Jb").write_bytes(b"")
    text = client.says("STAT a\x1b[2Jb", 213)
    assert not CONTROLS.search(text.replace("\n", ""))


def test_names_are_bytes(client: Dialogue, root: Path) -> None:
    """“File names are bytes: what is not UTF-8 survives both ways (surrogateescape).”"""
    (root / "directory").mkdir()
    (root / os.fsdecode(b"directory/caf\xe9")).write_bytes(b"")
    client.send("STAT directory")
    assert b" caf\xe9\n" in client.expects(213).encode("utf-8", "surrogateescape")


# ---------------------------------------------------------------------- large listings


def test_commands_behind_a_large_listing_come_after_it(
    client: Dialogue, big_directory: Path
) -> None:
    """“one final reply, always”: what follows waits, however long the client takes to read."""
    client.send("STAT directory\r\nNOOP\r\nPWD")
    assert client.expects(213).count("\n") == len(os.listdir(big_directory)) + 1
    client.expects(200)
    client.expects(257)


@pytest.mark.parametrize("waits", [True, False], ids=["later", "at once"])
def test_a_client_that_goes_away_leaves_no_directory_open(
    serving: Serving, port: int, big_directory: Path, waits: bool
) -> None:
    """“Closed or reset connections to control … ports harm nobody.”: also amid a long reply."""
    directory = str(big_directory)
    servers = set()
    for _ in range(10):
        with Dialogue(port) as client:
            client.logs_in()
            server = serving.process_of(client)
            servers.add(server)
            client.send("STAT directory")
            if waits:
                assert client.line().startswith("213-")
                with Dialogue(port) as other:
                    other.says("NOOP", 200)
            reset(client.sock)
    with Dialogue(port) as client:
        client.logs_in()
    until(lambda: not any(directory in open_files(server) for server in servers))
