"""Every key that there is, by its table, as the structs have it."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

from ftpcluster.config.decode import keys, leaf_of
from ftpcluster.config.model import Config

ARRAYS = ("listen", "user", "user.permissions")


def _tables(kind: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A table's keys with their fields and kinds, then those of the tables in it."""
    found = keys(kind)
    inner = {key: _table_of(kind) for key, (_, kind) in found.items()}
    yield name, {key: found[key] for key in found if inner[key] is None or key == "permissions"}
    for key, table in inner.items():
        if table is not None and f"{name}.{key}" != "anonymous.permissions":
            yield from _tables(table, f"{name}.{key}" if name else key)


def _table_of(kind: Any) -> Any:
    if leaf_of(kind) is not None or typing.get_origin(kind) is dict:
        return None
    if typing.get_origin(kind) is tuple:
        (element, _) = typing.get_args(kind)
        return _table_of(element)
    return kind


TABLES = dict(_tables(Config, ""))
"""By table ("" for the top): its keys, each with its field and the kind of its value."""


def table_text(table: str, values: Mapping[str, str]) -> str:
    """A file with some keys of one table, as TOML."""
    header = f"[[{table}]]\n" if table in ARRAYS else f"[{table}]\n" if table else ""
    return header + "".join(f"{key} = {value}\n" for key, value in values.items())
