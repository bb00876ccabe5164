"""``atomic_uploads``: a file has its name when it is whole (protocol.md, “Transfers”; faults.md,
“Data”)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftpcluster import MemoryPathIO, PathIO, Server, User
from tests.conftest import InProcess
from tests.session.conftest import Maker
from tests.support.cluster import until
from tests.support.dialogue import Dialogue, reset
from tests.support.kinds import IN_PROCESS, KINDS, Running, running

OLD = b"what was there before"
CONTENT = os.urandom(1_000_000)
TEMPORARY = re.compile(r"\..*\.~ftpcluster-[0-9a-f]{8}~")


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(request.param, tmp_path_factory.mktemp("atomic"), atomic_uploads=True) as server:
        yield server


@pytest.fixture(scope="module", params=KINDS)
def impatient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One whose transfers soon count as stalled: after 2 s, where it would be 15 after a reset."""
    options: dict[str, Any] = {"socket_timeout": 2}
    if request.param == "cluster":
        options = {"text": "[timeouts]\nstalled = 2"}
    directory = tmp_path_factory.mktemp("impatient")
    with running(request.param, directory, atomic_uploads=True, **options) as server:
        yield server


@pytest.fixture
def root(shared: Running) -> Path:
    """The directory that is served, empty."""
    return shared.emptied()


@pytest.fixture
def client(shared: Running, root: Path) -> Iterator[Dialogue]:
    with Dialogue(shared.port) as dialogue:
        dialogue.logs_in()
        yield dialogue


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def unfinished(directory: Path) -> list[str]:
    return [name for name in names(directory) if TEMPORARY.fullmatch(name)]


# ---------------------------------------------------------------------- the name


@pytest.mark.parametrize("size", [0, 1000, len(CONTENT)])
@pytest.mark.parametrize("command", ["STOR file", "STOU file"])
def test_a_new_name_is_there_with_226_and_not_before(
    client: Dialogue, root: Path, command: str, size: int
) -> None:
    """“with atomic uploads, appears under its name only at 226”"""
    with client.begins(command) as data:
        data.sendall(CONTENT[:size])
        until(lambda: sum(path.stat().st_size for path in root.iterdir()) == size)
        (only,) = names(root)
        assert TEMPORARY.fullmatch(only)
    text = client.expects(226)
    (name,) = names(root)
    assert name == "file" or name in text
    assert (root / name).read_bytes() == CONTENT[:size]


def test_others_get_the_old_file_until_the_new_one_is_whole(
    shared: Running, client: Dialogue, root: Path
) -> None:
    """“the name appears at 226”: with all of the new content, and none of it before."""
    (root / "file").write_bytes(OLD)
    with Dialogue(shared.port) as other:
        other.logs_in()
        with client.begins("STOR file") as data:
            data.sendall(CONTENT)
            until(lambda: unfinished(root))
            assert other.downloads("RETR file") == OLD
        client.expects(226)
        assert other.downloads("RETR file") == CONTENT
    assert names(root) == ["file"]


def test_a_reader_of_the_old_file_gets_all_of_it(client: Dialogue, root: Path) -> None:
    """Without the option it would be cut short (451), since STOR truncates what is read."""
    with (root / "file").open("wb") as file:
        file.truncate(64 << 20)
    uploader = Dialogue(client.sock.getpeername()[1])
    with uploader, client.begins("RETR file", window=4096) as data:
        received = len(data.recv(1))
        uploader.logs_in()
        uploader.uploads("STOR file", b"new")
        while block := data.recv(1 << 20):
            received += len(block)
        client.expects(226)
    assert received == 64 << 20
    assert (root / "file").read_bytes() == b"new"


@pytest.mark.parametrize("command", ["LIST -a", "NLST -a", "MLSD", "NLST .*", "LIST .f*"])
def test_no_listing_shows_an_unfinished_upload(
    shared: Running, client: Dialogue, root: Path, command: str
) -> None:
    """A partial file would be fetched by whoever mirrors the directory."""
    (root / ".dot").touch()
    with Dialogue(shared.port) as other:
        other.logs_in()
        with client.begins("STOR file"):
            until(lambda: unfinished(root))
            listed = other.downloads(command).decode()
            assert "~ftpcluster" not in listed
            assert (".dot" in listed) == (command != "LIST .f*")
        client.expects(226)


