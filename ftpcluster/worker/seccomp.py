"""A seccomp filter: the system calls that a worker may not make, even when it was taken over.

Landlock says which files a worker may open. It does not protect *processes*: as long as workers and
supervisor run as the same user, a worker could end the supervisor with prlimit(2), or bind it to
one core with sched_setaffinity(2). So the kernel refuses calls that no session needs: those that
touch another process or make one, AF_UNIX sockets (databases, container daemons and our own admin
socket listen there), and large parts of the kernel in which holes are found.

The list says which calls are refused, not which are allowed: Python, OpenSSL and the C library may
need a call that a list of allowed calls would lack. A refused call fails with EPERM, and libraries
then do without. Calls for which they expect ENOSYS fail with that, and so do calls newer than this
list.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from asyncio import selector_events
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_SET_MODE_FILTER = 1
_SPEC_ALLOW = 1 << 2
"""SECCOMP_FILTER_FLAG_SPEC_ALLOW. Without it kernels before 5.16 restrict speculative execution of
the whole process, which slows it down."""
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NEWEST = 470
"""The newest call when this list was made. Since 424 all architectures have the same numbers. Calls
of x32 have one more bit, and so are beyond it, too."""

Code = list[tuple[int, int, int, int]]
"""Instructions of the kernel's classic BPF: operation, jump if true, jump if false, constant."""

# For x86-64 and aarch64; None where an architecture has no such call.
_Numbers = Mapping[str, tuple[int | None, int | None]]
_OTHER_PROCESSES: _Numbers = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "tkill": (200, 130),
    "setrlimit": (160, 164),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190),
    "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}  # fmt: skip
_NEW_PROCESSES: _Numbers = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "unshare": (272, 97), "setns": (308, 268),
}  # fmt: skip
_THE_KERNEL: _Numbers = {
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "open_tree_attr": (467, 467), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "create_module": (174, None), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "syslog": (103, 116), "vhangup": (153, 58), "sethostname": (170, 161),
    "setdomainname": (171, 162), "nfsservctl": (180, 42), "uselib": (134, None),
    "personality": (135, 92), "lookup_dcookie": (212, 18), "capset": (126, 91),
}  # fmt: skip
_DESCRIPTORS: _Numbers = {"sendmsg": (46, 211), "sendmmsg": (307, 269)}
"""Calls that can pass descriptors: to the supervisor, or in cycles that the kernel has to collect.
The C library uses sendmmsg to ask for both address families at once; without it, it asks for one at
a time."""
_CONDITIONAL: _Numbers = {
    "kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261), "setpriority": (141, 140),
    "ioprio_set": (251, 30), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "clone": (56, 220),
    "clone3": (435, 435), "socket": (41, 198), "socketpair": (53, 199), "setsockopt": (54, 208),
    "fcntl": (72, 25), "ioctl": (16, 29), "prctl": (157, 167),
}  # fmt: skip


class _Machine(NamedTuple):
    column: int
    audit: int  # AUDIT_ARCH_*
    seccomp: int


