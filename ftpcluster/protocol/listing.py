"""Lines of LIST (as ``ls -l`` writes them) and facts of MLSD and MLST (RFC 3659 section 7).

Text that repeats from entry to entry (modes, owners, times) is cached: a directory may have 10,000
entries.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Protocol, SupportsIndex

FACTS = ("type", "perm", "size", "modify", "unique", "unix.mode", "unix.uid", "unix.gid")
"""The facts we can give, in the order in which FEAT names them."""

_MTIME = 8
"""The index in a ``Status`` of the time of modification, in whole seconds."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    # never "dir", even for a link to one: clients that delete trees would follow it. Nor
    # slink:TARGET, since the target may lie where the client may not look
    stat.S_IFLNK: "OS.unix=symlink",
}
_HALF_A_YEAR = 15_778_476
_TIMESTAMP = re.compile(r"(\d{14})(\.\d{1,9})?", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f\x80-\x9f]")


class Status(Protocol):
    """The fields of an ``os.stat_result`` that lines are made of."""

    # attributes: unpacking a stat_result takes three times as long as reading five of them
    @property
    def st_mode(self) -> int: ...
    @property
    def st_ino(self) -> int: ...
    @property
    def st_dev(self) -> int: ...
    @property
    def st_nlink(self) -> int: ...
    @property
    def st_uid(self) -> int: ...
    @property
    def st_gid(self) -> int: ...
    @property
    def st_size(self) -> int: ...
    def __getitem__(self, field: SupportsIndex, /) -> Any: ...


def printable(name: str) -> str:
    """A name with "?" in place of control characters, as in ls: it cannot forge a line."""
    return name if name.isprintable() else _CONTROL.sub("?", name)


@lru_cache(maxsize=256)
def mode_string(mode: int) -> str:
    """A mode as ``ls -l`` shows it, such as ``-rw-r--r--``; cached."""
    return stat.filemode(mode)


NO_TIME = "Jan  1  1970"
"""Shown for a time that Python has no date for: a file system may report any number."""


@lru_cache(maxsize=8192)
def _with_clock(minute: int) -> str:
    try:
        time = datetime.fromtimestamp(minute * 60, UTC)
    except (ValueError, OverflowError, OSError):
        return NO_TIME
    return f"{_MONTHS[time.month - 1]} {time.day:2d} {time.hour:02d}:{time.minute:02d}"


@lru_cache(maxsize=8192)
def _with_year(day: int) -> str:
    try:
        time = datetime.fromtimestamp(day * 86400, UTC)
    except (ValueError, OverflowError, OSError):
        return NO_TIME
    return f"{_MONTHS[time.month - 1]} {time.day:2d}  {time.year}"


