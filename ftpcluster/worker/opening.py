"""Opening paths that may not answer, such as roots on NFS or FUSE, in another process.

A call that hangs there may never return, and no signal ends it. So a process of its own opens the
paths and sends the descriptors. If it hangs, the worker does not wait for it; when the worker ends,
init becomes its parent.
"""

from __future__ import annotations

import array
import os
import re
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ftpcluster.safe_paths import is_led_by_others

_PATIENCE = 2.0
"""Seconds in which a path has to be opened."""
_STATUS = struct.Struct("=IQQ")


class Opened(NamedTuple):
    """What a path names, opened: its mode, its device and inode."""

    fd: int
    mode: int
    device: int
    inode: int


def open_in_time(
    paths: Sequence[str], use: Callable[[str, Opened], None]
) -> tuple[list[str], list[str]]:
    """Open paths (O_PATH), and call ``use(path, opened)`` for each; ``opened`` is closed after
    that.

    Returns two lists: the paths that cannot be opened, and those that do not answer, with all
    others on the same mount. It has to be called before the first thread. Raises OSError.
    """
    missing: list[str] = []
    silent: list[str] = []
    left = list(paths)
    while left:
        tried = _open_some(left, missing, use)
        if tried is None:
            break
        mount = _mount_of(left[tried])
        silent.append(left[tried])
        left = left[tried + 1 :]
        if mount != "/":
            silent += [path for path in left if _mount_of(path) == mount]
            left = [path for path in left if _mount_of(path) != mount]
    return missing, silent


def _open_some(
    paths: list[str], missing: list[str], use: Callable[[str, Opened], None]
) -> int | None:
    """Open paths in order. Returns the index of the first that does not answer, or None."""
    ours, openers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with openers_end:
            opener = _start_opener(paths, openers_end)
        ours.settimeout(_PATIENCE)
        for number, path in enumerate(paths):
            try:
                data, ancillary, _, _ = ours.recvmsg(
                    _STATUS.size, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
                )
            except TimeoutError:
                return number
            if not data:
                raise OSError(0, "the process that opens the roots has ended")
            if not ancillary:
                missing.append(path)
                continue
            (fd,) = array.array("i", ancillary[0][2][:4])
            try:
                use(path, Opened(fd, *_STATUS.unpack(data)))
            finally:
                os.close(fd)
    os.waitpid(opener, 0)
    return None


def _start_opener(paths: list[str], sock: socket.socket) -> int:
    child = os.fork()
    if child == 0:
        try:
            _leave_all_but(sock.fileno())
            _open_all(paths, sock)
        finally:
            os._exit(0)
    return child


def _leave_all_but(fd: int) -> None:
    """Close the worker's other descriptors: only when all are closed, its end is seen."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.closerange(3, fd)
    os.closerange(fd + 1, 1 << 30)


def _open_all(paths: list[str], sock: socket.socket) -> None:
    for path in paths:
        try:
            if os.path.realpath(path) != path and is_led_by_others(path):
                raise OSError  # a link, put there by somebody who may write the directory
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            status = os.fstat(fd)
        except OSError:
            sock.send(_STATUS.pack(0, 0, 0))
            continue
        rights = array.array("i", (fd,))
        said = _STATUS.pack(status.st_mode, status.st_dev, status.st_ino)
        sock.sendmsg((said,), ((socket.SOL_SOCKET, socket.SCM_RIGHTS, rights),))
        os.close(fd)


def _mount_of(path: str) -> str:
    """The mount point of a path's file system, by its name alone: that file system may hang."""
    found = "/"
    for line in Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines():
        mounted = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[1])
        if f"{path}/".startswith(f"{mounted.rstrip('/')}/") and len(mounted) > len(found):
            found = mounted
    return found
