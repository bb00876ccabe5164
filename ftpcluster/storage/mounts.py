"""Which directories are on storage that may not answer: NFS, FUSE, and whatever is not known.

A call there can last for ever, so nothing is asked of it to find out. The kernel's table of mounts
says what is where. A path is followed name by name, and no further than the first such mount.
"""

from __future__ import annotations

import logging
import os
import re
import select
import time
import weakref
from typing import NamedTuple

from ftpcluster.descriptors import close_quietly

log = logging.getLogger(__name__)

_FAST = frozenset(
    (
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs"),
        *("tmpfs", "ramfs", "rootfs", "overlay", "aufs", "nilfs2", "ntfs3", "hfsplus"),
        *("squashfs", "erofs", "cramfs", "iso9660", "udf", "vfat", "exfat", "msdos"),
        *("proc", "sysfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "nsfs", "bpf"),
        *("debugfs", "tracefs", "securityfs", "pstore", "configfs", "hugetlbfs", "efivarfs"),
        *("binfmt_misc", "rpc_pipefs", "fusectl", "selinuxfs"),
    )
)
"""File systems of this machine's own disks and memory."""
_LINKS = 40
"""Symbolic links that the kernel follows in one path."""
_PART = 20
"""To read the table takes at most this part of the time, however often it changes."""
_CHANGED = select.POLLPRI | select.POLLERR
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of the table. ``device``: of the file system, which may be mounted in many places."""

    number: int
    parent: int
    device: str
    point: str
    kind: str

    @property
    def is_fast(self) -> bool:
        return self.kind in _FAST


class MountTable:
    """The mounts that this process sees. To be made before the process is confined."""

    def __init__(self, path: str = "/proc/self/mountinfo") -> None:
        self._fd = -1
        self._due = 0.0
        self._root: Mount | None = None
        self._at: dict[tuple[int, str], Mount] = {}
        self._slow_points: list[str] = []
        self._poll = select.poll()
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("storage that may not answer cannot be told from other: %s", error)
        else:
            self._close = weakref.finalize(self, close_quietly, self._fd)
            self._poll.register(self._fd, _CHANGED)
            self._read()

    def device(self, path: str) -> str | None:
        """The device that a directory is on; None where nobody knows."""
        self._look()
        found = self._find(path)
        return None if found is None else found[1].device

    def _find(self, path: str) -> tuple[str, Mount] | None:
        if self._root is None:
            return None
        return self._follow(path if path[:1] == "/" else os.path.join(os.getcwd(), path))

    def slow_storage(self, path: str) -> str | None:
        """The device of a directory that may not answer, or that has such storage beneath it.

        None where it is on this machine's own disks, or where nobody knows.
        """
        self._look()
        # most machines have no such storage at all
        found = self._find(path) if self._slow_points else None
        if found is None:
            return None
        path, mount = found
        if not mount.is_fast:
            return mount.device
        beneath = path.rstrip("/") + "/"
        for point in self._slow_points:
            if point.startswith(beneath):
                return mount.device
        return None

    def _look(self) -> None:
        """Read the table again where it has changed."""
        if self._root is not None and time.monotonic() >= self._due and self._poll.poll(0):
            self._read()

    def _follow(self, path: str) -> tuple[str, Mount]:
        """Where a path leads, and the mount there. It ends at the first slow mount."""
        assert self._root is not None
        here, mount, links = "", self._root, 0
        names = path.split("/")[::-1]
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            if name == "..":
                here, mount = self._above(here)
                continue
            here, mount = f"{here}/{name}", self._mounted(mount, f"{here}/{name}")
            if not mount.is_fast:
                break
            try:
                target = os.readlink(here)
            except OSError:
                continue  # no link; or it is missing, and then opening it fails
            links += 1
            if links > _LINKS:
                break
            names += target.split("/")[::-1]
            here, mount = ("", self._root) if target[:1] == "/" else self._above(here)
        return here, mount

    def _above(self, path: str) -> tuple[str, Mount]:
        """The directory that holds a path without links, and its mount."""
        assert self._root is not None
        here, mount = "", self._root
        for name in path.split("/")[1:-1]:
            here = f"{here}/{name}"
            mount = self._mounted(mount, here)
        return here, mount

    def _mounted(self, mount: Mount, path: str) -> Mount:
        """The mount that is seen at a path in ``mount``: the last one of those that lie over it."""
        while (over := self._at.get((mount.number, path))) is not None:
            mount = over
        return mount

    def _read(self) -> None:
        began = time.monotonic()
        mounts = [_parsed(line) for line in _whole(self._fd).splitlines()]
        self._at = {(each.parent, each.point): each for each in mounts}
        self._slow_points = [each.point for each in mounts if not each.is_fast]
        numbers = {each.number for each in mounts}
        self._root = None
        for each in mounts:
            if each.point == "/" and (each.parent not in numbers or each.parent == each.number):
                self._at.pop((each.number, "/"), None)  # the root of all is its own parent
                self._root = self._mounted(each, "/")
        now = time.monotonic()
        self._due = now + _PART * (now - began)

    def close(self) -> None:
        if self._fd >= 0:
            self._fd, self._root = -1, None
            self._close()


def _whole(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    data = b""
    while part := os.read(fd, 1 << 16):
        data += part
    return os.fsdecode(data)


def _parsed(line: str) -> Mount:
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    number, parent, device, _, point, *rest = line.split(" ")
    kind = rest[rest.index("-") + 1]
    plain = _ESCAPED.sub(lambda code: chr(int(code[1], 8)), point)
    return Mount(int(number), int(parent), device, plain, kind)
