"""docs/configuration.md has every key, once, with its default; and no other."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ftpcluster.cli.flags import Flags
from ftpcluster.config.decode import leaf_of
from ftpcluster.config.load import load
from ftpcluster.session.services import Settings
from tests.config.keys import ARRAYS, TABLES

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
OF_SESSIONS = {
    "welcome": "welcome_message",
    "limits.digest_size": "max_digest",
    "timeouts.login": "login_timeout",
    "timeouts.idle": "idle_timeout",
    "timeouts.data": "data_timeout",
    "timeouts.stalled": "stalled_timeout",
    "storage.durable_uploads": "durable_uploads",
    "storage.atomic_uploads": "atomic_uploads",
    "storage.hide": "hide",
    "storage.forbid": "forbid",
    "storage.rename_replaces": "rename_replaces",
}
"""Keys whose defaults are the sessions' own."""


def documented() -> dict[str, list[tuple[str, str]]]:
    """By table: its keys and their defaults, as the page has them."""
    found: dict[str, list[tuple[str, str]]] = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        rows = [(key, default) for key, _, default, _ in ROW.findall(text)]
        if rows:
            found["" if heading == "The server" else heading.strip("`[]")] = rows
    return found


def test_every_key_is_documented_once_in_its_table_and_no_other_is() -> None:
    found = {table: sorted(key for key, _ in rows) for table, rows in documented().items()}
    assert found == {table: sorted(keys) for table, keys in TABLES.items()}


def test_what_the_page_shows_is_right(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    user = "[[user]]\nlogin = 'a'\npassword = 'plain:b'\nroot = '.'\n"
    (tmp_path / "f.toml").write_text(user + shown)
    (account,) = load(tmp_path / "f.toml", Flags()).users
    assert [(each.path, each.write) for each in account.permissions] == [
        ("/", False),
        ("/incoming", True),
    ]


def test_tables_that_may_be_repeated_are_shown_so() -> None:
    for table in filter(None, TABLES):
        heading = f"[[{table}]]" if table in ARRAYS else f"[{table}]"
        assert f"## `{heading}`\n" in PAGE


def default_of(table: str, key: str) -> Any:
    """What holds where the key is left out; NODEFAULT where it may not be."""
    field, _ = TABLES[table][key]
    setting = OF_SESSIONS.get(f"{table}.{key}".lstrip("."))
    if setting is None:
        return field.default
    (default,) = (f.default for f in dataclasses.fields(Settings) if f.name == setting)
    return default


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [(table, key, said) for table, rows in documented().items() for key, said in rows],
)
def test_the_default_that_is_documented_is_the_one_that_holds(
    table: str, key: str, said: str
) -> None:
    default = default_of(table, key)
    assert (said == "needed") == (default is msgspec.NODEFAULT and not has_factory(table, key))
    literal = re.fullmatch(r"`(.+)`", said)
    if literal is not None:
        leaf = leaf_of(TABLES[table][key][1])
        assert leaf is not None
        value = leaf.read(tomllib.loads(f"x = {literal[1]}")["x"])
        assert value == default
    else:
        assert default is None or not isinstance(default, bool | int | str), default


def has_factory(table: str, key: str) -> bool:
    field, _ = TABLES[table][key]
    return field.default_factory is not msgspec.NODEFAULT
