"""``durable_uploads``: 226 says that the disk has it (protocol.md, “Transfers”: “and, where durable
uploads are on, fsync of file and directory”)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ftpcluster import AsyncPathIO, PathIO
from tests.support.cluster import open_files, until
from tests.support.dialogue import Dialogue
from tests.support.disks import go_bad
from tests.support.kinds import IN_PROCESS, KINDS, Running, running

CONTENT = os.urandom(300_000)
TRANSFERS = ("STOR file", "APPE file", "STOU file")


class Calls:
    """What has been asked of the file system, in its order; ``fsync`` can be held up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[tuple[str, str]] = []
        self.threads: set[str] = set()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.waits = threading.Event()
        self._fsync, self._rename = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", self._on_fsync)
        monkeypatch.setattr(os, "rename", self._on_rename)

    def _on_fsync(self, fd: int) -> None:
        self.threads.add(threading.current_thread().name)
        self.made.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))
        self.waits.set()
        assert self.goes_on.wait(20)
        self._fsync(fd)

    def _on_rename(self, old: Any, new: Any, **keywords: Any) -> None:
        self.made.append(("rename", os.fsdecode(new)))
        self._rename(old, new, **keywords)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    found = Calls(monkeypatch)
    yield found
    found.goes_on.set()


@pytest.fixture(params=IN_PROCESS)
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Serves with the options that a test wants."""
    managers = []

    def start(**options: Any) -> Running:
        manager = running(request.param, tmp_path, **options)
        managers.append(manager)
        return manager.__enter__()

    yield start
    for manager in managers:
        manager.__exit__(None, None, None)


def logged_in(port: int) -> Dialogue:
    client = Dialogue(port)
    client.logs_in()
    return client


# ---------------------------------------------------------------------- what is asked of the disk


@pytest.mark.parametrize("command", TRANSFERS)
@pytest.mark.parametrize("layer", [PathIO, AsyncPathIO])
def test_file_and_directory_are_on_the_disk_before_226(
    serve: Callable[..., Running], calls: Calls, command: str, layer: type[PathIO]
) -> None:
    """“fsync of file and directory”: of the directory, too, for it has the name."""
    server = serve(durable_uploads=True, path_io_factory=layer)
    (server.root / "directory").mkdir()
    with logged_in(server.port) as client:
        client.says("CWD directory", 250)
        client.uploads(command, CONTENT)
        (name,) = os.listdir(server.root / "directory")
        assert calls.made == [("fsync", name), ("fsync", "directory")]
        assert all(thread.startswith("ftpcluster-") for thread in calls.threads)
        client.says("REST 5", 350)
        client.uploads(f"STOR {name}", b"xyz")
        assert calls.made[2:] == [("fsync", name), ("fsync", "directory")]


def test_a_durable_and_atomic_upload_has_its_name_between_the_two(
    serve: Callable[..., Running], calls: Calls
) -> None:
    """fsync of the file, else a crash could leave the new name with an empty file; the name; and
    fsync of the directory."""
    server = serve(durable_uploads=True, atomic_uploads=True)
    with logged_in(server.port) as client:
        client.uploads("STOR file", CONTENT)
    (first, name), *others = calls.made
    assert (first, others) == ("fsync", [("rename", "file"), ("fsync", "root")])
    assert name.startswith(".file.~ftpcluster-")


@pytest.mark.parametrize("options", [{}, {"atomic_uploads": True}])
def test_without_the_option_the_disk_is_not_waited_for(
    serve: Callable[..., Running], calls: Calls, options: dict[str, bool]
) -> None:
    server = serve(**options)
    with logged_in(server.port) as client:
        for command in TRANSFERS:
            client.uploads(command, CONTENT)
    assert [call for call, _ in calls.made if call == "fsync"] == []


@pytest.mark.parametrize("layer", [PathIO, AsyncPathIO])
def test_nobody_waits_for_the_disk_but_the_one_who_uploads(
    serve: Callable[..., Running], calls: Calls, layer: type[PathIO]
) -> None:
    """“Blocking work never stalls the loop”; “NOOP and STAT are answered meanwhile”."""
    calls.goes_on.clear()
    server = serve(durable_uploads=True, path_io_factory=layer)
    with logged_in(server.port) as client, logged_in(server.port) as other:
        (server.root / "there").write_bytes(CONTENT)
        with client.begins("STOR file") as data:
            data.sendall(CONTENT)
        assert calls.waits.wait(20)
        assert other.downloads("RETR there") == CONTENT
        client.says("NOOP", 200)  # and no 226 before it
        client.says("STAT", 211)
        calls.goes_on.set()
        client.expects(226)


def test_it_is_too_late_for_abor_when_all_was_received(
    serve: Callable[..., Running], calls: Calls
) -> None:
    """“ABOR …: exactly {226}, {225} or {426, 226}”: here the upload's own 226, and ABOR's."""
    calls.goes_on.clear()
    server = serve(durable_uploads=True, atomic_uploads=True)
    with logged_in(server.port) as client:
        with client.begins("STOR file") as data:
            data.sendall(CONTENT)
        assert calls.waits.wait(20)
        client.send("ABOR")
        client.finds_silence(0.2)
        calls.goes_on.set()
        client.expects(226)
        client.expects(225, 226)
        assert client.downloads("RETR file") == CONTENT


def test_a_session_that_ends_meanwhile_gives_all_back(
    serve: Callable[..., Running], calls: Calls
) -> None:
    """The thread has the descriptor until it is done: closed before, it could be another file's."""
    calls.goes_on.clear()
    server = serve(durable_uploads=True)
    with logged_in(server.port) as client:
        with client.begins("STOR file") as data:
            data.sendall(CONTENT)
        assert calls.waits.wait(20)
    held = str(server.root / "file")
    for _ in range(3):
        with logged_in(server.port):  # so many turns of the loop later
            assert held in open_files(os.getpid())
    calls.goes_on.set()
    until(lambda: held not in open_files(os.getpid()))
    assert (server.root / "file").read_bytes() == CONTENT


