"""The JSON Schema says what the structs say."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from typing import Any

import pytest

from ftpcluster.compat.server_arguments import every_keyword
from ftpcluster.config import Config
from ftpcluster.config.accounts import OTHER_ACCOUNTS
from ftpcluster.config.json_schema import json_schema
from ftpcluster.config.sessions import session_defaults
from ftpcluster.config.setting import every_key, kind_of
from ftpcluster.session.services import Settings
from tests.config.keys import ARRAYS, TABLES

SCHEMA = json_schema()


def table_schema(table: str) -> dict[str, Any]:
    found = SCHEMA
    path = ""
    for name in table.split(".") if table else ():
        path = f"{path}.{name}".lstrip(".")
        found = found["properties"][name]
        found = found["items"] if path in ARRAYS else found
    return found


@pytest.mark.parametrize("table", TABLES)
def test_it_knows_every_key_of_a_table_and_forbids_others(table: str) -> None:
    schema = table_schema(table)
    assert schema["additionalProperties"] is False
    needed = {name for name, key in TABLES[table].items() if key.field.required}
    assert set(schema.get("required", ())) == needed
    assert set(TABLES[table]) <= set(schema["properties"])
    assert json.loads(json.dumps(schema)) == schema


def accepts(schema: dict[str, Any], value: object) -> bool:
    """What of JSON Schema the leaves use."""
    if "anyOf" in schema:
        return any(accepts(each, value) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {"string": str, "integer": int, "boolean": bool, "array": list}
    if type(value) is not kinds[schema["type"]]:
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, list):
        return all(accepts(schema["items"], each) for each in value)
    low, high = schema.get("minimum", 0), schema.get("maximum", 1 << 62)
    return schema["type"] != "integer" or low <= int(str(value)) <= high


VALUES: list[object] = [
    "127.0.0.1:9121", "[::1]:9121",
    0, 1, 16, 65535, 70000, 10**18, -1, True, "10MB", "1.5 GiB", "10", "fast", "30s", "5 m", "1d",
    "50000-50999", "10.0.0.0/8", "203.0.113.7", "ftp.example.com", "plain:x", "x", "/", "uvloop",
    "022", "888", "$2b$04$" + "a" * 53, "explicit", "1.2", "info", "json", "a:b", "a.b:c.d",
    "60/m", ["127.0.0.1", "::1"], [], "2027-01-31",
]  # fmt: skip
LEAVES = [
    (table, name, leaf)
    for table, keys in TABLES.items()
    for name, key in keys.items()
    if (leaf := kind_of(key.annotation)) is not None
]


@pytest.mark.parametrize(("table", "key", "leaf"), LEAVES)
def test_it_accepts_whatever_the_file_may_say(table: str, key: str, leaf: Any) -> None:
    schema = table_schema(table)["properties"][key]
    accepted = 0
    for value in VALUES:
        try:
            leaf.read(value)
        except Exception:
            continue
        accepted += 1
        assert accepts(schema, value), value
    assert accepted


def test_no_flag_keyword_or_field_of_sessions_is_declared_twice() -> None:
    """The second one would replace the first without a word."""
    settings = [
        key.setting
        for path, key in every_key(Config)
        if key.setting is not None and path[0] not in OTHER_ACCOUNTS
    ]
    for names in (
        [each.flag.partition(" ")[0] for each in settings if each.flag],
        [each.session for each in settings if each.session],
        [each.keyword.name for each in every_keyword()],
    ):
        assert names
        assert sorted(names) == sorted(set(names))


def test_a_field_of_sessions_that_a_key_gives_has_no_default_of_its_own() -> None:
    """There would be two, and only one would hold."""
    own = {field.name for field in fields(Settings) if field.default is not MISSING}
    assert own.isdisjoint(session_defaults())
