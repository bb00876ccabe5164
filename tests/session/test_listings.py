"""LIST, NLST, MLSD (protocol.md, “Listing”)."""

from __future__ import annotations

import ftplib
import os
import re
import time
from pathlib import Path

import pytest

from ftpcluster import User
from tests.session.conftest import Maker
from tests.support.dialogue import DEADLINE, Dialogue

LONG = re.compile(
    r"(?P<mode>[-dl](?:[-r][-w][-xsStT]){3}) +(?P<links>\d+) (?P<owner>\S+) +(?P<group>\S+) +"
    r"(?P<size>\d+) (?P<time>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d "
    r"(?:\d\d:\d\d| \d{4})) (?P<name>.+)"
)
LISTINGS = ("LIST", "NLST", "MLSD")


def names(client: Dialogue, command: str) -> list[str]:
    """The names that a listing gives, sorted; its lines must have their form."""
    text = client.downloads(command).decode()
    assert text == "" or text.endswith("\r\n")
    lines = text.split("\r\n")[:-1]
    if command.startswith("LIST"):
        matches = [LONG.fullmatch(line) for line in lines]
        assert all(matches), lines
        return sorted(match["name"] for match in matches if match)
    if command.startswith("MLSD"):
        assert all(re.fullmatch(r"(?:[^;= ]+=[^;]*;)+ .+", line) for line in lines), lines
        return sorted(line.partition(" ")[2] for line in lines)
    return sorted(lines)


@pytest.fixture
def tree(root: Path) -> Path:
    """A directory with a file, a hidden one, and a directory that has a file."""
    (root / "file").write_bytes(b"content")
    (root / ".hidden").write_bytes(b"")
    (root / "directory").mkdir()
    (root / "directory/inner").write_bytes(b"")
    (root / "empty").mkdir()
    return root


@pytest.mark.parametrize("verb", LISTINGS)
def test_a_listing_is_of_the_current_directory(client: Dialogue, tree: Path, verb: str) -> None:
    """Without a path the current directory is listed."""
    client.says("CWD directory", 250)
    assert names(client, verb) == ["inner"]


@pytest.mark.parametrize(
    "path", ["directory", "/directory", "directory/", "./directory", "empty/../directory"]
)
@pytest.mark.parametrize("verb", LISTINGS)
def test_a_listing_is_of_the_directory_that_is_named(
    client: Dialogue, tree: Path, verb: str, path: str
) -> None:
    """With a path that directory is listed, by the names in it."""
    before = f"{path.rstrip('/')}/" if verb == "NLST" else ""
    assert names(client, f"{verb} {path}") == [f"{before}inner"]


@pytest.mark.parametrize(
    ("argument", "before"),
    [
        ("", ""),
        (".", ""),
        ("./", "./"),
        ("..", "../"),
        ("/", "/"),
        ("sub", "sub/"),
        ("sub/", "sub/"),
        ("sub//", "sub//"),
        ("./sub", "./sub/"),
        ("/sub", "/sub/"),
        ("-a sub", "sub/"),
        ("-la sub", "sub/"),
        ("-l -a /sub/", "/sub/"),
        ("-la", ""),
        ("-1 .", ""),
    ],
)
def test_names_that_nlst_gives_can_be_used_as_they_are(
    client: Dialogue, root: Path, argument: str, before: str
) -> None:
    """“the argument, a slash, the name” (RFC 1123 section 4.1.2.7), as vsftpd does."""
    for number, directory in enumerate((root, root / "sub")):
        directory.mkdir(exist_ok=True)
        (directory / "file").write_bytes(bytes(1 + number))
    if argument == "..":
        client.says("CWD sub", 250)
    found = names(client, f"NLST {argument}".strip())
    assert set(found) - {f"{before}sub"} == {f"{before}file"}
    size = 2 if "sub" in argument else 1
    assert client.says(f"SIZE {before}file", 213) == f"213 {size}"


@pytest.mark.parametrize("argument", ["sub/file", "./sub/file", "/sub/file"])
def test_nlst_of_a_file_gives_the_argument(client: Dialogue, root: Path, argument: str) -> None:
    (root / "sub").mkdir()
    (root / "sub/file").touch()
    assert names(client, f"NLST {argument}") == [argument]
    assert names(client, f"NLST {argument[:-2]}*") == [argument]


