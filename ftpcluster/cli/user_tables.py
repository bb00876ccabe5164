"""Edits the text of a file with a user. Comments, order and blank lines stay as they are.

The library for that (tomlkit) is imported when a file is edited: other commands start without it.
"""

from __future__ import annotations

import datetime
import tomllib
from typing import Any

from ftpcluster.config import ConfigError
from ftpcluster.config.lines import Path


def created(text: str, values: dict[str, Any]) -> str:
    """A file's text with one more table ``[[user]]``; ``text`` has none, and is empty as a rule."""
    import tomlkit

    lines = [f"{key} = {_item(value).as_string()}\n" for key, value in values.items()]
    head = text if not text or text.endswith("\n") else text + "\n"
    result = f"{head}[[user]]\n{''.join(lines)}"
    wanted = {**tomllib.loads(text), "user": [values]}
    tomlkit.parse(result)
    return _verified(result, wanted, "the file")


def edited(
    text: str, shown: str, path: Path, values: dict[str, Any], without: tuple[str, ...]
) -> str:
    """The text with the values of the table at ``path`` changed. Raises ConfigError.

    ``shown``: the file's name in messages.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    has_returns = "\r\n" in text
    text = text.replace("\r\n", "\n")
    wanted = tomllib.loads(text)
    _change(_at(wanted, path), values, without)
    try:
        document = tomlkit.parse(text)
        _edit(_at(document, path), values, without)
        result = tomlkit.dumps(document)
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise ConfigError(f"{shown}: cannot be edited ({error}): edit it by hand") from None
    result = _verified(result, wanted, shown)
    return result.replace("\n", "\r\n") if has_returns else result


def users_in(text: str, shown: str) -> int:
    """How many tables ``[[user]]`` a file has. Raises ConfigError where it is no TOML."""
    try:
        found = tomllib.loads(text.replace("\r\n", "\n")).get("user", [])
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{shown}: is no TOML ({error}): mend or remove it by hand") from None
    return len(found) if isinstance(found, list) else 1


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _change(table: Any, values: dict[str, Any], without: tuple[str, ...]) -> None:
    for key in without:
        table.pop(key, None)
    table.update(values)


def _edit(table: Any, values: dict[str, Any], without: tuple[str, ...]) -> None:
    from tomlkit.items import AoT, Table

    for key in (*without, *values):
        # tables of their own stand at the end, where a plain value would belong to the last one
        if key in table and (key in without or isinstance(table[key], AoT | Table)):
            table.remove(key)
    new = {key: value for key, value in values.items() if key not in table}
    for key, value in values.items():
        if key in table:
            table[key] = _item(value)
    if new and isinstance(table, Table):
        _append(table, new)
    else:
        for key, value in new.items():
            table[key] = _item(value)


def _append(table: Any, values: dict[str, Any]) -> None:
    """Add keys behind the last one. What follows that (blank lines, a comment about the next table)
    stays behind them."""
    body = table.value.body
    end = len(body)
    while end and body[end - 1][0] is None:
        end -= 1
    rest = body[end:]
    del body[end:]
    for key, value in values.items():
        table.append(key, _item(value))
    body.extend(rest)


def _item(value: Any) -> Any:
    """A value as tomlkit has it: tables within braces, since they stand in arrays."""
    import tomlkit

    if isinstance(value, dict):
        table = tomlkit.inline_table()
        for key, each in value.items():
            table.append(key, _item(each))
        return table
    if isinstance(value, list):
        array = tomlkit.array()
        for each in value:
            array.append(_item(each))
        return array
    assert isinstance(value, str | int | float | datetime.date)
    return tomlkit.item(value)


def _verified(text: str, wanted: dict[str, Any], shown: str) -> str:
    """The text, if it means what it is to mean. It is what the server will read."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = {"": str(error)}
    if found != wanted:
        raise ConfigError(f"{shown}: this change cannot be written into it: edit it by hand")
    return text
