"""On which line of a TOML file each key stands, which ``tomllib`` does not tell."""

from __future__ import annotations

import tomllib
from typing import Any

Path = tuple[str | int, ...]
"""The keys and indices that lead to a value: ``("user", 0, "login")``."""


def key_lines(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every key of a file that ``tomllib`` has read.

    A statement is as many lines as it takes until they parse by themselves; so all that knows
    TOML's syntax is ``tomllib``.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    arrays: dict[Path, int] = {}
    statement, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        first = first if statement else number
        statement += line + "\n"
        try:
            tree = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if statement.lstrip().startswith("["):
            table = _enter(tree, arrays)
            for end in range(1, len(table) + 1):
                found.setdefault(table[:end], first)
        else:
            _note(tree, table, first, found)
        statement = ""
    return found


def _enter(header: dict[str, Any], arrays: dict[Path, int]) -> Path:
    """The table that a header begins; ``arrays`` counts those of ``[[name]]``."""
    path: Path = ()
    value: Any = header
    while value:
        if isinstance(value, list):
            arrays[path] = arrays.get(path, 0) + 1
            value = value[0]
        else:
            ((key, value),) = value.items()
            path = (*path, key)
        if path in arrays and not isinstance(value, list):
            path = (*path, arrays[path] - 1)
    return path


def _note(value: Any, path: Path, line: int, found: dict[Path, int]) -> None:
    if path not in found:
        found[path] = line
    below = enumerate(value) if isinstance(value, list) else ()
    for key, each in value.items() if isinstance(value, dict) else below:
        _note(each, (*path, key), line, found)
