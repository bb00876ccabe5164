"""Files with further users, which the key ``users`` names, and what users have from elsewhere."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

from ftpcluster.config.accounts import SHARED, AccountConfig
from ftpcluster.config.lines import Path
from ftpcluster.config.model import ConfigError
from ftpcluster.config.naming import dotted
from ftpcluster.config.progress import looking_at
from ftpcluster.config.setting import keys
from ftpcluster.config.sources import Sources
from ftpcluster.config.toml_files import TomlFile

_NONE_CAN_LOG_IN = "its users cannot log in until that is mended"
_ADDED = "forbid"
"""The list whose patterns add up; all other values replace each other."""


def add_user_files(sources: Sources, only: str | None = None) -> None:
    """Add the users of other files. A file that cannot be used harms no user of another one.

    ``only``: the login whose own file alone is read.
    """
    pattern = sources.get(("users",))
    if not isinstance(pattern, str) or not pattern:
        return
    is_strict = sources.get(("strict_users",)) is True
    for rank, name in enumerate(_names(sources, pattern, only), 1):
        try:
            file = TomlFile(FilePath(name), sources.directory)
            tables = _user_tables(file)
        except ConfigError as error:
            for line in error.lines:
                if is_strict:
                    sources.refuse_unplaced(line)
                else:
                    sources.doubts.append(f"{line}; {_NONE_CAN_LOG_IN}")
            continue
        for index, table in enumerate(tables):
            sources.add_user(table, file, ("user", index), rank)


def _names(sources: Sources, pattern: str, only: str | None = None) -> Iterator[str]:
    whole = sources.absolute(("users",), pattern)
    base = os.path.dirname(str(sources.file)) if sources.file is not None else ""
    looking_at(f"{whole} (users)")
    if not os.path.isdir(os.path.dirname(whole)) and not glob.has_magic(os.path.dirname(whole)):
        above = os.path.dirname(whole)
        sources.refuse(("users",), "there is no such directory; make it, or mount it", above)
    above = os.path.abspath(os.path.join(sources.directory, base))
    for name in sorted(glob.glob(whole) if only is None else _own_file(whole, only)):
        is_beneath = name.startswith(above + "/") and not os.path.isabs(pattern)
        yield os.path.join(base, os.path.relpath(name, above)) if is_beneath else name


def _own_file(pattern: str, login: str) -> list[str]:
    """The file of one user, if there is one, without a look at ten thousand others."""
    above, names = os.path.split(pattern)
    own = f"{login}.toml"
    if glob.has_magic(above):
        return [each for each in glob.glob(pattern) if os.path.basename(each) == own]
    file = os.path.join(above, own)
    fits = "/" not in login and fnmatch.fnmatchcase(own, names)
    return [file] if fits and os.path.exists(file) else []


def _user_tables(file: TomlFile) -> list[Any]:
    """The tables ``[[user]]`` of a file. Raises ConfigError where it has anything else."""
    values = file.values()
    others = [name for name in values if name != "user"]
    if others:
        raise ConfigError(
            *(
                f"{file}:{file.line((name,))}: {dotted((name,))}: only [[user]] tables may stand "
                "in a file of users"
                for name in others
            )
        )
    users = values.get("user", [])
    if not isinstance(users, list):
        raise ConfigError(f"{file}:{file.line(('user',))}: user: expected [[user]]")
    return users


# ---------------------------------------------------------------------- what a user does not say


def inherit(sources: Sources) -> None:
    """Give users what they do not say themselves: from their group, then from [user_defaults].

    ``connections``, ``download`` and ``upload`` of a group limit its users together.
    """
    defaults = sources.get(("user_defaults",))
    of_defaults = _given(defaults, ("user_defaults",), frozenset())
    of_groups: dict[Any, list[tuple[str, Any, Path]]] = {}
    for index, group in enumerate(sources.tables("group")):
        name = group.get("name")
        if isinstance(name, str):
            found = _given(group, ("group", index), frozenset(SHARED))
            of_groups.setdefault(name, found)
    if not of_defaults and not of_groups:
        return
    for index, user in enumerate(sources.tables("user")):
        name = user.get("group")
        of_group = of_groups.get(name, []) if isinstance(name, str) else []
        for key, value, origin in (*of_group, *of_defaults):
            if key not in user:
                sources.inherit(("user", index, key), value, origin)
            elif key == _ADDED and isinstance(value, list) and isinstance(user[key], list):
                user[key] = [*user[key], *value]


def _given(table: object, path: Path, without: frozenset[str]) -> list[tuple[str, Any, Path]]:
    """What a table has for users: the key, the value, and the place of each."""
    if not isinstance(table, dict):
        return []
    known = keys(AccountConfig).keys() - without
    return [(key, value, (*path, key)) for key, value in table.items() if key in known]
