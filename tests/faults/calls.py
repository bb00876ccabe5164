"""The system calls that are made to fail, with the errors of their man pages, and the others.

Errors that only a mistake in a program causes (EFAULT, EBADF, ENOTSOCK and so on) are left out. The
numbers are those of x86-64.
"""

from __future__ import annotations

from tests.support.ptracer import AFTER, FAIL

NUMBERS = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7,
    "lseek": 8, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "pwrite64": 18,
    "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23, "sched_yield": 24,
    "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35, "getitimer": 36,
    "alarm": 37, "setitimer": 38, "getpid": 39, "sendfile": 40, "socket": 41, "connect": 42,
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "bind": 49,
    "listen": 50, "getsockname": 51, "getpeername": 52, "socketpair": 53, "setsockopt": 54,
    "getsockopt": 55, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "exit": 60, "wait4": 61,
    "kill": 62, "uname": 63, "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75,
    "ftruncate": 77, "getcwd": 79, "chdir": 80, "rename": 82, "mkdir": 83, "rmdir": 84,
    "unlink": 87, "readlink": 89, "chmod": 90, "fchmod": 91, "fchown": 93, "umask": 95,
    "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104,
    "geteuid": 107, "getegid": 108, "getppid": 110, "setsid": 112, "getpgid": 121, "capget": 125,
    "capset": 126, "sigaltstack": 131, "statfs": 137, "fstatfs": 138, "prctl": 157, "umount2": 166,
    "gettid": 186, "futex": 202, "sched_setaffinity": 203, "sched_getaffinity": 204,
    "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219, "clock_gettime": 228,
    "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232, "epoll_ctl": 233, "tgkill": 234,
    "waitid": 247, "openat": 257, "mkdirat": 258, "fchownat": 260, "newfstatat": 262,
    "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "readlinkat": 267,
    "fchmodat": 268, "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273,
    "splice": 275, "sync_file_range": 277, "utimensat": 280, "epoll_pwait": 281,
    "timerfd_create": 283, "fallocate": 285, "timerfd_settime": 286, "accept4": 288,
    "signalfd4": 289, "eventfd2": 290, "epoll_create1": 291, "dup3": 292, "pipe2": 293,
    "preadv": 295, "prlimit64": 302, "getcpu": 309, "process_vm_readv": 310, "renameat2": 316,
    "getrandom": 318, "memfd_create": 319, "preadv2": 327, "statx": 332, "rseq": 334,
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "pidfd_open": 434,
    "clone3": 435, "close_range": 436, "openat2": 437, "pidfd_getfd": 438, "faccessat2": 439,
    "epoll_pwait2": 441,
}  # fmt: skip
NAMES = {number: name for name, number in NUMBERS.items()}

_LOOKUP = ("EACCES", "EIO", "ELOOP", "ENAMETOOLONG", "ENOENT", "ENOMEM", "ENOTDIR")
_OPEN = (*_LOOKUP, "EMFILE", "ENFILE", "EINTR", "ENOSPC", "EDQUOT", "EROFS", "EPERM", "ENXIO",
         "ENODEV", "EBUSY", "EISDIR", "ETXTBSY", "EOVERFLOW", "EEXIST")  # fmt: skip
_CHANGE = (*_LOOKUP, "ENOSPC", "EDQUOT", "EROFS", "EPERM")
_STORE = ("EIO", "ENOSPC", "EDQUOT", "EFBIG", "EPERM", "EINTR")
_SYNC = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EINVAL", "EINTR")
_FROM_PEER = ("EAGAIN", "ECONNRESET", "EINTR", "ENOMEM", "ETIMEDOUT", "ENOTCONN", "EHOSTUNREACH")
_TO_PEER = ("EAGAIN", "ECONNRESET", "EPIPE", "EINTR", "ENOBUFS", "ENOMEM", "ENOTCONN",
            "ETIMEDOUT", "EHOSTUNREACH")  # fmt: skip
_NET = ("ENETDOWN", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN", "ENONET", "EHOSTUNREACH",
        "EOPNOTSUPP", "ENETUNREACH")  # fmt: skip

