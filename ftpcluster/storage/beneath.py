"""Opening what lies beneath a directory, by openat2(2). The compiled twin is
``_native/beneath.pyx``."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
from typing import Any

from ftpcluster.descriptors import close_quietly

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_ATTEMPTS = 64  # EAGAIN: somebody renames directories while the kernel looks at ".."
_O_CLOEXEC = os.O_CLOEXEC

_syscall = ctypes.CDLL(None, use_errno=True).syscall

Opened = tuple[int, int, int, int]
"""The descriptor of a regular file, the file's device, its size, and its number of links."""


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_OPEN_HOW_SIZE = ctypes.sizeof(_OpenHow)


@functools.lru_cache(maxsize=64)
def _how(flags: int, mode: int) -> Any:
    """A reference to an ``open_how``, which the kernel only reads: one serves all calls."""
    return ctypes.byref(_OpenHow(flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS))


def openat2(directory: int, path: bytes, flags: int, mode: int) -> int:
    """A descriptor of what ``path`` names beneath ``directory``, an open one. Raises OSError."""
    how = _how(flags, mode)
    for _ in range(_ATTEMPTS):
        fd: int = _syscall(_SYS_OPENAT2, directory, path, how, _OPEN_HOW_SIZE)
        if fd >= 0:
            return fd
        error = ctypes.get_errno()
        if error not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(error, os.strerror(error))


def encode(path: str) -> bytes:
    """A virtual path (or name) as bytes for the kernel, relative to the root."""
    data = path.lstrip("/").encode("utf-8", "surrogateescape") or b"."
    if b"\0" in data:  # it would end the path for openat2 and renameat2
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if b".." in data and b".." in data.split(b"/"):  # the sessions resolve these; here is no way up
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return data


def examined(fd: int) -> Opened:
    """Takes over ``fd``; anything but a regular file is closed again and refused (ENXIO)."""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            code = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.ENXIO
            raise OSError(code, os.strerror(code))
    except OSError:
        close_quietly(fd)
        raise
    return fd, status.st_dev, status.st_size, status.st_nlink


def open_regular(directory: int, path: str, flags: int, mode: int) -> Opened:
    """Open the regular file that the virtual path names beneath ``directory``. Raises OSError."""
    return examined(openat2(directory, encode(path), flags | _O_CLOEXEC, mode))
