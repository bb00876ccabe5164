"""System calls about this process that Python's standard library lacks: prctl(2), capset(2)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

_PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 4, 15, 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _RAISE, _CLEAR_ALL = 47, 2, 4
_CAPABILITY_VERSION = 0x20080522
_MOST_CAPABILITIES = 64
_HALF = 2**32 - 1
_ZEROS = (ctypes.c_ulong(0),) * 3
"""The unused arguments of prctl, as unsigned long: it is variadic, and the kernel demands zeros."""

_libc = ctypes.CDLL(None, use_errno=True)


def no_new_privs() -> None:
    """From now on execve(2) gives no rights (setuid bits, file capabilities).

    This holds for the calling thread and all that it starts, for good. Raises OSError.
    """
    _check("PR_SET_NO_NEW_PRIVS", _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), *_ZEROS))


def adopt_orphans(*, wanted: bool) -> None:
    """Whether descendants whose parent ends become children of this process. Raises OSError."""
    flag = ctypes.c_ulong(wanted)
    _check("PR_SET_CHILD_SUBREAPER", _libc.prctl(_PR_SET_CHILD_SUBREAPER, flag, *_ZEROS))


def be_dumpable() -> None:
    """After a change of the user id, give /proc/PID to the new user, as execve(2) would."""
    _check("PR_SET_DUMPABLE", _libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), *_ZEROS))


def thread_name(role: str) -> bytes:
    """The name that ``name_process`` gives to the main thread."""
    return f"ftp-{role}".replace(" ", "-").encode()[:15]


def name_process(role: str) -> None:
    """Have `ps` and `top` show the role of the process in place of its command line.

    `top` shows the thread's name, which Linux bounds to fifteen bytes. `ps` shows the memory where
    the arguments were.
    """
    _libc.prctl(_PR_SET_NAME, ctypes.create_string_buffer(thread_name(role)), *_ZEROS)
    begin, end, _, _ = _bounds_of_arguments()
    if begin < end - 1:
        ctypes.memset(begin, 0, end - begin)
        title = f"ftpcluster: {role}".encode()[: end - begin - 1]
        ctypes.memmove(begin, title, len(title))


def hide_environment() -> None:
    """Keep the environment, but clear the memory of it that /proc/PID/environ shows."""
    kept = dict(os.environ)
    os.environ.clear()
    os.environ.update(kept)  # as copies that libc has made
    _, _, begin, end = _bounds_of_arguments()
    if begin < end:
        ctypes.memset(begin, 0, end - begin)


def _bounds_of_arguments() -> tuple[int, int, int, int]:
    """Addresses at which arguments and environment begin and end: fields 48 to 51 of proc(5)."""
    stat = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    begin, end, environment, its_end = map(int, stat[45:49])
    return begin, end, environment, its_end


def keep_capabilities(kept: Iterable[int]) -> None:
    """Give up all capabilities but those of ``kept``, for good. None is gained.

    This holds for the calling thread, and for those that it starts. Raises OSError.
    """
    permitted = _permitted()
    wanted = sum(1 << each for each in kept)
    # first the bounding set, so that execve(2) cannot bring one back: capset may take CAP_SETPCAP
    for number in range(_MOST_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number), *_ZEROS) == 1:
            _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), *_ZEROS)
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_CLEAR_ALL), *_ZEROS)  # none before Linux 4.3
    _set_capabilities(permitted & wanted, 0)


def keep_capabilities_on_setuid() -> None:
    """Let the next change of the user id keep this thread's capabilities. Raises OSError."""
    _check("PR_SET_KEEPCAPS", _libc.prctl(_PR_SET_KEEPCAPS, ctypes.c_ulong(1), *_ZEROS))


def pass_on_capabilities(kept: Iterable[int]) -> None:
    """Keep only those of ``kept`` that this thread has, and pass them on through execve(2).

    This holds for the calling thread, and for all that it starts. Raises OSError.
    """
    permitted = _permitted()
    passed_on = [each for each in kept if permitted >> each & 1]
    wanted = sum(1 << each for each in passed_on)
    _set_capabilities(wanted, wanted)
    for each in passed_on:
        raised = (ctypes.c_ulong(_RAISE), ctypes.c_ulong(each), *_ZEROS[:2])
        _check("PR_CAP_AMBIENT", _libc.prctl(_PR_CAP_AMBIENT, *raised))


def _permitted() -> int:
    now = ctypes.create_string_buffer(struct.calcsize("6I"))
    _check("capget", _libc.capget(struct.pack("Ii", _CAPABILITY_VERSION, 0), now))
    _, low, _, _, high, _ = struct.unpack("6I", now.raw)
    return int(low) | int(high) << 32


def _set_capabilities(permitted: int, inheritable: int) -> None:
    halves = [
        half
        for shift in (0, 32)
        for half in (*((permitted >> shift & _HALF),) * 2, inheritable >> shift & _HALF)
    ]
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    _check("capset", _libc.capset(header, struct.pack("6I", *halves)))


def _check(what: str, result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
