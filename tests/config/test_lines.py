"""Lines of keys, found with nothing but ``tomllib``."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.config.lines import Path, key_lines

FILE = '''\
workers = 4  # four

[limits]
text = """
[[not]]
a header = 1
"""
per.user = { connections = 3, speed = { up = 1 } }
[[user]]
login = "a"
permissions = [
  { path = "/" },  # ]
  { path = "/x" },
]

[[user]]
  [[user.permissions]]
  path = "/"
  [[user.permissions]]
  path = "/x"
  [user.extra]
  "odd . key" = 'a'
["quoted.table".'and another']
key = [[1], [2]]
[deep.er]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("workers",), 1),
        (("limits",), 3),
        (("limits", "text"), 4),
        (("limits", "per", "user", "connections"), 8),
        (("limits", "per", "user", "speed", "up"), 8),
        (("user",), 9),
        (("user", 0), 9),
        (("user", 0, "login"), 10),
        (("user", 0, "permissions"), 11),
        (("user", 0, "permissions", 1, "path"), 11),
        (("user", 1), 16),
        (("user", 1, "permissions", 0), 17),
        (("user", 1, "permissions", 0, "path"), 18),
        (("user", 1, "permissions", 1), 19),
        (("user", 1, "permissions", 1, "path"), 20),
        (("user", 1, "extra"), 21),
        (("user", 1, "extra", "odd . key"), 22),
        (("quoted.table", "and another"), 23),
        (("quoted.table", "and another", "key", 1, 0), 24),
        (("deep",), 25),
        (("deep", "er"), 25),
    ],
)
def test_a_key_has_the_line_where_its_statement_begins(path: Path, line: int) -> None:
    assert key_lines(FILE)[path] == line


def test_nothing_has_a_line_that_is_not_there() -> None:
    paths = set(key_lines(FILE))
    assert not {path for path in paths if "not" in path or "a header" in path}


def every_path(value: Any, path: Path = ()) -> set[Path]:
    found = {path}
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        found.update(*(every_path(each, (*path, key)) for key, each in pairs))
    return found


def test_every_key_of_a_file_has_a_line() -> None:
    assert set(key_lines(FILE)) == every_path(tomllib.loads(FILE))


KEYS = st.sampled_from(["a", "b", '"a.b"', "'c d'"])
VALUES = st.sampled_from(
    ["1", '"x"', "[1,\n 2]", "{ a = [1], b = 2 }", '"""\n[a]\n"""', "[\n{ a = 1 }, # [\n]", "{}"]
)
ASSIGNED = st.tuples(st.lists(KEYS, min_size=1, max_size=3), VALUES).map(
    lambda pair: f"{'.'.join(pair[0])} = {pair[1]}"
)
HEADERS = st.lists(KEYS, min_size=1, max_size=3).flatmap(
    lambda keys: st.sampled_from([f"[{'.'.join(keys)}]", f"[[{'.'.join(keys)}]]"])
)
FILES = st.lists(ASSIGNED | HEADERS | st.sampled_from(["", "# [a]"]), max_size=12).map("\n".join)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(FILES)
def test_every_key_of_any_file_has_a_line_and_nothing_else_has(text: str) -> None:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(key_lines(text)) | {()} == every_path(tree)
