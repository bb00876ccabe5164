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
_MEMBER = re.compile(r"(.)-(.)|.", re.DOTALL)


def is_pattern(name: str) -> bool:
    """Whether a name has a character that means something in a pattern."""
    return _MAGIC.search(name) is not None


def is_name_pattern(text: object) -> bool:
    """Whether it can be a pattern of names: those of single components of a path."""
    return isinstance(text, str) and text not in ("", ".", "..") and _NOT_IN_NAMES.isdisjoint(text)


class Pattern:
    """A pattern for one component of a path."""

    def __init__(self, text: str, *, any_case: bool = False) -> None:
        pieces: list[list[str]] = [[]]
        for token in _TOKEN.finditer(text):
            if token[0] == "*":
                pieces.append([])
            else:
                pieces[-1].append(_one_character(token))
        flags = re.DOTALL | (re.IGNORECASE if any_case else 0)
        first, *others = [re.compile("".join(piece), flags) for piece in pieces]
        self._first = first
        self._middle = others[:-1]
        self._last = others[-1] if others else None
        self._last_length = len(pieces[-1])
        self.shows_hidden = text.startswith(".")

    def matches(self, name: str) -> bool:
        """Whether all of ``name`` fits. (A leading dot is no different here.)"""
        if self._last is None:
            return self._first.fullmatch(name) is not None
        found = self._first.match(name)
        for piece in self._middle:
            if found is None:
                return False
            found = piece.search(name, found.end())
        start = len(name) - self._last_length
        return (
            found is not None and start >= found.end() and bool(self._last.fullmatch(name, start))
        )


class Names:
    """Names that fit one of several patterns, whatever their case.

    Some file systems know no case, and web servers none in the endings of names.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(Pattern(text, any_case=True) for text in patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __contains__(self, name: str) -> bool:
        return any(pattern.matches(name) for pattern in self._patterns)

    def are_in(self, path: str) -> bool:
        """Whether a component of a path is one of them."""
        return any(name in self for name in path.split("/") if name)


def _one_character(token: re.Match[str]) -> str:
    """The regular expression of a token that stands for one character."""
    if token[0] == "?":
        return "."
    if token[2] is None:
        return re.escape(token[0])
    members = "".join(
        f"{re.escape(each[1])}-{re.escape(each[2])}" if each[1] else re.escape(each[0])
        for each in _MEMBER.finditer(token[2])
        if not each[1] or each[1] <= each[2]  # a range that runs backwards has nothing in it
    )
    if not members:
        return "." if token[1] else "(?!)"
    return f"[{'^' if token[1] else ''}{members}]"