def test_a_loop_over_nlst_deletes_what_it_was_asked_for(port: int, root: Path) -> None:
    (root / "sub").mkdir()
    for name in ("file", "other", "sub/file"):
        (root / name).touch()
    with ftplib.FTP() as ftp:
        ftp.connect("127.0.0.1", port, DEADLINE)
        ftp.login("user", "12345")
        for name in ftp.nlst("sub"):
            ftp.delete(name)
    assert sorted(os.listdir(root)) == ["file", "other", "sub"]
    assert os.listdir(root / "sub") == []


@pytest.mark.parametrize("verb", ["LIST", "NLST"])
def test_a_file_is_listed_as_its_one_line(client: Dialogue, tree: Path, verb: str) -> None:
    """“LIST and NLST of a file give its one line”"""
    assert names(client, f"{verb} file") == ["file"]


@pytest.mark.parametrize("verb", ["LIST", "NLST"])
def test_a_file_elsewhere_is_listed_as_its_one_line(
    client: Dialogue, tree: Path, verb: str
) -> None:
    """“LIST and NLST of a file give its one line”, by a name that finds it again."""
    [name] = names(client, f"{verb} directory/inner")
    assert name in ("inner", "directory/inner", "/directory/inner")


@pytest.mark.parametrize("verb", LISTINGS)
def test_what_is_missing_is_refused_before_the_transfer(client: Dialogue, verb: str) -> None:
    """“a missing path 550 before 150”"""
    with client.passive():
        client.says(f"{verb} missing", 550)
    client.says("NOOP", 200)


@pytest.mark.parametrize("verb", LISTINGS)
def test_an_empty_directory_has_no_line(client: Dialogue, tree: Path, verb: str) -> None:
    """“an empty directory no line”"""
    assert client.downloads(f"{verb} empty") == b""


def test_facts_of_a_file_are_no_directory(client: Dialogue, tree: Path) -> None:
    """“MLSD of a file 501”"""
    with client.passive():
        client.says("MLSD file", 501)
    client.says("NOOP", 200)


@pytest.mark.parametrize("options", ["-l", "-1", "-t", "-l -1", "-ltr"])
@pytest.mark.parametrize("verb", ["LIST", "NLST"])
def test_options_are_accepted_and_ignored(
    client: Dialogue, tree: Path, verb: str, options: str
) -> None:
    """“Options (`-a`, `-l`, `-la`, `-1` …) before the path are accepted and … ignored.”"""
    assert names(client, f"{verb} {options}") == ["directory", "empty", "file"]
    inner = "directory/inner" if verb == "NLST" else "inner"
    assert names(client, f"{verb} {options} directory") == [inner]


@pytest.mark.parametrize("options", ["-a", "-la", "-al", "-l -a"])
@pytest.mark.parametrize("verb", ["LIST", "NLST"])
def test_hidden_names_are_shown_on_demand(
    client: Dialogue, tree: Path, verb: str, options: str
) -> None:
    """“and, but for hidden names, ignored”: these `-a` shows."""
    found = set(names(client, f"{verb} {options}"))
    assert found - {".", ".."} == {".hidden", "empty", "file", "directory"}


@pytest.mark.parametrize("verb", ["LIST", "NLST"])
def test_options_are_told_from_the_path(client: Dialogue, root: Path, verb: str) -> None:
    """“Options … before the path”: behind it they are part of the name."""
    (root / "two words -a").write_bytes(b"")
    assert names(client, f"{verb} -l two words -a") == ["two words -a"]


def test_facts_show_hidden_names_too(client: Dialogue, tree: Path) -> None:
    """“but for hidden names”: MLSD has no options and tells everything (RFC 3659)."""
    assert set(names(client, "MLSD")) - {".", ".."} == {".hidden", "empty", "file", "directory"}


def test_a_long_listing_looks_like_that_of_ls(client: Dialogue, root: Path) -> None:
    """“LIST looks like `ls -l`”"""
    (root / "file").write_bytes(b"x" * 1234)
    (root / "file").chmod(0o640)
    (root / "directory").mkdir(0o755)
    os.symlink("file", root / "link")
    lines = client.downloads("LIST").decode().splitlines()
    found = {match["name"]: match for line in lines if (match := LONG.fullmatch(line))}
    assert set(found) == {"file", "directory", "link -> file"}
    assert (found["file"]["mode"], found["file"]["size"]) == ("-rw-r-----", "1234")
    assert found["directory"]["mode"] == "drwxr-xr-x"
    assert found["link -> file"]["mode"].startswith("l")


