"""Options of LIST, NLST and STAT: those of ``ls`` that decide which lines come, and in what order.

Others that clients send (``-l``, ``-1``, ``-F``) are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple, Protocol


class Sortable(Protocol):
    """The fields of an ``os.stat_result`` by which entries are sorted, besides the name."""

    @property
    def st_size(self) -> int: ...
    @property
    def st_mtime(self) -> float: ...


class ListOptions(NamedTuple):
    """``hidden``: with names that begin with a dot. ``by``: "t" for time, "S" size, "" name."""

    hidden: bool = False
    by: str = ""
    is_reversed: bool = False


def split_options(argument: str) -> tuple[ListOptions, str]:
    """Split an argument into the options in front and the path. ``--`` ends the options."""
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


def sort_entries(entries: list[Any], options: ListOptions) -> None:
    """Sort entries (name, status, …) in place, into the same order as ``HeldLines.sort``."""
    entries.sort(key=_first if all(map(str.isascii, map(_first, entries))) else _bytes_of_name)
    if options.by == "t":
        entries.sort(key=lambda entry: entry[1].st_mtime, reverse=True)
    elif options.by == "S":
        entries.sort(key=lambda entry: entry[1].st_size, reverse=True)
    if options.is_reversed:
        entries.reverse()


_first = itemgetter(0)


def _bytes_of_name(entry: Sequence[Any]) -> bytes:
    # UTF-8 has the order of the characters, but surrogate escapes must sort as their bytes
    name: str = entry[0]
    return name.encode("utf-8", "surrogateescape")


class HeldLines:
    """Lines of a listing that are held back until all of them can be sorted."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names: list[str] = []
        self._times: list[float] = []
        self._sizes: list[int] = []

    def add(self, entries: Sequence[tuple[str, Sortable, object]], lines: list[str]) -> None:
        """Add entries and the line of each."""
        self.lines += lines
        for name, status, _ in entries:
            self._names.append(name)
            self._times.append(status.st_mtime)
            self._sizes.append(status.st_size)

    def sort(self, options: ListOptions) -> None:
        """Sort as ``ls`` does in the C locale: newest or largest first, and names by bytes."""
        names: list[str] | list[bytes] = self._names
        # UTF-8 has the order of the characters, but surrogate escapes must sort as their bytes
        if not all(map(str.isascii, self._names)):
            names = [name.encode("utf-8", "surrogateescape") for name in self._names]
        order = sorted(range(len(names)), key=names.__getitem__)
        if options.by == "t":
            order.sort(key=self._times.__getitem__, reverse=True)
        elif options.by == "S":
            order.sort(key=self._sizes.__getitem__, reverse=True)
        if options.is_reversed:
            order.reverse()
        self.lines = [self.lines[place] for place in order]
