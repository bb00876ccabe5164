"""What clients say that is not quite RFC 959, and that other servers take (protocol.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster import User
from tests.session.conftest import Maker
from tests.support.dialogue import Dialogue, rest_of

# ---------------------------------------------------------------------- blanks


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("TYPE A  ", 200),
        ("TYPE   L   8", 200),
        ("STRU  F", 200),
        ("MODE  S  ", 200),
        ("REST  7 ", 350),
        ("ALLO  1  R  1 ", 200),
        ("PORT  127,0,0,1,200,1 ", 200),
        ("EPRT  |1|127.0.0.1|50001| ", 200),
        ("EPSV  1 ", 229),
        ("PASV  ", 227),
        ("PWD   ", 257),
        ("CDUP  ", 250),
        ("SYST ", 215),
        ("FEAT  ", 211),
        ("HELP  STOR ", 214),
        ("OPTS  UTF8   ON ", 200),
        ("OPTS MLST  size; ", 200),
        ("OPTS  HASH  MD5 ", 200),
        ("RANG  1   2 ", 350),
        ("PROT  P ", 200),
        ("PBSZ  0 ", 200),
        ("CLNT  camera 1.0 ", 200),
        ("SITE  CHMOD  600 file", 200),
        ("SITE  HELP ", 214),
        ("MFMT  20010203040506 file", 213),
        ("ABOR  ", 226),
        ("NOOP   ", 200),
        ("REIN  ", 220),
        ("QUIT  ", 221),
    ],
)
def test_blanks_around_words_mean_nothing(
    client: Dialogue, root: Path, line: str, code: int
) -> None:
    (root / "file").touch()
    client.says(line, code)


@pytest.mark.parametrize("verb", ["TYPE", "STRU", "REST", "ALLO", "PORT", "OPTS", "PROT"])
def test_blanks_alone_are_no_words(client: Dialogue, verb: str) -> None:
    client.says(f"{verb}   ", 501)


@pytest.mark.parametrize("name", [" file", "file ", "  file  "])
def test_blanks_around_a_name_are_part_of_it(client: Dialogue, root: Path, name: str) -> None:
    client.uploads(f"STOR {name}", b"content")
    assert [each.name for each in root.iterdir()] == [name]
    assert client.says(f"SIZE {name}", 213) == "213 7"
    client.says(f"SITE CHMOD 600 {name}", 200)
    client.says(f"MFMT 20010203040506 {name}", 213)
    client.says("SIZE file", 550)
    client.says(f"DELE {name}", 250)


# ---------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("line", "code"), [("QUIT now, please", 221), ("NOOP 17", 200), ("noop  x ", 200)]
)
def test_an_argument_that_says_nothing_is_ignored(client: Dialogue, line: str, code: int) -> None:
    client.says(line, code)


def test_noop_with_an_argument_is_answered_during_a_transfer(client: Dialogue, root: Path) -> None:
    with (root / "large").open("wb") as file:
        file.truncate(1 << 30)
    with client.begins("RETR large", window=4096):
        client.says("NOOP are you there", 200)
        client.send("ABOR")
        client.expects(426)
        client.expects(226)


@pytest.mark.parametrize(
    ("name", "is_binary"),
    [("L8", True), ("l7", True), ("AN", False), ("A  N", False), ("A T", False), ("aT", False)],
)
def test_types_are_taken_with_and_without_the_blank(
    client: Dialogue, root: Path, name: str, is_binary: bool
) -> None:
    (root / "text").write_bytes(b"one\ntwo\n")
    client.says("TYPE A" if is_binary else "TYPE I", 200)
    client.says(f"TYPE {name}", 200)
    line_end = b"\n" if is_binary else b"\r\n"
    assert client.downloads("RETR text") == line_end.join([b"one", b"two", b""])


@pytest.mark.parametrize("name", ["L9", "L 16", "A C", "I8", "AI", "E N"])
def test_other_types_are_refused(client: Dialogue, name: str) -> None:
    client.says(f"TYPE {name}", 504)


def test_the_beginning_can_be_named_in_any_type(client: Dialogue, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    client.says("REST 3", 350)
    client.says("TYPE A", 200)
    client.says("REST 00", 350)
    assert client.downloads("RETR file") == b"content"
    client.says("REST 3", 501)


@pytest.mark.parametrize("size", [str(2**63), "1" + "0" * 19, "9" * 4000])
def test_more_than_any_file_can_have_is_not_allocated(client: Dialogue, size: str) -> None:
    client.says(f"ALLO {size}", 552)
    client.says(f"ALLO {size} R 80", 552)
    client.says("ALLO 00000000000000000000001", 200)


def test_a_router_may_have_rewritten_pasv(client: Dialogue, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    client.says("P@SW", 227)
    client.says("p@sw ", 227)
    client.says("P@SW 1", 501)
    assert "P@SW" not in client.says("HELP", 214) + client.says("FEAT", 211)
    client.says("EPSV ALL", 200)
    client.says("P@SW", 503)


def test_a_router_has_rewritten_pasv_before_the_login(port: int) -> None:
    with Dialogue(port) as client:
        for _ in range(12):
            client.says("P@SW", 530)


# ---------------------------------------------------------------------- RNFR


@pytest.mark.parametrize(
    "line",
    ["NOOP", "SIZE new", "TYPE A", "PWD", "MLST new", "FOO", "RNTO", "STAT", "CWD directory"],
)
def test_what_is_to_be_renamed_stays_over_other_commands(
    client: Dialogue, root: Path, line: str
) -> None:
    (root / "old").write_bytes(b"content")
    (root / "directory").mkdir()
    client.says("RNFR old", 350)
    client.send(line)
    client.reply()
    client.says("RNTO /new", 250)
    assert (root / "new").read_bytes() == b"content"
    client.says("RNTO /other", 503)


def test_what_is_to_be_renamed_stays_over_a_listing(client: Dialogue, root: Path) -> None:
    (root / "old").touch()
    client.says("RNFR old", 350)
    assert client.downloads("NLST") == b"old\r\n"
    client.says("RNTO new", 250)


@pytest.mark.parametrize("other", ["missing", "/"])
def test_another_rnfr_takes_the_place_of_the_first(
    client: Dialogue, root: Path, other: str
) -> None:
    """Else RNTO would rename what the client does not mean."""
    (root / "old").touch()
    client.says("RNFR old", 350)
    client.says(f"RNFR {other}", 550)
    client.says("RNTO new", 503)
    assert (root / "old").exists()


@pytest.mark.parametrize("line", ["REIN", "USER user"])
def test_what_is_to_be_renamed_ends_with_the_login(client: Dialogue, root: Path, line: str) -> None:
    (root / "old").touch()
    client.says("RNFR old", 350)
    client.says(line, 220, 331)
    client.logs_in()
    client.says("RNTO new", 503)


# ---------------------------------------------------------------------- MDTM, DELE


def changed(path: Path) -> float:
    return path.stat().st_mtime


@pytest.mark.parametrize("name", ["file", "directory/file", "/directory/two words"])
def test_mdtm_with_a_time_sets_it(client: Dialogue, root: Path, name: str) -> None:
    (root / "directory").mkdir()
    (root / name.strip("/")).touch()
    path = root / name.strip("/")
    client.says(f"MDTM 20010203040506 {name}", 213)
    assert changed(path) == 981173106
    client.says(f"MDTM 20010203040506.25  {name}", 213)
    assert changed(path) == 981173106.25
    assert client.says(f"MDTM {name.strip()}", 213) == "213 20010203040506"


def test_a_time_may_begin_a_name(client: Dialogue, root: Path) -> None:
    whole = root / "20010203040506 file"
    for path in (whole, root / "file"):
        path.touch()
        client.says(f"MFMT 20200102030405 {path.name}", 213)
    assert client.says(f"MDTM {whole.name}", 213) == "213 20200102030405"
    assert changed(root / "file") == changed(whole)
    (root / "20010203040507 file").mkdir()
    client.says("MDTM 20010203040507 file", 550)
    assert changed(root / "file") == changed(whole)


@pytest.mark.parametrize(
    "line",
    [
        "MDTM 20011303040506 file",
        "MDTM 200102030405 file",
        "MDTM 20010203040506  missing",
        "MDTM 20010203040506",
    ],
)
def test_what_is_no_time_is_a_name(client: Dialogue, root: Path, line: str) -> None:
    (root / "file").touch()
    before = changed(root / "file")
    client.says(line, 550)
    assert changed(root / "file") == before


def test_a_time_is_set_by_users_who_may_write(port: int, root: Path) -> None:
    (root / "file").touch()
    before = changed(root / "file")
    with Dialogue(port) as client:
        client.logs_in("anonymous", "")
        client.says("MDTM 20010203040506 file", 550)
    assert changed(root / "file") == before


@pytest.mark.parametrize("name", ["file/", "file//", "/file/", "./file/.", "link/", "missing/"])
def test_a_slash_at_the_end_of_a_name_means_a_directory(
    client: Dialogue, root: Path, name: str
) -> None:
    (root / "file").touch()
    (root / "link").symlink_to("file")
    client.says(f"DELE {name}", 550)
    assert sorted(each.name for each in root.iterdir()) == ["file", "link"]


# ---------------------------------------------------------------------- ~


@pytest.fixture
def at_home(serve: Maker, tmp_path: Path) -> Iterator[Dialogue]:
    """Somebody whose home is not the root, in another directory."""
    for name in ("home/sub", "away/sub"):
        (tmp_path / "directory" / name).mkdir(parents=True)
    (tmp_path / "directory/home/file").write_bytes(b"content")
    user = User("user", "12345", base_path=tmp_path / "directory", home_path="/home")
    with Dialogue(serve(users=[user])) as client:
        client.logs_in()
        client.says("CWD /away", 250)
        yield client


@pytest.mark.parametrize(
    ("path", "found"), [("~", "/home"), ("~/", "/home"), ("~/sub", "/home/sub"), ("~/..", "/")]
)
def test_a_tilde_is_the_users_home(at_home: Dialogue, path: str, found: str) -> None:
    at_home.says(f"CWD {path}", 250)
    assert at_home.says("PWD", 257).startswith(f'257 "{found}" ')


def test_files_are_found_and_stored_at_home(at_home: Dialogue, tmp_path: Path) -> None:
    home, away = tmp_path / "directory/home", tmp_path / "directory/away"
    assert at_home.downloads("RETR ~/file") == b"content"
    assert at_home.downloads("NLST ~") == b"~/file\r\n~/sub\r\n"
    assert at_home.downloads("NLST ~/f*") == b"~/file\r\n"
    assert at_home.downloads("LIST -l ~/").count(b"\r\n") == 2
    at_home.uploads("STOR ~/new", b"new")
    at_home.says("SIZE ~/new", 213)
    at_home.says("MKD ~/a/b", 257)
    at_home.says("RNFR ~/new", 350)
    at_home.says("RNTO ~/a/b/renamed", 250)
    at_home.says("DELE ~/file", 250)
    assert (home / "a/b/renamed").read_bytes() == b"new"
    assert sorted(os.listdir(home)) == ["a", "sub"]
    assert os.listdir(away) == ["sub"]


@pytest.mark.parametrize("line", ["MKD ~", "MKD ./~", "MKD /away/~", "MKD ./~/x", "MKD new/~/x"])
def test_no_entry_of_that_name_is_made(at_home: Dialogue, tmp_path: Path, line: str) -> None:
    at_home.says(line, 550, 553)
    assert not [*tmp_path.rglob("~")]
    with at_home.passive():
        at_home.says("STOR ~", 550)
        at_home.says("STOR ./~", 553)
        at_home.says("APPE /away/~", 553)
    at_home.says("RNFR /away/sub", 350)
    at_home.says("RNTO ./~", 553)
    at_home.says("RNFR /away/sub", 350)
    at_home.says("RNTO ~", 550)
    assert not [*tmp_path.rglob("~")]


@pytest.mark.parametrize("path", ["~other", "~root/x", "~~"])
def test_a_tilde_of_somebody_else_is_a_name(at_home: Dialogue, tmp_path: Path, path: str) -> None:
    at_home.says(f"CWD {path}", 550)
    with at_home.passive():
        at_home.says(f"RETR {path}", 550)
    at_home.uploads("STOR ~$report.docx", b"lock")
    assert (tmp_path / "directory/away/~$report.docx").read_bytes() == b"lock"
    at_home.says("DELE ~$report.docx", 250)


def test_an_entry_of_that_name_comes_first(at_home: Dialogue, tmp_path: Path) -> None:
    entry = tmp_path / "directory/away/~"
    entry.mkdir()
    at_home.uploads("STOR ~/new", b"new")
    assert os.listdir(entry) == ["new"]
    at_home.says("CWD ~", 250)
    assert at_home.says("PWD", 257).startswith('257 "/away/~" ')
    at_home.says("CWD ~", 250)
    assert at_home.says("PWD", 257).startswith('257 "/home" ')
    at_home.says("DELE /away/~/new", 250)
    at_home.says("RMD /away/~", 250)


def test_a_tilde_needs_a_login(port: int) -> None:
    with Dialogue(port) as client:
        client.says("CWD ~", 530)


# ---------------------------------------------------------------------- other protocols


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1",
        b"POST /form HTTP/1.0",
        b"PUT / HTTP/1.1",
        b"HEAD / HTTP/1.1",
        b"CONNECT localhost:21 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2",
        b"EHLO localhost",
    ],
)
def test_another_protocol_ends_the_session_at_once(port: int, root: Path, first: bytes) -> None:
    """What follows may be commands that a browser was made to send."""
    with Dialogue(port) as client:
        lines = [first, b"Host: localhost", b"", b"USER user", b"PASS 12345", b"MKD made"]
        client.sock.sendall(b"\r\n".join([*lines, b""]))
        said = client._buffer + rest_of(client.sock)
    assert said.startswith(b"421 ")
    assert said.count(b"\r\n") == 1
    assert not (root / "made").exists()


@pytest.mark.parametrize("line", ["GET file", "SSH", "GETS / HTTP/1.1", "SITE EHLO"])
def test_a_user_may_mistake_a_verb(client: Dialogue, line: str) -> None:
    client.says(line, 500, 502, 504)
    client.says("NOOP", 200)