@pytest.mark.parametrize(
    ("age", "form"),
    [(3600, "%H:%M"), (100 * 86400, "%H:%M"), (400 * 86400, " %Y"), (-400 * 86400, " %Y")],
    ids=["an hour ago", "this year", "last year", "next year"],
)
def test_times_are_in_english_as_ls_writes_them(
    client: Dialogue, root: Path, age: int, form: str
) -> None:
    """“(English months, no locale)”: a clock for half a year, then the year."""
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    (root / "file").write_bytes(b"")
    when = int(time.time()) - age
    os.utime(root / "file", (when, when))
    match = LONG.fullmatch(client.downloads("LIST").decode().strip())
    assert match
    date = time.gmtime(when)
    expected = f"{months[date.tm_mon - 1]} {date.tm_mday:2} {time.strftime(form, date)}"
    assert match["time"] == expected


@pytest.mark.parametrize("verb", LISTINGS)
def test_a_listing_ends_in_226(client: Dialogue, tree: Path, verb: str) -> None:
    """“MLSD ends in 226.”"""
    with client.begins(verb) as data:
        while data.recv(65536):
            pass
    assert client.line().startswith("226 ")


@pytest.mark.parametrize("verb", LISTINGS)
def test_a_listing_comes_in_binary_and_text_alike(client: Dialogue, tree: Path, verb: str) -> None:
    """TYPE is about files: lines of listings end in CRLF in either."""
    binary = client.downloads(verb)
    client.says("TYPE A", 200)
    assert client.downloads(verb) == binary


def test_a_directory_of_thousands_is_complete(client: Dialogue, big_directory: Path) -> None:
    """“LIST and NLST …”: every entry, each once."""
    expected = sorted(os.listdir(big_directory))
    assert len(expected) >= 3000
    for verb in LISTINGS:
        before = "directory/" if verb == "NLST" else ""
        assert names(client, f"{verb} directory") == [f"{before}{name}" for name in expected]


def test_a_link_that_leads_nowhere_does_not_hide_the_rest(client: Dialogue, root: Path) -> None:
    """Whatever is in a directory, its listing is complete and ends in 226."""
    (root / "file").write_bytes(b"")
    os.symlink("missing", root / "broken")
    os.symlink("loop", root / "loop")
    os.mkfifo(root / "fifo")
    assert "file" in client.downloads("LIST").decode()
    assert {"file", "fifo"} <= set(names(client, "MLSD"))
    assert {"file", "fifo"} <= set(names(client, "NLST"))


def test_names_that_an_encoding_has_no_characters_for_are_listed_all_the_same(
    serve: Maker,
) -> None:
    """One such name, and no listing would be had: its characters are question marks."""
    for name in ("€.txt", "é.txt"):
        (serve.directory / name).touch()
    (serve.directory / "日").mkdir()
    users = [User("user", "12345", base_path=serve.directory, home_path="/日")]
    with Dialogue(serve(users=users, encoding="latin-1")) as client:
        client.logs_in()
        assert '"/?"' in client.says("PWD", 257)
        client.says("CDUP", 250)
        assert sorted(client.downloads("NLST").split()) == [b"?", b"?.txt", b"\xe9.txt"]
        assert client.downloads("LIST").count(b"\r\n") == 3
        client.send("STAT /")
        reply = b""
        while b"\r\n213 " not in reply:
            reply += client.sock.recv(1 << 16)
        assert b"?.txt\r\n" in reply
        assert b"\xe9.txt\r\n" in reply


def test_a_reply_of_many_lines_counts_once(serve: Maker) -> None:
    """Also where its lines are sent one after another."""
    with Dialogue(serve()) as client:
        client.logs_in()
        client.says("STAT /", 213)
    made = serve.made[-1]
    counts = made.call(lambda: made.server._services.counts.replies)
    assert (counts[213], counts[0]) == (1, 0)
