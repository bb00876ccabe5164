"""Files and directories by name (protocol.md, “Files”)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.session.conftest import Maker, Serving
from tests.support.dialogue import Dialogue


def test_a_file_comes_back_as_it_was_stored(port: int, root: Path) -> None:
    content = os.urandom(3_000_000)
    with Dialogue(port) as client:
        client.logs_in()
        client.uploads("STOR file", content)
        assert (root / "file").read_bytes() == content
        assert client.downloads("RETR file") == content
        client.says("QUIT", 221)
        assert client.is_closed()


# ---------------------------------------------------------------------- removing


def refuses(client: Dialogue, command: str) -> None:
    """Any 5xx will do."""
    client.send(command)
    code, text = client.reply()
    assert 500 <= code < 600, text


@pytest.mark.parametrize("verb", ["RMD", "XRMD"])
def test_a_directory_is_removed(client: Dialogue, root: Path, verb: str) -> None:
    (root / "directory").mkdir()
    client.says(f"{verb} directory", 250)
    assert not list(root.iterdir())


@pytest.mark.parametrize("verb", ["RMD", "XRMD"])
def test_a_file_is_not_removed_as_a_directory(client: Dialogue, root: Path, verb: str) -> None:
    """“5xx for RMD of a file”"""
    (root / "file").write_bytes(b"")
    refuses(client, f"{verb} file")
    assert (root / "file").exists()


@pytest.mark.parametrize("path", ["/", "..", "../..", "//", "/.", "directory/.."])
def test_the_root_is_not_removed(client: Dialogue, root: Path, path: str) -> None:
    """“5xx for RMD of … “/””, whatever it is called."""
    refuses(client, f"RMD {path}")
    assert root.exists()


def test_a_directory_that_is_not_empty_is_not_removed(client: Dialogue, root: Path) -> None:
    (root / "directory").mkdir()
    (root / "directory/file").write_bytes(b"")
    client.says("RMD directory", 550)
    assert (root / "directory/file").exists()


def test_a_file_is_deleted(client: Dialogue, root: Path) -> None:
    (root / "file").write_bytes(b"")
    client.says("DELE file", 250)
    assert not list(root.iterdir())


@pytest.mark.parametrize("path", ["directory", "directory/", "/", ".", ".."])
def test_a_directory_is_not_deleted_as_a_file(client: Dialogue, root: Path, path: str) -> None:
    """“5xx for … DELE of a directory”"""
    (root / "directory").mkdir()
    refuses(client, f"DELE {path}")
    assert (root / "directory").exists()


@pytest.mark.parametrize("verb", ["DELE", "RMD", "RNFR", "SIZE", "MDTM", "CWD", "RETR"])
def test_what_is_missing_is_refused(client: Dialogue, verb: str) -> None:
    """“5xx for … RNFR of a missing path”, and so for the others."""
    with client.passive():
        client.says(f"{verb} missing", 550)


def test_deleting_a_link_leaves_what_it_names(client: Dialogue, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    os.symlink("file", root / "link")
    client.says("DELE link", 250)
    assert [path.name for path in root.iterdir()] == ["file"]


# ---------------------------------------------------------------------- renaming


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_file_or_directory_is_renamed(client: Dialogue, root: Path, kind: str) -> None:
    (root / "file").write_bytes(b"content")
    (root / "directory").mkdir()
    client.says(f"RNFR {kind}", 350)
    client.says("RNTO new", 250)
    assert not (root / kind).exists()
    assert (root / "new").is_file() == (kind == "file")


def test_the_root_is_not_renamed(client: Dialogue, root: Path) -> None:
    """“5xx for … renaming “/””"""
    client.send("RNFR /")
    code, text = client.reply()
    if code == 350:
        client.send("RNTO new")
        code, text = client.reply()
    assert 500 <= code < 600, text
    assert not list(root.iterdir())


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("target", ["/", "..", "directory/.."])
def test_nothing_is_renamed_onto_the_root(
    client: Dialogue, root: Path, kind: str, target: str
) -> None:
    """“5xx for … renaming … onto “/””"""
    (root / "file").write_bytes(b"content")
    (root / "directory").mkdir()
    client.says(f"RNFR {kind}", 350)
    refuses(client, f"RNTO {target}")
    assert {path.name for path in root.iterdir()} == {"file", "directory"}


def test_a_new_name_without_the_old_is_out_of_sequence(client: Dialogue) -> None:
    """“RNTO without RNFR 503”"""
    client.says("RNTO new", 503)


def test_a_rename_happens_once(client: Dialogue, root: Path) -> None:
    """“RNTO without RNFR 503”: each has its own."""
    (root / "file").write_bytes(b"")
    client.says("RNFR file", 350)
    client.says("RNTO new", 250)
    client.says("RNTO newer", 503)


def test_a_rename_that_failed_is_over(client: Dialogue, root: Path) -> None:
    """“RNTO without RNFR 503”, also when the first RNTO failed."""
    (root / "file").write_bytes(b"")
    client.says("RNFR file", 350)
    client.says("RNTO missing/new", 550)
    client.says("RNTO new", 503)
    assert (root / "file").exists()


def test_a_rename_onto_a_file(client: Dialogue, root: Path, serving: Serving) -> None:
    """“RNTO onto something that exists is refused with 550 in the library … and replaces files …
    under `run`”"""
    (root / "old").write_bytes(b"old")
    (root / "new").write_bytes(b"new")
    client.says("RNFR old", 350)
    if serving.rename_replaces:
        client.says("RNTO new", 250)
        assert (root / "new").read_bytes() == b"old"
        assert not (root / "old").exists()
    else:
        client.says("RNTO new", 550)
        assert (root / "new").read_bytes() == b"new"
        assert (root / "old").read_bytes() == b"old"


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("target", ["empty", "full"])
def test_a_directory_is_never_replaced(
    client: Dialogue, root: Path, kind: str, target: str
) -> None:
    """“and replaces files, never directories”"""
    (root / "file").write_bytes(b"content")
    for directory in ("directory", "empty", "full"):
        (root / directory).mkdir()
    (root / "full/inner").write_bytes(b"")
    client.says(f"RNFR {kind}", 350)
    client.says(f"RNTO {target}", 550)
    assert {path.name for path in root.iterdir()} == {"file", "directory", "empty", "full"}
    assert (root / "full/inner").exists()


def test_a_directory_does_not_replace_a_file(client: Dialogue, root: Path) -> None:
    """“replaces files”: by files."""
    (root / "file").write_bytes(b"content")
    (root / "directory").mkdir()
    client.says("RNFR directory", 350)
    client.says("RNTO file", 550)
    assert (root / "file").read_bytes() == b"content"


def test_a_directory_is_not_moved_into_itself(client: Dialogue, root: Path) -> None:
    (root / "directory").mkdir()
    client.says("RNFR directory", 350)
    client.says("RNTO directory/inner", 550)
    assert (root / "directory").is_dir()


def test_the_library_refuses_to_replace_by_default(serve: Maker) -> None:
    """“one setting, two defaults”: something that exists may be a link that leads nowhere."""
    (serve.directory / "file").write_bytes(b"content")
    os.symlink("missing", serve.directory / "broken")
    with Dialogue(serve()) as client:
        client.logs_in()
        client.says("RNFR file", 350)
        client.says("RNTO broken", 550)
    assert os.readlink(serve.directory / "broken") == "missing"


# ---------------------------------------------------------------------- size and time


def test_the_size_of_a_file_is_its_bytes(client: Dialogue, root: Path) -> None:
    with (root / "file").open("wb") as file:
        file.truncate(5_000_000_000)
    assert client.says("SIZE file", 213) == "213 5000000000"


def test_the_time_of_a_file_is_in_utc(client: Dialogue, root: Path) -> None:
    (root / "file").write_bytes(b"")
    os.utime(root / "file", (981173106, 981173106.75))
    assert client.says("MDTM file", 213).startswith("213 20010203040506")


@pytest.mark.parametrize("verb", ["SIZE", "MDTM"])
def test_a_directory_has_neither_size_nor_time(client: Dialogue, root: Path, verb: str) -> None:
    """“MDTM and SIZE of a directory 550”"""
    (root / "directory").mkdir()
    client.says(f"{verb} directory", 550)
    client.says(f"{verb} /", 550)


def test_a_text_has_no_size(client: Dialogue, root: Path) -> None:
    """“SIZE in TYPE A 550”"""
    (root / "file").write_bytes(b"content")
    client.says("TYPE A", 200)
    client.says("SIZE file", 550)
    client.says("TYPE I", 200)
    client.says("SIZE file", 213)


# ---------------------------------------------------------------------- directories


@pytest.mark.parametrize("verb", ["MKD", "XMKD"])
def test_a_directory_is_made_with_those_above_it(client: Dialogue, root: Path, verb: str) -> None:
    """“MKD makes parents.”"""
    assert client.says(f"{verb} a/b/c", 257).startswith('257 "/a/b/c"')
    assert (root / "a/b/c").is_dir()
    assert client.says(f"{verb} a/b/d", 257).startswith('257 "/a/b/d"')
    assert (root / "a/b/d").is_dir()


@pytest.mark.parametrize("path", ["directory", "file", "/", "..", "file/inner"])
def test_what_exists_is_not_made(client: Dialogue, root: Path, path: str) -> None:
    (root / "directory").mkdir()
    (root / "file").write_bytes(b"content")
    client.says(f"MKD {path}", 550)
    assert (root / "file").read_bytes() == b"content"


@pytest.mark.parametrize("verbs", [("CWD", "CDUP", "PWD"), ("XCWD", "XCUP", "XPWD")])
def test_directories_are_entered_and_left(client: Dialogue, verbs: tuple[str, str, str]) -> None:
    change, up, where = verbs
    client.says("MKD a/b", 257)
    client.says(f"{change} a/b", 250)
    assert client.says(where, 257).startswith('257 "/a/b"')
    client.says(up, 250)
    assert client.says(where, 257).startswith('257 "/a"')
    client.says(f"{change} b", 250)
    assert client.says(where, 257).startswith('257 "/a/b"')


@pytest.mark.parametrize("path", ["..", "../../..", "/..", "a/../../..", "/../../a/.."])
def test_nobody_gets_above_the_root(client: Dialogue, path: str) -> None:
    """“CWD resolves “..” lexically, never above “/”.”"""
    client.says("MKD a", 257)
    client.says(f"CWD {path}", 250)
    assert client.says("PWD", 257).startswith('257 "/"')


def test_going_up_in_the_root_stays_there(client: Dialogue) -> None:
    """“never above “/””"""
    client.send("CDUP")
    client.reply()
    assert client.says("PWD", 257).startswith('257 "/"')


@pytest.mark.parametrize("up", ["CDUP", "CWD .."])
def test_the_directory_above_a_link_is_the_one_it_stands_in(
    client: Dialogue, root: Path, up: str
) -> None:
    """“CWD resolves “..” lexically”"""
    (root / "a/b").mkdir(parents=True)
    os.symlink("a/b", root / "link")
    client.says("CWD link", 250)
    assert client.says("PWD", 257).startswith('257 "/link"')
    client.says(up, 250)
    assert client.says("PWD", 257).startswith('257 "/"')


def test_a_file_is_not_entered(client: Dialogue, root: Path) -> None:
    (root / "file").write_bytes(b"")
    client.says("CWD file", 550)
    assert client.says("PWD", 257).startswith('257 "/"')


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "link", "/proc/self/environ"])
def test_nothing_outside_the_root_is_read(client: Dialogue, root: Path, path: str) -> None:
    """faults.md: “nothing outside the root is ever read, listed, written, removed”."""
    os.symlink("/etc/passwd", root / "link")
    with client.passive():
        client.says(f"RETR {path}", 550)


# ---------------------------------------------------------------------- what may not be opened


@pytest.mark.parametrize("verb", ["RETR", "STOR", "APPE"])
@pytest.mark.parametrize("kind", ["fifo", "socket", "directory"])
def test_only_regular_files_are_opened(
    client: Dialogue, port: int, root: Path, verb: str, kind: str
) -> None:
    """“Only regular files are opened (FIFO, socket, device: 550 at once, `O_NONBLOCK`).”"""
    if kind == "fifo":
        os.mkfifo(root / "special")
    elif kind == "socket":
        os.mknod(root / "special", 0o140644)
    else:
        (root / "special").mkdir()
    with client.passive():
        client.says(f"{verb} special", 550)
    client.says("NOOP", 200)
    with Dialogue(port) as other:
        other.logs_in()
