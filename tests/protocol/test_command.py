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
    TOO_LONG,
    CommandLines,
    TooMuchRubbish,
    check_argument,
    integer,
    split_line,
    strip_telnet,
    to_text,
)
from ftpcluster.protocol.errors import ArgumentProblem

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def taken(lines: CommandLines) -> list[bytes | None]:
    """All commands that wait, as one may type them; None is a line that was too long."""
    found: list[bytes | None] = []
    while (head := lines.head()) is not None:
        verb, argument = head
        found.append(None if verb is TOO_LONG else b" ".join(filter(None, (verb, argument))))
        lines.take()
    return found


def feed(lines: CommandLines, data: bytes, step: int) -> list[bytes | None]:
    """All lines of ``data``, received in pieces of ``step`` bytes."""
    found: list[bytes | None] = []
    for start in range(0, len(data), step):
        lines.feed(data[start : start + step])
        found += taken(lines)
    return found


# ---------------------------------------------------------------------- lines

ODD = st.lists(st.sampled_from([b"A", b"BCD", b"\r", b"\n", b"\r\n", b"QUIT", b"\nQUIT\r\n"])).map(
    b"".join
)
CUTS = st.lists(st.integers(0, 60))


@settings(UNHURRIED, max_examples=300)
@given(data=ODD, cuts=CUTS)
def test_lines_are_the_same_however_they_were_cut(data: bytes, cuts: list[int]) -> None:
    *complete, rest = data.split(b"\n")
    # a bound of 8 bytes shows at its edges what the real one would show seldom
    expected = [None if len(line) > 8 else line.rstrip(b"\r") for line in complete]
    with patch.object(command, "MAX_LINE", 8):
        lines = CommandLines()
        found = [line for piece in pieces(data, cuts) for line in feed(lines, piece, 60)]
        assert found == [line for line in expected if line != b""]
        assert lines.holds_anything == bool(rest)


@settings(UNHURRIED, max_examples=300)
@given(data=ODD, cuts=CUTS, asked=st.lists(st.booleans(), min_size=60, max_size=60))
def test_a_verb_that_waits_is_found_whenever_one_asks(
    data: bytes, cuts: list[int], asked: list[bool]
) -> None:
    """Each line is looked at once; what is known of it must go with it."""
    questions = iter(asked)
    lines, waiting = CommandLines([b"QUIT"]), list[bytes]()

    def ask() -> None:
        if next(questions, True):
            assert lines.has(b"QUIT") == (b"QUIT" in waiting)

    sent = b""
    for piece in pieces(data, cuts):
        *complete, sent = (sent + piece).split(b"\n")
        waiting += filter(None, (line.rstrip(b"\r") for line in complete))
        lines.feed(piece)
        ask()
        if (head := lines.head()) is not None and len(piece) % 2:
            assert head[0] == waiting.pop(0)
            lines.take()
            ask()


@pytest.mark.parametrize("looks", [False, True])
def test_all_that_waits_can_be_taken_as_it_came_and_be_put_back(looks: bool) -> None:
    lines = CommandLines([b"QUIT"])
    lines.feed(b"user a\r\n\xff\xf4quit\r\nhal")
    if looks:
        assert lines.head() == (b"USER", b"a")
        assert lines.has(b"QUIT")
    assert lines.take_all() == b"user a\r\n\xff\xf4quit\r\nhal"
    assert not lines.holds_anything
    assert not lines.has(b"QUIT")
    lines.feed(b"f")
    lines.push_back(b"noop\nhal")
    assert taken(lines) == [b"NOOP"]
    lines.feed(b" 1\n")
    assert lines.head() == (b"HALF", b"1")


@pytest.mark.parametrize("step", [1, 1000, 1 << 20])
def test_a_line_that_is_too_long_is_thrown_away_and_the_next_one_read(step: int) -> None:
    data = b"USER " + b"x" * 3 * MAX_LINE + b"\r\nNOOP\r\n"
    lines = CommandLines()
    assert feed(lines, data, step) == [None, b"NOOP"]
    assert not lines.holds_anything


def test_a_line_of_4_kib_is_not_too_long() -> None:
    line = b"X" * (MAX_LINE - 1)
    assert feed(CommandLines(), line + b"\r\n", 1 << 20) == [line]
    assert feed(CommandLines(), line + b"xx\r\n", 1 << 20) == [None]


@pytest.mark.parametrize("line", [b"x" * MAX_LINE, b"x" * (MAX_RUBBISH - 1)])
def test_of_a_line_that_is_too_long_no_more_is_held_than_of_one_that_is_not(line: bytes) -> None:
    lines = CommandLines()
    lines.feed(line)
    assert len(lines) <= MAX_LINE + 1


@pytest.mark.parametrize("step", [997, MAX_LINE, MAX_RUBBISH, 2 * MAX_RUBBISH])
def test_64_kib_without_a_newline_are_too_much(step: int) -> None:
    data = b"x" * (MAX_RUBBISH + 1) + b"\nNOOP\n"
    with pytest.raises(TooMuchRubbish):
        feed(CommandLines(), data, step)


@pytest.mark.parametrize("step", [997, MAX_LINE, 2 * MAX_RUBBISH])
def test_less_than_64_kib_without_a_newline_are_only_a_long_line(step: int) -> None:
    data = b"x" * (MAX_RUBBISH - 1) + b"\nNOOP\n"
    assert feed(CommandLines(), data, step) == [None, b"NOOP"]


def test_long_lines_one_after_another_do_not_add_up() -> None:
    lines = CommandLines()
    for _ in range(30):
        assert feed(lines, b"x" * 5000, 5000) == []
        assert feed(lines, b"y" * 5000 + b"\n", 5001) == [None]
    assert feed(lines, b"NOOP\r\n", 100) == [b"NOOP"]


@pytest.mark.parametrize("line", [b"\xff\xf4\xff\xf2ABOR\r", b"abor", b"ABOR x", b"Abor\r\r"])
def test_a_verb_is_found_however_it_is_written(line: bytes) -> None:
    lines = CommandLines([b"ABOR"])
    lines.feed(b"PWD\r\n" * 3 + line + b"\n")
    assert lines.has(b"ABOR")
    lines.clear()
    assert not lines.has(b"ABOR")


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
    assert split_line(b"\xff\xf4\xff\xf2abor") == (b"ABOR", b"")


# ---------------------------------------------------------------------- verb and argument


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"NOOP", b"NOOP", ""),
        (b" ", b"", ""),
        (b"retr file", b"RETR", "file"),
        (b"ReTr File", b"RETR", "File"),
        (b"RETR two words ", b"RETR", "two words "),
        (b"RETR  leading", b"RETR", " leading"),
        (b"RETR -a", b"RETR", "-a"),
        ("RETR größe".encode(), b"RETR", "größe"),
    ],
)
def test_verb_and_argument(line: bytes, verb: bytes, argument: str) -> None:
    found, rest = split_line(line)
    assert (found, to_text(rest)) == (verb, argument)


@UNHURRIED
@given(st.binary())
def test_bytes_of_a_name_survive_also_where_they_are_not_utf_8(name: bytes) -> None:
    _, rest = split_line(b"STOR " + name.replace(b"\xff", b"\xff\xff"))
    assert to_text(rest).encode("utf-8", "surrogateescape") == name


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
