"""Issue 7: “the table ‘abuse x we, aioftp, pyftpdlib’ from the same tests run against peers”."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers import page
from tests.peers.checks import CHECKS, HOLDS, Check, outcome
from tests.peers.servers import MAKES, OURS, Make, Running, peer
from tests.support.dialogue import DEADLINE
from tests.support.programs import need_distribution

pytestmark = pytest.mark.slow
TEXT = page.PAGE.read_text()
SAID = page.read(TEXT)
SHORT = 3.0
"""Seconds for an answer, or an end, that is known not to come: docs/abuse.md says why."""
RACE = 2.0
"""Seconds of a race that nothing gets through; where it is known to, a busy machine needs more."""
Start = Callable[[str, Check], Running]
CASES = [(make, name) for make in MAKES for name in CHECKS]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """The server of a make, strict or not: one for all attempts, from the first that wants it."""
    with ExitStack() as stack:
        running: dict[tuple[str, bool], Running] = {}

        def get(make: str, check: Check) -> Running:
            key = make, check.strict
            if key not in running:
                directory = tmp_path_factory.mktemp("peer")
                running[key] = Running(MAKES[make], directory, strict=check.strict)
                stack.callback(running[key].close)
            return running[key]

        yield get


@pytest.mark.parametrize(("make", "name"), CASES, ids=[f"{make}-{name}" for make, name in CASES])
def test_an_attempt_ends_as_the_page_says(start: Start, make: str, name: str) -> None:
    if (distribution := MAKES[make].distribution) is not None:
        need_distribution(distribution)
    said = SAID[make, name]
    patience, race = (DEADLINE, RACE) if said.cell == HOLDS else (SHORT, 60)
    found = outcome(CHECKS[name], start(make, CHECKS[name]).target(patience, race))
    assert found == said


def test_ours_holds_in_every_row() -> None:
    assert {SAID[make, name].cell for make in OURS for name in CHECKS} == {HOLDS}


def test_every_attempt_has_its_row_and_every_failure_its_note() -> None:
    assert set(SAID) == set(CASES)
    for make in MAKES.values():
        if make.distribution is not None:
            need_distribution(make.distribution)
    printed = page.write(SAID, page.explanations(TEXT))
    assert printed in TEXT


def test_the_page_names_the_versions_that_are_installed_for_tests() -> None:
    pyproject = tomllib.loads((page.PAGE.parents[1] / "pyproject.toml").read_text())
    wanted = pyproject["project"]["optional-dependencies"]["test"]
    headings = page.table(TEXT)[0]
    for make in MAKES.values():
        if make.distribution is not None:
            need_distribution(make.distribution)
            assert page.heading(make) in headings
            assert f"{make.distribution} == {make.version}" in wanted


WEAK = {
    "paths": ("directories", "RETR, LIST, SIZE, MLST, APPE, RNFR, STOR, DELE and MKD reached"),
    "permissions": ("permissions", "CWD /foo is allowed"),
    "bounce": ("addresses", "PORT 127,0,0,2,"),
    "unfinished": ("leftovers", "a file that was stored is not listed"),
    "known": ("times", "failed logins of known and unknown names take different times"),
    "lorises": ("deadlines", "a byte now and then keeps a session open"),
}
"""What a server is made to do without, and what does not hold then: attempts that all refuse."""


@pytest.mark.parametrize("name", WEAK)
def test_an_attempt_that_all_withstand_is_noticed_where_it_succeeds(
    tmp_path: Path, name: str
) -> None:
    need_distribution("pyftpdlib")
    weakness, reason = WEAK[name]
    server = Running(
        Make("weak", peer("pyftpdlib_server.py", weakness)), tmp_path, strict=CHECKS[name].strict
    )
    try:
        found = outcome(CHECKS[name], server.target(SHORT, RACE))
    finally:
        server.close()
    assert found.cell == "does not"
    assert found.reason is not None
    assert found.reason.startswith(reason)
