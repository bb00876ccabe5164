"""Patterns as shells have them: ``*``, ``?`` and ``[…]``, for ``mget`` (no braces, no ``**``).

A pattern is cut at its stars into pieces of fixed length, and each piece is looked for to the
right of the one before: the time grows with name times pattern, whatever the pattern is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NOT_IN_NAMES = frozenset("/\0")
_MAGIC = re.compile(r"[*?]|\[[^\]]+\]")
_TOKEN = re.compile(r"\[([!^]?+)(\][^\]]*|[^\]]+)\]|.", re.DOTALL)
_ANY = "[^/]"
_NOTHING = "(?!)"
_MEMBER = re.compile(r"(.)-(.)|.", re.DOTALL)


def is_pattern(name: str) -> bool:
    """Whether a name has a character that means something in a pattern."""
    return _MAGIC.search(name) is not None


def is_name_pattern(text: object) -> bool:
    """Whether it can be a pattern of names: those of single components of a path."""
    return isinstance(text, str) and text not in ("", ".", "..") and _NOT_IN_NAMES.isdisjoint(text)


class Pattern:
    """A pattern for one component of a path."""

    def __init__(self, text: str) -> None:
        self._fits = re.compile(_expression(text)).fullmatch
        self.shows_hidden = text.startswith(".")

    def matches(self, name: str) -> bool:
        """Whether all of ``name`` fits. (A leading dot is no different here.)"""
        return self._fits(name) is not None


class Names:
    """Names that fit one of several patterns, whatever their case.

    Some file systems know no case, and web servers none in the endings of names.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        fitting = "|".join(map(_expression, patterns))
        self._has_patterns = bool(fitting)
        # one expression for all components: a path of 4 KB can have two thousand
        component = f"/(?=[^/])(?:{fitting or _NOTHING})(?=/|\\Z)"
        self._find = re.compile(component, re.IGNORECASE).search

    def __bool__(self) -> bool:
        return self._has_patterns

    def __contains__(self, name: str) -> bool:
        return self.are_in(name)

    def are_in(self, path: str) -> bool:
        """Whether a component of a path is one of them."""
        return self._find(f"/{path}") is not None


def _expression(text: str) -> str:
    """The regular expression of a pattern; nothing in it fits a slash.

    What a star has skipped stays skipped (an atomic group): the first place where a piece fits
    leaves the most to those behind it, so no other one has to be tried.
    """
    pieces = [""]
    for token in _TOKEN.finditer(text):
        if token[0] == "*":
            pieces.append("")
        else:
            pieces[-1] += _one_character(token)
    first, *others = pieces
    if not others:
        return first
    middle = "".join(f"(?>[^/]*?{piece})" for piece in others[:-1] if piece)
    return f"{first}{middle}[^/]*{others[-1]}"


def _one_character(token: re.Match[str]) -> str:
    """The regular expression of a token that stands for one character."""
    if token[0] == "?":
        return _ANY
    if token[2] is None:
        return re.escape(token[0])
    members = "".join(
        f"{re.escape(each[1])}-{re.escape(each[2])}" if each[1] else re.escape(each[0])
        for each in _MEMBER.finditer(token[2])
        if not each[1] or each[1] <= each[2]  # a range that runs backwards has nothing in it
    )
    if not members:
        return _ANY if token[1] else _NOTHING
    return f"[^/{members}]" if token[1] else f"(?!/)[{members}]"
