"""The three steps of CONTRIBUTING.md to add a command, taken literally."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.forking import CHECKOUT

PAGE = (CHECKOUT / "CONTRIBUTING.md").read_text()
SECTION = PAGE.partition("## How to add a command\n")[2].partition("\n## ")[0]
CODE = [textwrap.dedent(code) for code in re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)]
COMMANDS = "ftpcluster/session/commands"
END_OF_ROWS = "\n)\n# fmt: on\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a copy of the package in it, where steps 1 and 2 have been done."""
    copy = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "ftpcluster", copy / "ftpcluster", ignore=ignored)
    handler, row, _ = CODE
    module, table = copy / COMMANDS / "files.py", copy / COMMANDS / "table.py"
    module.write_text(f"{module.read_text()}\n\n{handler}")
    rows, end, rest = table.read_text().partition(END_OF_ROWS)
    assert end, "the end of the rows is not found"
    table.write_text(f"{rows}\n{textwrap.indent(row.rstrip(), '    ')},{end}{rest}")
    return copy


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def cluster(copy: Path, served: Path) -> Iterator[Cluster]:
    flags = ("--workers", "2", "--root", str(served), "--writable", "--user", "user:12345")
    with Cluster(*flags, cwd=copy) as cluster:
        yield cluster
    assert "Traceback" not in cluster.log, cluster.log


def test_there_are_three_steps_with_code_for_each() -> None:
    assert re.findall(r"^(\d)\. ", SECTION, re.MULTILINE) == ["1", "2", "3"]
    assert len(CODE) == 3


def test_the_dialogue_of_step_3_succeeds(cluster: Cluster, served: Path) -> None:
    names: dict[str, Any] = {}
    exec(f"from __future__ import annotations\n{CODE[2]}", names)
    (dialogue,) = (each for name, each in names.items() if name.startswith("test_"))
    check: Callable[[Dialogue, Path], None] = dialogue
    with Dialogue(cluster.port) as client:
        client.logs_in()
        check(client, served)


def test_the_table_keeps_the_gates_of_the_new_verb(cluster: Cluster) -> None:
    with Dialogue(cluster.port) as client:
        client.says("XKIND /", 530)
        client.logs_in()
        client.says("XKIND", 501)


def test_feat_and_help_name_the_new_verb(cluster: Cluster) -> None:
    with Dialogue(cluster.port) as client:
        assert " XKIND" in client.says("FEAT", 211).split("\n")
        assert "XKIND" in client.says("HELP", 214).split()
        assert client.says("HELP XKIND", 214) == "214 XKIND path: directory or file"


def test_the_library_has_a_method_for_the_new_verb(copy: Path) -> None:
    program = "import ftpcluster; print(ftpcluster.__file__, ftpcluster.Server.xkind.__doc__)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=True)
    assert done.stdout.split(" ", 1) == [
        str(copy / "ftpcluster" / "__init__.py"),
        "XKIND path: directory or file.\n",
    ]
