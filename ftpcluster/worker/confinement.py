"""Landlock: a worker, even one that was taken over, opens only the files that serving needs.

``storage/contained.py`` bounds the calls that our code makes. An attacker who uses a hole in the
interpreter or a library makes other calls, and could read every file where a worker runs as root.
Landlock is a list in the kernel of what the process may open; it cannot be taken back.

It does not prevent this: files that were opened before stay open; metadata can be read and changed
(stat, chmod, utime); connections can be made, over TCP and to UNIX sockets with a path. The list
holds the directories and files that exist now, not their names. If one is replaced (renamed, made
anew), the new one is not allowed until the worker is replaced, too. Beneath an allowed directory
everything may come and go: the kernel looks at the parents of a file whenever it is opened.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import functools
import importlib.machinery
import logging
import os
import site
import stat
import struct
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence

from ftpcluster.prctl import no_new_privs
from ftpcluster.worker.opening import Opened, open_in_time

log = logging.getLogger(__name__)

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH = 1  # LANDLOCK_RULE_PATH_BENEATH
_SCOPES = 3  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET, LANDLOCK_SCOPE_SIGNAL: within the worker only
_RENAMES_BETWEEN_DIRECTORIES, _SCOPING = 2, 6
_ABSENT = {
    errno.ENOSYS: "this kernel has no Landlock",
    errno.EOPNOTSUPP: "Landlock is not enabled; see lsm= on the kernel's command line",
    errno.EPERM: "a seccomp filter refuses Landlock",
}


class HasThreads(RuntimeError):
    """There are threads already, which would stay unconfined. The message names them."""


class Right(enum.IntFlag):
    """LANDLOCK_ACCESS_FS_*: what can be done beneath a directory, or with a file."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_SINCE = {Right.REFER: 2, Right.TRUNCATE: 3, Right.IOCTL_DEV: 5}
_READ = Right.READ_FILE | Right.READ_DIR
# No right to execute: nothing needs it (.so files are read and mapped). No device files: the file
# of a disk would give access to all data on it. Moving fifos and sockets needs MAKE_FIFO and
# MAKE_SOCK.
_WRITE = (
    _READ
    | (Right.WRITE_FILE | Right.TRUNCATE | Right.REMOVE_DIR | Right.REMOVE_FILE | Right.REFER)
    | (Right.MAKE_DIR | Right.MAKE_REG | Right.MAKE_SOCK | Right.MAKE_FIFO | Right.MAKE_SYM)
)
_OF_FILES = Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE | Right.TRUNCATE | Right.IOCTL_DEV

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_SYSTEM = (
    *("/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group"),
    *("/etc/hosts", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols"),
    *("/etc/localtime", "/usr/share/zoneinfo"),
    *("/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf", "/etc/crypto-policies"),
    *("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted"),
    *("/usr/share/ca-certificates", "/usr/local/share/ca-certificates"),
    *("/dev/null", "/dev/urandom"),
)
_SUFFIXES = (*importlib.machinery.all_suffixes(), ".dist-info", ".libs")

_syscall = ctypes.CDLL(None, use_errno=True).syscall


def confine(
    read_write: Sequence[str],
    read_only: Sequence[str],
    allowed: dict[str, tuple[int, int]] | None = None,
) -> str:
    """Allow this process only files in (or at) the given paths. Returns what was done, for the log.

    ``allowed`` gets the device and inode of each.

    The process cannot execute anything or gain rights (no_new_privs) either. Since Linux 6.12 it
    cannot signal other processes, or connect to their abstract UNIX sockets. None of this can be
    undone. It has to come before the first thread: the kernel confines the calling thread, and
    those that it starts later. Raises HasThreads where there are other threads, OSError.
    """
    _expect_one_thread()
    no_new_privs()
    try:
        abi = _abi()
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return f"not confined: {_ABSENT[error.errno]}"
    if abi < _RENAMES_BETWEEN_DIRECTORIES:
        return (
            "not confined: Landlock before Linux 5.19 refuses renames from directory to directory"
        )
    handled = _handled(abi)
    scopes = _SCOPES if abi >= _SCOPING else 0
    attributes = struct.pack("=QQQ", handled, 0, scopes)  # struct landlock_ruleset_attr
    ruleset = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    try:
        rights = dict.fromkeys(read_only, _READ)
        rights |= {path: rights.get(path, _READ) | (_WRITE & handled) for path in read_write}
        rule = functools.partial(_allow, ruleset, rights, {} if allowed is None else allowed)
        # all at once: each call forks
        missing, silent = open_in_time((*dict.fromkeys(read_write), *read_only), rule)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    if silent:
        log.warning(
            "this worker serves without %s, which did not answer: once it answers, the "
            "first login there is refused, and the worker is replaced", ", ".join(silent),
        )  # fmt: skip
    return f"Landlock ABI {abi}" + (f"; without {', '.join(missing)}" if missing else "")


def _expect_one_thread() -> None:
    # not all threads are Python's
    others = {thread.name for thread in threading.enumerate()} - {threading.current_thread().name}
    if others or len(os.listdir("/proc/self/task")) > 1:
        names = ", ".join(sorted(others)) or "of a library"
        raise HasThreads(f"a worker with threads cannot be confined any more: {names}")


def _abi() -> int:
    return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)


