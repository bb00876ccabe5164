"""Every key that there is, by its table, as it is declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftpcluster.config import Config
from ftpcluster.config.setting import Key, is_array, keys, table_of
from tests.support.documents import documented_keys


def _struct_of(path: Sequence[str]) -> Any:
    """The type of the table at a path."""
    table: Any = Config
    for name in path:
        table = table_of(keys(table)[name].annotation)
    return table


def _tables(table: Any, name: str) -> Iterator[tuple[str, dict[str, Key]]]:
    """A table's keys, then those of the tables in it."""
    found = keys(table)
    inner = {each: table_of(key.annotation) for each, key in found.items()}
    if own := documented_keys(table):
        yield name, own
    for key, table in inner.items():
        if table is not None and (key != "permissions" or name == "user"):
            yield from _tables(table, f"{name}.{key}" if name else key)


TABLES = dict(_tables(Config, ""))
"""By table ("" for the top): its keys."""
ARRAYS = {
    name
    for name in TABLES
    if name and is_array(keys(_struct_of(name.split(".")[:-1]))[name.split(".")[-1]].annotation)
}
"""The tables that a file may have several of."""


def table_text(table: str, values: Mapping[str, str]) -> str:
    """A file with some keys of one table, as TOML."""
    header = f"[[{table}]]\n" if table in ARRAYS else f"[{table}]\n" if table else ""
    return header + "".join(f"{key} = {value}\n" for key, value in values.items())
