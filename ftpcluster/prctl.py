"""Calls about the own process that the standard library lacks: prctl(2), capset(2)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_CAPABILITY_VERSION = 0x20080522
_MOST_CAPABILITIES = 64
_HALF = 2**32 - 1
_ZEROS = (ctypes.c_ulong(0),) * 3
"""As unsigned long: prctl takes variable arguments, and the kernel wants zeros in the last."""

_libc = ctypes.CDLL(None, use_errno=True)


def no_new_privs() -> None:
    """From now on no program that is executed gains rights by it (setuid, file capabilities).

    It holds for the calling thread, for what that one starts, and for good. Raises OSError.
    """
    _check("PR_SET_NO_NEW_PRIVS", _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), *_ZEROS))


def keep_capabilities(kept: Iterable[int]) -> None:
    """Give up all capabilities but these, for good. None is gained.

    It holds for the calling thread, and for those that it starts. Raises OSError.
    """
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    now = ctypes.create_string_buffer(struct.calcsize("6I"))
    _check("capget", _libc.capget(header, now))
    _, low, _, _, high, _ = struct.unpack("6I", now.raw)
    wanted = sum(1 << each for each in kept)
    # before capset takes the right to: a dropped one cannot come back by execve(2)
    for number in range(_MOST_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number), *_ZEROS) == 1:
            _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), *_ZEROS)
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_CLEAR_ALL), *_ZEROS)  # none before Linux 4.3
    low, high = low & wanted & _HALF, high & wanted >> 32
    _check("capset", _libc.capset(header, struct.pack("6I", low, low, 0, high, high, 0)))


def _check(what: str, result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
