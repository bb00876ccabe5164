"""The file that ``init`` writes: every key with an example, explained."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

import msgspec

from ftpcluster.config.model import Config
from ftpcluster.config.setting import (
    NO_LIMIT,
    Key,
    bases_of,
    is_array,
    keys,
    own_keys_first,
    show,
    table_of,
)

_HEAD = """\
# Configuration of ftpcluster: `ftpcluster run -c FILE`, `ftpcluster check -c FILE`.
#
# What stands behind a # is an example, or the default. Sizes and speeds are bytes and bytes a
# second (10_000_000, "10MB", "10MiB"), times seconds ("30s", "5m", "2h"). A limit that is left out
# is no limit. Relative paths are relative to this file. Environment variables win over it
# (FTPCLUSTER__LIMITS__CONNECTIONS=200), and flags of `run` over both. All keys:
# docs/configuration.md.
"""
_COLUMN = 37
_WIDTH = 100


def example() -> str:
    """A whole file."""
    lines = [_HEAD]
    tables: list[str] = []
    shown: set[type] = set()
    for name, key in keys(Config).items():
        table = table_of(key.annotation)
        if table is None:
            lines += _setting(name, key)
        else:
            header = f"[[{name}]]" if is_array(key.annotation) else f"[{name}]"
            tables += ["", *_table(table, header, shown)]
            shown.update(bases_of(table))
    return "\n".join([*lines, *tables, ""])


def _table(table: type[msgspec.Struct], header: str, shown: set[type]) -> Iterator[str]:
    """A table with its keys. Keys that a similar table has shown are left out, if not needed."""
    known = {name for base in shown & {*bases_of(table)} for name in keys(base)}
    new = {
        name: key
        for name, key in own_keys_first(table).items()
        if name not in known or key.field.name in table.__annotations__
    }
    is_set = any(key.setting is not None and key.setting.is_set for key in new.values())
    yield f"# {(inspect.getdoc(table) or '').splitlines()[0]}"
    yield f"{'' if is_set else '# '}{header}"
    for name, key in new.items():
        yield from _setting(name, key)


def _setting(name: str, key: Key) -> Iterator[str]:
    setting = key.setting
    assert setting is not None
    example = setting.example or show(key.annotation, key.default)
    start = "" if setting.is_set else "# "
    first, *others = f"{name} = {example}".splitlines()
    yield from _beside(f"{start}{first}", start, _comment(key, example))
    for each in others:
        yield f"{start}{each}"


def _comment(key: Key, example: str) -> str:
    assert key.setting is not None
    text = key.setting.plain_help
    default = key.default_text
    if key.field.required or default in (f"`{example}`", NO_LIMIT):
        return text
    return f"{text}; default: {default.replace('`', '')}"


def _beside(code: str, start: str, comment: str) -> Iterator[str]:
    """A comment in a column behind code; its further lines begin with ``start``."""
    taken = " " * (max(len(code) + 1, _COLUMN) - _COLUMN)
    first, *more = textwrap.wrap(comment, _WIDTH - _COLUMN - 2, initial_indent=taken)
    yield f"{code:{_COLUMN - 1}} # {first.lstrip()}"
    for each in more:
        yield f"{start:{_COLUMN - 1}} # {each}"
