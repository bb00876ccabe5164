"""Directories that may be written and not read (faults.md, “Abuse”): nothing in them is told."""

from __future__ import annotations

import contextlib
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster import PathIO, Permission, User
from ftpcluster.session.commands import site
from ftpcluster.session.commands.table import ROWS
from tests.session.conftest import making
from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue

KINDS = ("asyncio", "uvloop", "cluster", "own layer")
PERMISSIONS = [Permission("/"), Permission("/drop", readable=False)]
CONFIGURED = """
[[user]]
login = "user"
password = "plain:12345"
root = "{root}"
permissions = [{{ path = "/", write = true }}, {{ path = "/drop", read = false, write = true }}]
"""


class OwnPathIO(PathIO):
    """Somebody's own, which changes nothing."""


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Path]]:
    """A port and the directory that is served there; "/drop" in it may only be written."""
    root = tmp_path_factory.mktemp("served")
    with contextlib.ExitStack() as stack:
        if request.param == "cluster":
            file = tmp_path_factory.mktemp("configuration") / "f.toml"
            file.write_text(CONFIGURED.format(root=root))
            cluster = stack.enter_context(Cluster("-c", str(file), "--workers", "2"))
            yield cluster.port, root
            return
        users = [User("user", "12345", base_path=root, permissions=PERMISSIONS)]
        options = {"path_io_factory": OwnPathIO} if request.param == "own layer" else {}
        loop = "asyncio" if request.param == "own layer" else request.param
        serve = stack.enter_context(making(loop, root))
        yield serve(users=users, **options), root


@pytest.fixture
def drop(server: tuple[int, Path]) -> Path:
    """It has a file and a directory."""
    drop = server[1] / "drop"
    shutil.rmtree(drop, ignore_errors=True)
    (drop / "there.dir").mkdir(parents=True)
    (drop / "there").write_bytes(b"x" * 1234)
    return drop


@pytest.fixture
def client(server: tuple[int, Path], drop: Path) -> Iterator[Dialogue]:
    with Dialogue(server[0]) as dialogue:
        dialogue.logs_in()
        yield dialogue


# ---------------------------------------------------------------------- all verbs

OTHERWISE = {  # how verbs say a path, where it is not the whole argument
    "MFMT": ["MFMT 20010203040506 {}"],
    "SITE": [
        "SITE CHMOD 644 {}",
        "SITE UTIME 20010203040506 {}",
        "SITE UTIME {} 20010203040506 20010203040506 20010203040506 UTC",
        "SITE SYMLINK {} /link",
    ],
    "RNTO": [],  # see below
    "REST": ["REST 5000", "REST 1"],
}
TRANSFERS = {row.verb for row in ROWS if row.transfers}
UNAVOIDABLE = {
    "DELE {}": "removes the file, or cannot",
    "MKD {}": "makes a directory, or cannot",
    "XMKD {}": "makes a directory, or cannot",
}


def commands() -> Iterator[str]:
    for row in ROWS:
        if row.verb in ("USER", "PASS", "QUIT", "REIN", "AUTH", "CCC"):
            continue  # they end what the test is about, and take no path
        yield from OTHERWISE.get(row.verb, [f"{row.verb} {{}}"])


def test_each_site_command_that_takes_a_path_is_tried() -> None:
    tried = {command.split()[1] for command in OTHERWISE["SITE"]}
    assert {row.name for row in site.ROWS if row.takes_argument} == tried


def told(client: Dialogue, command: str, name: str) -> str:
    """What a client hears of a name, but for the name itself and the random part of STOU's."""
    client.says("REST 0", 350)
    line = command.format(f"/drop/{name}")
    if command.split()[0] not in TRANSFERS:
        client.send(line)
        code, text = client.reply()
    else:
        with client.passive() as data:
            client.send(line)
            code, text = client.reply()
            if code == 150:
                data.sendall(b"content")
                data.close()
                code, text = client.reply()
            else:
                client.says("ABOR", 225, 226)
    if command.startswith("STOU"):
        text = text.partition(":")[0]
    return text.replace(name, "NAME")