ERRORS: dict[tuple[str, str], tuple[str, ...]] = {
    # of an open descriptor, by what it is: a socket, a pipe, or, "/", a file
    ("read", "socket"): _FROM_PEER,
    ("read", "pipe"): ("EAGAIN", "EINTR", "EIO"),
    ("read", "/"): ("EIO", "EINTR", "EISDIR"),
    ("write", "socket"): _TO_PEER,
    ("write", "pipe"): ("EAGAIN", "EINTR", "EPIPE", "EIO"),
    ("write", "/"): _STORE,
    ("readv", ""): _FROM_PEER,
    ("pread64", ""): ("EIO", "EINTR"),
    ("preadv", ""): ("EAGAIN", "EIO", "EINTR"),
    ("preadv2", ""): ("EAGAIN", "EOPNOTSUPP", "EIO", "EINTR"),
    ("pwrite64", ""): _STORE,
    ("sendfile", ""): ("EAGAIN", "EINVAL", "EIO", "ENOMEM", "EOVERFLOW", "EPIPE", "ECONNRESET"),
    ("splice", "socket"): ("EAGAIN", "EINVAL", "ENOMEM", "ECONNRESET", "EINTR", "EIO"),
    ("splice", "pipe"): ("EINVAL", "ENOMEM", "EINTR", *_STORE[:4]),
    ("sendto", "channel"): ("EAGAIN", "EINTR", "ENOBUFS", "ENOMEM"),
    ("sendmsg", "channel"): ("EAGAIN", "EINTR", "ENOBUFS", "ENOMEM", "ETOOMANYREFS"),
    ("recvmsg", "channel"): ("EAGAIN", "EINTR", "ENOMEM"),
    ("sendto", ""): _TO_PEER,
    ("sendmsg", ""): (*_TO_PEER, "ETOOMANYREFS", "EPERM"),
    ("recvfrom", ""): (*_FROM_PEER, "ECONNREFUSED"),
    ("recvmsg", ""): (*_FROM_PEER, "ECONNREFUSED"),
    ("accept4", ""): ("EAGAIN", "ECONNABORTED", "EINTR", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM",
                      "EPERM", "EPROTO", *_NET),
    ("socket", ""): ("EACCES", "EAFNOSUPPORT", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"),
    ("socketpair", ""): ("EMFILE", "ENFILE", "ENOMEM"),
    ("bind", ""): ("EACCES", "EADDRINUSE", "EADDRNOTAVAIL", "EINVAL"),
    ("listen", ""): ("EADDRINUSE", "EOPNOTSUPP"),
    ("connect", ""): ("EACCES", "EADDRINUSE", "EADDRNOTAVAIL", "EAGAIN", "ECONNREFUSED", "EINTR",
                      "ENETUNREACH", "ETIMEDOUT", "EPERM"),
    ("getsockname", ""): ("ENOBUFS", "EINVAL"),
    ("getpeername", ""): ("ENOBUFS", "ENOTCONN"),
    ("getsockopt", ""): ("ENOPROTOOPT", "EINVAL", "ENOBUFS"),
    ("setsockopt", ""): ("ENOPROTOOPT", "EINVAL", "ENOBUFS", "ENOMEM", "EPERM"),
    ("shutdown", ""): ("ENOTCONN",),
    ("ioctl", ""): ("ENOTTY", "EINVAL", "EPERM"),  # FIONREAD, and FIONBIO as fcntl(F_SETFL)
    ("epoll_ctl", ""): ("ENOMEM", "ENOSPC", "EPERM"),
    ("epoll_wait", ""): ("EINTR",),
    ("epoll_pwait", ""): ("EINTR",),
    ("epoll_create1", ""): ("EMFILE", "ENFILE", "ENOMEM"),
    ("poll", ""): ("EINTR", "ENOMEM"),
    ("pselect6", ""): ("EINTR", "ENOMEM"),
    ("eventfd2", ""): ("EMFILE", "ENFILE", "ENODEV", "ENOMEM"),
    ("pipe2", ""): ("EMFILE", "ENFILE", "ENOPKG"),
    ("memfd_create", ""): ("EMFILE", "ENFILE", "ENOMEM", "EPERM"),
    ("dup", ""): ("EMFILE", "EINTR"),
    ("fcntl", ""): ("EPERM", "EMFILE", "EBUSY", "EAGAIN", "EINTR"),
    ("close", ""): ("EINTR", "EIO", "ENOSPC", "EDQUOT"),
    ("fstat", ""): ("ENOMEM", "EIO", "EOVERFLOW"),
    ("lseek", ""): ("EINVAL", "EOVERFLOW", "ENXIO", "ESPIPE"),
    ("flock", ""): ("EINTR", "ENOLCK", "EWOULDBLOCK"),
    ("fsync", ""): _SYNC,
    ("fdatasync", ""): _SYNC,
    ("ftruncate", ""): ("EIO", "EFBIG", "EINTR", "EPERM", "EROFS", "ETXTBSY", "EINVAL"),
    ("fchmod", ""): ("EIO", "EPERM", "EROFS"),
    ("fchown", ""): ("EIO", "EPERM", "EROFS", "EDQUOT"),
    ("getdents64", ""): ("EIO", "ENOENT", "EINVAL"),
    ("fstatfs", ""): ("EIO", "EINTR", "ENOMEM", "ENOSYS", "EOVERFLOW"),
    # of a name
    ("open", ""): _OPEN,
    ("openat", ""): _OPEN,
    ("openat2", ""): (*_OPEN, "EAGAIN", "EXDEV", "ENOSYS"),
    ("stat", ""): (*_LOOKUP, "EOVERFLOW"),
    ("lstat", ""): (*_LOOKUP, "EOVERFLOW"),
    ("newfstatat", ""): (*_LOOKUP, "EOVERFLOW"),
    ("statx", ""): _LOOKUP,
    ("access", ""): (*_LOOKUP, "EROFS"),
    ("readlinkat", ""): (*_LOOKUP, "EINVAL"),
    ("readlink", ""): (*_LOOKUP, "EINVAL"),
    ("mkdirat", ""): (*_CHANGE, "EEXIST", "EMLINK"),
    ("unlinkat", ""): (*_CHANGE, "EBUSY", "EISDIR", "ENOTEMPTY"),
    ("unlink", ""): (*_CHANGE, "EBUSY", "EISDIR"),
    ("rename", ""): (*_CHANGE, "EBUSY", "EXDEV", "ENOTEMPTY"),
    ("renameat", ""): (*_CHANGE, "EBUSY", "EEXIST", "EISDIR", "EMLINK", "ENOTEMPTY", "EXDEV"),
    ("renameat2", ""): (*_CHANGE, "EBUSY", "EEXIST", "EISDIR", "EMLINK", "ENOTEMPTY", "EXDEV",
                        "EINVAL", "ENOSYS"),
    ("symlinkat", ""): (*_CHANGE, "EEXIST"),
    ("fchmodat", ""): _CHANGE,
    ("chmod", ""): _CHANGE,
    ("fchownat", ""): _CHANGE,
    ("utimensat", ""): _CHANGE,
    ("statfs", ""): (*_LOOKUP, "EINTR", "ENOSYS", "EOVERFLOW"),
    # of processes
    ("clone", ""): ("EAGAIN", "ENOMEM"),
    ("clone3", ""): ("EAGAIN", "ENOMEM"),
    ("vfork", ""): ("EAGAIN", "ENOMEM"),
    ("wait4", ""): ("EINTR",),
    ("waitid", ""): ("EINTR",),
    ("pidfd_open", ""): ("EMFILE", "ENFILE", "ENODEV", "ENOMEM", "ESRCH", "EPERM"),
    ("pidfd_send_signal", ""): ("ESRCH", "EPERM"),
    ("kill", ""): ("ESRCH",),
    ("chdir", ""): _LOOKUP,
    ("getcwd", ""): ("ENOENT", "EACCES", "ENOMEM"),
    ("prctl", ""): ("EPERM", "EINVAL"),
}  # fmt: skip
"""The errors of a call, by its name and the beginning of its descriptor's name ("": any)."""

_MEMORY = "without memory Python ends in MemoryError anywhere, or in abort(): no server's matter"
_LOCKS = "Python and OpenSSL take its errors for a damaged process, and abort"
_SIGNALS = "it fails only with a wrong argument"
_NEVER = "it has no errors, or none but for wrong arguments"
_REASONS = {
    "mmap munmap mremap mprotect brk madvise": _MEMORY,
    "futex set_robust_list rseq sched_yield set_tid_address restart_syscall": _LOCKS,
    "rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack tgkill": _SIGNALS,
    "getpid gettid getppid getuid geteuid getgid getegid umask uname clock_gettime getcpu exit "
    "clock_nanosleep nanosleep sched_getaffinity prlimit64 getrlimit getrusage sysinfo times "
    "exit_group": _NEVER,
    "getrandom": "once the kernel's pool is filled it never fails",
}
LEFT_ALONE: dict[tuple[str, str], str] = {
    **{(name, ""): why for names, why in _REASONS.items() for name in names.split()},
    ("write", "anon_inode:[eventf"): "libuv aborts the process, and EAGAIN is all that can happen",
    ("read", "anon_inode:[eventf"): "libuv aborts the process, and EAGAIN is all that can happen",
    ("write", "signals"): "it is full only where thousands of signals have come in one turn",
    ("read", "signals"): "as the other end",
    ("recvfrom", "signals"): "as the other end",
    ("close", "signals"): "the loop does so, and asyncio ends the process with a traceback",
    ("io_uring_enter", ""): "libuv aborts the process where its ring fails",
    ("epoll_ctl", "loop"): "libuv aborts the process where its own epoll fails",
}  # fmt: skip
"""Calls that are not made to fail, and why."""

CUT = {"read", "write", "pread64", "pwrite64", "sendfile", "splice", "readv", "sendto", "recvfrom"}
"""Calls that may move fewer bytes than they were asked for."""

KINDS = {"close": AFTER}
"""How calls fail that are made all the same: close(2) frees the descriptor and then fails."""


def kind(name: str) -> int:
    return KINDS.get(name, FAIL)


_REMOVED = "the entry was removed meanwhile, for all that the server knows"
_NOT_OURS = "the entry is not for the server: it is passed over"
EXCUSED = {
    ("listings", "newfstatat", "ENOENT"): _REMOVED,
    ("listings", "newfstatat", "EACCES"): _NOT_OURS,
    ("protected", "newfstatat", "ENOENT"): _REMOVED,
    ("protected", "newfstatat", "EACCES"): _NOT_OURS,
    ("listings", "getdents64", "ENOENT"): "the directory was removed: no name of it fits NLST d*",
}
"""Faults after which a listing may get 226 although it lacks a name, and why."""


def is_excused(script: str, name: str, error: str, wrong: str) -> bool:
    return (script, name, error) in EXCUSED and wrong.startswith("226 for a listing")
