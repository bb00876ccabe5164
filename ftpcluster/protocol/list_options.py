"""Options of LIST, NLST and STAT: those of ``ls`` that decide which lines come, and in what order.

Others that clients send (``-l``, ``-1``, ``-F``) mean nothing here.
"""

from __future__ import annotations

import operator
from typing import NamedTuple, Protocol, TypeVar


class Times(Protocol):
    """What entries are sorted by, but for the name: an ``os.stat_result``."""

    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime(self) -> float: ...


class ListOptions(NamedTuple):
    """``hidden``: names that begin with a dot, too. ``by``: "t" time, "S" size, else the name."""

    hidden: bool = False
    by: str = ""
    is_reversed: bool = False


_FIRST = operator.itemgetter(0)
Named = TypeVar("Named", bound=tuple[str, Times, object])


def split_options(argument: str) -> tuple[ListOptions, str]:
    """The options in front of a path, and the path; ``--`` ends them."""
    hidden, by, is_reversed = False, "", False
    while argument.startswith("-"):
        word, _, argument = argument.partition(" ")
        argument = argument.lstrip(" ")
        if word == "--":
            break
        if word.startswith("--"):
            hidden = hidden or word == "--all"
            continue
        hidden = hidden or "a" in word
        is_reversed = is_reversed or "r" in word
        for letter in word:
            by = letter if letter in "tS" else by
    return ListOptions(hidden, by, is_reversed), argument


def sort_entries(entries: list[Named], options: ListOptions) -> None:
    """Sort as ``ls`` does in the C locale: newest or largest first, and names by their bytes."""
    # in UTF-8 bytes are in the order of characters, but for those that stand for bytes
    is_ascii = all(map(str.isascii, map(_FIRST, entries)))
    entries.sort(key=_FIRST if is_ascii else _name)
    if options.by == "t":
        entries.sort(key=_modified, reverse=True)
    elif options.by == "S":
        entries.sort(key=_size, reverse=True)
    if options.is_reversed:
        entries.reverse()


def _name(entry: tuple[str, Times, object]) -> bytes:
    return entry[0].encode("utf-8", "surrogateescape")


def _modified(entry: tuple[str, Times, object]) -> float:
    return entry[1].st_mtime


def _size(entry: tuple[str, Times, object]) -> int:
    return entry[1].st_size