def test_of_two_uploads_to_one_name_each_is_whole(
    shared: Running, client: Dialogue, root: Path
) -> None:
    """Written in place they would mix."""
    with Dialogue(shared.port) as other:
        other.logs_in()
        with client.begins("STOR file") as first, other.begins("STOR file") as second:
            first.sendall(CONTENT[:500_000])
            second.sendall(CONTENT[500_000:])
            until(lambda: len(unfinished(root)) == 2)
            second.close()
            other.expects(226)
            assert (root / "file").read_bytes() == CONTENT[500_000:]
        client.expects(226)
    assert (root / "file").read_bytes() == CONTENT[:500_000]
    assert names(root) == ["file"]


def test_text_is_converted_and_whole(client: Dialogue, root: Path) -> None:
    client.says("TYPE A", 200)
    client.uploads("STOR file", b"one\r\ntwo\r\n")
    assert (root / "file").read_bytes() == b"one\ntwo\n"
    assert names(root) == ["file"]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, ".~ftpcluster-00000000~"])
def test_any_name_will_do(client: Dialogue, root: Path, name: str) -> None:
    """The temporary name has to fit into 255 bytes, too."""
    client.uploads(f"STOR {name}", CONTENT[:1000])
    assert names(root) == [name]


def test_a_name_that_is_too_long_is_refused_before_150(client: Dialogue, root: Path) -> None:
    with client.passive():
        client.says(f"STOR {'x' * 256}", 553)
    assert names(root) == []


# ---------------------------------------------------------------------- what stays in place


@pytest.mark.parametrize(
    "commands", [("APPE file",), ("REST 4", "STOR file"), ("REST 4", "APPE file")]
)
def test_what_goes_on_with_a_file_writes_in_place(
    client: Dialogue, root: Path, commands: tuple[str, ...]
) -> None:
    """“REST/APPE”: they are there to change a file."""
    (root / "file").write_bytes(OLD)
    before = (root / "file").stat().st_ino
    for command in commands[:-1]:
        client.says(command, 350)
    with client.begins(commands[-1]) as data:
        data.sendall(b"12345")
        until(lambda: b"12345" in (root / "file").read_bytes())
        assert names(root) == ["file"]
    client.expects(226)
    wanted = OLD + b"12345" if len(commands) == 1 else OLD[:4] + b"12345" + OLD[9:]
    assert (root / "file").read_bytes() == wanted
    assert (root / "file").stat().st_ino == before


# ---------------------------------------------------------------------- uploads that fail


@pytest.mark.parametrize("command", ["STOR file", "STOU file"])
@pytest.mark.parametrize("how", ["ABOR", "data reset", "no data connection"])
def test_an_upload_that_fails_leaves_all_as_it_was(
    shared: Running, client: Dialogue, root: Path, command: str, how: str
) -> None:
    """“on failure or abort the temporary file is removed”"""
    (root / "file").write_bytes(OLD)
    if how == "no data connection":
        client.epsv()
        client.says(command, 150)
        client.send("ABOR")
        client.expects(426)
        client.expects(226)
    else:
        with client.begins(command) as data:
            data.sendall(CONTENT)
            until(lambda: unfinished(root))
            if how == "ABOR":
                client.send("ABOR")
                client.expects(426)
                client.expects(226)
            else:
                reset(data)
                client.expects(426)
    is_as_it_was(shared)


@pytest.mark.parametrize("command", ["STOR file", "STOU file"])
def test_an_upload_whose_client_has_been_reset_leaves_all_as_it_was(
    impatient: Running, command: str
) -> None:
    root = impatient.emptied()
    (root / "file").write_bytes(OLD)
    with Dialogue(impatient.port) as client:
        client.logs_in()
        with client.begins(command) as data:
            data.sendall(CONTENT)
            until(lambda: unfinished(root))
            reset(client.sock)
            # before the data end, which would be the end of the upload
            until(lambda: not unfinished(root))
    is_as_it_was(impatient)


