"""Lines, verbs and arguments, however the bytes arrive."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.protocol import command
from ftpcluster.protocol.command import (
    MAX_LINE,
    MAX_RUBBISH,
    LineSplitter,
    TooMuchRubbish,
    check_argument,
    integer,
    split_command,
    strip_telnet,
)
from ftpcluster.protocol.errors import ArgumentProblem

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def feed(splitter: LineSplitter, data: bytes, step: int) -> list[bytes | None]:
    """All lines of ``data``, received in pieces of ``step`` bytes."""
    lines: list[bytes | None] = []
    for start in range(0, len(data), step):
        lines += splitter.feed(data[start : start + step])
    return lines


# ---------------------------------------------------------------------- lines


@settings(UNHURRIED, max_examples=300)
@given(
    data=st.lists(st.sampled_from([b"a", b"bcd", b"\r", b"\n", b"\r\n", b"\xff", b" "])).map(
        b"".join
    ),
    cuts=st.lists(st.integers(0, 60)),
)
def test_lines_are_the_same_however_they_were_cut(data: bytes, cuts: list[int]) -> None:
    *complete, rest = data.split(b"\n")
    # a bound of 8 bytes shows at its edges what the real one would show seldom
    expected = [None if len(line) > 8 else line.removesuffix(b"\r") for line in complete]
    with patch.object(command, "MAX_LINE", 8):
        splitter = LineSplitter()
        lines = [line for piece in pieces(data, cuts) for line in splitter.feed(piece)]
        assert lines == expected
        assert splitter.pending == bool(rest)


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_a_line_that_is_too_long_is_thrown_away_and_the_next_one_read(step: int) -> None:
    data = b"USER " + b"x" * 3 * MAX_LINE + b"\r\nNOOP\r\n"
    splitter = LineSplitter()
    assert feed(splitter, data, step) == [None, b"NOOP"]
    assert not splitter.pending


def test_a_line_of_4_kib_is_not_too_long() -> None:
    line = b"x" * (MAX_LINE - 1)
    assert LineSplitter().feed(line + b"\r\n") == [line]
    assert LineSplitter().feed(line + b"xx\r\n") == [None]


@pytest.mark.parametrize("step", [997, MAX_LINE, MAX_RUBBISH, 2 * MAX_RUBBISH])
def test_64_kib_without_a_newline_are_too_much(step: int) -> None:
    data = b"x" * (MAX_RUBBISH + 1) + b"\nNOOP\n"
    with pytest.raises(TooMuchRubbish):
        feed(LineSplitter(), data, step)


@pytest.mark.parametrize("step", [997, MAX_LINE, 2 * MAX_RUBBISH])
def test_less_than_64_kib_without_a_newline_are_only_a_long_line(step: int) -> None:
    data = b"x" * (MAX_RUBBISH - 1) + b"\nNOOP\n"
    assert feed(LineSplitter(), data, step) == [None, b"NOOP"]


def test_long_lines_one_after_another_do_not_add_up() -> None:
    splitter = LineSplitter()
    for _ in range(30):
        assert splitter.feed(b"x" * 5000) == []
        assert splitter.feed(b"y" * 5000 + b"\n") == [None]
    assert splitter.feed(b"NOOP\r\n") == [b"NOOP"]


# ---------------------------------------------------------------------- Telnet


@pytest.mark.parametrize(
    ("line", "stripped"),
    [
        (b"\xff\xf4\xff\xf2ABOR", b"ABOR"),  # IP and Synch, as RFC 959 section 4.1.3 wants
        (b"\xff\xf2ABOR", b"ABOR"),
        (b"\xff\xf4ABOR", b"ABOR"),
        (b"\xff\xfd\x06ABOR", b"ABOR"),  # DO takes an option
        (b"\xff\xfb\x06ABOR", b"ABOR"),  # WILL, too
        (b"\xff\xfe\xffABOR", b"ABOR"),
        (b"RETR a\xff\xffb", b"RETR a\xffb"),
        (b"RETR \xff\xff\xff\xff", b"RETR \xff\xff"),
        (b"RETR a\xff\xff\xff\xf4b", b"RETR a\xffb"),
        (b"NOOP\xff", b"NOOP"),  # cut off
        (b"NOOP\xff\xfb", b"NOOP"),
    ],
)
def test_telnet_commands_are_removed(line: bytes, stripped: bytes) -> None:
    assert strip_telnet(line) == stripped


def test_abor_is_understood_behind_ip_and_synch() -> None:
    assert split_command(b"\xff\xf4\xff\xf2abor") == (b"ABOR", "")


# ---------------------------------------------------------------------- verb and argument


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"NOOP", b"NOOP", ""),
        (b"", b"", ""),
        (b"retr file", b"RETR", "file"),
        (b"ReTr File", b"RETR", "File"),
        (b"RETR two words ", b"RETR", "two words "),
        (b"RETR  leading", b"RETR", " leading"),
        (b"RETR -a", b"RETR", "-a"),
        ("RETR größe".encode(), b"RETR", "größe"),
    ],
)
def test_verb_and_argument(line: bytes, verb: bytes, argument: str) -> None:
    assert split_command(line) == (verb, argument)


@UNHURRIED
@given(st.binary())
def test_bytes_of_a_name_survive_also_where_they_are_not_utf_8(name: bytes) -> None:
    _, argument = split_command(b"STOR " + name.replace(b"\xff", b"\xff\xff"))
    assert argument.encode("utf-8", "surrogateescape") == name


@pytest.mark.parametrize("bad", ["a\0b", "a\rb", "a\nb", "\0", "größe\0", "\udcff\n"])
def test_nul_and_line_ends_are_refused_in_an_argument(bad: str) -> None:
    with pytest.raises(ArgumentProblem):
        check_argument(bad)


@pytest.mark.parametrize("good", ["", "a b", "größe", "tab\tin it", "\x1b[0m", "\udcff", "日本"])
def test_all_else_may_be_in_an_argument(good: str) -> None:
    assert check_argument(good) == good


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("007", 7), ("42", 42), (str(2**63 - 1), 2**63 - 1)]
)
def test_a_decimal_number(text: str, number: int) -> None:
    assert integer(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "abc", "-1", "+1", "1.5", "1e3", " 1", "1 ", "0x10", "1_000", "1,000"),
        *("²", "٣", "１", "1²", str(2**63), str(10**30), "9" * 100_000),
    ],
    ids=lambda text: text[:25] or "nothing",
)
def test_what_is_no_decimal_number_within_bounds(text: str) -> None:
    with pytest.raises(ArgumentProblem):
        integer(text)


def test_a_number_has_the_bound_that_its_caller_gives() -> None:
    assert integer("65535", 65535) == 65535
    with pytest.raises(ArgumentProblem):
        integer("65536", 65535)
