"""The log of transfers is what programs that read xferlog expect, whatever names there are."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from ftpcluster.session.xferlog import transfer_line
from tests.support.xferlog import parse

NAMES = st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))


def line(path: str = "/f", user: str = "alice", seconds: float = 2.4, **other: bool) -> bytes:
    how = {"is_binary": True, "is_upload": False, "is_anonymous": False, "is_complete": True}
    return transfer_line(
        seconds=seconds, host="192.0.2.7", size=12, path=path, user=user, **{**how, **other}
    )


def test_the_fields_are_those_of_the_definition() -> None:
    before = int(time.time())
    found = parse(line("/pub/a.iso"))
    assert before <= found.time <= time.time()
    assert found[1:] == (
        *(2, "192.0.2.7", 12, "/pub/a.iso", "b", "_", "o", "r", "alice", "ftp", 0, "*", "c"),
    )


def test_each_letter_says_its_own() -> None:
    found = parse(line(is_binary=False, is_upload=True, is_anonymous=True, is_complete=False))
    assert (found.kind, found.direction, found.access, found.completion) == ("a", "i", "a", "i")


def test_a_transfer_takes_at_least_a_second() -> None:
    assert parse(line(seconds=0.01)).seconds == 1


@given(NAMES, NAMES)
def test_no_name_adds_a_field_or_a_line(path: str, user: str) -> None:
    found = parse(line("/" + path, user))
    assert len(found.name) <= 1 + len(path)
    assert found.completion == "c"


def test_blanks_become_underscores_and_other_letters_stay() -> None:
    assert parse(line("/a b\tc\n\u2028\x1b\u00a0é\udcff")).name == "/a_b_c____é\udcff"
