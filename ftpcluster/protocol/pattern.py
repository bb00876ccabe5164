"""Patterns as shells have them: ``*``, ``?`` and ``[…]``, for ``mget`` (no braces, no ``**``).

Clients' patterns are not compiled to regular expressions: one of 4 KB would take 140 ms, and ``re``
caches hundreds of them. The Shift-And algorithm matches them: in an integer, one bit for each place
of the pattern says whether the name so far may lead there. The time grows with the length of the
name, and only slowly with that of the pattern, whatever it contains.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
from collections.abc import Callable, Iterable

_NOT_IN_NAMES = frozenset("/\0")
_MAGIC = re.compile(r"[*?]|\[[!^]?+\]?+[^\]]*+\]")
_TOKEN = re.compile(r"\[([!^]?+)(\][^\]]*|[^\]]+)\]|.", re.DOTALL)
_ANY = "[^/]"
_NOTHING = "(?!)"
_MEMBER = re.compile(r"(.)-(.)|.", re.DOTALL)


def is_pattern(name: str) -> bool:
    """Whether a name contains a wildcard."""
    return _MAGIC.search(name) is not None


def is_name_pattern(text: object) -> bool:
    """Whether ``text`` can be a pattern for single components of paths."""
    return isinstance(text, str) and text not in ("", ".", "..") and _NOT_IN_NAMES.isdisjoint(text)


LONGEST = 255
"""Bytes of a client's pattern at most: no name is longer (NAME_MAX)."""
_KEPT = 1024
"""Characters at most for which a pattern caches the places that accept them."""


class Pattern:
    """A pattern for one component of a path."""

    __slots__ = ("is_slow", "matches", "shows_hidden")

    def __init__(self, text: str) -> None:
        self.shows_hidden = text.startswith(".")
        tokens = [*_TOKEN.finditer(text)]
        self.is_slow = any(token[2] is not None or token[0] == "?" for token in tokens)
        """Whether each character of a name takes a step in Python: 50 µs for 255 characters."""
        self.matches: Callable[[str], bool]
        """Whether a whole name fits. (A leading dot is a character like any other here.)"""
        self.matches = _Places(tokens).lead_to_end if self.is_slow else _of_text(text.split("*"))


class _Places:
    """A pattern for Shift-And. Its places are bits; the lowest one is before the first token."""

    __slots__ = ("_begin", "_end", "_fits", "_last", "_loops", "_tokens")

    def __init__(self, tokens: list[re.Match[str]]) -> None:
        self._begin = "".join(token[0] for token in itertools.takewhile(_is_text, tokens))
        last = [token[0] for token in itertools.takewhile(_is_text, reversed(tokens))]
        self._last = "".join(reversed(last))
        self._loops = 0  # the places of stars, which accept any character
        self._tokens: list[Callable[[str], bool]] = []
        for token in tokens:
            if token[0] == "*":
                self._loops |= 1 << len(self._tokens)
            else:
                self._tokens.append(_accepting(token))
        self._end = 1 << len(self._tokens)
        self._fits: dict[str, int] = {}

    def lead_to_end(self, name: str) -> bool:
        """Whether a whole name fits: whether its characters lead to the last place."""
        begin, loops, fits = self._begin, self._loops, self._fits
        if not (name.startswith(begin) and name.endswith(self._last)):
            return False
        places = 1 << len(begin)
        accepted = self._end & loops  # a star at the end accepts the rest
        for character in name[len(begin) :]:
            if places & accepted:
                return True
            fit = fits.get(character)
            if fit is None:
                fit = self._where_fits(character)
            places = (places & fit) << 1 | places & loops
            if not places:
                return False
        return bool(places & self._end)

    def _where_fits(self, character: str) -> int:
        """The places whose token accepts ``character``."""
        fit = 0
        for place, accepts in enumerate(self._tokens):
            if accepts(character):
                fit |= 1 << place
        if len(self._fits) < _KEPT:
            self._fits[character] = fit
        return fit


def _is_text(token: re.Match[str]) -> bool:
    """Whether a token is a character that stands for itself."""
    return token[2] is None and token[0] not in ("*", "?")


def _of_text(pieces: list[str]) -> Callable[[str], bool]:
    """A function that tells whether a name has these pieces, with anything in between."""
    if len(pieces) == 2 and not pieces[0]:
        return operator.methodcaller("endswith", pieces[1])
    return functools.partial(_fit, pieces)


def _fit(pieces: list[str], name: str) -> bool:
    """Whether a name has these pieces in this order, the first and the last one at its ends.

    Each piece is taken where it fits first: that leaves most of the name to the pieces behind it.
    """
    first, *others = pieces
    if not others:
        return name == first
    last = others.pop()
    end = len(name) - len(last)
    if len(first) > end or not (name.startswith(first) and name.endswith(last)):
        return False
    begin = len(first)
    for piece in others:
        found = name.find(piece, begin, end)
        if found < 0:
            return False
        begin = found + len(piece)
    return True


def _accepting(token: re.Match[str]) -> Callable[[str], bool]:
    """A function that tells whether a character fits a token."""
    if token[0] == "?":
        return _any
    if token[2] is None:
        return token[0].__eq__
    singles, ranges = set(), []
    for each in _MEMBER.finditer(token[2]):
        if each[1]:
            ranges.append((each[1], each[2]))  # a range that runs backwards contains nothing
        else:
            singles.add(each[0])
    is_member = functools.partial(_is_member, frozenset(singles), ranges)
    return functools.partial(_is_other, is_member) if token[1] else is_member


def _any(_: str) -> bool:
    return True


def _is_member(singles: frozenset[str], ranges: list[tuple[str, str]], character: str) -> bool:
    return character in singles or any(first <= character <= last for first, last in ranges)


def _is_other(is_member: Callable[[str], bool], character: str) -> bool:
    return not is_member(character)


class Names:
    """The names that fit one of several patterns, without regard to case.

    Some file systems ignore the case of names, and web servers that of their endings.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        fitting = "|".join(map(_expression, patterns))
        self.has_patterns = bool(fitting)
        # one expression for all components: a path of 4 KB can have two thousand
        component = f"/(?=[^/])(?:{fitting or _NOTHING})(?=/|\\Z)"
        self._find = re.compile(component, re.IGNORECASE).search

    def __bool__(self) -> bool:
        return self.has_patterns

    def __contains__(self, name: str) -> bool:
        return self.are_in(name)

    def are_in(self, path: str) -> bool:
        """Whether a component of ``path`` is such a name."""
        return self._find(f"/{path}") is not None


def _expression(text: str) -> str:
    """The regular expression of a pattern. Nothing in it fits a slash.

    Each star is an atomic group, so it is never tried again: a piece is taken where it fits first,
    which leaves most of the name to the pieces behind it.
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
