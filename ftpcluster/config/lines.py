"""The line of each key in a TOML file, which ``tomllib`` does not give."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
"""The keys and indices that lead to a value: ``("user", 0, "login")``."""


def key_lines(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every key of a file that ``tomllib`` has read.

    A statement ends at the first line with which it parses by itself. So only ``tomllib`` has to
    know the syntax of TOML.
    """
    found: dict[Path, int] = {}
    for line, table, tree in _statements(text):
        if tree is None:
            for end in range(1, len(table) + 1):
                found.setdefault(table[:end], line)
        else:
            _note(tree, table, line, found)
    return found


def given_twice(text: str) -> tuple[Path, int] | None:
    """The key that ``tomllib`` has found for the second time, and the line of the first."""
    seen: dict[Path, int] = {}
    for line, table, tree in _statements(text):
        path = table if tree is None else table + _key(tree)
        for other, where in seen.items():
            if path[: len(other)] == other or (tree is not None and other[: len(path)] == path):
                return other[: len(path)], where
        if tree is not None:
            seen[path] = line
    return None


def _statements(text: str) -> Iterator[tuple[int, Path, dict[str, Any] | None]]:
    """Each statement: its line, its table, and the statement itself; None for a table's header."""
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
            yield first, table, None
        elif tree:
            yield first, table, tree
        statement = ""


def _key(tree: dict[str, Any]) -> Path:
    """What stands before the "=" of a statement, and of inline tables with one key in them."""
    path: Path = ()
    value: Any = tree
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        path = (*path, key)
    return path


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
