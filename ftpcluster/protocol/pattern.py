"""Patterns as shells have them: ``*``, ``?`` and ``[…]``, for ``mget`` (no braces, no ``**``).

A pattern is cut at its stars into pieces of fixed length, and each piece is looked for to the
right of the one before: the time grows with name times pattern, whatever the pattern is.
"""

from __future__ import annotations

import re

_MAGIC = re.compile(r"[*?]|\[[^\]]+\]")
_TOKEN = re.compile(r"\[([!^]?+)(\][^\]]*|[^\]]+)\]|.", re.DOTALL)
_MEMBER = re.compile(r"(.)-(.)|.", re.DOTALL)


def is_pattern(name: str) -> bool:
    """Whether a name has a character that means something in a pattern."""
    return _MAGIC.search(name) is not None


class Pattern:
    """A pattern for one component of a path."""

    def __init__(self, text: str) -> None:
        pieces: list[list[str]] = [[]]
        for token in _TOKEN.finditer(text):
            if token[0] == "*":
                pieces.append([])
            else:
                pieces[-1].append(_one_character(token))
        first, *others = [re.compile("".join(piece), re.DOTALL) for piece in pieces]
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
