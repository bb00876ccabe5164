"""What others sent, as people see it."""

from __future__ import annotations

import io
import json
import logging
import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftpcluster.admin.requests import SessionView
from ftpcluster.cli.views import sessions_table
from ftpcluster.linewriter import LineWriter, Losses
from ftpcluster.logs import Who, _Lines, _Objects
from ftpcluster.protocol.text import visible
from ftpcluster.session.xferlog import transfer_line

EVIL = "a\x1b[2J\x9b31m\u202eecila\u2066\u2028b\u200b\ufeff\x7f"
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_is_left_that_a_terminal_obeys_or_that_is_no_character(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(each) for each in shown} & UNSEEN
    shown.encode()


@pytest.mark.parametrize("text", ["plain", "größe", "日本語", "a\xa0b", ""])
def test_what_can_be_seen_is_left_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_a_byte_that_is_no_text_is_an_escape() -> None:
    assert visible("caf\udce9") == "caf\\udce9"


def written(tmp_path: Path, kind: type[_Lines], level: int, text: str) -> str:
    with open(tmp_path / "log", "wb+", buffering=0) as file:
        logger = logging.getLogger("tests.text")
        logger.propagate = False
        handler = kind("test", LineWriter(file.fileno(), Losses()))
        logger.addHandler(handler)
        try:
            logger.log(level, "%s", text)
        finally:
            logger.removeHandler(handler)
        return os.pread(file.fileno(), 65536, 0).decode()


def test_a_line_of_the_log_cannot_pretend_to_be_another_one(tmp_path: Path) -> None:
    lines = written(
        tmp_path, _Lines, logging.ERROR, f"{EVIL}\n2026-01-01 ERROR forged"
    ).splitlines()
    assert len(lines) == 2
    assert lines[1] == "  2026-01-01 ERROR forged"
    assert all(each.isprintable() for each in lines)


def test_in_json_it_is_an_escape_and_nothing_is_lost(tmp_path: Path) -> None:
    text = written(tmp_path, _Objects, logging.ERROR, EVIL)
    assert text.removesuffix("\n").isprintable()
    assert json.loads(text)["message"] == EVIL


def test_events_of_sessions_are_shown_alike(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb+", buffering=0) as file:
        _Objects("test", LineWriter(file.fileno(), Losses())).tell(
            logging.INFO, Who.of(1, "::1", EVIL), EVIL, {"a": EVIL}
        )
        text = os.pread(file.fileno(), 65536, 0).decode()
    assert text.removesuffix("\n").isprintable()
    assert json.loads(text)["a"] == json.loads(text)["user"] == EVIL


def test_a_line_of_the_log_of_transfers_has_none_of_it() -> None:
    line = transfer_line(
        seconds=1,
        host="::1",
        size=1,
        path=f"/{EVIL}",
        user=EVIL,
        is_binary=True,
        is_upload=False,
        is_anonymous=False,
        is_complete=True,
    ).decode()
    assert line.removesuffix("\n").isprintable()
    assert len(line.split()) == 18


def test_who_and_top_show_none_of_it() -> None:
    from rich.console import Console

    session = SessionView(
        *(1, 1, EVIL, EVIL, True, 1.0, 1.0, f"[bold]{EVIL}", "download", 1, 1, 1.0, EVIL)
    )
    out = io.StringIO()
    Console(file=out, width=10_000, force_terminal=False).print(sessions_table([session], None))
    assert all(each.isprintable() for each in out.getvalue().splitlines())
    assert "[bold]a" in out.getvalue()
