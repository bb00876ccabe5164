"""RNTO that leads to another file system: a mount in the root, an overlay's lower layer.

“copied and removed as mv does (files; a directory is 550 with the true reason), off the loop,
cancellable, with its time and mode, never half there under the new name” (protocol.md).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ftpcluster
from tests.support.cluster import until
from tests.support.dialogue import Dialogue, reset
from tests.support.kinds import Running, running
from tests.support.odd_files import mounted

CONTENT = os.urandom(5_000_000)
KINDS: dict[str, dict[str, Any]] = {
    "cluster": {"kind": "cluster"},
    "library": {"kind": "uvloop"},
    "library in threads": {"kind": "uvloop", "path_io_factory": ftpcluster.AsyncPathIO},
}
TRUE_REASON = "550 It would have to go to another file system."


@contextlib.contextmanager
def mount(place: Path, *arguments: str) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", *arguments, str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """``other`` in its directory is another file system, of 8 MB."""
    other = tmp_path / "root" / "other"
    with mount(other, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        with running(directory=tmp_path, **KINDS[request.param]) as made:
            yield made


@pytest.fixture
def client(server: Running) -> Iterator[Dialogue]:
    with Dialogue(server.port) as dialogue:
        dialogue.logs_in()
        yield dialogue


def renames(client: Dialogue, old: str, new: str, code: int) -> str:
    client.says(f"RNFR {old}", 350)
    return client.says(f"RNTO {new}", code)


def test_a_file_goes_with_its_time_and_mode(server: Running, client: Dialogue) -> None:
    file, moved = server.root / "file", server.root / "other" / "moved"
    file.write_bytes(CONTENT)
    file.chmod(0o640)
    os.chown(file, 12, 34)
    os.utime(file, ns=(0, 1_234_567_890_123_456_789))
    with contextlib.suppress(OSError):
        os.setxattr(file, "user.colour", b"red")
    attributes = os.listxattr(file)
    renames(client, "file", "other/moved", 250)
    status = moved.stat()
    assert moved.read_bytes() == CONTENT
    assert status.st_mtime_ns == 1_234_567_890_123_456_789
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 12, 34)
    assert set(os.listxattr(moved)) <= set(attributes)
    assert server.left() == ["other", "other/moved"]
    renames(client, "other/moved", "back", 250)
    assert (server.root / "back").read_bytes() == CONTENT
    assert server.left() == ["back", "other"]


def test_what_is_there_is_replaced_or_stays(server: Running, client: Dialogue) -> None:
    """As within a file system: ``run`` replaces files, the library nothing; nobody directories."""
    file, there = server.root / "file", server.root / "other" / "there"
    file.write_bytes(CONTENT)
    there.write_bytes(b"there")
    if server.cluster is None:
        renames(client, "file", "other/there", 550)
        assert there.read_bytes() == b"there"
    else:
        renames(client, "file", "other/there", 250)
        assert there.read_bytes() == CONTENT
        file.write_bytes(CONTENT)
    (server.root / "other" / "directory").mkdir()
    renames(client, "file", "other/directory", 550)
    assert file.read_bytes() == CONTENT
    assert server.left() == ["file", "other", "other/directory", "other/there"]


def test_links_go_and_directories_do_not(server: Running, client: Dialogue) -> None:
    (server.root / "link").symlink_to("nowhere")
    (server.root / "directory").mkdir()
    renames(client, "link", "other/link", 250)
    assert os.readlink(server.root / "other" / "link") == "nowhere"
    assert renames(client, "directory", "other/directory", 550) == TRUE_REASON
    os.mkfifo(server.root / "fifo")
    assert renames(client, "fifo", "other/fifo", 550) == TRUE_REASON
    assert server.left() == ["directory", "fifo", "other", "other/link"]


def test_a_disk_that_is_full_leaves_the_file_where_it_is(server: Running, client: Dialogue) -> None:
    (server.root / "file").write_bytes(CONTENT * 3)
    renames(client, "file", "other/file", 452)
    client.says("NOOP", 200)
    assert (server.root / "file").read_bytes() == CONTENT * 3
    assert server.left() == ["file", "other"]


def test_somebody_elses_layer_says_the_true_reason(tmp_path: Path) -> None:
    class Layer(ftpcluster.PathIO):
        """A layer of somebody's own: it has no way to copy."""

    other = tmp_path / "root" / "other"
    with mount(other, "-t", "tmpfs", "tmpfs"):
        with running("uvloop", tmp_path, path_io_factory=Layer) as server:
            (server.root / "file").write_bytes(b"content")
            with Dialogue(server.port) as client:
                client.logs_in()
                assert renames(client, "file", "other/file", 550) == TRUE_REASON
            assert server.left() == ["file", "other"]


@pytest.mark.parametrize("kind", ["cluster", "uvloop"])
def test_a_lower_layer_of_an_overlay(tmp_path: Path, kind: str) -> None:
    """As in any container. Its directories cannot be renamed; its files can."""
    for name in ("lower/directory", "upper", "work"):
        (tmp_path / "disk" / name).mkdir(parents=True)
    layers = ",".join(f"{key}dir={tmp_path / 'disk' / key}" for key in ("lower", "upper", "work"))
    (tmp_path / "disk" / "lower" / "file").write_bytes(b"content")
    with mount(tmp_path / "root", "-t", "overlay", "overlay", "-o", f"{layers},redirect_dir=off"):
        with running(kind, tmp_path) as server, Dialogue(server.port) as client:
            client.logs_in()
            assert renames(client, "directory", "renamed", 550) == TRUE_REASON
            renames(client, "file", "directory/file", 250)
            assert server.left() == ["directory", "directory/file"]


# ---------------------------------------------------------------------- while it is copied


@pytest.fixture(params=["cluster", "uvloop"])
def slow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    """``slow`` in its directory takes seconds to be copied, by way of FUSE."""
    (tmp_path / "root").mkdir()
    with mounted(tmp_path / "behind", tmp_path / "root" / "slow", "slow"):
        with running(request.param, tmp_path) as made:
            (made.root / "slow" / "file").write_bytes(CONTENT * 4)
            yield made


@contextlib.contextmanager
def moving(server: Running) -> Iterator[Dialogue]:
    """A client whose file is being copied."""
    with Dialogue(server.port) as client:
        client.logs_in()
        client.says("RNFR slow/file", 350)
        client.send("RNTO moved")
        until(lambda: [path for path in server.root.iterdir() if path.name.startswith(".moved.")])
        yield client


def is_as_before(server: Running) -> bool:
    return server.left() == ["slow", "slow/file"]


def test_others_go_on_and_abor_ends_it(slow: Running) -> None:
    with moving(slow) as client, Dialogue(slow.port) as other:
        other.logs_in()
        assert not (slow.root / "moved").exists()
        client.says("NOOP", 200)
        client.send("ABOR")
        client.expects(426)
        client.expects(226)
        assert is_as_before(slow)
        client.says("SIZE slow/file", 213)


def test_a_client_that_crashes_ends_it(slow: Running) -> None:
    with moving(slow) as client:
        reset(client.sock)
    until(lambda: is_as_before(slow))


def test_what_changes_meanwhile_stays(slow: Running) -> None:
    with moving(slow) as client:
        with (slow.root / "slow" / "file").open("ab") as file:
            file.write(b"more")
        client.expects(451)
        assert is_as_before(slow)
        assert (slow.root / "slow" / "file").stat().st_size == len(CONTENT) * 4 + 4
