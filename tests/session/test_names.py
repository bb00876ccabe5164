"""Names that listings do not show (``hide``), and that nobody may use (``forbid``)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftpcluster import ConnectionConditions, PathIO, PathPermissions, Server, User
from tests.conftest import InProcess
from tests.support.dialogue import Dialogue
from tests.support.kinds import IN_PROCESS, KINDS, Running, running

HIDE = ["*.tmp", ".*", "secret[0-9]"]
FORBID = [".ftpaccess", "*.php", "closed"]
FORBIDDEN = (".ftpaccess", "x.php", "X.PHP", "closed", "closed/file", "directory/.ftpaccess")
MISSING = (
    ".ftpaccess/x",
    "new.php",
    "closed/new/deep",
    "directory/new.PHP",
    "directory/closed/x.txt",
)


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("names")
    with running(request.param, directory, hide=HIDE, forbid=FORBID) as server:
        yield server


@pytest.fixture
def root(shared: Running) -> Path:
    """What is served: allowed, hidden and forbidden names."""
    root = shared.emptied()
    for directory in ("directory", "closed", "empty.php", ".dots"):
        (root / directory).mkdir()
    for name in (
        *("file", "x.tmp", "X.TMP", ".dot", "secret7", "secrets", "x.php", "X.PHP", ".ftpaccess"),
        *("closed/file", "directory/.ftpaccess", "directory/y.tmp", "directory/file", ".dots/file"),
    ):
        (root / name).write_bytes(b"content")
    return root


@pytest.fixture
def client(shared: Running, root: Path) -> Iterator[Dialogue]:
    with Dialogue(shared.port) as dialogue:
        dialogue.logs_in()
        yield dialogue


def snapshot(root: Path) -> dict[str, tuple[int, float, bytes | None]]:
    """All that is there, with modes and times."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            path.lstat().st_mtime if path.is_file() else 0.0,
            path.read_bytes() if path.is_file() else None,
        )
        for path in root.rglob("*")
    }


# ---------------------------------------------------------------------- hidden ones


def listed(client: Dialogue, command: str) -> set[str]:
    """The names in a listing."""
    if command.startswith("STAT"):
        lines = client.says(command, 213).splitlines()[1:-1]
    else:
        lines = client.downloads(command).decode().splitlines()
    if command.startswith("NLST"):
        return set(lines)
    return {line.rpartition(" ")[2] for line in lines}


@pytest.mark.parametrize(
    "command", ["LIST", "LIST -a", "NLST", "NLST -a", "MLSD", "STAT .", "STAT -a ."]
)
def test_listings_show_neither_hidden_nor_forbidden_names(client: Dialogue, command: str) -> None:
    """With ``-a``, too: that is for names that begin with a dot."""
    assert listed(client, command) == {"file", "directory", "secrets"}


@pytest.mark.parametrize("pattern", ["*", ".*", "*.tmp", "x*", "*.ph?", "[a-z]*", "secret?"])
def test_patterns_do_not_find_them(client: Dialogue, pattern: str) -> None:
    for command in (f"NLST {pattern}", f"NLST -a {pattern}", f"LIST {pattern}"):
        assert listed(client, command) <= {"file", "directory", "secrets"}


def test_hidden_names_can_be_used_by_who_knows_them(client: Dialogue, root: Path) -> None:
    """“names that listings don't show”: no more than that."""
    assert client.downloads("RETR x.tmp") == b"content"
    assert listed(client, "NLST x.tmp") == {"x.tmp"}
    assert listed(client, "NLST .dots") == {".dots/file"}
    client.says("CWD .dots", 250)
    client.says("CDUP", 250)
    client.uploads("STOR new.tmp", b"new")
    client.says("SIZE new.tmp", 213)
    assert "type=file" in client.says("MLST new.tmp", 250)
    client.says("RNFR new.tmp", 350)
    client.says("RNTO .new", 250)
    client.says("DELE .new", 250)


def test_a_directory_with_hidden_files_is_not_empty(client: Dialogue, root: Path) -> None:
    client.says("DELE directory/file", 250)
    client.says("RMD directory", 550)
    assert (root / "directory" / "y.tmp").exists()


# ---------------------------------------------------------------------- forbidden ones

READING = (
    *("CWD {}", "XCWD {}", "SIZE {}", "MDTM {}", "MLST {}", "STAT {}", "HASH {}", "XCRC {}"),
    *("XMD5 {}", "XSHA1 {}", "XSHA256 {}", 'XMD5 "{}"', "AVBL {}"),
)
SENDING = ("RETR {}", "LIST {}", "NLST {}", "LIST -a {}", "MLSD {}")
WRITING = (
    *("DELE {}", "RMD {}", "XRMD {}", "MKD {}", "XMKD {}", "RNFR {}", "SITE CHMOD 600 {}"),
    *("MFMT 20200101000000 {}", "SITE UTIME 202001010000 {}"),
)
STORING = ("STOR {}", "APPE {}")


