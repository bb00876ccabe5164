"""Uploads to disks that fail (faults.md, “Data”, row 1): “disk full, EIO on write, EIO on close,
quota, directory removed during an upload: 452 / 451 / 451 / 552 / 451; never 226; the next command
works; the session lives”.

In the library on both loops, and in the workers of ``run``, on both; on the local layer and on one
of somebody's own. The calls themselves fail, see ``tests.support.disks``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import until
from tests.support.dialogue import Dialogue
from tests.support.disks import BadPathIO, go_bad
from tests.support.kinds import Running, running

CONTENT = os.urandom(1_000_000)
SMALL, LARGE = 1000, len(CONTENT)
IN_PROCESS: dict[str, dict[str, Any]] = {
    "library on asyncio": {"kind": "asyncio"},
    "library on uvloop": {"kind": "uvloop"},
    "own layer on asyncio": {"kind": "asyncio", "path_io_factory": BadPathIO},
    "own layer on uvloop": {"kind": "uvloop", "path_io_factory": BadPathIO},
}
CLUSTERS: dict[str, dict[str, Any]] = {
    "cluster": {"kind": "cluster", "server": "tests.support.disks:Local"},
    "cluster on asyncio": {
        "kind": "cluster",
        "server": "tests.support.disks:Local",
        "loop": "asyncio",
    },
    "own layer in a cluster": {"kind": "cluster", "server": "tests.support.disks:Layered"},
}
KINDS = {**IN_PROCESS, **CLUSTERS}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module", params=[False, True], ids=["in place", "atomic"])
def shared(
    request: pytest.FixtureRequest, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("disk")
    with running(directory=directory, atomic_uploads=request.param, **KINDS[kind]) as server:
        yield server


@pytest.fixture
def client(shared: Running, kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dialogue]:
    shared.emptied()
    if kind in IN_PROCESS and "layer" not in kind:
        go_bad(monkeypatch.setattr)
    with Dialogue(shared.port) as dialogue:
        dialogue.logs_in()
        yield dialogue


def is_served(client: Dialogue, root: Path) -> bool:
    """“the next command works; the session lives”: and what it stores is whole."""
    client.says("NOOP", 200)
    client.says("TYPE I", 200)
    client.uploads("STOR good", CONTENT)
    return client.downloads("RETR good") == CONTENT == (root / "good").read_bytes()


def uploads(client: Dialogue, command: str, content: bytes, reply: int) -> None:
    """An upload that fails, whether the client notices before it has sent everything or not."""
    with client.begins(command) as data, contextlib.suppress(ConnectionError):
        data.sendall(content)
    client.expects(reply)


FAULTS = [
    ("write-ENOSPC", SMALL, 452),
    ("write-ENOSPC", LARGE, 452),
    ("write-EIO", SMALL, 451),
    ("write-EDQUOT", LARGE, 552),
    ("write-EFBIG", SMALL, 552),
    ("close-EIO", SMALL, 451),
    ("close-EIO", LARGE, 451),
    ("close-EDQUOT", SMALL, 552),
    ("close-ENOSPC", SMALL, 452),
]


@pytest.mark.parametrize("verb", ["STOR", "APPE", "STOU"])
@pytest.mark.parametrize(("name", "size", "reply"), FAULTS)
def test_what_the_disk_refuses_is_told_and_never_226(
    shared: Running, client: Dialogue, verb: str, name: str, size: int, reply: int
) -> None:
    uploads(client, f"{verb} {name}", CONTENT[:size], reply)
    client.says("TYPE A", 200)
    uploads(client, f"{verb} {name}", CONTENT[:size], reply)
    assert is_served(client, shared.root)


@pytest.mark.parametrize(("code", "reply"), [("ENOSPC", 452), ("EIO", 451), ("EDQUOT", 552)])
@pytest.mark.parametrize("verb", ["STOR", "STOU"])
def test_what_the_disk_refuses_in_the_middle_is_told(
    shared: Running, client: Dialogue, verb: str, code: str, reply: int
) -> None:
    """Where the kernel copies, after 128 KiB that went well."""
    uploads(client, f"{verb} splice-{code}", CONTENT, reply)
    assert is_served(client, shared.root)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("verb", ["STOR", "APPE", "STOU"])
def test_a_directory_removed_during_an_upload_is_451(
    shared: Running, client: Dialogue, verb: str, size: int
) -> None:
    """“A file whose name is gone before its last byte came is 451”."""
    directory = shared.root / "directory"
    directory.mkdir()
    with client.begins(f"{verb} directory/file") as data:
        data.sendall(CONTENT[: size // 2])
        least = size // 4 if size == LARGE else 0  # a layer may hold some of it back
        until(lambda: [path for path in directory.iterdir() if path.stat().st_size >= least])
        shutil.rmtree(directory)
        data.sendall(CONTENT[size // 2 : size])
    client.expects(451)
    assert is_served(client, shared.root)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("verb", ["STOR", "APPE", "STOU"])
def test_a_file_that_is_removed_when_it_is_whole_is_226(
    shared: Running, client: Dialogue, verb: str, size: int, request: pytest.FixtureRequest
) -> None:
    """“… later 226”: whoever watches a directory takes a file as soon as it has its size."""
    if "atomic" in request.node.name or "layer" in request.node.name:
        pytest.skip("nobody can see from outside that it is whole")
    with client.begins(f"{verb} taken") as data:
        data.sendall(CONTENT[:size])
        until(lambda: [path for path in shared.root.iterdir() if path.stat().st_size == size])
        shared.emptied()
    client.expects(226)
    assert is_served(client, shared.root)


def test_an_atomic_upload_that_fails_leaves_the_old_file(shared: Running, client: Dialogue) -> None:
    """And one in place leaves what could be written, to be resumed."""
    file = shared.root / "write-EIO"
    file.write_bytes(b"before")
    uploads(client, "STOR write-EIO", CONTENT, 451)
    is_atomic = file.read_bytes() == b"before"
    assert shared.left() == ["write-EIO"]
    assert is_atomic or file.read_bytes() == b""


# ---------------------------------------------------------------------- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where the directory is that will be served."""
    disk = tmp_path / "root"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount")
    try:
        yield disk
    finally:
        # lazily: a server may hold the directory open
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"atomic_uploads": True, "durable_uploads": True}])
def test_a_disk_that_is_full_is_452(
    small_disk: Path, tmp_path: Path, kind: str, options: dict[str, bool]
) -> None:
    """“disk full … 452”: with the disk's own word."""
    old = CONTENT[:300_000]
    with running(directory=tmp_path, **KINDS[kind], **options) as server:
        with Dialogue(server.port) as client:
            client.logs_in()
            client.uploads("STOR file", old)
            uploads(client, "STOR file", CONTENT * 5, 452)
            client.says("NOOP", 200)
            if options:
                assert (small_disk / "file").read_bytes() == old
            assert os.listdir(small_disk) == ["file"]
            client.uploads("STOR file", old)
            uploads(client, "APPE file", CONTENT * 5, 452)
            client.says("DELE file", 250)
            client.uploads("APPE file", CONTENT[:700_000])
            assert (small_disk / "file").read_bytes() == CONTENT[:700_000]
