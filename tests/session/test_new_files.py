"""STOU, ALLO, AVBL, MFMT (protocol.md, “Verbs”, “Parameters”, “Files”)."""

from __future__ import annotations

import contextlib
import os
import random
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ftpcluster import Permission, User
from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.dialogue import Dialogue
from tests.support.kinds import KINDS, running

NEW_YEAR = 1577836800  # 2020-01-01 00:00:00 UTC


# ---------------------------------------------------------------------- STOU


def stores(client: Dialogue, command: str, content: bytes) -> str:
    """Upload with STOU; the name that 150 tells (RFC 1123, 4.1.2.9)."""
    with client.passive() as data:
        text = client.says(command, 150)
        match = re.fullmatch(r"150 FILE: (\S.*)", text)
        assert match, text
        data.sendall(content)
    client.expects(226)
    return match[1]


@pytest.mark.parametrize("command", ["STOU", "STOU prefix", "STOU two words", "stou"])
def test_stou_stores_under_a_name_that_150_tells(
    client: Dialogue, root: Path, command: str
) -> None:
    """“STOU”: ``150 FILE: name``, and 226 when all is there."""
    name = stores(client, command, b"content")
    assert os.listdir(root) == [name]
    assert client.downloads(f"RETR {name}") == b"content"


def test_stou_never_takes_a_name_twice(client: Dialogue, root: Path) -> None:
    """“STOU”: store unique."""
    (root / "prefix").write_bytes(b"before")
    names = {stores(client, "STOU prefix", b"%d" % number) for number in range(50)}
    assert len(names) == 50
    assert set(os.listdir(root)) == names | {"prefix"}
    assert (root / "prefix").read_bytes() == b"before"
    assert {(root / name).read_bytes() for name in names} == {b"%d" % i for i in range(50)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"atomic_uploads": True}], ids=["in place", "atomic"])
def test_200_at_once_get_200_names_and_no_byte_is_mixed(
    kind: str, options: dict[str, bool], tmp_path: Path
) -> None:
    """faults.md: “200 STOU at once: 200 names, no byte mixed”."""
    contents = [random.Random(number).randbytes(50_000 + number) for number in range(200)]
    with running(kind, tmp_path, **options) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Dialogue(server.port)) for _ in contents]
        for client in clients:
            client.logs_in()
        uploads = [stack.enter_context(client.passive()) for client in clients]
        for client in clients:
            client.send("STOU prefix")
        names = [client.expects(150).removeprefix("150 FILE: ") for client in clients]
        assert len(set(names)) == len(contents)
        for start in range(0, 60_000, 10_000):  # a piece of each, then the next of each
            for upload, content in zip(uploads, contents, strict=True):
                upload.sendall(content[start : start + 10_000])
        for upload in uploads:
            upload.close()
        for client in clients:
            client.expects(226)
        assert server.left() == sorted(names)
        for name, content in zip(names, contents, strict=True):
            assert (server.root / name).read_bytes() == content


def test_stou_tells_a_name_that_finds_the_file_again(client: Dialogue, root: Path) -> None:
    """RFC 1123, 4.1.2.9: 150 has “the unique pathname of the file”, also in another directory."""
    (root / "directory").mkdir()
    name = stores(client, "STOU directory/prefix", b"content")
    assert [path.parent.name for path in root.rglob("*") if path.is_file()] == ["directory"]
    assert client.downloads(f"RETR {name}") == b"content"


def test_stou_is_in_the_current_directory(client: Dialogue, root: Path) -> None:
    """“STOU”: without a path, here (RFC 959, 4.1.3)."""
    (root / "directory").mkdir()
    client.says("CWD directory", 250)
    name = stores(client, "STOU", b"content")
    assert (root / "directory" / name).read_bytes() == b"content"


def test_stou_converts_text(client: Dialogue, root: Path) -> None:
    """“TYPE A converts both ways”"""
    client.says("TYPE A", 200)
    name = stores(client, "STOU", b"a\r\nb\r\n")
    assert (root / name).read_bytes() == b"a\nb\n"


def test_stou_with_rest_is_refused(client: Dialogue, root: Path) -> None:
    """“STOU with REST refused.”: once; REST is gone with it."""
    client.says("REST 3", 350)
    with client.passive() as data:
        client.send("STOU")
        code, text = client.reply()
        assert 500 <= code < 600, text
        assert os.listdir(root) == []
        client.says("STOU", 150)
        data.sendall(b"content")
    client.expects(226)
    [name] = os.listdir(root)
    assert (root / name).read_bytes() == b"content"


def test_stou_without_data_connection_leaves_no_file(client: Dialogue, root: Path) -> None:
    """“data connection never came 425”: here nobody has asked for one."""
    client.says("STOU", 425)
    assert os.listdir(root) == []


