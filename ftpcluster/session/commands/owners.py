"""Names of owners and groups, as LIST shows them."""

from __future__ import annotations

import functools
import grp
import pwd


@functools.lru_cache(maxsize=1024)
def owner_name(uid: int) -> str:
    try:
        return _one_word(pwd.getpwuid(uid).pw_name, uid)
    except KeyError:
        return str(uid)


@functools.lru_cache(maxsize=1024)
def group_name(gid: int) -> str:
    try:
        return _one_word(grp.getgrgid(gid).gr_name, gid)
    except KeyError:
        return str(gid)


def _one_word(name: str, number: int) -> str:
    """A name that is one column of a listing; else its number: ``domain users`` would be two."""
    is_one = name.isprintable() and name.split() == [name]
    return name if is_one else str(number)
