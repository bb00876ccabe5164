"""Who may do what where (library.md row 7, faults.md “Abuse”: permissions)."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from ftpcluster import Permission, User
from tests.session.conftest import Maker
from tests.support.dialogue import Dialogue

RIGHTS = {"none": (False, False), "read": (True, False), "drop": (False, True), "all": (True, True)}
READING = ("CWD {}", "SIZE {}/file", "MDTM {}/file", "MLST {}/file", "MLST {}")
LISTING = ("LIST {}", "NLST {}", "MLSD {}", "LIST {}/file", "NLST {}/file", "RETR {}/file")
STORING = ("STOR {}/file", "STOR {}/new", "APPE {}/file", "APPE {}/new")
WRITING = ("MKD {}/new", "XMKD {}/a/b", "RMD {}/empty", "XRMD {}/empty", "DELE {}/file")
DIRECTORIES = ("/foo", "/foobar")
PAIRS = list(itertools.product(RIGHTS, RIGHTS))


def plant(base: Path) -> None:
    """The same files, whatever was done to them before."""
    for directory in DIRECTORIES:
        shutil.rmtree(base / directory[1:], ignore_errors=True)
        (base / directory[1:] / "empty").mkdir(parents=True)
        (base / directory[1:] / "file").write_bytes(b"content")


def snapshot(base: Path) -> dict[str, bytes | None]:
    """All that is there."""
    return {
        str(path.relative_to(base)): path.read_bytes() if path.is_file() else None
        for path in base.rglob("*")
    }


@pytest.fixture
def clients(serve: Maker) -> dict[tuple[str, str], str]:
    """A login for each pair of rights on /foo and /foobar, and the server that knows them."""
    users = []
    logins = {}
    for pair in PAIRS:
        rules = [Permission("/", readable=True, writable=False)]
        for directory, right in zip(DIRECTORIES, pair, strict=True):
            readable, writable = RIGHTS[right]
            rules.append(Permission(directory, readable=readable, writable=writable))
        logins[pair] = "-".join(pair)
        users.append(User(logins[pair], "12345", base_path=serve.directory, permissions=rules))
    serve(users=users)
    return logins


def verdict(client: Dialogue, command: str, *, transfers: bool) -> bool:
    """Whether a command was obeyed, or refused with 550."""
    if not transfers:
        client.send(command)
        code, text = client.reply()
        assert code in (200, 213, 250, 257, 350, 550), f"{command}: {text}"
        return code != 550
    with client.passive() as data:
        client.send(command)
        code, text = client.reply()
        assert code in (150, 550), f"{command}: {text}"
        if code == 150:
            if command.startswith(("STOR", "APPE")):
                data.sendall(b"more content")
                data.close()
            else:
                assert data.recv(65536)
            client.expects(226)
        else:
            client.says("ABOR", 225, 226)
        return code == 150


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_each_verb_obeys_the_nearest_permission(
    serve: Maker, clients: dict[tuple[str, str], str], pair: tuple[str, str]
) -> None:
    """“the nearest parent decides, by path components (`/foo` says nothing of `/foobar`)”"""
    with Dialogue(serve.made[-1].port) as client:
        client.logs_in(clients[pair])
        for directory, right in zip(DIRECTORIES, pair, strict=True):
            readable, writable = RIGHTS[right]
            for template in READING + LISTING + STORING + WRITING:
                plant(serve.directory)
                before = snapshot(serve.directory)
                command = template.format(directory)
                allowed = readable if template in READING + LISTING else writable
                transfers = template in LISTING + STORING
                assert verdict(client, command, transfers=transfers) == allowed, command
                changed = snapshot(serve.directory) != before
                assert changed == (allowed and template in STORING + WRITING), command
            client.says("CWD /", 250)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_rename_needs_both_sides(
    serve: Maker, clients: dict[tuple[str, str], str], pair: tuple[str, str]
) -> None:
    """faults.md: “both sides of RNFR/RNTO”: “no wrong verdict”. Nor may a file be read by moving it
    to where that is allowed. Where a user may only write, a session renames what it stored."""
    may_read, may_write = zip(*(RIGHTS[right] for right in pair), strict=True)
    with Dialogue(serve.made[-1].port) as client:
        client.logs_in(clients[pair])
        for source, target in itertools.product((0, 1), (0, 1)):
            plant(serve.directory)
            before = snapshot(serve.directory)
            may = verdict(client, f"RNFR {DIRECTORIES[source]}/file", transfers=False)
            assert may == (may_write[source] and may_read[source])
            if may:
                may = verdict(client, f"RNTO {DIRECTORIES[target]}/new", transfers=False)
                shows = may_read[target] and not may_read[source]
                assert may == (may_write[target] and not shows)
            else:
                client.says(f"RNTO {DIRECTORIES[target]}/new", 503)
            assert (snapshot(serve.directory) != before) == may


@pytest.mark.parametrize("directory", DIRECTORIES)
@pytest.mark.parametrize("right", RIGHTS)
def test_a_link_is_a_path_of_its_own(serve: Maker, right: str, directory: str) -> None:
    """faults.md: “a link to each”: permissions are about names, as clients see them. What a link
    leads to is up to whoever made it, and clients cannot (SITE SYMLINK is off)."""
    readable, writable = RIGHTS[right]
    rules = [
        Permission("/", writable=False),
        Permission("/link", readable=readable, writable=writable),
        *(Permission(each, readable=False, writable=False) for each in DIRECTORIES),
    ]
    users = [User("user", "12345", base_path=serve.directory, permissions=rules)]
    with Dialogue(serve(users=users)) as client:
        client.logs_in()
        (serve.directory / "link").symlink_to(directory[1:])
        for template in READING + LISTING + STORING + WRITING:
            plant(serve.directory)
            before = snapshot(serve.directory)
            command = template.format("/link")
            allowed = readable if template in READING + LISTING else writable
            transfers = template in LISTING + STORING
            assert verdict(client, command, transfers=transfers) == allowed, command
            changed = snapshot(serve.directory) != before
            assert changed == (allowed and template in STORING + WRITING), command
        client.says(f"SITE SYMLINK {directory} /link/other", 502)


def test_what_lies_beneath_follows_the_nearest(serve: Maker) -> None:
    """“the nearest parent decides”: at any depth, in any order of the permissions."""
    rules = [
        Permission("/a/b", writable=True),
        Permission("/", writable=False),
        Permission("/a/b/c/d", readable=False, writable=False),
    ]
    (serve.directory / "a/b/c/d/e").mkdir(parents=True)
    users = [User("user", "12345", base_path=serve.directory, permissions=rules)]
    with Dialogue(serve(users=users)) as client:
        client.logs_in()
        client.says("MKD /a/new", 550)
        client.says("MKD /a/b/new", 257)
        client.says("MKD /a/b/c/new", 257)
        client.says("CWD /a/b/c/d", 550)
        client.says("CWD /a/b/c/d/e", 550)
        client.says("MKD /a/b/c/d/new", 550)


@pytest.mark.parametrize(
    "path", ["../foo/file", "/bar/../foo/file", "//foo//file", "./../foo/file"]
)
def test_no_detour_leads_around_a_permission(serve: Maker, path: str) -> None:
    """“no wrong verdict”: whatever a path looks like."""
    rules = [Permission("/"), Permission("/foo", readable=False, writable=False)]
    users = [User("user", "12345", base_path=serve.directory, permissions=rules)]
    plant(serve.directory)
    (serve.directory / "bar").mkdir()
    with Dialogue(serve(users=users)) as client:
        client.logs_in()
        client.says("CWD bar", 250)
        client.says(f"SIZE {path}", 550)
        client.says(f"DELE {path}", 550)


@pytest.mark.parametrize("path", ["/a", "/a/b", "/a/../a"])
def test_a_directory_with_permissions_beneath_it_keeps_its_name(serve: Maker, path: str) -> None:
    """“no wrong verdict”: with its parent renamed, a secret would be one no more."""
    secret = Permission("/a/b/secret", readable=False, writable=False)
    users = [User("user", "12345", base_path=serve.directory, permissions=[Permission(), secret])]
    (serve.directory / "a/b/secret").mkdir(parents=True)
    (serve.directory / "a/b/secret/file").write_bytes(b"secret")
    (serve.directory / "other").mkdir()
    with Dialogue(serve(users=users)) as client:
        client.logs_in()
        client.says(f"RNFR {path}", 550)
        client.says("RNTO /c", 503)
        client.says("RNFR /other", 350)
        client.says("RNTO /a/b/other", 250)
        client.says("SIZE /a/b/secret/file", 550)
        shutil.rmtree(serve.directory / "a")
        (serve.directory / "mine/b/secret").mkdir(parents=True)
        client.says("RNFR /mine", 350)
        client.says("RNTO /a", 550)  # its files would be where none may be put
        assert (serve.directory / "mine").exists()


def test_without_a_permission_nothing_is_allowed(serve: Maker) -> None:
    """A path that no permission covers may not be touched."""
    users = [User("user", "12345", base_path=serve.directory, permissions=[Permission("/foo")])]
    plant(serve.directory)
    with Dialogue(serve(users=users)) as client:
        client.logs_in()
        client.says("CWD /foobar", 550)
        client.says("SIZE /foobar/file", 550)
        client.says("SIZE /foo/file", 213)


def test_anonymous_may_read_and_not_write(port: int, root: Path) -> None:
    """Issue 2: “`--anonymous` adds read-only anonymous beside users”."""
    (root / "file").write_bytes(b"content")
    with Dialogue(port) as client:
        client.logs_in("anonymous", "me@example.com")
        assert client.downloads("RETR file") == b"content"
        for command in ("DELE file", "MKD new", "RNFR file", "RMD directory"):
            client.says(command, 550)
        with client.passive():
            client.says("STOR file", 550)
        with client.passive():
            client.says("APPE file", 550)
    assert (root / "file").read_bytes() == b"content"
    assert [path.name for path in root.iterdir()] == ["file"]


def test_parents_are_made_only_where_the_user_may_write(serve: Maker) -> None:
    """ "MKD makes parents": each of them is a directory that the user must be allowed to make."""
    permissions = [Permission("/", writable=False), Permission("/a/b", writable=True)]
    users = [User("user", "12345", base_path=serve.directory, permissions=permissions)]
    with Dialogue(serve(users=users)) as client:
        client.logs_in()
        client.says("MKD /a/b/c", 550)
        assert not (serve.directory / "a").exists()
        (serve.directory / "a").mkdir()
        client.says("MKD /a/b/c", 257)
        assert (serve.directory / "a/b/c").is_dir()
