"""Giving up root, once the ports are bound.

A change of the user id has two more effects. They do no harm here:

- The kernel forgets PR_SET_PDEATHSIG. Workers set it after they were started, and they are
  started after the change. The fork server, which gives up root itself, sets it again.
- The process is no longer dumpable: only root can read its core and /proc/PID/mem, other processes
  of the same user cannot trace it, and /proc/PID belongs to root. The supervisor stays so, since
  passwords and keys are in its memory. It can still use its own /proc/self/fd and pidfd_open of its
  children, and its user can send it signals. Workers are dumpable again: spawned ones by execve(2),
  forked ones by ``be_dumpable``.
"""

from __future__ import annotations

import grp
import multiprocessing.spawn
import os
import pwd
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftpcluster.prctl import keep_capabilities_on_setuid, pass_on_capabilities

_NO_ID = 2**32 - 1  # -1: "leave it" to setresuid(2)
_CAP_SETUID = 1 << 7
_PACKAGE = Path(__file__).parent


class CannotRunAs(Exception):
    """The server cannot run as that user; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group of a process. ``name``: the user's, or its number if it has none."""

    uid: int
    gid: int
    name: str
    home: str = "/"


def parse_run_as(text: str) -> Identity:
    """``USER[:GROUP]``, names or numbers; without GROUP the user's own. Raises CannotRunAs."""
    user, colon, group = text.partition(":")
    if not user or (colon and not group):
        raise CannotRunAs(f"cannot run as {text!r}: expected USER or USER:GROUP")
    number = _number(user)
    try:
        entry = pwd.getpwnam(user) if number is None else pwd.getpwuid(number)
    except KeyError:
        entry = None
    if entry is not None:
        uid, name, home = entry.pw_uid, entry.pw_name, entry.pw_dir
    elif number is not None:
        uid, name, home = number, user, "/"
    else:
        raise CannotRunAs(f"cannot run as {text}: there is no user {user}; see `getent passwd`")
    if uid == 0:
        raise CannotRunAs(f"cannot run as {text}: root is what is given up; name another user")
    if group:
        gid = _gid(text, group)
    elif entry is not None:
        gid = entry.pw_gid
    else:
        raise CannotRunAs(
            f"cannot run as {text}: user {user} is not known; add a group: {user}:GROUP"
        )
    return Identity(uid, gid, name, home)


def _gid(text: str, group: str) -> int:
    number = _number(group)
    if number is not None:
        return number
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise CannotRunAs(
            f"cannot run as {text}: there is no group {group}; see `getent group`"
        ) from None


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal()):
        return None
    number = int(text)
    if number >= _NO_ID:
        raise CannotRunAs(f"cannot run as {text}: ids end at {_NO_ID - 1}")
    return number


def drop(identity: Identity, kept: Sequence[int] = ()) -> None:
    """Run as ``identity`` from now on, for good, in all threads. Raises CannotRunAs.

    ``kept``: capabilities that this thread, and the processes that it starts, keep.

    Supplementary groups are given up, also those of the user: USER:GROUP names all groups that the
    server has. After a CannotRunAs the process must end, since it may still have rights of root.
    """
    wanted = (identity.uid,) * 3, (identity.gid,) * 3
    if (os.getresuid(), os.getresgid()) != wanted:  # a service manager may have done it
        try:
            os.setgroups([])
            os.setresgid(*wanted[1])
            if kept:
                keep_capabilities_on_setuid()
            os.setresuid(*wanted[0])  # last, since the other calls need root
            if kept:
                pass_on_capabilities(kept)
        except OSError as error:
            raise CannotRunAs(
                f"cannot run as {identity.name}: {error.strerror}; start the server as root, or "
                f"as {identity.name} and without this setting"
            ) from error
    if _can_be_root():
        raise CannotRunAs(
            f"cannot run as {identity.name}: this process could become root again, since it keeps "
            "CAP_SETUID; start it without that capability, or without SecureBits= that keep it"
        )
    os.environ.update(HOME=identity.home, USER=identity.name, LOGNAME=identity.name)
    if not os.access(".", os.X_OK):
        os.chdir("/")  # workers begin where the supervisor is


def may_read(identity: Identity, path: str) -> bool:
    """Whether ``identity`` could read a file: a child process that becomes that user tries it.

    To be called as root, before any thread is started.
    """
    return bool(_found_as(identity, lambda: b"yes" * os.access(path, os.R_OK)))


def may_write_in(identity: Identity, directory: str) -> bool:
    """Whether ``identity`` could make files in a directory. To be called as ``may_read``."""
    return bool(_found_as(identity, lambda: b"yes" * os.access(directory, os.W_OK | os.X_OK)))


def barriers(identity: Identity, directories: Sequence[str]) -> list[str]:
    """For each directory the one, itself or above it, that ``identity`` may not enter; else "".

    To be called as ``may_read``. ``directories`` are absolute, with no link in them.
    """
    found = _found_as(identity, lambda: b"\0".join(os.fsencode(_barrier(f)) for f in directories))
    names = [os.fsdecode(name) for name in found.split(b"\0")]
    # where the child cannot become that user: ``drop`` will report that
    return names if len(names) == len(directories) else [""] * len(directories)


def _barrier(directory: str) -> str:
    for above in reversed(Path(directory).parents):
        if not os.access(above, os.X_OK):
            return str(above)
    return "" if os.access(directory, os.R_OK | os.X_OK) else directory


def _found_as(identity: Identity, look: Callable[[], bytes]) -> bytes:
    """The result of ``look`` in a child process that becomes ``identity``; b"" where it cannot."""
    ours, childs_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setresgid(*(identity.gid,) * 3)
            os.setresuid(*(identity.uid,) * 3)
            with open(childs_end, "wb") as pipe:
                pipe.write(look())
        finally:
            os._exit(0)  # without running or flushing anything of the parent's
    os.close(childs_end)
    with open(ours, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return found


def _can_be_root() -> bool:
    try:
        os.setresuid(-1, 0, -1)
    except OSError:
        status = Path("/proc/self/status").read_text()
        permitted = re.search(r"^CapPrm:\s*(\w+)", status, re.MULTILINE)
        # one that is permitted, but not effective, can be made so (capset(2))
        return permitted is None or bool(int(permitted[1], 16) & _CAP_SETUID)
    return True


def check_python(identity: Identity) -> None:
    """Raises CannotRunAs where workers cannot be started after ``drop``.

    If its user may not use Python or this package, a worker ends without a message.
    """
    python = os.fsdecode(multiprocessing.spawn.get_executable())
    for path, mode in ((python, os.X_OK), (_PACKAGE, os.R_OK | os.X_OK)):
        if not os.access(path, mode):
            raise CannotRunAs(
                f"cannot run as {identity.name}: this user may not use {path}; install "
                "ftpcluster where it may, not in another user's home"
            )