_MACHINES = {
    "x86_64": _Machine(0, 0xC000003E, 317),
    "aarch64": _Machine(1, 0xC00000B7, 277),
}

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000
_SOL_SOCKET, _SO_LINGER = 1, 13
_SOL_TCP, _TCP_ULP = 6, 31
_SIGNALS = (8, 10, 15)
"""F_SETOWN, F_SETSIG and F_SETOWN_EX: with them the kernel sends another process any signal, even
SIGKILL, when a file becomes ready."""
_SIGNALS_BY_IOCTL = (0x8901, 0x8902)  # FIOSETOWN, SIOCSPGRP
_TERMINAL = 0x5400
_HARMLESS = (0x5401, 0x5411, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCOUTQ, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Other ioctls could type into
the terminal that the server was started from, or take it away."""
_PR_SCHED_CORE = 62

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):  # struct sock_fprog
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def restrict() -> str:
    """Refuse the calls of this module to this process from now on. Returns what was done, for the
    log.

    no_new_privs has to be set. There may be no other thread yet: the filter holds for the calling
    thread and the threads that it starts.
    """
    machine = _machine()
    if machine is None:
        return f"no filter of system calls for {platform.machine()}"
    error = _install(machine, program(machine, os.getpid()))
    if error:
        # a kernel without it, or a container that allows no filter of its own
        return f"system calls are not filtered: {os.strerror(error)}"
    return "system calls are filtered"


def do_without_sendmsg() -> None:
    """Make the C library and asyncio send by calls that the filter allows.

    The C library asks a name server for both families at once (sendmmsg), and fails if that is
    refused: custom code could connect to no host by its name. Since Python 3.12, asyncio uses
    sendmsg for data that a socket did not take at once; if that is refused, it drops the
    connection.
    """
    given = os.environ.get("RES_OPTIONS", "")
    os.environ["RES_OPTIONS"] = f"{given} single-request".lstrip()
    if hasattr(selector_events, "_HAS_SENDMSG"):
        selector_events._HAS_SENDMSG = False


def refuse_rings() -> None:
    """Refuse io_uring to this process, if that is possible. The conditions are those of
    ``restrict``.

    libuv makes a ring for each loop, and no filter sees the requests in it.
    """
    machine = _machine()
    number = _THE_KERNEL["io_uring_setup"]
    if machine is not None and (setup := number[machine.column]) is not None:
        refuse = _refuse(errno.ENOSYS)
        _install(machine, [*_foreign(machine), *_one_of(_NUMBER, (setup,), refuse, _allow())])


def _machine() -> _Machine | None:
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        return None
    return _MACHINES.get(platform.machine())


def _install(machine: _Machine, code: Code) -> int:
    """The error number; 0 where there is none."""
    packed = b"".join(struct.pack("=HBBI", *each) for each in code)
    buffer = ctypes.create_string_buffer(packed, len(packed))
    filled = _Program(len(code), ctypes.addressof(buffer))
    if _libc.syscall(machine.seccomp, _SET_MODE_FILTER, _SPEC_ALLOW, ctypes.byref(filled)) == 0:
        return 0
    # prctl, where a filter of the service manager does not allow seccomp(2)
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(filled)) == 0:
        return 0
    return ctypes.get_errno()


# ---------------------------------------------------------------------- the program


def program(machine: _Machine, pid: int) -> Code:
    """The filter of a process."""
    segments: list[tuple[int, Code]] = [(0, _allow())]
    decisions = _decisions(machine.column, pid)
    for number in sorted(decisions):
        if segments[-1][0] == number:
            segments.pop()
        if not segments or segments[-1][1] != decisions[number]:
            segments.append((number, decisions[number]))
        segments.append((number + 1, _allow()))
    segments.append((_NEWEST + 1, _refuse(errno.ENOSYS)))
    return [*_foreign(machine), _load(_NUMBER), *_tree(segments)]


def _foreign(machine: _Machine) -> Code:
    """Refuse calls of another architecture (int 0x80 makes them), which have other numbers."""
    return [_load(_ARCHITECTURE), (_JEQ, 1, 0, machine.audit), *_refuse(errno.EPERM)]


def _decisions(column: int, pid: int) -> dict[int, Code]:
    found: dict[int, Code] = {}
    for numbers in (_OTHER_PROCESSES, _NEW_PROCESSES, _THE_KERNEL, _DESCRIPTORS):
        _decide(found, column, {name: _refuse(errno.EPERM) for name in numbers}, numbers)
    _decide(found, column, _conditions(pid), _CONDITIONAL)
    return found


def _decide(
    found: dict[int, Code], column: int, codes: Mapping[str, Code], numbers: _Numbers
) -> None:
    for name, both in numbers.items():
        number = both[column]
        if number is not None:
            found[number] = codes[name]


def _socket_options() -> Code:
    """SO_LINGER would make the supervisor wait; TCP_ULP would open more of the kernel (kTLS)."""
    allow, refuse = _allow(), _refuse(errno.EPERM)
    no_linger = _one_of(_argument(2), (_SO_LINGER,), refuse, allow)
    no_ulp = _one_of(_argument(2), (_TCP_ULP,), refuse, allow)
    of_tcp = _one_of(_argument(1), (_SOL_TCP,), no_ulp, allow)
    return _one_of(_argument(1), (_SOL_SOCKET,), no_linger, of_tcp)


def _conditions(pid: int) -> dict[str, Code]:
    """The decisions that depend on arguments. Of a pointer a filter sees only whether it is 0."""
    allow, refuse = _allow(), _refuse(errno.EPERM)
    to_itself = _one_of(_argument(0), (pid,), allow, refuse)
    of_itself = _one_of(_argument(0), (0,), allow, refuse)
    only_to_read = _one_of(
        _argument(2), (0,), _one_of(_argument(2) + 4, (0,), allow, refuse), refuse
    )
    own_niceness = _one_of(_argument(1), (0,), allow, refuse)
    terminals = _one_of(_argument(1), _HARMLESS, allow, refuse)
    others = _one_of(_argument(1), _SIGNALS_BY_IOCTL, refuse, allow)
    a_thread = _one_of(_argument(0), (_CLONE_THREAD,), allow, refuse, _CLONE_THREAD | _CLONE_NEW)
    return {
        **dict.fromkeys(("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"), to_itself),
        **dict.fromkeys(
            ("sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"),
            of_itself,
        ),
        "prlimit64": _one_of(_argument(0), (0, pid), only_to_read, refuse),
        "setpriority": _one_of(_argument(0), (os.PRIO_PROCESS,), own_niceness, refuse),
        "ioprio_set": _one_of(_argument(0), (1,), own_niceness, refuse),
        "clone": a_thread,
        "clone3": _refuse(errno.ENOSYS),  # its flags lie in memory; the C library then uses clone
        # as without such a family: libraries then read names from files
        "socket": _one_of(_argument(0), (2, 10), _tcp_or_udp(), _refuse(errno.EAFNOSUPPORT)),
        # a pair of datagram sockets could be connected anew
        "socketpair": _one_of(
            _argument(0), (1,), _one_of(_argument(1), (1,), allow, refuse, 0xF), refuse
        ),
        "setsockopt": _socket_options(),
        "fcntl": _one_of(_argument(1), _SIGNALS, refuse, allow),
        "ioctl": _one_of(_argument(1), (_TERMINAL,), terminals, others, 0xFFFFFF00),
        "prctl": _one_of(_argument(0), (_PR_SCHED_CORE,), refuse, allow),
    }


def _tcp_or_udp() -> Code:
    """Allow only TCP and UDP. For another protocol of IP (SCTP, DCCP, MPTCP, SMC, ...) the kernel
    would load a module, by the protocol's number or by a socket type that only it has."""
    refuse = _refuse(errno.EPROTONOSUPPORT)
    protocol = _one_of(_argument(2), (0, 6, 17), _allow(), refuse)
    return _one_of(_argument(1), (1, 2), protocol, refuse, 0xF)  # SOCK_STREAM, SOCK_DGRAM


# ---------------------------------------------------------------------- instructions

_LD, _JEQ, _JGE, _JA, _AND, _RET = 0x20, 0x15, 0x35, 0x05, 0x54, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # struct seccomp_data


def _argument(index: int) -> int:
    """The offset of an argument's low half. Arguments are ints: the high half has no meaning."""
    return 16 + 8 * index


def _load(offset: int) -> tuple[int, int, int, int]:
    return _LD, 0, 0, offset


def _allow() -> Code:
    return [(_RET, 0, 0, _ALLOW)]


def _refuse(error: int) -> Code:
    return [(_RET, 0, 0, _ERRNO | error)]


def _one_of(
    offset: int, values: Iterable[int], then: Code, otherwise: Code, mask: int | None = None
) -> Code:
    """``then`` where the word at ``offset``, masked, is one of the values, else ``otherwise``."""
    wanted = list(values)
    code: Code = [_load(offset)]
    if mask is not None:
        code.append((_AND, 0, 0, mask))
    for left, value in zip(range(len(wanted) - 1, -1, -1), wanted, strict=True):
        code.append((_JEQ, left, 0 if left else len(then), value))
    return [*code, *then, *otherwise]


def _tree(segments: list[tuple[int, Code]]) -> Code:
    """A binary search: seven comparisons for a number, not a hundred.

    Since 5.11 Linux skips the filter for numbers that are allowed whatever their arguments.
    """
    if len(segments) == 1:
        return segments[0][1]
    middle = len(segments) // 2
    low, high = _tree(segments[:middle]), _tree(segments[middle:])
    start = segments[middle][0]
    if len(low) <= 255:
        return [(_JGE, len(low), 0, start), *low, *high]
    return [(_JGE, 0, 1, start), (_JA, 0, 0, len(low)), *low, *high]