def is_as_it_was(server: Running) -> None:
    """The old file is all that there is, and can be replaced."""
    root = server.root
    until(lambda: names(root) == ["file"])
    assert (root / "file").read_bytes() == OLD
    with Dialogue(server.port) as another:
        another.logs_in()
        another.uploads("STOR file", CONTENT)
    assert (root / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [1000, len(CONTENT)])
def test_a_directory_removed_during_an_upload_is_no_success(
    client: Dialogue, root: Path, size: int
) -> None:
    """faults.md: “directory removed during an upload”: 451, “never 226”."""
    (root / "directory").mkdir()
    with client.begins("STOR directory/file") as data:
        data.sendall(CONTENT[:size])
        until(lambda: [each for each in unfinished(root / "directory") if holds(root, each, size)])
        shutil.rmtree(root / "directory")
    client.expects(451)
    client.uploads("STOR file", CONTENT)
    assert names(root) == ["file"]


def holds(root: Path, name: str, size: int) -> bool:
    return (root / "directory" / name).stat().st_size == size


def test_a_directory_that_is_renamed_during_an_upload_has_the_file(
    client: Dialogue, root: Path
) -> None:
    """It is the directory that was opened, whatever its name is by then."""
    (root / "directory").mkdir()
    with client.begins("STOR directory/file") as data:
        data.sendall(CONTENT)
        (root / "directory").rename(root / "moved")
    client.expects(226)
    assert names(root / "moved") == ["file"]
    assert (root / "moved" / "file").read_bytes() == CONTENT


# ---------------------------------------------------------------------- what is replaced


def test_a_file_that_is_replaced_leaves_its_mode_and_owner_to_the_new_one(
    client: Dialogue, root: Path
) -> None:
    """“an existing target keeps its mode/owner as far as sensible”"""
    (root / "file").write_bytes(OLD)
    (root / "file").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(root / "file", 1234, 4321)
    before = (root / "file").stat()
    with client.begins("STOR file") as data:
        until(lambda: unfinished(root))
        status = (root / unfinished(root)[0]).stat()
        assert stat.S_IMODE(status.st_mode) == 0o1640, "others could read it meanwhile"
        data.sendall(CONTENT)
    client.expects(226)
    after = (root / "file").stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert after.st_ino != before.st_ino


def test_a_new_file_has_the_mode_that_files_have(client: Dialogue, root: Path) -> None:
    client.uploads("STOR file", CONTENT[:10])
    client.uploads("APPE appended", CONTENT[:10])
    assert (root / "file").stat().st_mode == (root / "appended").stat().st_mode


def test_a_link_gives_way_and_not_what_it_names(client: Dialogue, root: Path) -> None:
    """As with RNTO: it is the name that is replaced."""
    (root / "target").write_bytes(OLD)
    (root / "link").symlink_to("target")
    client.uploads("STOR link", CONTENT)
    assert not (root / "link").is_symlink()
    assert (root / "link").read_bytes() == CONTENT
    assert (root / "target").read_bytes() == OLD


@pytest.mark.parametrize("kind", ["directory", "fifo", "link out", "missing directory"])
def test_what_could_not_be_written_is_not_replaced(
    client: Dialogue, root: Path, tmp_path: Path, kind: str
) -> None:
    """550 before 150, as without the option."""
    name = "name"
    if kind == "directory":
        (root / name).mkdir()
    elif kind == "fifo":
        os.mkfifo(root / name)
    elif kind == "link out":
        (tmp_path / "outside").write_bytes(OLD)
        (root / name).symlink_to(tmp_path / "outside")
    else:
        name = "missing/name"
    before = names(root)
    with client.passive():
        client.says(f"STOR {name}", 550)
    assert names(root) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_not_be_written_is_not_replaced(client: Dialogue, root: Path) -> None:
    (root / "file").touch(mode=0o444)
    with client.passive():
        client.says("STOR file", 550)