@pytest.mark.parametrize("path", [*FORBIDDEN, *MISSING, "empty.php"])
def test_no_verb_may_use_a_forbidden_name_in_any_place(
    client: Dialogue, root: Path, path: str
) -> None:
    """“names that no verb can read, write, rename to or from, list or make: 550/553”; the same
    whether it is there or not."""
    before = snapshot(root)
    for named in (path, f"/{path}", f"directory/../{path}", f"./{path}"):
        for template in READING:
            assert "No such file" in client.says(template.format(named), 550)
        for template in WRITING:
            client.says(template.format(named), 553)
        client.says("RNFR file", 350)
        client.says(f"RNTO {named}", 553)
    for templates, code in ((SENDING, 550), (STORING, 553)):
        for template in templates:
            with client.passive():
                client.says(template.format(path), code)
            client.says("ABOR", 225, 226)
    assert snapshot(root) == before


def test_seen_from_within_a_directory_they_are_forbidden_as_well(
    client: Dialogue, root: Path
) -> None:
    client.says("CWD directory", 250)
    client.says("SIZE .ftpaccess", 550)
    client.says("SIZE ../x.php", 550)
    client.says("MKD a/b.php/c", 553)
    assert not (root / "directory" / "a").exists()


def test_other_names_are_free(client: Dialogue, root: Path) -> None:
    """Not those that only contain a forbidden one."""
    for name in ("x.php5", "php", "enclosed", "closed2", "a.ftpaccess", ".ftpaccess2"):
        client.uploads(f"STOR {name}", b"content")
        client.says(f"SIZE {name}", 213)
        client.says(f"RNFR {name}", 350)
        client.says("RNTO other", 250)
        client.says("DELE other", 250)
    client.says("MKD a/b/c", 257)


def test_stou_makes_no_forbidden_name(client: Dialogue, root: Path) -> None:
    for prefix in ("closed/x", "x.php/y"):
        with client.passive():
            client.says(f"STOU {prefix}", 553)
    client.uploads("STOU x", b"content")


@pytest.mark.parametrize("kind", IN_PROCESS)
def test_a_link_is_no_way_to_them(kind: str, tmp_path: Path) -> None:
    """“SITE SYMLINK targets”"""

    class Linking(Server):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.settings = dataclasses.replace(self.settings, allow_symlinks=True)

    (tmp_path / "x.php").write_bytes(b"content")
    users = [User(base_path=tmp_path)]
    server = InProcess(kind, lambda: Linking(users, forbid=FORBID))
    try:
        with Dialogue(server.port) as client:
            client.logs_in()
            client.says("SITE SYMLINK x.php link", 550)
            client.says("SITE SYMLINK closed/file link", 550)
            client.says("SITE SYMLINK file link.php", 553)
            client.says("SITE SYMLINK . link", 200)
            client.says("SIZE link/x.php", 550)
    finally:
        server.stop()
    assert sorted(os.listdir(tmp_path)) == ["link", "x.php"]


# ---------------------------------------------------------------------- in the library


class Counting(Server):
    """Has a command of its own."""

    @ConnectionConditions(ConnectionConditions.login_required)
    @PathPermissions(PathPermissions.readable)
    async def xhas(self, connection: Any, rest: str) -> bool:
        connection.response("200", "yes")
        return True


class OwnPathIO(PathIO):
    """Somebody's own, which changes nothing."""


@pytest.mark.parametrize("kind", IN_PROCESS)
def test_commands_and_layers_of_one_s_own_obey(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x.php").touch()
    (tmp_path / "x.tmp").touch()
    users = [User(base_path=tmp_path)]
    options: dict[str, Any] = {"hide": HIDE, "forbid": FORBID, "path_io_factory": OwnPathIO}
    server = InProcess(kind, lambda: Counting(users, **options))
    try:
        with Dialogue(server.port) as client:
            client.logs_in()
            client.says("XHAS x.tmp", 200)
            client.says("XHAS x.php", 550)
            assert client.downloads("MLSD") == b""
            client.says("SIZE x.php", 550)
            client.says("DELE x.php", 553)
    finally:
        server.stop()


@pytest.mark.parametrize("keyword", ["hide", "forbid"])
@pytest.mark.parametrize("given", ["*.php", [""], ["a/b"], ["."], [".."], ["a\0"], [5]])
def test_what_is_no_pattern_is_refused(keyword: str, given: Any) -> None:
    """A single text would be its letters, each a pattern."""
    with pytest.raises(ValueError, match=keyword):
        Server(**{keyword: given})


MINE = """
import ftpcluster

class Mine(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, hide=["*.theirs"], forbid=["*.php"])
"""


def test_the_file_adds_to_what_a_server_class_forbids(tmp_path: Path) -> None:
    """It wins in all else; but a class may need its names for itself."""
    (tmp_path / "mine.py").write_text(MINE)
    for name in ("x.php", "x.cgi", "x.theirs", "x.ours"):
        (tmp_path / "root").mkdir(exist_ok=True)
        (tmp_path / "root" / name).touch()
    options = {"hide": ["*.ours"], "forbid": ["*.cgi"]}
    with running("cluster", tmp_path, server="mine:Mine", **options) as server:
        with Dialogue(server.port) as client:
            client.logs_in()
            assert client.downloads("NLST") == b"x.theirs\r\n"
            for name in ("x.php", "x.cgi"):
                client.says(f"SIZE {name}", 550)
