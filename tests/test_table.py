"""What belongs to a row of the command table is elsewhere, too (CONTRIBUTING.md)."""

from __future__ import annotations

import re

import pytest

from ftpcluster.compat.overrides import HEADS
from ftpcluster.session.commands.table import ROWS
from ftpcluster.session.row import Command
from tests.support.forking import CHECKOUT

AS_XCRC = {"XMD5", "XSHA1", "XSHA256"}
"""These differ from XCRC by the algorithm only."""
ALONE = {"RETR", "DELE", "RNTO", "MFMT", "SITE", "HASH", "MLSD", "XCRC", *AS_XCRC}
"""Verbs that do nothing that another verb does: a program that overrides them means them only."""
WORKING = [row for row in ROWS if row.logged or row.is_long]
"""Those that move data, change something, or read whole files."""


def verb_of(row: Command) -> str:
    return row.verb


def text_of(file: str) -> str:
    return (CHECKOUT / file).read_text()


@pytest.mark.parametrize("row", WORKING, ids=verb_of)
def test_no_verb_evades_the_override_of_a_verb_whose_work_it_does(row: Command) -> None:
    """A program that overrides STOR, to refuse uploads, must not be evaded with APPE."""
    related = {*HEADS, *(head for heads in HEADS.values() for head in heads)}
    is_related = row.verb.lower() in related
    assert is_related != (row.verb in ALONE), (
        f"If {row.verb} does what other verbs do, name these in HEADS of compat/overrides.py; "
        "else name it in ALONE here"
    )


def test_heads_are_verbs() -> None:
    verbs = {row.verb.lower() for row in ROWS}
    assert {*HEADS, *(head for heads in HEADS.values() for head in heads)} <= verbs


@pytest.mark.parametrize("row", ROWS, ids=verb_of)
def test_each_verb_is_documented_and_known_to_type_checkers(row: Command) -> None:
    assert re.search(rf"`{row.verb}\b", text_of("docs/protocol.md")), "docs/protocol.md"
    name = rf"\b{row.verb.lower()}_?\b"
    assert re.search(name, text_of("ftpcluster/compat/verbs.py")), "compat/verbs.py"


@pytest.mark.parametrize("row", WORKING, ids=verb_of)
def test_the_system_calls_of_each_verb_are_made_to_fail(row: Command) -> None:
    scripts = text_of("tests/faults/scripts.py")
    same = {each.verb for each in ROWS if each.handler is row.handler}
    assert row.verb in AS_XCRC or any(re.search(rf"\b{verb}\b", scripts) for verb in same), (
        f"{row.verb} is in no script of tests/faults/scripts.py"
    )
