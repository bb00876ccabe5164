"""Calls about the own process that the standard library lacks: prctl(2), capset(2)."""

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
"""As unsigned long: prctl takes variable arguments, and the kernel wants zeros in the last."""

_libc = ctypes.CDLL(None, use_errno=True)


def no_new_privs() -> None:
    """From now on no program that is executed gains rights by it (setuid, file capabilities).

    It holds for the calling thread, for what that one starts, and for good. Raises OSError.
    """
    _check("PR_SET_NO_NEW_PRIVS", _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), *_ZEROS))


def adopt_orphans(*, wanted: bool) -> None:
    """Whether processes below this one become its children when their parents end."""
    flag = ctypes.c_ulong(wanted)
    _check("PR_SET_CHILD_SUBREAPER", _libc.prctl(_PR_SET_CHILD_SUBREAPER, flag, *_ZEROS))


def be_dumpable() -> None:
    """Undo what a change of the user id does, as execve(2) does: /proc/PID is this user's again."""
    _check("PR_SET_DUMPABLE", _libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), *_ZEROS))


def name_process(role: str) -> None:
    """Have `ps` and `top` show what the process is, in place of its command line.

    Linux keeps fifteen bytes as the name; the rest is what was its arguments, in its memory.
    """
    name = ctypes.create_string_buffer(f"ftp-{role}".replace(" ", "-").encode())
    _libc.prctl(_PR_SET_NAME, name, *_ZEROS)
    begin, end, _, _ = _bounds_of_arguments()
    if begin < end - 1:
        ctypes.memset(begin, 0, end - begin)
        title = f"ftpcluster: {role}".encode()[: end - begin - 1]
        ctypes.memmove(begin, title, len(title))


def leave_environment() -> None:
    """Keep the environment, but not where /proc/PID/environ shows it for good."""
    kept = dict(os.environ)
    os.environ.clear()
    os.environ.update(kept)  # libc has copies of its own now
    _, _, begin, end = _bounds_of_arguments()
    if begin < end:
        ctypes.memset(begin, 0, end - begin)


def _bounds_of_arguments() -> tuple[int, int, int, int]:
    """Where the arguments and the environment of this process begin and end: proc(5), from 48."""
    stat = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    begin, end, environment, its_end = map(int, stat[45:49])
    return begin, end, environment, its_end


def keep_capabilities(kept: Iterable[int]) -> None:
    """Give up all capabilities but these, for good. None is gained.

    It holds for the calling thread, and for those that it starts. Raises OSError.
    """
    permitted = _permitted()
    wanted = sum(1 << each for each in kept)
    # before capset takes the right to: a dropped one cannot come back by execve(2)
    for number in range(_MOST_CAPABILITIES):
        if _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number), *_ZEROS) == 1:
            _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), *_ZEROS)
    _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(_CLEAR_ALL), *_ZEROS)  # none before Linux 4.3
    _set_capabilities(permitted & wanted, 0)


def outlast_root() -> None:
    """The next change of the user id leaves this thread its capabilities. Raises OSError."""
    _check("PR_SET_KEEPCAPS", _libc.prctl(_PR_SET_KEEPCAPS, ctypes.c_ulong(1), *_ZEROS))


def pass_on_capabilities(kept: Iterable[int]) -> None:
    """Keep these alone, of those that there are, and give them to programs that are executed.

    It holds for the calling thread, and for what that one starts. Raises OSError.
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
