"""Lines of LIST and facts of MLSD, for any file that a disk can hold."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.protocol.listing import (
    FACTS,
    Status,
    fact_line,
    list_lines,
    list_time,
    mode_string,
    permission_fact,
    printable,
    timestamp,
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

NOW = datetime(2001, 1, 31, tzinfo=UTC).timestamp()
# names as the file system gives them: text, and bytes that are none
NAMES = st.binary(min_size=1).map(lambda name: name.decode("utf-8", "surrogateescape"))


def list_line(
    name: str,
    status: Status,
    now: float,
    owner: Callable[[int], str] = str,
    group: Callable[[int], str] = str,
    target: str | None = None,
) -> str:
    return list_lines(((name, status, target),), now, owner, group)


def seconds(*date: int) -> float:
    return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[arg-type,misc]


def status(mode: int = stat.S_IFREG | 0o644, size: int = 5, mtime: float = NOW) -> Status:
    return os.stat_result((mode, 0xABC, 0x1F, 1, 1000, 100, size, mtime, mtime, mtime))


# ---------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("mtime", "text"),
    [
        (seconds(2001, 1, 1), "Jan  1 00:00"),
        (seconds(2001, 1, 30, 23, 59, 59), "Jan 30 23:59"),
        (seconds(2000, 12, 31, 12, 34), "Dec 31 12:34"),
        (seconds(2000, 1, 1), "Jan  1  2000"),
        (seconds(2002, 11, 12), "Nov 12  2002"),  # times to come, too
        (seconds(1970, 1, 1), "Jan  1  1970"),
        (seconds(1969, 12, 31, 23), "Dec 31  1969"),
    ],
)
def test_the_last_half_year_has_a_clock_and_all_else_a_year(mtime: float, text: str) -> None:
    assert list_time(mtime, NOW) == text


def test_the_clock_ends_after_half_a_year() -> None:
    half = timedelta(days=365.2425 / 2).total_seconds()
    assert ":" in list_time(NOW - half + 1, NOW)
    assert ":" not in list_time(NOW - half - 1, NOW)
    assert ":" in list_time(NOW + 1, NOW), "a clock of another machine that is a little ahead"


def test_a_line_uses_no_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert list_time(seconds(2000, 10, 1), seconds(2000, 10, 2)) == "Oct  1 00:00"


@pytest.mark.parametrize(
    "mtime", [0.0, -1.0, -(2.0**63), 2.0**63, 1e300, float("inf"), float("nan")]
)
def test_a_time_that_no_calendar_holds_does_no_harm(mtime: float) -> None:
    assert re.fullmatch(r"[A-Z][a-z]{2} [ \d]\d (\d\d:\d\d| \d{1,5})", list_time(mtime, NOW))


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (0, "19700101000000"),
        (int(seconds(2001, 2, 3, 4, 5, 6)), "20010203040506"),
        (-1, "19691231235959"),
        (2**63, "19700101000000"),
        (int(seconds(900, 1, 2)), "09000102000000"),
    ],
)
def test_a_timestamp_has_fourteen_digits(time: int, text: str) -> None:
    assert timestamp(time) == text


# ---------------------------------------------------------------------- lines of LIST


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (stat.S_IFREG | 0o644, "-rw-r--r--"),
        (stat.S_IFDIR | 0o755, "drwxr-xr-x"),
        (stat.S_IFLNK | 0o777, "lrwxrwxrwx"),
        (stat.S_IFIFO | 0o600, "prw-------"),
        (stat.S_IFSOCK | 0o600, "srw-------"),
        (stat.S_IFREG | 0o4755, "-rwsr-xr-x"),
        (stat.S_IFDIR | 0o1777, "drwxrwxrwt"),
    ],
)
def test_modes_are_written_as_ls_writes_them(mode: int, text: str) -> None:
    assert mode_string(mode) == text


def test_a_line_has_the_fields_of_ls() -> None:
    line = list_line("a file", status(size=12345), NOW)
    assert line.endswith("\r\n")
    assert line.split(maxsplit=8) == [
        *("-rw-r--r--", "1", "1000", "100", "12345", "Jan", "31", "00:00", "a file\r\n"),
    ]


def test_owners_have_the_names_that_are_looked_up() -> None:
    line = list_line("f", status(), NOW, {1000: "alice"}.__getitem__, {100: "users"}.__getitem__)
    assert line.split()[2:4] == ["alice", "users"]


def test_a_link_says_where_it_leads() -> None:
    line = list_line("link", status(stat.S_IFLNK | 0o777), NOW, target="/the/file")
    assert line.endswith(" link -> /the/file\r\n")


@UNHURRIED
@given(NAMES, NAMES | st.none())
def test_no_name_can_forge_a_line_of_a_listing(name: str, target: str | None) -> None:
    wire = list_line(name, status(), NOW, target=target).encode("utf-8", "surrogateescape")
    assert wire.endswith(b"\r\n")
    assert not re.search(rb"[\x00-\x1f\x7f]", wire[:-2])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", "plain"),
        ("größe 日本", "größe 日本"),
        ("\udce4\udcff", "\udce4\udcff"),
        ("a\r\nb", "a??b"),
        ("\x1b[2J\x7f\0", "?[2J??"),
        ("\x85\x9b", "??"),  # C1: a terminal obeys these, too
    ],
)
def test_control_characters_are_shown_as_question_marks(name: str, shown: str) -> None:
    assert printable(name) == shown


# ---------------------------------------------------------------------- facts


def test_all_facts_of_a_file() -> None:
    assert fact_line("a file", status(mtime=seconds(2001, 2, 3)), "r") == (
        "type=file;perm=r;size=5;modify=20010203000000;unique=1fgabc;"
        "unix.mode=0644;unix.uid=1000;unix.gid=100; a file"
    )


def test_every_fact_is_given_for_a_directory_too() -> None:
    facts, _, name = fact_line("sub", status(stat.S_IFDIR | 0o755), "el").partition(" ")
    assert [fact.partition("=")[0] for fact in facts.split(";")] == [*FACTS, ""]
    assert facts.startswith("type=dir;")
    assert name == "sub"


def test_only_the_facts_that_were_asked_for_are_given() -> None:
    assert fact_line("f", status(), "r", ("size", "type")) == "type=file;size=5; f"
    assert fact_line("f", status(), "r", ()) == " f"


@UNHURRIED
@given(NAMES, st.integers(0, 2**63 - 1), st.floats(-1e18, 1e18))
def test_no_name_can_forge_a_line_of_facts(name: str, size: int, mtime: float) -> None:
    line = fact_line(name, status(size=size, mtime=mtime), "r")
    wire = line.encode("utf-8", "surrogateescape")
    assert not re.search(rb"[\x00-\x1f\x7f]", wire)
    assert line.endswith(f"; {printable(name)}")
    assert f";size={size};" in line


def test_a_name_with_percent_signs_is_no_template() -> None:
    assert fact_line("%(size)d %s 100%", status(), "r").endswith("; %(size)d %s 100%")


@pytest.mark.parametrize(
    ("kind", "readable", "writable", "fact"),
    [
        (stat.S_IFREG, True, True, "radfw"),
        (stat.S_IFREG, True, False, "r"),
        (stat.S_IFREG, False, True, "adfw"),
        (stat.S_IFREG, False, False, ""),
        (stat.S_IFDIR, True, True, "elcmfdp"),
        (stat.S_IFDIR, True, False, "el"),
        (stat.S_IFDIR, False, False, ""),
    ],
)
def test_the_perm_fact_says_what_the_user_may_do(
    kind: int, readable: bool, writable: bool, fact: str
) -> None:
    assert permission_fact(kind, readable=readable, writable=writable) == fact
