"""A setting that a test makes up: one declaration, and it is found everywhere.

The declaration is put into a copy of the package, as somebody would who adds a setting.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ftpcluster"
TESTS = PACKAGE.parent / "tests"
DECLARATION = """
    cows: Annotated[
        Count | None,
        Setting(
            "cows on the meadow",
            "; one more is sent home",
            otherwise=NO_LIMIT,
            example="7",
            flag="--max-cows N",
            keyword=Keyword("maximum_cows", "int | None", default=3),
        ),
    ] = None
    milking: Annotated[Duration, Setting("between two milkings", flag="--milking TIME")] = 600
"""
FILE = "[limits]\ncows = {}\n[anonymous]\nroot = '.'\n"
FIRST = "    connections: Annotated["
EXPECTED = "expected a whole number, at least 1"
SHOW = """
import sys
from pathlib import Path
from ftpcluster.cli.flags import Flags
from ftpcluster.config.environment import take_environment
from ftpcluster.config.load import load
import os
flags = Flags(max_cows=int(sys.argv[1]) if sys.argv[1:] else None)
print(load(Path("f.toml"), flags, environment=take_environment(os.environ)).limits.cows)
"""
TIME = """
import sys
from ftpcluster.cli.flags import Flags
from ftpcluster.config.load import load
print(load(None, Flags(milking=sys.argv[1])).limits.milking)
"""
SERVER = """
import inspect
import ftpcluster
assert inspect.signature(ftpcluster.Server).parameters["maximum_cows"].default == 3
assert ftpcluster.Server().maximum_cows == 3
assert ftpcluster.Server(maximum_cows=5).maximum_cows == 5
try:
    ftpcluster.Server(maximum_cows="many")
except ValueError as error:
    print(error)
"""
TABLES = """
from tests.support.documents import WRITTEN
for path, make in WRITTEN.items():
    print(*(line for line in make(path.read_text()).splitlines() if "cows" in line), sep="\\n")
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a package is that has the setting."""
    directory = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, directory / "ftpcluster", ignore=shutil.ignore_patterns("__pycache__"))
    module = directory / "ftpcluster" / "config" / "tables.py"
    head, table, rest = module.read_text().partition("class Limits(")
    before, name, after = rest.partition(FIRST)
    module.write_text(head + table + before.rstrip("\n") + "\n" + DECLARATION + name + after)
    (directory / "tests" / "support").mkdir(parents=True)
    for path in ("__init__.py", "support/__init__.py", "support/documents.py"):
        shutil.copy(TESTS / path, directory / "tests" / path)
    (directory / "docs").mkdir()
    for path in ("README.md", "docs/configuration.md", "docs/library.md"):
        shutil.copy(PACKAGE.parent / path, directory / path)
    return directory


class Ran:
    def __init__(self, copy: Path, directory: Path) -> None:
        self._copy, self._directory = copy, directory

    def __call__(self, *arguments: str, status: int = 0, **variables: str) -> str:
        """What Python says that has the copy, on stdout or, where it fails, stderr."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._directory,
            env={**os.environ, **variables, "PYTHONPATH": str(self._copy)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stderr
        return done.stderr if status else done.stdout


@pytest.fixture
def python(copy: Path, tmp_path: Path) -> Ran:
    return Ran(copy, tmp_path)


def test_file_environment_and_flag_give_it_in_this_order(python: Ran, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(FILE.format(1))
    assert python("-c", SHOW) == "1\n"
    assert python("-c", SHOW, FTPCLUSTER__LIMITS__COWS="2") == "2\n"
    assert python("-c", SHOW, "3", FTPCLUSTER__LIMITS__COWS="2") == "3\n"


def test_each_of_them_is_checked_and_named(python: Ran, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(FILE.format("'many'"))
    run = ("-m", "ftpcluster", "run", "-c", "f.toml")
    error = "ftpcluster: error: "
    assert python(*run, status=2) == f'{error}f.toml:2: limits.cows: {EXPECTED}, got "many"\n'
    (tmp_path / "f.toml").write_text(FILE.format(1))
    said = python(*run, status=2, FTPCLUSTER__LIMITS__COWS="many")
    assert said == f'{error}FTPCLUSTER__LIMITS__COWS: {EXPECTED}, got "many"\n'
    said = python(*run, status=2, FTPCLUSTER__LIMITS__COWZ="1")
    assert said.endswith("unknown key; did you mean FTPCLUSTER__LIMITS__COWS?\n")
    assert python(*run, "--max-cows", "0", status=2) == f"{error}--max-cows 0: {EXPECTED}\n"


def test_numbers_are_written_in_flags_as_in_a_file(python: Ran) -> None:
    assert python("-c", TIME, "90") == "90\n"
    assert python("-c", TIME, "2m") == "120\n"


def test_help_schema_and_the_file_of_init_explain_it(python: Ran, tmp_path: Path) -> None:
    shown = " ".join(python("-m", "ftpcluster", "run", "--help").split())
    assert "--max-cows N Cows on the meadow" in shown
    schema = json.loads(python("-m", "ftpcluster", "schema"))
    cows = schema["properties"]["limits"]["properties"]["cows"]
    assert cows["type"] == "integer"
    assert cows["description"].startswith("cows on the meadow: ")
    python("-m", "ftpcluster", "init")
    (line,) = (
        each for each in (tmp_path / "ftpcluster.toml").read_text().splitlines() if "cows" in each
    )
    code, _, comment = line.removeprefix("# ").partition("#")
    assert (tomllib.loads(code), comment.strip()) == ({"cows": 7}, "cows on the meadow")


def test_it_is_a_keyword_of_the_library(python: Ran) -> None:
    assert (
        python("-c", SERVER)
        == "maximum_cows: expected a number of at least 0 or None, got 'many'\n"
    )


def test_the_documents_get_it(python: Ran) -> None:
    assert python("-c", TABLES).splitlines() == [
        "| `cows` | number | no limit | cows on the meadow; one more is sent home |",
        "| `--max-cows N` | cows on the meadow | no limit |",
        "| `maximum_cows` | `3` | cows on the meadow | `limits.cows` |",
        "    maximum_cows: int | None",
    ]
