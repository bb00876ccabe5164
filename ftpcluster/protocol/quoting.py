"""Paths in quotes, where an argument has more than one path: a quote in a path is doubled.

As in the 257 reply of RFC 959. ``"a ""b"" c" d`` are the paths ``a "b" c`` and ``d``.
"""

from __future__ import annotations

import re

QUOTED = '"((?:[^"]|"")*)"'
"""A regular expression: a path in quotes. Give its group to ``unquoted``."""
_PATH = f'(?:{QUOTED}|([^ "]+))'
_TWO_PATHS = re.compile(f"{_PATH} {_PATH}", re.DOTALL)


def unquoted(text: str) -> str:
    """The path that stands between two quotes."""
    return text.replace('""', '"')


def two_paths(argument: str) -> tuple[str, str] | None:
    """Both paths of an argument, each in quotes or without spaces; None where it has others."""
    match = _TWO_PATHS.fullmatch(argument)
    if match is None:
        return None
    first, second = match[2] or unquoted(match[1]), match[4] or unquoted(match[3])
    return (first, second) if first and second else None