@pytest.mark.parametrize("command", [*commands()])
def test_the_reply_to_no_verb_tells_whether_a_name_is_there(
    client: Dialogue, drop: Path, command: str
) -> None:
    replies = {told(client, command, name) for name in ("there", "gone")}
    assert (len(replies) == 1) != (command in UNAVOIDABLE), replies
    if command not in UNAVOIDABLE and not command.startswith(("STOR", "APPE")):
        assert (drop / "there").stat().st_size == 1234
        assert not (drop / "gone").exists()


@pytest.mark.parametrize("verb", ["STOR", "APPE"])
@pytest.mark.parametrize("offset", [1, 1234, 5000])
def test_no_upload_tells_how_long_a_file_is(
    client: Dialogue, drop: Path, verb: str, offset: int
) -> None:
    """“REST n”, “STOR” → 554 past its end."""
    replies = set()
    for name in ("there", "gone"):
        client.says(f"REST {offset}", 350)
        with client.passive():
            replies.add(client.says(f"{verb} /drop/{name}", 550))
    assert len(replies) == 1
    assert (drop / "there").stat().st_size == 1234


def test_mkd_of_a_directory_that_is_there_is_answered_as_of_one_that_was_not(
    client: Dialogue, drop: Path
) -> None:
    replies = {told(client, "MKD {}", name) for name in ("there.dir", "gone", "gone/beneath")}
    assert len(replies) == 1
    assert (drop / "gone/beneath").is_dir()


@pytest.mark.parametrize("command", ["RMD {}", "XRMD {}", "DELE {}"])
def test_what_is_not_removed_is_not_told_either(client: Dialogue, drop: Path, command: str) -> None:
    (drop / "there.dir/file").touch()
    names = ["there.dir", "gone", "gone/x", "there/x"] + ["there"] * (command != "DELE {}")
    assert len({told(client, command, name) for name in names}) == 1
    assert (drop / "there.dir/file").exists()


# ---------------------------------------------------------------------- uploads go on


def test_what_a_session_has_stored_it_may_rename_and_date(client: Dialogue, drop: Path) -> None:
    """“keep uploads working”: clients store under another name, and set times, modes and names."""
    client.uploads("STOR /drop/new.part", b"content")
    has_times = "Not supported" not in client.says("MFMT 20010203040506 /drop/new.part", 213, 550)
    if has_times:  # which layers of somebody's own do not have
        client.says("SITE UTIME 20010203040506 /drop/new.part", 200)
        client.says("SITE CHMOD 600 /drop/new.part", 200)
    client.says("RNFR /drop/new.part", 350)
    client.says("RNTO /drop/new", 250)
    client.says("RNFR /drop/new.part", 550)
    if has_times:
        client.says("MFMT 20010203040507 /drop/new", 213)
        status = (drop / "new").stat()
        assert (stat.S_IMODE(status.st_mode), int(status.st_mtime)) == (0o600, 981173107)
    client.says("MKD /drop/new.dir", 257)
    client.uploads("STOR /drop/new.dir/file", b"content")
    client.says("RNFR /drop/new.dir", 350)
    client.says("RNTO /drop/renamed", 250)
    assert (drop / "renamed/file").read_bytes() == b"content"
    client.says("DELE /drop/renamed/file", 250)
    client.says("RMD /drop/renamed", 250)
    client.says("RNFR /drop/renamed", 550)


def test_what_another_session_has_stored_is_not_renamed(
    server: tuple[int, Path], client: Dialogue, drop: Path
) -> None:
    client.uploads("STOR /drop/new", b"content")
    with Dialogue(server[0]) as other:
        other.logs_in()
        other.says("RNFR /drop/new", 550)
        other.uploads("STOR /drop/new", b"other")
        other.says("RNFR /drop/new", 350)
    client.says("REIN", 220)
    client.logs_in()
    client.says("RNFR /drop/new", 550)


def test_a_rename_into_it_tells_only_what_replacing_needs(
    server: tuple[int, Path], client: Dialogue, drop: Path
) -> None:
    """Where RNTO replaces files, nothing; where it refuses that, that there is one."""
    replies = []
    for name in ("gone", "there", "there.dir"):
        (server[1] / "file").write_bytes(b"content")
        client.says("RNFR /file", 350)
        replies.append(client.says(f"RNTO /drop/{name}", 250, 550))
    assert replies[0].startswith("250 ")
    assert replies[1] in (replies[0], "550 Permission denied.")
    assert replies[2] == "550 Permission denied."
    assert (drop / "there.dir").is_dir()