def test_stou_whose_data_never_comes_leaves_no_file(serve: Maker) -> None:
    """“data connection never came 425”"""
    with Dialogue(serve(data_timeout=0.1)) as client:
        client.logs_in()
        client.epsv()
        client.says("STOU", 150)
        client.expects(425)
        assert os.listdir(serve.directory) == []
        client.says("NOOP", 200)


def test_stou_that_is_aborted_before_its_data_leaves_no_file(client: Dialogue, root: Path) -> None:
    """“data connection never came”, but ABOR: an empty file would be of use to nobody."""
    client.epsv()
    client.says("STOU", 150)
    client.says("ABOR", 426)
    client.expects(226)
    assert os.listdir(root) == []


def test_stou_that_is_aborted_keeps_what_came(client: Dialogue, root: Path) -> None:
    """“A partial upload stays for REST (default)”"""
    with client.begins("STOU") as data:
        data.sendall(b"content")
        until(lambda: [path.read_bytes() for path in root.iterdir()] == [b"content"])
        client.says("ABOR", 426)
        client.expects(226)
    [name] = os.listdir(root)
    assert (root / name).read_bytes() == b"content"


@pytest.mark.parametrize("argument", ["", " prefix", " /prefix"])
def test_who_may_only_read_stores_nothing(port: int, root: Path, argument: str) -> None:
    """library.md row 7: STOU needs the right to write."""
    with Dialogue(port) as client:
        client.logs_in("anonymous", "me@example.com")
        with client.passive():
            client.says(f"STOU{argument}", 550)
    assert os.listdir(root) == []


@pytest.mark.parametrize("prefix", ["missing/prefix", "out/prefix"])
def test_stou_into_no_directory_is_refused(
    client: Dialogue, root: Path, tmp_path: Path, prefix: str
) -> None:
    """“a missing path 550 before 150”; nothing is stored beyond the root."""
    (root / "out").symlink_to(tmp_path)
    with client.passive():
        client.says(f"STOU {prefix}", 550)
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------- ALLO


@pytest.mark.parametrize("argument", ["0", "1", "10", "10 R 5", "10 r 5", "0010"])
def test_allo_of_what_there_is(client: Dialogue, argument: str) -> None:
    """“ALLO”: 200, or 202 where there is no need (RFC 959, 4.1.3)."""
    client.says(f"ALLO {argument}", 200, 202)


@pytest.mark.parametrize("argument", [str(1 << 62), f"{1 << 62} R 512", str((1 << 63) - 1)])
def test_allo_of_more_than_there_is(client: Dialogue, root: Path, argument: str) -> None:
    """“ALLO with a size that the disk or the quota does not have: 452 or 552.”"""
    client.says(f"ALLO {argument}", 452, 552)
    client.uploads("STOR file", b"content")


def test_allo_of_more_than_a_number_can_be(client: Dialogue) -> None:
    """“ALLO with a size that the disk … does not have”: and none has this, or it is no size."""
    client.says("ALLO " + "9" * 30, 452, 501, 552)


@pytest.mark.parametrize(
    "argument", ["x", "-1", "+1", "1.5", "10 5", "10 R", "10 R x", "10R5", "١٠", "1e3"]
)
def test_a_size_that_is_none_is_a_syntax_error(client: Dialogue, argument: str) -> None:
    """“501 where one is missing: ALLO …”, and where it isn't a number."""
    client.says(f"ALLO {argument}", 501)


# ---------------------------------------------------------------------- AVBL


def test_avbl_tells_what_may_be_written(client: Dialogue, root: Path) -> None:
    """“AVBL”: 213 and a number of bytes, of the directory that is named or the current one."""
    (root / "directory").mkdir()
    status = os.statvfs(root)
    expected = status.f_bavail * status.f_frsize
    for command in ("AVBL", "AVBL directory", "AVBL /directory"):
        match = re.fullmatch(r"213 (\d+)", client.says(command, 213))
        assert match
        # others write to the same disk
        assert abs(int(match[1]) - expected) < 4 << 30
        assert int(match[1]) > 0


def test_avbl_and_allo_say_the_same(client: Dialogue) -> None:
    """“ALLO with a size that the disk … does not have”: which AVBL tells."""
    available = int(client.says("AVBL", 213)[4:])
    client.says(f"ALLO {available // 2}", 200, 202)
    client.says(f"ALLO {available * 2 + (4 << 30)}", 452, 552)


@pytest.mark.parametrize("path", ["missing", "missing/directory", "out"])
def test_avbl_of_what_is_missing_is_refused(client: Dialogue, root: Path, path: str) -> None:
    """“a missing path 550”: what lies beyond the root is missing, too."""
    (root / "out").symlink_to("/")
    client.says(f"AVBL {path}", 550)


