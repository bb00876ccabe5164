"""Keeps root from opening a path that another user can redirect by a link.

A user who may write to a directory decides where the names in it lead. The server's user
(``run_as``) may be such a user. Then a worker that was taken over could put a link there, and root
would write to one of its own files at the next start. So root opens such a path with the rights of
that user. A path that any other user controls is refused.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import stat
from collections.abc import Iterable, Iterator

from ftpcluster.privileges import Identity

_ANYBODY = -1
_MOST_LINKS = 40


class UnsafePath(PermissionError):
    """Another user controls where a path leads; the message says who, and what to do."""


@contextlib.contextmanager
def acting_for(path: str, identity: Identity | None) -> Iterator[None]:
    """Open, make or remove ``path`` within this block with the rights of the user who controls it.

    ``identity``: the user that this process will run as. Raises UnsafePath.
    """
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            found = controllers(path, identity)
            for uid, directory in found.items():
                if identity is None or uid != identity.uid:
                    raise UnsafePath(_explained(uid, directory))
            if found and identity is not None:
                stack.enter_context(_acting_as(identity))
        yield


@contextlib.contextmanager
def reading_for(paths: Iterable[str], identity: Identity | None) -> Iterator[None]:
    """As ``acting_for``, for files that are only read: they may be controlled by any other user."""
    with contextlib.ExitStack() as stack:
        if identity is not None and os.geteuid() == 0 and _may_lead(identity, paths):
            stack.enter_context(_acting_as(identity))
        yield


def _may_lead(identity: Identity, paths: Iterable[str]) -> bool:
    return any(identity.uid in controllers(path, identity) for path in paths)


def controllers(path: str, identity: Identity | None) -> dict[int, str]:
    """The users other than root who can redirect ``path``, each with the directory or link."""
    found: dict[int, str] = {}
    for place, status in _components(path):
        uid = status.st_uid
        if stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_ISVTX:
            if status.st_mode & stat.S_IWOTH:
                found.setdefault(_ANYBODY, place)
            in_group = identity is not None and status.st_gid == identity.gid
            if identity is not None and in_group and status.st_mode & stat.S_IWGRP:
                found.setdefault(identity.uid, place)
        if uid != 0:
            found.setdefault(uid, place)
    return found


def is_led_by_others(path: str) -> bool:
    """Whether a user other than root and ours can redirect the path of a directory."""
    real, ours = os.path.realpath(path), {0, os.geteuid()}
    found = controllers(path, None).items()
    return any(uid not in ours and place != real for uid, place in found)


def _components(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """The directories and links that decide where ``path`` leads."""
    here, links = "/", 0
    # not normalized: "link/.." is the parent of the link's target
    whole = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    names = [*reversed(whole.split("/"))]
    yield here, os.lstat(here)
    while names:
        name = names.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)  # ``here`` has no link in it
            continue
        place = os.path.join(here, name)
        try:
            status = os.lstat(place)
        except OSError:
            return  # it does not exist: it leads nowhere
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                return
            yield place, status
            target = os.readlink(place)
            here = "/" if target.startswith("/") else here
            names += reversed(target.split("/"))
        elif stat.S_ISDIR(status.st_mode):
            yield place, status
            here = place


@contextlib.contextmanager
def _acting_as(identity: Identity) -> Iterator[None]:
    """Have a user's rights within this block, and root's again after it."""
    groups, gid = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(identity.gid)
    os.seteuid(identity.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def _explained(uid: int, place: str) -> str:
    if uid == _ANYBODY:
        return (
            f"everybody may write in {place}, and could have root write elsewhere: "
            "name another path"
        )
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return (
        f"{place} belongs to {name}, who could have root write elsewhere: "
        f"`chown root {shlex.quote(place)}`, or name another path"
    )
