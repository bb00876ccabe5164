"""Disks that fail or are slow: the name of a file says which calls fail on it.

On a file whose name contains ``write-EIO``, write(2) fails with EIO. ``splice-ENOSPC``: an upload
fails after 128 KiB, where splice(2) begins. ``sendfile-EINVAL``: sendfile(2) fails.
``close-EDQUOT``: close(2) fails, but closes. ``fsync-EIO``, also of a directory: fsync(2) fails.
``slow-5``: each write takes 5 ms.

``go_bad`` replaces the functions of ``os`` in this process. For the workers of a cluster use
``--server tests.support.disks:Local`` for the local layer, ``tests.support.disks:Layered`` with a
custom layer that fails in the same way.
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
    """Raise the error that the name of a file has for a call, or wait."""
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
            function(*args)  # Linux closes it even where close(2) fails
            fault(call, name)
            return None
        fault(call, name)
        return function(*args, **kwargs)

    return faulty


def go_bad(patch: Patch = setattr) -> None:
    """Replace the functions, with ``setattr`` or ``monkeypatch.setattr``."""
    for call in _CALLS:
        patch(os, call, _faulty(call))


class BadPathIO(ftpcluster.PathIO):
    """A custom layer that fails as a bad disk does."""

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
    """Serves from a custom layer."""

    def __init__(self, users: Any) -> None:
        super().__init__(users, login_delay=0.05, path_io_factory=BadPathIO, block_size=1 << 16)