def test_avbl_needs_the_right_to_read(serve: Maker) -> None:
    """library.md row 7: nothing is told about a directory that may not be looked at."""
    (serve.directory / "secret").mkdir()
    rules = [Permission("/"), Permission("/secret", readable=False)]
    users = [User("user", "12345", base_path=serve.directory, permissions=rules)]
    with Dialogue(serve(users=users)) as client:
        client.logs_in()
        client.says("AVBL", 213)
        client.says("AVBL secret", 550)


# ---------------------------------------------------------------------- MFMT


@pytest.fixture
def file(root: Path) -> Path:
    path = root / "file"
    path.write_bytes(b"content")
    return path


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("20200101000000", NEW_YEAR),
        ("20200229235959", NEW_YEAR + 60 * 86400 - 1),
        ("19700101000001", 1),
        ("20371231235959", 2145916799),
    ],
)
def test_mfmt_sets_the_time_of_the_last_change_in_utc(
    client: Dialogue, file: Path, time: str, expected: int
) -> None:
    """“MFMT in UTC”: 213 tells the time and the path (draft-somers-ftp-mfxx)."""
    assert client.says(f"MFMT {time} file", 213) == f"213 Modify={time}; /file"
    assert file.stat().st_mtime == expected
    assert client.says("MDTM file", 213) == f"213 {time}"
    assert f"modify={time};" in client.says("MLST file", 250)
    assert datetime.fromtimestamp(expected, UTC).strftime("%Y%m%d%H%M%S") == time


@pytest.mark.parametrize(
    "fraction", [".1", ".5", ".123", ".499", ".999", ".9994", ".9996", ".123456789", ".999999999"]
)
def test_a_fraction_of_a_second_does_not_change_the_second(
    client: Dialogue, file: Path, fraction: str
) -> None:
    """“MFMT”: ``YYYYMMDDHHMMSS.sss`` (RFC 3659, 2.3); MDTM afterwards says the same."""
    text = client.says(f"MFMT 20200101000000{fraction} file", 213)
    assert "Modify=20200101000000" in text
    assert NEW_YEAR <= file.stat().st_mtime_ns / 1e9 < NEW_YEAR + 1
    assert client.says("MDTM file", 213).startswith("213 20200101000000")


def test_mfmt_takes_any_name(client: Dialogue, root: Path) -> None:
    """“MFMT”: the name is all that stands behind the time."""
    (root / "directory").mkdir()
    for name in ("two words", " leading", "trailing ", "directory/-dash", "20200101000000"):
        (root / name).write_bytes(b"")
        client.says(f"MFMT 20200101000000 {name}", 213)
        assert (root / name).stat().st_mtime == NEW_YEAR
    client.says("CWD directory", 250)
    assert client.says("MFMT 20200101000001 -dash", 213).endswith("; /directory/-dash")


def test_mfmt_leaves_the_time_of_the_last_access(client: Dialogue, file: Path) -> None:
    """“MFMT”: modify fact: modification time; nothing else changes."""
    os.utime(file, (981173106, 981173106))
    client.says("MFMT 20200101000000 file", 213)
    assert file.stat().st_atime == 981173106
    assert file.read_bytes() == b"content"


def test_control_characters_stay_out_of_the_reply(client: Dialogue, root: Path) -> None:
    """“Control characters never reach a log or a listing unescaped.”"""
    (root / "a\x1b[2Jb").write_bytes(b"")
    assert "\x1b" not in client.says("MFMT 20200101000000 a\x1b[2Jb", 213)


@pytest.mark.parametrize(
    "argument",
    [
        "x file",
        "20200101000000",
        "20200101000000 ",
        "2020010100000 file",
        "202001010000000 file",
        "20201301000000 file",
        "20200230000000 file",
        "20190229000000 file",
        "20200101240000 file",
        "20200101006000 file",
        "20200101000061 file",
        "00000101000000 file",
        "20200101000000. file",
        "20200101000000.x file",
        "20200101000000,5 file",
        "-2020010100000 file",
        "٢٠٢٠٠١٠١٠٠٠٠٠٠ file",
        "file 20200101000000",
        "bad missing",
    ],
)
def test_a_bad_time_is_a_syntax_error(client: Dialogue, file: Path, argument: str) -> None:
    """“bad time 501”, and “501 where one is missing: … MFMT”"""
    before = file.stat().st_mtime_ns
    client.says(f"MFMT {argument}", 501)
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["missing", "missing/file", "file/x"])
def test_mfmt_of_what_is_missing_is_refused(client: Dialogue, file: Path, name: str) -> None:
    """“a missing path 550”"""
    client.says(f"MFMT 20200101000000 {name}", 550)


def test_who_may_only_read_sets_no_time(port: int, file: Path) -> None:
    """library.md row 7: MFMT needs the right to write."""
    before = file.stat().st_mtime_ns
    with Dialogue(port) as client:
        client.logs_in("anonymous", "me@example.com")
        client.says("MFMT 20200101000000 file", 550)
    assert file.stat().st_mtime_ns == before