def list_time(mtime: float, now: float) -> str:
    """``Jan  1 00:00`` for the last half year, ``Jan  1  2001`` for all else; English, in UTC."""
    try:
        second = int(mtime)
    except (ValueError, OverflowError):
        return NO_TIME
    is_recent = now - _HALF_A_YEAR < mtime <= now + 60
    return _with_clock(second // 60) if is_recent else _with_year(second // 86400)


@lru_cache(maxsize=8192)
def timestamp(seconds: int) -> str:
    """``YYYYMMDDHHMMSS`` in UTC (RFC 3659 section 2.3)."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S").rjust(14, "0")
    except (ValueError, OverflowError, OSError):
        return "19700101000000"


def parse_timestamp(text: str) -> float | None:
    """Parse ``YYYYMMDDHHMMSS[.sss]`` (UTC) into seconds since 1970; None where it is no time."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    try:
        time = datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    # milliseconds, cut off: rounded up, they could make the next second
    return time.timestamp() + int((match[2] or ".0")[1:4].ljust(3, "0")) / 1000


def list_lines(
    entries: Sequence[tuple[str, Status, str | None]],
    now: float,
    owner: Callable[[int], str] = str,
    group: Callable[[int], str] = str,
) -> str:
    """Lines of LIST. An entry is a name, its status and, for a symbolic link, its target.

    ``now``: seconds since 1970. ``owner`` and ``group`` name user and group ids; their results are
    cached. The common entry takes cached calls only: a directory has many entries.
    """
    start, end = now - _HALF_A_YEAR, now + 60
    prefix, clock, year = list_prefix, _with_clock, _with_year
    return "".join(
        [
            f"{prefix(s.st_mode, s.st_nlink, s.st_uid, s.st_gid, owner, group)}"
            f"{str(s.st_size).rjust(8)} "
            f"{clock(t // 60) if start < (t := s[_MTIME]) <= end else year(t // 86400)} "
            f"{name if target is None and name.isprintable() else _shown(name, target)}\r\n"
            for name, s, target in entries
        ]
    )


def name_lines(entries: Iterable[tuple[str, object, object]], prefix: str = "") -> str:
    """Lines of NLST: the names, each behind ``prefix``."""
    return "".join([f"{prefix}{printable(entry[0])}\r\n" for entry in entries])


def _shown(name: str, target: str | None) -> str:
    return printable(name) if target is None else f"{printable(name)} -> {printable(target)}"


@lru_cache(maxsize=1024)
def list_prefix(
    mode: int,
    links: int,
    uid: int,
    gid: int,
    owner: Callable[[int], str],
    group: Callable[[int], str],
) -> str:
    """The part of a line of LIST in front of the size; cached."""
    return f"{mode_string(mode)} {links:3d} {owner(uid):8} {group(gid):8} "


@lru_cache(maxsize=1024)
def permission_fact(mode: int, *, readable: bool, writable: bool) -> str:
    """The perm fact (RFC 3659 section 7.5.5): what the user's permissions allow with an entry.

    A link may be deleted and renamed. Its target's permissions are not shown: they would tell
    something about files that are not in the listing.
    """
    if stat.S_ISLNK(mode):
        return "df" if writable else ""
    if stat.S_ISDIR(mode):
        return ("el" if readable else "") + ("cmfdp" if writable else "")
    return ("r" if readable else "") + ("adfw" if writable else "")


@lru_cache(maxsize=1024)
def facts_around(mode: int, uid: int, gid: int, perm: str, device: int) -> tuple[str, str, str]:
    """A line with all facts, without size, time and inode: the texts before, between and behind."""
    template = _mode_facts(mode, uid, gid, perm, FACTS)
    head, _, tail = template.partition("%(size)d;modify=%(modify)s;unique=%(unique)s;")
    return head, f";unique={device:x}g", f";{tail} "


@lru_cache(maxsize=1024)
def _mode_facts(mode: int, uid: int, gid: int, perm: str, facts: tuple[str, ...]) -> str:
    """The facts of a mode and owner, with ``%(…)`` placeholders for size, modify and unique."""
    kind = _KINDS.get(stat.S_IFMT(mode), "OS.unix=special")
    values = {
        "type": kind,
        "perm": perm,
        "size": "%(size)d",
        "modify": "%(modify)s",
        "unique": "%(unique)s",
        "unix.mode": f"0{stat.S_IMODE(mode):o}",
        "unix.uid": str(uid),
        "unix.gid": str(gid),
    }
    return "".join(f"{fact}={values[fact]};" for fact in FACTS if fact in facts)


def fact_line(name: str, status: Status, perm: str, facts: tuple[str, ...] = FACTS) -> str:
    """One entry of MLSD or MLST: facts, a space and the name, without a line ending."""
    if not name.isprintable():
        name = printable(name)
    when = timestamp(int(status[_MTIME]))
    if facts is FACTS:  # no OPTS MLST has chosen others
        head, device, tail = facts_around(
            status.st_mode, status.st_uid, status.st_gid, perm, status.st_dev
        )
        inode = hex(status.st_ino)[2:]
        return f"{head}{status.st_size};modify={when}{device}{inode}{tail}{name}"
    template = _mode_facts(status.st_mode, status.st_uid, status.st_gid, perm, facts)
    unique = f"{status.st_dev:x}g{status.st_ino:x}"
    return f"{template % {'size': status.st_size, 'modify': when, 'unique': unique}} {name}"


def fact_lines(
    entries: Iterable[tuple[str, Status, object]],
    perm: Callable[[int], str],
    facts: tuple[str, ...] = FACTS,
) -> str:
    """Lines of MLSD. ``perm`` gives the perm fact for a mode, the same for all entries."""
    perms: dict[int, str] = {}
    lines = []
    for name, status, _ in entries:
        mode = status.st_mode
        if (found := perms.get(mode)) is None:
            found = perms[mode] = perm(mode)
        lines.append(f"{fact_line(name, status, found, facts)}\r\n")
    return "".join(lines)
