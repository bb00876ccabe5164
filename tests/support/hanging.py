"""A file system that hangs on demand, and a command that runs where it is mounted.

python -m tests.support.hanging DIRECTORY MODULE ARGUMENTS…

DIRECTORY becomes the root of a FUSE file system of our own, in a mount namespace that ends with the
command. It holds one empty directory, ``inner``, and one file, ``log``; what is written to the file
goes to DIRECTORY.written. While a file DIRECTORY.hangs exists, requests get no answer: a process
that made one is in state D, and not even SIGKILL ends it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.forking import become

_CLONE_NEWNS, _CLONE_NEWUSER, _MS_REC, _MS_PRIVATE = 0x20000, 0x10000000, 0x4000, 1 << 18
_MS_BIND = 0x1000
_LOOKUP, _FORGET, _GETATTR, _STATFS, _RELEASE, _FLUSH, _INIT = 1, 2, 3, 17, 18, 25, 26
_OPEN, _WRITE = 14, 16
_OPENDIR, _READDIR, _RELEASEDIR, _INTERRUPT, _BATCH_FORGET = 27, 28, 29, 36, 42
_NO_REPLY = (_FORGET, _INTERRUPT, _BATCH_FORGET)
_ROOT, _INNER, _LOG = 1, 2, 3
_NODES = {b"inner": _INNER, b"log": _LOG}
_DIRECT_IO = 1
_WRITE_HEAD = struct.Struct("=QQIIQII")
_IN, _OUT = struct.Struct("=IIQQIIII"), struct.Struct("=IiQ")
_PATIENCE = 20  # milliseconds until the file is looked for again
_libc = ctypes.CDLL(None, use_errno=True)


def on_storage_that_may_hang(directory: Path) -> tuple[str, ...]:
    """The ``program`` of a ``Cluster`` that finds such storage in ``directory``.

    Skips the test if we may not mount it.
    """
    directory.mkdir()
    program = ("tests.support.hanging", str(directory))
    skip_where_refused(program)
    return (*program, "ftpcluster", "run")


_allowed: set[str] = set()


def skip_where_refused(program: tuple[str, ...]) -> None:
    """Skip the test where a program may not mount what it wants to; it is asked once."""
    if program[0] in _allowed:
        return
    command = (sys.executable, "-m", *program, "platform")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no mounts for us: {done.stderr[-200:]}")
    _allowed.add(program[0])


def hang(directory: Path) -> None:
    """Have the storage at a directory hang from now on."""
    Path(f"{directory}.hangs").touch()


def answer(directory: Path) -> None:
    """Have it answer again, also the requests that wait."""
    Path(f"{directory}.hangs").unlink(missing_ok=True)


def is_stuck(pid: int) -> bool:
    """Whether a thread of a process is in state D."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "stat").read_text().rpartition(")")[2].split()[0] == "D":
                return True
    return False


def _attributes(node: int) -> bytes:
    no_times = (0, 0, 0)
    owner = os.getuid(), os.getgid()
    mode = stat.S_IFREG | 0o644 if node == _LOG else stat.S_IFDIR | 0o755
    return struct.pack(
        "=6Q10I", node, 4096, 8, *no_times, *no_times, mode, 2, *owner, 0, 4096, 0
    )  # fmt: skip


def _reply(opcode: int, node: int, rest: bytes) -> tuple[int, bytes]:
    """An error number, and the reply if that is 0."""
    if opcode == _INIT:
        head = (7, 31, 0, 0, 12, 9, 65536, 1, 16, 0)
        return 0, struct.pack("=IIIIHHIIHH", *head) + bytes(32)
    if opcode == _LOOKUP:
        found = _NODES.get(rest.rstrip(b"\0"))
        if node != _ROOT or found is None:
            return errno.ENOENT, b""
        return 0, struct.pack("=QQQQII", found, 0, 0, 0, 0, 0) + _attributes(found)
    if opcode == _WRITE:
        return 0, struct.pack("=II", len(rest) - _WRITE_HEAD.size, 0)
    known = {
        _GETATTR: struct.pack("=QII", 0, 0, 0) + _attributes(node),
        _OPENDIR: bytes(16),
        _OPEN: struct.pack("=QII", 0, _DIRECT_IO, 0),
        _READDIR: b"",
        _RELEASEDIR: b"",
        _RELEASE: b"",
        _FLUSH: b"",
        _STATFS: bytes(80),
    }
    return (0, known[opcode]) if opcode in known else (errno.ENOSYS, b"")


def _serve(device: int, directory: str, command: int) -> None:
    """Answer the kernel, unless the storage hangs, until the command is gone."""
    with open(f"{directory}.written", "wb", buffering=0) as written:
        _serve_log(device, f"{directory}.hangs", command, written)


def _serve_log(device: int, knob: str, command: int, written: BinaryIO) -> None:
    unanswered: list[bytes] = []
    while True:
        if not os.path.exists(knob):
            for request in unanswered:
                _answer(device, request, written)
            unanswered.clear()
            if os.getppid() != command:
                return
        if select.select((device,), (), (), _PATIENCE / 1000)[0]:
            try:
                unanswered.append(os.read(device, 1 << 18))
            except OSError as error:
                if error.errno != errno.ENOENT:  # a request that was interrupted
                    return


def _answer(device: int, request: bytes, written: BinaryIO) -> None:
    _, opcode, unique, node, *_ = _IN.unpack_from(request)
    if opcode in _NO_REPLY:
        return
    if opcode == _WRITE:
        written.write(request[_IN.size + _WRITE_HEAD.size :])
    problem, data = _reply(opcode, node, request[_IN.size :])
    with contextlib.suppress(OSError):  # ENOENT: nobody waits for it any more
        os.write(device, _OUT.pack(_OUT.size + len(data), -problem, unique) + data)


def call(function: str, *arguments: object) -> None:
    if getattr(_libc, function)(*arguments):
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


def separate() -> None:
    """Enter a new mount namespace, as root of it, also if we are not root."""
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", _CLONE_NEWNS | (_CLONE_NEWUSER if uid else 0))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def bind(source: str, target: str) -> None:
    """Bind-mount ``source`` on ``target``, in our mount namespace."""
    call("mount", os.fsencode(source), os.fsencode(target), None, _MS_BIND, None)


def serve(kind: bytes, answer: Callable[[int, str, int], None]) -> None:
    """Obey the command line, DIRECTORY MODULE ARGUMENTS….

    Mounts a FUSE file system on the directory, in a new mount namespace, and becomes the module.

    A child calls ``answer(device, directory, pid)`` with the module's pid.
    """
    directory, *command = sys.argv[1:]
    separate()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
    call("mount", kind, os.fsencode(directory), b"fuse", 0, options.encode())
    ours = os.getpid()
    if os.fork() == 0:
        for fd in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), fd)
        answer(device, directory, ours)
        os._exit(0)
    os.close(device)
    become(command)


if __name__ == "__main__":
    serve(b"hanging", _serve)
