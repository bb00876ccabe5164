"""docs/configuration.md has every key, once, with its default; and no other."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ftpcluster.cli.flags import Flags
from ftpcluster.config import ConfigError
from ftpcluster.config.environment import Environment
from ftpcluster.config.load import load
from ftpcluster.config.setting import kind_of
from tests.config.keys import ARRAYS, TABLES
from tests.support.documents import WRITTEN

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)


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
    found = TABLES[table][key]
    return msgspec.NODEFAULT if found.field.required else found.default


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [(table, key, said) for table, rows in documented().items() for key, said in rows],
)
def test_the_default_that_is_documented_is_the_one_that_holds(
    table: str, key: str, said: str
) -> None:
    default = default_of(table, key)
    assert (said == "needed") == (default is msgspec.NODEFAULT)
    literal = re.fullmatch(r"`(.+)`", said)
    if literal is not None:
        leaf = kind_of(TABLES[table][key].annotation)
        assert leaf is not None
        value = leaf.read(tomllib.loads(f"x = {literal[1]}")["x"])
        assert value == default
    else:
        assert default in (None, "") or not isinstance(default, bool | int | str), default


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_declarations(path: Path) -> None:
    page = path.read_text()
    assert WRITTEN[path](page) == page, "run `python -m tests.support.documents`"


def test_what_the_page_says_of_variables_is_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown, messages) = re.findall(
        r"^```(?:console)?\n((?:.*FTPCLUSTER__.*\n)+)", PAGE, re.MULTILINE
    )
    monkeypatch.chdir(tmp_path)
    given = [shlex.split(line)[2].partition("=") for line in shown.splitlines()]
    variables = {name: value for name, _, value in given}
    assert variables["FTPCLUSTER__ANONYMOUS__ROOT"] == "/srv/ftp/pub"
    variables["FTPCLUSTER__ANONYMOUS__ROOT"] = str(tmp_path)
    config = load(None, Flags(), environment=Environment(variables))
    assert (config.limits.connections, config.limits.download) == (200, 10_000_000)
    assert config.storage.hide == (".*", "*.tmp")
    assert config.listen[0].port == 2121
    said = [line.removeprefix("ftpcluster: error: ") for line in messages.splitlines()]
    unknown, wrong = (line.partition(":")[0] for line in said)
    with pytest.raises(ConfigError) as caught:
        load(None, Flags(), environment=Environment({unknown: "5", wrong: "many"}))
    assert list(caught.value.lines) == said
