"""Which directories are on storage that may not answer, by a table of mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftpcluster.storage.mounts import MountTable


def table(path: Path, *mounts: str) -> MountTable:
    """A table of mounts: "number parent point kind" each. The first is the root."""
    lines = []
    for mount in mounts:
        number, parent, point, kind = mount.split(" ")
        lines.append(f"{number} {parent} 0:{number} / {point} rw shared:1 - {kind} {kind} rw\n")
    path.write_text("".join(lines))
    return MountTable(str(path))


@pytest.mark.parametrize(
    ("path", "device"),
    [
        ("/srv", "0:1"),  # something slow lies beneath
        ("/srv/fast/alice", None),
        ("/srv/nfs", "0:3"),
        ("/srv/nfs/alice", "0:3"),
        ("/srv/nfs/../fast", "0:3"),  # to go up again would be to ask it
        ("/srv/nfsalike", None),
        ("/mnt/with blank/x", "0:5"),
        ("/mnt/odd", "0:6"),
        ("/", "0:1"),
    ],
)
def test_a_directory_is_slow_by_where_it_is(tmp_path: Path, path: str, device: str | None) -> None:
    mounts = table(
        tmp_path / "mountinfo",
        "1 0 / ext4",
        "2 1 /srv/fast xfs",
        "3 1 /srv/nfs nfs4",
        "5 1 /mnt/with\\040blank fuse.sshfs",
        "6 1 /mnt/odd no-name-that-is-known",
    )
    assert mounts.slow_storage(path) == device


def test_what_is_mounted_last_at_a_place_counts(tmp_path: Path) -> None:
    mounts = table(
        tmp_path / "mountinfo",
        *("1 0 / ext4", "2 1 /a fuse", "3 2 /a tmpfs", "4 1 /b tmpfs", "5 4 /b nfs"),
        *("6 1 /c/d ext4", "7 1 /c cifs"),  # over what is mounted beneath
    )
    assert mounts.device("/a/x") == "0:3"
    assert mounts.slow_storage("/b/x") == "0:5"
    assert mounts.slow_storage("/c/d/x") == "0:7"


def test_links_are_followed_and_nothing_is_asked_beyond_a_slow_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "home").symlink_to("link")
    (tmp_path / "link").symlink_to(tmp_path / "slow" / "x")
    (tmp_path / "up").symlink_to("slow/../fast")
    (tmp_path / "loop").symlink_to("loop")
    mounts = table(tmp_path / "mountinfo", "1 0 / ext4", f"2 1 {tmp_path}/slow fuse")
    asked = []
    real = os.readlink

    def readlink(path: str) -> str:
        asked.append(path)
        return real(path)

    monkeypatch.setattr(os, "readlink", readlink)
    assert mounts.slow_storage(f"{tmp_path}/home/alice") == "0:2"
    assert mounts.slow_storage(f"{tmp_path}/up") == "0:2"
    assert not [path for path in asked if path.startswith(f"{tmp_path}/slow")]
    assert mounts.slow_storage(f"{tmp_path}/loop") is None
    assert mounts.slow_storage(f"{tmp_path}/missing") is None


def test_where_there_is_no_table_nothing_is_slow(tmp_path: Path) -> None:
    mounts = MountTable(str(tmp_path / "missing"))
    assert mounts.slow_storage("/srv") is None
    mounts.close()


def test_this_machine_s_own_table_is_understood(tmp_path: Path) -> None:
    mounts = MountTable()
    assert mounts.device(str(tmp_path)) is not None
    status = os.stat(tmp_path)
    kind = os.major(status.st_dev), os.minor(status.st_dev)
    assert mounts.device(str(tmp_path)) == f"{kind[0]}:{kind[1]}"
    mounts.close()
