"""Links (protocol.md, “Listing”: “A link is a link”)."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from ftpcluster import PathIO, Permission, User
from tests.session.conftest import Maker
from tests.support.dialogue import Dialogue

LINKS = {
    "to-file": "../kept/file",
    "to-directory": "../kept",
    "to-itself": "to-itself",
    "up": ".",
    "dangling": "nowhere",
    "outside": "/etc",
    "outside-file": "/etc/passwd",
}


@pytest.fixture
def tree(root: Path) -> Path:
    """A directory of links of every kind; "kept" must be the same afterwards."""
    (root / "kept").mkdir()
    (root / "kept/file").write_bytes(b"precious")
    (root / "links").mkdir()
    for name, target in LINKS.items():
        (root / "links" / name).symlink_to(target)
    return root


def facts(line: str) -> tuple[str, dict[str, str]]:
    """The name of a line of MLSD or MLST, and its facts."""
    text, name = line.strip().split(" ", 1)
    return name, dict(fact.split("=", 1) for fact in text.rstrip(";").split(";"))


def entries(client: Dialogue, directory: str) -> dict[str, dict[str, str]]:
    lines = client.downloads(f"MLSD {directory}").decode().splitlines()
    return dict(facts(line) for line in lines)


def test_mlsd_says_of_each_link_that_it_is_one(client: Dialogue, tree: Path) -> None:
    found = entries(client, "links")
    assert set(found) == set(LINKS)
    for name, each in found.items():
        status = os.lstat(tree / "links" / name)
        assert each["type"] == "OS.unix=symlink", name
        assert each["perm"] == "df"  # DELE and RNFR: RFC 3659 section 7.5.5
        # what RETR sends: clients that copy trees take the link for a file, and compare
        size = len(b"precious") if name == "to-file" else status.st_size
        assert int(each["size"]) == size, name
        assert each["unique"] == f"{status.st_dev:x}g{status.st_ino:x}"


@pytest.mark.parametrize("name", LINKS)
def test_mlst_says_that_a_link_is_one(client: Dialogue, tree: Path, name: str) -> None:
    text = client.says(f"MLST links/{name}", 250)
    path, each = facts(text.splitlines()[1])
    assert (path, each["type"], each["perm"]) == (f"/links/{name}", "OS.unix=symlink", "df")
    assert name != "to-file" or each["size"] == "8"
    assert LINKS[name] not in text.replace(name, "") or LINKS[name] in (".", name)


def test_mlst_of_the_current_directory_is_of_a_directory_also_behind_a_link(
    client: Dialogue, tree: Path
) -> None:
    """As in POSIX, and of “link/” as well; else a client could not tell where it is."""
    client.says("CWD links/to-directory", 250)
    for argument in ("", " .", " ../to-directory/"):
        assert "type=dir;" in client.says(f"MLST{argument}", 250)
    client.says("CWD /links", 250)
    for name in ("outside", "dangling", "to-itself"):
        client.says(f"MLST {name}/", 550)


@pytest.mark.parametrize("command", ["LIST links", "LIST links/*", "STAT links", "STAT links/*"])
def test_list_and_stat_show_each_link_as_one(client: Dialogue, tree: Path, command: str) -> None:
    if command.startswith("STAT"):
        lines = client.says(command, 213).splitlines()[1:-1]
    else:
        lines = client.downloads(command).decode().splitlines()
    found = [line for line in lines if re.match(r" ?lrwxrwxrwx ", line)]
    assert len(found) == len(lines) == len(LINKS)
    for name, target in LINKS.items():
        assert any(line.endswith(f"{name} -> {target}") for line in found), name


@pytest.mark.parametrize("name", ["to-file", "to-itself", "dangling", "outside", "outside-file"])
def test_a_link_that_is_listed_itself_is_its_one_line(
    client: Dialogue, tree: Path, name: str
) -> None:
    """“LIST an `l` line … for dangling, looping and leading outside alike”"""
    (line,) = client.downloads(f"LIST links/{name}").decode().splitlines()
    assert re.match(rf"lrwxrwxrwx .* links/{name} -> {re.escape(LINKS[name])}$", line)
    assert client.downloads(f"NLST links/{name}") == f"links/{name}\r\n".encode()


def test_names_are_those_of_all_links(client: Dialogue, tree: Path) -> None:
    found = client.downloads("NLST links").decode().splitlines()
    assert set(found) == {f"links/{name}" for name in LINKS}


def test_through_a_link_that_stays_inside_everything_works(client: Dialogue, tree: Path) -> None:
    """“CWD, RETR and the like through a link that stays inside work as before”"""
    assert client.downloads("RETR links/to-file") == b"precious"
    assert client.downloads("RETR links/to-directory/file") == b"precious"
    assert client.says("SIZE links/to-file", 213) == "213 8"
    client.says("MDTM links/to-file", 213)
    assert b"file" in client.downloads("LIST links/to-directory")
    assert client.downloads("NLST links/to-directory") == b"links/to-directory/file\r\n"
    assert list(entries(client, "links/to-directory")) == ["file"]
    client.says("MFMT 20010203040506 links/to-file", 213)
    client.says("SITE CHMOD 600 links/to-file", 200)
    status = (tree / "kept/file").stat()
    assert (stat.S_IMODE(status.st_mode), int(status.st_mtime)) == (0o600, 981173106)
    client.uploads("APPE links/to-file", b"!")
    client.uploads("STOR links/to-directory/new", b"new")
    client.says("CWD links/to-directory", 250)
    assert sorted(client.downloads("NLST").split()) == [b"file", b"new"]
    assert (tree / "kept/file").read_bytes() == b"precious!"


@pytest.mark.parametrize("name", LINKS)
def test_a_link_is_removed_and_renamed_itself(client: Dialogue, tree: Path, name: str) -> None:
    """“DELE removes the link itself”; RMD is for directories, which it is not."""
    assert "Not a directory" in client.says(f"RMD links/{name}", 550)
    client.says(f"RNFR links/{name}", 350)
    client.says("RNTO links/renamed", 250)
    assert os.readlink(tree / "links/renamed") == LINKS[name]
    client.says("DELE links/renamed", 250)
    assert not os.path.lexists(tree / "links/renamed")
    assert (tree / "kept/file").read_bytes() == b"precious"
    assert set(os.listdir(tree / "links")) == set(LINKS) - {name}


def remove(client: Dialogue, directory: str) -> None:
    """As lftp's ``rm -r`` and rclone's ``purge`` do."""
    for name, each in entries(client, directory).items():
        if each["type"] == "dir":
            remove(client, f"{directory}/{name}")
        else:
            client.says(f"DELE {directory}/{name}", 250)
    client.says(f"RMD {directory}", 250)


def test_a_directory_is_removed_with_the_links_in_it_and_nothing_else(
    client: Dialogue, tree: Path
) -> None:
    (tree / "links/sub").mkdir()
    (tree / "links/sub/back").symlink_to("../..")
    remove(client, "links")
    assert os.listdir(tree) == ["kept"]
    assert (tree / "kept/file").read_bytes() == b"precious"


def test_who_may_only_read_is_told_that_a_link_cannot_be_removed(port: int, tree: Path) -> None:
    with Dialogue(port) as reader:
        reader.logs_in("anonymous", "")
        assert {each["perm"] for each in entries(reader, "links").values()} == {""}


# ---------------------------------------------------------------------- where permissions divide


DIVIDED = [
    Permission("/"),
    Permission("/in/secret", readable=False, writable=False),
    Permission("/drop", readable=False),
]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_link_is_not_moved_to_where_it_leads_elsewhere(
    serve: Maker, own: bool, replaces: bool
) -> None:
    """A relative link of the administrator's would read what a permission there denies."""
    root = serve.directory
    for name in ("in/secret", "out/secret", "out/deep/er", "drop"):
        (root / name).mkdir(parents=True)
    (root / "in/secret/file").write_bytes(b"secret")
    (root / "out/link").symlink_to("secret/file")
    (root / "out/deep/er/up").symlink_to("../../secret/file")
    (root / "out/deep/inside").symlink_to("er/up")
    users = [User("user", "12345", base_path=root, permissions=DIVIDED)]
    layer = type("Own", (PathIO,), {}) if own else PathIO
    with Dialogue(serve(users=users, path_io_factory=layer, rename_replaces=replaces)) as client:
        client.logs_in()
        client.says("RETR in/secret/file", 550)
        for name in ("link", "deep/er", "deep"):
            client.says(f"RNFR out/{name}", 350)
            client.says(f"RNTO in/{name.replace('/', '-')}", 550)
        client.says("RNFR out/link", 350)
        client.says("RNTO out/renamed", 250)
        client.says("DELE out/deep/er/up", 250)
        client.says("RNFR out/deep", 350)
        client.says("RNTO in/deep", 250)  # the link that is left leads to what moves with it
    assert os.readlink(root / "out/renamed") == "secret/file"
    assert os.readlink(root / "in/deep/inside") == "er/up"


def test_who_may_do_everything_moves_links_too(client: Dialogue, tree: Path) -> None:
    client.says("RNFR links/to-file", 350)
    client.says("RNTO moved", 250)
    assert os.readlink(tree / "moved") == LINKS["to-file"]