def _handled(abi: int) -> Right:
    """All rights that this kernel can forbid: a right that is not handled is not restricted."""
    return Right(sum(right for right in Right if abi >= _SINCE.get(right, 1)))


def _allow(
    ruleset: int,
    rights: Mapping[str, Right],
    allowed: dict[str, tuple[int, int]],
    path: str,
    opened: Opened,
) -> None:
    """Add a rule that allows the opened file or directory."""
    allowed[path] = opened.device, opened.inode
    granted = rights[path]
    if not stat.S_ISDIR(opened.mode):
        granted &= _OF_FILES
    beneath = struct.pack("=Qi", granted, opened.fd)  # struct landlock_path_beneath_attr
    _call(_ADD_RULE, ruleset, _PATH_BENEATH, beneath, 0)


def _call(number: int, *arguments: object) -> int:
    result: int = _syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"landlock: {os.strerror(error)}")
    return result


def directories_of(path: str) -> list[str]:
    """The directories to allow, so that a file stays readable when it is replaced, as certificates
    are.

    These are the directory of its name, and that of the file to which a link leads now: either may
    stay the same. Other files in them can be read, too. In a directory with everything, such as
    /etc or /run, only the file itself is allowed.
    """
    found = []
    for name in (os.path.abspath(path), os.path.realpath(path)):
        directory = os.path.dirname(name)
        found.append(directory if directory.count("/") > 1 else name)
    return found


def needed_by_python() -> list[str]:
    """The files that Python, the C library and our packages read while a worker runs.

    In /etc these are single files, since /etc/shadow is there, too. A program that changes them
    replaces them. So accounts that are made later have no names in listings until the worker is
    replaced.
    """
    installed = {*site.getsitepackages(), site.getusersitepackages()}.intersection(sys.path)
    prefixes = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
    whole = (
        *_LIBRARIES,
        *(os.path.join(prefix, name) for prefix in prefixes for name in ("lib", "lib64")),
        *installed,
    )
    found = (*whole, *_modules(whole), *_SYSTEM, *directories_of("/etc/resolv.conf"))
    needed: list[str] = []
    for path in sorted({os.path.realpath(path) for path in found if os.path.exists(path)}):
        if not any(path.startswith(f"{directory}/") for directory in needed):
            needed.append(path)
    return needed


def _modules(whole: Sequence[str]) -> Iterator[str]:
    """What can be imported from outside of ``whole``, and packages that were imported already.

    Not whole entries of sys.path: one may be "/", or the directory that the server was started in.
    """
    for entry in (each or os.curdir for each in sys.path):
        if any(f"{entry}/".startswith(f"{each}/") for each in whole):
            continue
        if os.path.isfile(entry):  # an archive of modules
            yield entry
        elif os.access(entry, os.R_OK | os.X_OK):
            yield from _modules_in(entry)
    for name, module in tuple(sys.modules.items()):
        if "." not in name:
            yield from getattr(module, "__path__", ())


def _modules_in(directory: str) -> Iterator[str]:
    """Users' directories may be there, on storage that hangs: another process looks."""
    inits = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(_SUFFIXES):
                yield entry.path
            elif not entry.is_file(follow_symlinks=False):
                inits.append(os.path.join(entry.path, "__init__.py"))
    packages: list[str] = []
    open_in_time(inits, lambda init, _: packages.append(os.path.dirname(init)))
    yield from packages
