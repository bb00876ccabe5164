"""docs/watching.md says what each column of ``who`` is, and what each value of HELD BY means."""

from __future__ import annotations

import re
import typing

import pytest

from ftpcluster.cli.views import _SESSION, sessions_table, workers_table
from ftpcluster.ipc.messages import HeldBy
from ftpcluster.quota.rates import Level
from tests.support.forking import CHECKOUT

PAGE = (CHECKOUT / "docs" / "watching.md").read_text()
TERMS = [re.split(r", ", row) for row in re.findall(r"^\| ([^|]+) \|", PAGE, re.MULTILINE)]
DOCUMENTED = {term for row in TERMS for term in row}
COLUMNS = [
    column.header
    for table in (workers_table(()), sessions_table((), None))
    for column in table.columns
]
CAUSES = [
    *(cause for cause in typing.get_args(HeldBy) if cause not in ("", "shared limit")),
    *(f"{level} limit" for level in typing.get_args(Level)),
]


@pytest.mark.parametrize("column", COLUMNS)
def test_each_column_is_explained(column: str) -> None:
    assert column in DOCUMENTED


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_explained(cause: str) -> None:
    assert f"`{cause}`" in DOCUMENTED


def test_the_sample_of_the_readme_has_all_columns() -> None:
    page = (CHECKOUT / "README.md").read_text()
    headers = [line for line in page.splitlines() if line.startswith("SESSION ")]
    assert [re.split(r" {2,}", line) for line in headers] == [list(_SESSION)]
