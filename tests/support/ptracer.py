"""The tracer process: makes system calls of another process fail, or be cut short.

    python tests/support/ptracer.py PID FILE

attaches to all threads of a process by ptrace(2), also to those that start later. FILE is shared
memory with the test, which sets faults there (``Page``). It does what ``strace --inject`` does, but
stays attached, so a fault needs no new tracer. It can also cut reads and writes short, and have a
call fail after it was made, as close(2) does. x86-64 only.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
import sys
from typing import Any

SIZE = 4 << 20
RECORD = struct.Struct("=iqq24s")
"""A call: its number, first argument and result, and what that argument is as a descriptor."""
RECORDS = 4096
"""The offset of the records in the shared memory; ``Page`` is before them."""

FAIL, AFTER, SHORT = 1, 2, 3
"""Kinds of faults: the call is not made; it is made, and fails all the same; it is cut short."""


class Page(ctypes.Structure):
    """What the test and the tracer share. Either side writes ``armed`` last."""

    _fields_ = (
        ("attached", ctypes.c_int32),
        ("armed", ctypes.c_int32),
        ("number", ctypes.c_int32),
        ("left", ctypes.c_int32),
        ("kind", ctypes.c_int32),
        ("value", ctypes.c_int64),
        ("hit", ctypes.c_int32),
        ("recording", ctypes.c_int32),
        ("records", ctypes.c_int32),
        ("only_fd", ctypes.c_int32),
        ("wants", ctypes.c_char * 24),
        ("target", ctypes.c_char * 256),
    )


COUNTS = {0: 2, 1: 2, 17: 2, 18: 2, 44: 2, 45: 2, 40: 3, 275: 4}
"""By the number of a call, the index of the argument that is a count of bytes."""
VECTORS = {19, 20, 295, 327}
"""readv, writev, preadv, preadv2: the length stands in memory."""
EPOLL_CTL = 233
CHANNEL, SIGNALS = "channel", "signals"
"""The kinds of our own UNIX sockets: those between our processes, and the pair that tells the loop
of signals. The names of their links in /proc do not tell."""
NO_FD = "-"
"""The value of ``wants`` for calls whose first argument is no open descriptor."""

_CONT_SYSCALL, _SEIZE, _INTERRUPT, _LISTEN, _SYSCALL_INFO = 24, 0x4206, 0x4207, 0x4208, 0x420E
_PIDFD_GETFD = 438
_POKEUSER, _PEEKUSER = 6, 3
_ORIG_RAX, _RAX = 15 * 8, 10 * 8
_ARGUMENTS = (14 * 8, 13 * 8, 12 * 8, 7 * 8, 9 * 8, 8 * 8)  # rdi rsi rdx r10 r8 r9
_SYSGOOD, _TRACECLONE = 1, 8
_WALL = 0x40000000
_EVENT_STOP = 128
_ENTRY, _EXIT = 1, 2
_INFO = struct.Struct("=B3xIQQ")
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: Any = 0) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        code = ctypes.get_errno()
        if code != errno.ESRCH:  # it is dying
            raise OSError(code, f"ptrace {request:#x}: {os.strerror(code)}")


def kind_of(pid: int, fd: int) -> str:
    """What a descriptor is (the target of its link in /proc); "" where it is none."""
    if fd >= 1 << 20:
        return ""
    try:
        kind = os.readlink(f"/proc/{pid}/fd/{fd}")
        if kind.startswith("socket:"):
            return _kind_of_socket(pid, fd) + kind[len("socket") :]
    except OSError:
        return ""
    return kind


def _kind_of_socket(pid: int, fd: int) -> str:
    process = os.pidfd_open(pid)
    try:
        duplicate = _libc.syscall(_PIDFD_GETFD, process, fd, 0)
    finally:
        os.close(process)
    if duplicate < 0:
        return "socket"
    with socket.socket(fileno=duplicate) as sock:
        if sock.family != socket.AF_UNIX:
            return "socket"
        if sock.type == socket.SOCK_SEQPACKET:
            return CHANNEL
        is_named = sock.getsockname() or sock.getpeername()
        return "socket" if is_named else SIGNALS


class _Tracer:
    def __init__(self, pid: int, path: str) -> None:
        self._pid = pid
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
        self._page = Page.from_buffer(self._map)
        self._info = ctypes.create_string_buffer(128)
        self._at_exit: dict[int, tuple[int, int, str, int | None]] = {}

    def attach(self) -> None:
        seized: set[int] = set()
        while True:  # threads may start meanwhile
            threads = {int(name) for name in os.listdir(f"/proc/{self._pid}/task")} - seized
            if not threads:
                break
            for thread in threads:
                _ptrace(_SEIZE, thread, 0, _SYSGOOD | _TRACECLONE)
                _ptrace(_INTERRUPT, thread)
            seized |= threads
        self._page.attached = 1

    def run(self) -> None:
        while True:
            try:
                thread, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                self._on_stop(thread, os.WSTOPSIG(status), status >> 16)

    def _on_stop(self, thread: int, number: int, event: int) -> None:
        if number == signal.SIGTRAP | 0x80:
            self._on_syscall(thread)
            _ptrace(_CONT_SYSCALL, thread)
        elif event == _EVENT_STOP and number in _STOPS:
            _ptrace(_LISTEN, thread)
        elif event:
            _ptrace(_CONT_SYSCALL, thread)
        else:
            _ptrace(_CONT_SYSCALL, thread, 0, number)

    def _on_syscall(self, thread: int) -> None:
        page = self._page
        if not (page.armed or page.recording or thread in self._at_exit):
            return
        _ptrace(_SYSCALL_INFO, thread, len(self._info), ctypes.addressof(self._info))
        operation = self._info.raw[0]
        if operation == _ENTRY:
            number, *arguments = struct.unpack_from("=7Q", self._info.raw, 24)
            self._on_entry(thread, number, arguments)
        elif operation == _EXIT and thread in self._at_exit:
            self._on_exit(thread)

    def _on_entry(self, thread: int, number: int, arguments: list[int]) -> None:
        page, first = self._page, arguments[0]
        if page.recording:
            self._at_exit[thread] = (number, first, kind_of(self._pid, first), None)
        if not page.armed or number != page.number or not self._is_wanted(first):
            return
        page.left -= 1
        if page.left:
            return
        page.armed = 0
        concerned = arguments[2] if number == EPOLL_CTL else first
        page.target = kind_of(self._pid, concerned).encode()[:255]
        if page.kind == SHORT:
            self._cut(thread, number, arguments)
        else:
            if page.kind == FAIL:
                _ptrace(_POKEUSER, thread, _ORIG_RAX, ctypes.c_void_p(-1))
            self._at_exit[thread] = (number, arguments[0], "", page.value)
        page.hit = 1

    def _is_wanted(self, fd: int) -> bool:
        page, wants = self._page, self._page.wants.decode()
        if page.only_fd not in (-1, fd):
            return False
        if not wants:
            return True
        kind = kind_of(self._pid, fd)
        return not kind if wants == NO_FD else kind.startswith(wants)

    def _cut(self, thread: int, number: int, arguments: list[int]) -> None:
        count = self._page.value
        if number in VECTORS:
            with open(f"/proc/{self._pid}/mem", "r+b", buffering=0) as memory:
                memory.seek(arguments[1] + 8)
                length = int.from_bytes(memory.read(8), "little")
                memory.seek(arguments[1] + 8)
                memory.write(min(count, length).to_bytes(8, "little"))
        else:
            which = COUNTS[number]
            _ptrace(_POKEUSER, thread, _ARGUMENTS[which], min(count, arguments[which]))

    def _on_exit(self, thread: int) -> None:
        number, first, what, code = self._at_exit.pop(thread)
        if code is not None:
            _ptrace(_POKEUSER, thread, _RAX, ctypes.c_void_p(-code))
            return
        (result,) = struct.unpack_from("=q", self._info.raw, 24)
        page = self._page
        offset = RECORDS + page.records * RECORD.size
        if offset + RECORD.size <= SIZE:
            RECORD.pack_into(
                self._map, offset, number, min(first, 1 << 62), result, what.encode()[:24]
            )
            page.records += 1


def main() -> None:
    tracer = _Tracer(int(sys.argv[1]), sys.argv[2])
    try:
        tracer.attach()
    except OSError as error:
        sys.exit(str(error))
    tracer.run()


if __name__ == "__main__":
    main()
