"""Makes tables of the documents from the declarations of settings.

``python -m tests.support.documents`` writes them. A test compares the documents with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ftpcluster.cli.flags import FLAGS, Flag
from ftpcluster.compat.server_arguments import ARGUMENTS, ServerKeyword
from ftpcluster.config import Config
from ftpcluster.config.accounts import GroupConfig, UserConfig, UserDefaults
from ftpcluster.config.setting import (
    Key,
    every_key,
    is_array,
    keys,
    own_keys_first,
    table_of,
    type_text,
)

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
LIBRARY = ROOT / "docs" / "library.md"
KEYWORDS = ROOT / "ftpcluster" / "compat" / "keywords.py"
_KEYWORDS_HEAD = '''\
"""The types of a ``Server``'s keywords, for type checkers.

Made from the declarations, see ``server_arguments.py``: ``python -m tests.support.documents``
writes this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from ftpcluster.compat.pathio import AbstractPathIO
from ftpcluster.net.certificates import Source


class Keywords(TypedDict, total=False):
    """Keywords of ``Server``; all of them may be left out."""

'''
_OF_THE_FILE = (
    "`-c FILE`, `--config FILE`",
    "a [configuration file](#configuration-file); flags win over it",
    "none is read",
)
_TABLE = r"(?:^\|.*\n)+"


def _rows(*rows: Iterable[str]) -> str:
    first, *others = [f"| {' | '.join(row)} |\n" for row in rows]
    return first + "|---" * (first.replace(r"\|", "").count("|") - 1) + "|\n" + "".join(others)


def flags_table() -> str:
    """README's: every flag of ``run``."""
    rows = [(f"`{_spelling(flag)}`", _explained(flag), flag.default) for flag in FLAGS.values()]
    return _rows(("flag", "what it does", "default"), _OF_THE_FILE, *rows)


def _spelling(flag: Flag) -> str:
    return f"{flag.name} {flag.metavar}".rstrip().replace("|", r"\|")


def _explained(flag: Flag) -> str:
    return flag.help + "; may be repeated" * flag.repeats


def keys_table(table: type[msgspec.Struct]) -> str:
    """The keys of a table of the file."""
    return _rows(
        ("key", "type", "default", "meaning"),
        *(_key(name, key) for name, key in documented_keys(table).items()),
    )


def documented_keys(table: type[msgspec.Struct]) -> dict[str, Key]:
    """The keys that a table of the page has. Groups and defaults have those of users, too."""
    found = {name: key for name, key in own_keys_first(table).items() if key.setting}
    if table not in (GroupConfig, UserDefaults):
        return found
    return {name: key for name, key in found.items() if key.field.name in table.__annotations__}


def _key(name: str, key: Key) -> tuple[str, ...]:
    assert key.setting is not None
    meaning = key.setting.help + key.setting.more
    return f"`{name}`", type_text(key.annotation), key.default_text, meaning


def tables(table: type[msgspec.Struct] = Config, name: str = "") -> Iterator[tuple[str, str]]:
    """The heading and the table of each table of the file."""
    if documented_keys(table):
        yield (f"`{name}`" if name else "The server"), keys_table(table)
    for key, each in keys(table).items():
        inner = table_of(each.annotation)
        if inner is not None and (table is Config or table is UserConfig or key != "permissions"):
            path = f"{name.strip('[]')}.{key}".lstrip(".")
            yield from tables(inner, f"[[{path}]]" if is_array(each.annotation) else f"[{path}]")


def configuration(page: str) -> str:
    """docs/configuration.md with the tables as they should be."""
    for heading, table in tables():
        section = rf"(^## {re.escape(heading)}\n(?:(?!\||## ).*\n)*){_TABLE}"
        page, count = re.subn(section, lambda m, t=table: m[1] + t, page, flags=re.MULTILINE)
        assert count == 1, f"no table under {heading}"
    return page


def readme(page: str) -> str:
    """README.md with the table of flags as it should be."""
    page, count = re.subn(
        rf"^\| flag \|.*\n{_TABLE}", lambda _: flags_table(), page, flags=re.MULTILINE
    )
    assert count == 1
    return page


def keyword_types(_: str) -> str:
    """The module that says of which type each keyword of ``Server`` is."""
    lines = [f"    {name}: {each.keyword.type}\n" for name, each in ARGUMENTS.items()]
    return _KEYWORDS_HEAD + "".join(lines)


def library(page: str) -> str:
    """docs/library.md with the table of keywords as it should be."""
    rows = [
        (f"`{name}`", _default(each), _meaning(each), _key_of(name))
        for name, each in ARGUMENTS.items()
    ]
    table = _rows(("keyword", "default", "meaning", "key"), *rows)
    page, count = re.subn(
        rf"^\| keyword \| default \|.*\n{_TABLE}", lambda _: table, page, flags=re.MULTILINE
    )
    assert count == 1
    return page


def _default(argument: ServerKeyword) -> str:
    default = argument.keyword.default
    return f"`{default.__name__ if isinstance(default, type) else repr(default)}`"


def _meaning(argument: ServerKeyword) -> str:
    return argument.setting.help.replace("|", r"\|")


def _key_of(keyword: str) -> str:
    """The key that a keyword stands for; a dash where there is none."""
    for path, key in every_key(Config):
        declared = key.setting.keyword if key.setting is not None else None
        if declared is not None and declared.name == keyword:
            return f"`{'.'.join(map(str, path)).replace('.0', '')}`"
    return "–"


WRITTEN = {
    CONFIGURATION: configuration,
    README: readme,
    LIBRARY: library,
    KEYWORDS: keyword_types,
}
"""For each file the function that returns the right text for the present one."""


def main() -> None:
    """Write the files whose text is not right."""
    for path, make in WRITTEN.items():
        page = path.read_text()
        made = make(page)
        if made != page:
            path.write_text(made)
            print(f"{path.relative_to(ROOT)} is written")


if __name__ == "__main__":
    main()
