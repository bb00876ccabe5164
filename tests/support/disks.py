"""Disks that fail and disks that are slow: system calls that obey the name of the file.

``write-EIO`` cannot be written, ``splice-ENOSPC`` takes 128 KiB and no more, of ``sendfile-EINVAL``
the kernel sends nothing by itself, ``close-EDQUOT`` says it when it is closed, ``fsync-EIO`` (also
a directory) when it is to be stored; ``slow-5`` takes 5 ms for each write.

``go_bad`` makes a process's calls so. In the workers of a cluster, ``--server`` does:
``tests.support.disks:Local`` on the local layer, ``tests.support.disks:Layered`` on one of
somebody's own.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from typing import Any

import ftpcluster

_FAULT = re.compile(r"(write|splice|sendfile|close|fsync|slow)-([A-Z]+|\d+)")
_UNSPLICED = 128 * 1024
_CALLS = ("write", "splice", "sendfile", "close", "fsync")

Patch = Callable[[Any, str, Any], None]


def fault(call: str, name: str) -> None:
    """Raise what the name of a file says of a call, or wait."""
    for kind, what in _FAULT.findall(os.path.basename(name)):
        if kind == "slow" and call in ("write", "splice"):
            time.sleep(int(what) / 1000)
        elif kind == call:
            code = getattr(errno, what)
            raise OSError(code, os.strerror(code))


def _name(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").removesuffix(" (deleted)")
    except OSError:
        return ""


def _faulty(call: str) -> Callable[..., Any]:
    function = getattr(os, call)

    def faulty(*args: Any, **kwargs: Any) -> Any:
        name = _name(args[1] if call in ("splice", "sendfile") else args[0])
        if call == "close":
            function(*args)  # it is closed all the same
            fault(call, name)
            return None
        fault(call, name)
        return function(*args, **kwargs)

    return faulty


def go_bad(patch: Patch = setattr) -> None:
    """From now on, in this process; ``patch`` as ``monkeypatch.setattr``."""
    for call in _CALLS:
        patch(os, call, _faulty(call))


class BadPathIO(ftpcluster.PathIO):
    """Somebody's own layer, on a bad disk."""

    @ftpcluster.universal_exception
    async def write(self, file: Any, data: bytes) -> int:
        fault("write", file.name)
        if file.tell() >= _UNSPLICED:
            fault("splice", file.name)
        return await super().write(file, data)

    @ftpcluster.universal_exception
    async def close(self, file: Any) -> None:
        await super().close(file)
        fault("close", file.name)

    @ftpcluster.universal_exception
    async def sync(self, file: Any) -> None:
        fault("fsync", file.name)
        await super().sync(file)

    @ftpcluster.universal_exception
    async def sync_directory(self, path: Any) -> None:
        fault("fsync", str(path))
        await super().sync_directory(path)


class Local(ftpcluster.Server):
    """Serves from the local layer, after ``go_bad``."""

    def __init__(self, users: Any) -> None:
        go_bad()
        super().__init__(users, login_delay=0.05)


class Layered(ftpcluster.Server):
    """Serves from a layer of somebody's own."""

    def __init__(self, users: Any) -> None:
        super().__init__(users, login_delay=0.05, path_io_factory=BadPathIO, block_size=1 << 16)
