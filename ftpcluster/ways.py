"""As whom root opens, makes and removes files: nobody else may lead it elsewhere by a link.

Whoever may change a directory decides what a name in it leads to. Where that is the user as whom
the server is going to run (``run_as``), a worker that was taken over could have root, at the next
start, write to a file that is root's alone. There root acts as that user; where anybody else has
such a directory it does not act at all.
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


class NotOurs(PermissionError):
    """Somebody else decides what a path leads to; the message says who, and what to do."""


@contextlib.contextmanager
def acting_for(path: str, identity: Identity | None) -> Iterator[None]:
    """Within this block ``path`` is opened, made or removed as the one who decides where it leads.

    ``identity``: whom this process is going to run as. Raises NotOurs.
    """
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            found = controllers(path, identity)
            for uid, directory in found.items():
                if identity is None or uid != identity.uid:
                    raise NotOurs(_explained(uid, directory))
            if found and identity is not None:
                stack.enter_context(_acting_as(identity))
        yield


@contextlib.contextmanager
def reading_for(paths: Iterable[str], identity: Identity | None) -> Iterator[None]:
    """As ``acting_for``, for what is only read: others than ``identity`` do not get to see it."""
    with contextlib.ExitStack() as stack:
        if identity is not None and os.geteuid() == 0 and _may_lead(identity, paths):
            stack.enter_context(_acting_as(identity))
        yield


def _may_lead(identity: Identity, paths: Iterable[str]) -> bool:
    return any(identity.uid in controllers(path, identity) for path in paths)


def controllers(path: str, identity: Identity | None) -> dict[int, str]:
    """Users, beside root, who may change what ``path`` leads to, each with where they may."""
    found: dict[int, str] = {}
    for place, status in _way(path):
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


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """The directories and links that decide what ``path`` leads to."""
    here, links = "/", 0
    # not normalized: "link/.." is what the link leads to, and then up
    names = [*reversed(os.path.join(os.getcwd(), path).split("/"))]
    yield here, os.lstat(here)
    while names:
        name = names.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)  # which has no link in it
            continue
        place = os.path.join(here, name)
        try:
            status = os.lstat(place)
        except OSError:
            return  # what is not there leads nowhere
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
    """Be somebody for the kernel, and root again afterwards."""
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
        return f"everybody may write in {place}, and could have root write elsewhere: name another"
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return (
        f"{place} belongs to {name}, who could have root write elsewhere: "
        f"`chown root {shlex.quote(place)}`, or name another place"
    )