# ---------------------------------------------------------------------- what a killed worker left


def test_what_a_killed_worker_left_is_not_seen_and_goes_with_its_directory(tmp_path: Path) -> None:
    """“temporary leftovers of a killed worker”: RMD of a directory that is empty for its client."""
    with running("cluster", tmp_path, atomic_uploads=True) as server:
        assert server.cluster is not None
        directory = server.root / "directory"
        directory.mkdir()
        (directory / "file").write_bytes(OLD)
        with Dialogue(server.port) as client:
            client.logs_in()
            with client.begins("STOR directory/file") as data:
                data.sendall(CONTENT)
                until(lambda: unfinished(directory))
                os.kill(server.cluster.worker_of(client.sock), signal.SIGKILL)
                with contextlib.suppress(ConnectionError):
                    assert not client.sock.recv(1)
        assert (directory / "file").read_bytes() == OLD
        (left,) = unfinished(directory)
        with Dialogue(server.port) as client:
            client.logs_in()
            assert client.downloads("NLST -a directory") == b"directory/file\r\n"
            client.says(f"SIZE directory/{left}", 213)
            client.says("RMD directory", 550)
            client.says("DELE directory/file", 250)
            client.says("RMD directory", 250)
    assert server.left() == []


def test_a_directory_into_which_somebody_uploads_is_not_removed(
    shared: Running, client: Dialogue, root: Path
) -> None:
    """An unfinished upload is no leftover as long as somebody writes it."""
    (root / "directory").mkdir()
    (root / "directory" / ".old.~ftpcluster-00000000~").touch()
    with Dialogue(shared.port) as other:
        other.logs_in()
        with client.begins("STOR directory/file") as data:
            until(lambda: len(unfinished(root / "directory")) == 2)
            for _ in range(2):
                other.says("RMD directory", 550)
            data.sendall(CONTENT)
        client.expects(226)
        assert (root / "directory" / "file").read_bytes() == CONTENT


# ---------------------------------------------------------------------- other layers


class OwnPathIO(PathIO):
    """Somebody's own, which changes nothing."""


class OwnMemoryPathIO(MemoryPathIO):
    """Somebody's own, which changes nothing."""


@pytest.mark.parametrize("kind", IN_PROCESS)
@pytest.mark.parametrize("layer", [OwnPathIO, OwnMemoryPathIO])
def test_layers_of_somebody_s_own_do_it_with_their_rename(
    kind: str, layer: type[PathIO], tmp_path: Path
) -> None:
    users = [User(base_path=tmp_path)]
    options = {"atomic_uploads": True, "path_io_factory": layer}
    server = InProcess(kind, lambda: Server(users, **options))  # type: ignore[arg-type]
    try:
        with Dialogue(server.port) as client, Dialogue(server.port) as other:
            client.logs_in()
            other.logs_in()
            client.uploads("STOR file", OLD)
            with client.begins("STOR file") as data:
                data.sendall(CONTENT)
                client.says("NOOP", 200)
                assert other.downloads("RETR file") == OLD
                assert other.downloads("NLST -a") == b"file\r\n"
                client.send("ABOR")
                client.expects(426)
                client.expects(226)
            assert other.downloads("RETR file") == OLD
            client.uploads("STOR file", CONTENT)
            client.uploads("STOU", CONTENT[:10])
            assert other.downloads("RETR file") == CONTENT
            assert len(other.downloads("MLSD").splitlines()) == 2
            client.says("MKD directory", 257)
            with client.passive():
                client.says("STOR directory", 550)
    finally:
        server.stop()
    if layer is OwnPathIO:
        assert unfinished(tmp_path) == []


def test_without_the_option_a_name_is_there_from_the_beginning(serve: Maker) -> None:
    """“A partial upload stays for REST (default)”"""
    with Dialogue(serve()) as client:
        client.logs_in()
        with client.begins("STOR file") as data:
            data.sendall(OLD)
            until(lambda: (serve.directory / "file").stat().st_size == len(OLD))
            reset(data)
        client.expects(426)
    assert (serve.directory / "file").read_bytes() == OLD
