"""What a process tells Linux about itself, prctl(2), and the standard library has no call for."""

from __future__ import annotations

import ctypes
import os

_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def no_new_privs() -> None:
    """From now on no program that is executed gains rights by it (setuid, file capabilities).

    It holds for the calling thread, for what that one starts, and for good. Raises OSError.
    """
    # as unsigned long: prctl takes variable arguments, and the kernel wants zeros in the last three
    zero = ctypes.c_ulong(0)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"PR_SET_NO_NEW_PRIVS: {os.strerror(error)}")