# ---------------------------------------------------------------------- a disk that fails


@pytest.mark.parametrize(("code", "reply"), [("EIO", 451), ("ENOSPC", 452), ("EDQUOT", 552)])
@pytest.mark.parametrize("is_atomic", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_disk_does_not_store_is_no_success(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    reply: int,
    is_atomic: bool,
) -> None:
    """“local read or write failed 451; disk full 452; quota 552”, where only fsync says so."""
    if kind != "cluster":
        go_bad(monkeypatch.setattr)
    bad = "tests.support.disks:Local"
    options = {"durable_uploads": True, "atomic_uploads": is_atomic}
    with running(kind, tmp_path, server=bad, **options) as server:
        with logged_in(server.port) as client:
            client.uploads(f"STOR fsync-{code}", CONTENT, reply)
            assert server.left() == ([] if is_atomic else [f"fsync-{code}"])
            client.says(f"MKD directory-fsync-{code}", 257)
            client.uploads(f"STOR directory-fsync-{code}/file", CONTENT, reply)
            client.uploads("STOR file", CONTENT)
            assert client.downloads("RETR file") == CONTENT


def test_without_the_option_a_disk_that_fails_later_is_not_noticed(tmp_path: Path) -> None:
    """So it is ``durable_uploads`` what the test above shows."""
    with running("cluster", tmp_path, server="tests.support.disks:Local") as server:
        with logged_in(server.port) as client:
            client.uploads("STOR fsync-EIO", CONTENT)


# ---------------------------------------------------------------------- layers of somebody's own


class Telling(PathIO):
    """Writes down what it is asked for."""

    asked: ClassVar[list[str]]

    async def _open(self, path: Any, mode: str = "rb") -> Any:
        self.asked.append(f"open {path.name}")
        return await super()._open(path, mode)

    async def sync(self, file: Any) -> None:
        self.asked.append("sync")
        await super().sync(file)

    async def close(self, file: Any) -> None:
        self.asked.append("close")
        await super().close(file)

    async def rename(self, source: Any, destination: Any) -> Any:
        self.asked.append(f"rename {destination.name}")
        return await super().rename(source, destination)

    async def sync_directory(self, path: Any) -> None:
        self.asked.append(f"sync_directory {path.name}")
        await super().sync_directory(path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the layer is asked for."""
    found: list[str] = []
    monkeypatch.setattr(Telling, "asked", found, raising=False)
    return found


def test_a_layer_is_asked_to_sync_before_a_file_is_closed_and_a_directory_after(
    serve: Callable[..., Running], calls: Calls, asked: list[str]
) -> None:
    server = serve(durable_uploads=True, path_io_factory=Telling)
    with logged_in(server.port) as client:
        client.uploads("STOR file", CONTENT)
    assert asked == ["open file", "sync", "close", "sync_directory root"]
    assert calls.made == [("fsync", "file"), ("fsync", "root")]


def test_a_layer_is_asked_in_the_order_of_a_durable_and_atomic_upload(
    serve: Callable[..., Running], calls: Calls, asked: list[str]
) -> None:
    server = serve(durable_uploads=True, atomic_uploads=True, path_io_factory=Telling)
    with logged_in(server.port) as client:
        client.uploads("STOR file", CONTENT)
    opening, *others = asked
    assert opening.startswith("open .file.~ftpcluster-")
    assert others == ["sync", "close", "rename file", "sync_directory root"]
