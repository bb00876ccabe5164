"""Patterns: as shells match them, and in linear time."""

from __future__ import annotations

import re
import time
import timeit
from fnmatch import fnmatchcase

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from ftpcluster.protocol.pattern import Names, Pattern, is_name_pattern, is_pattern

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
# no "^": for fnmatch it is a letter, for shells what "!" is
LETTERS = st.sampled_from("abc*?[]!-.")
PATTERNS = st.text(LETTERS, min_size=1, max_size=12)
NAMES = st.text(st.sampled_from("abc*?[]!-.\n\udce9"), max_size=12)


_RANGE_THEN_BANG = re.compile(r"\[(?:(.)-(.))+!")


@UNHURRIED
@given(PATTERNS, NAMES)
@example("*[!]", "a[!]")
@example("*[]", "a[]")
@example("[]-a]", "^")
@example("[a-]", "-")
@example("[!]a]", "b")
def test_a_pattern_fits_what_fnmatch_says(text: str, name: str) -> None:
    assume(not any(first > last for first, last in _RANGE_THEN_BANG.findall(text)))
    assert Pattern(text).matches(name) == fnmatchcase(name, text)


@UNHURRIED
@given(PATTERNS, st.data())
def test_a_name_that_was_made_from_a_pattern_fits_it(text: str, data: st.DataObject) -> None:
    """Names at random seldom fit: these do, or nearly."""
    # fnmatch drops a range that is empty, and takes a "!" behind it for the one of a negation
    assume(not any(first > last for first, last in _RANGE_THEN_BANG.findall(text)))
    filled = "".join(
        data.draw(st.text("abc.", max_size=4)) if letter == "*" else letter for letter in text
    )
    assert Pattern(text).matches(filled) == fnmatchcase(filled, text)


@given(st.text(st.characters(exclude_characters="*?["), min_size=1))
def test_a_name_without_magic_fits_itself_alone(text: str) -> None:
    assert not is_pattern(text)
    assert Pattern(text).matches(text)
    assert not Pattern(text).matches(text + "x")
    assert not Pattern(text).matches("x" + text)


@pytest.mark.parametrize(
    "text", ["*", "?", "a*", "[a]", "[!a]", "[]]", "[]a]", "[!]]", "*.txt", "?\n"]
)
def test_what_means_something_in_a_pattern(text: str) -> None:
    assert is_pattern(text)


@pytest.mark.parametrize(
    "text", ["", "a", "a.txt", "]", "[", "a[b", "[]", "[!]", "[^", "{a,b}", "~", "a\\b", "!a", "^"]
)
def test_what_means_nothing_in_a_pattern(text: str) -> None:
    """“no braces”"""
    assert not is_pattern(text)


@pytest.mark.parametrize(
    ("text", "fits", "others"),
    [
        ("[^a]", ["b", "^"], ["a", "", "bc"]),
        ("[a^]", ["a", "^"], ["b"]),
        ("[!^]", ["a"], ["^"]),
        ("[]]", ["]"], ["[", "[]"]),
        ("[!]]", ["a"], ["]"]),
        ("[^]]", ["a"], ["]"]),
        ("[-a]", ["-", "a"], ["b"]),
        ("[a-c-e]", ["b", "-", "e"], ["d"]),
        ("[z-a]", [], ["a", "z", "-", ""]),
        ("[!z-a]", ["a", "-", "\n"], ["", "ab"]),
        ("*[z-a]", [], ["a", ""]),
        ("[[]", ["["], ["]"]),
        ("[*]", ["*"], ["a", "**"]),
        ("[?]", ["?"], ["a"]),
        ("a[b", ["a[b"], ["ab", "a["]),
        ("[a&&b]", ["a", "&", "b"], ["c"]),
        ("[a||b]", ["|"], ["c"]),
        ("[\\d]", ["\\", "d"], ["1"]),
        ("\\*", ["\\", "\\a"], ["*"]),
        ("[[:alpha:]]", ["a]", ":]"], ["b", "x]"]),
        ("**", ["", "a", "a.b"], []),
        ("a?*", ["ab", "abc"], ["a", "b"]),
        ("a*?b", ["axb", "axxb", "abb"], ["ab", "ax"]),
        ("a[b]a", ["aba"], ["aa", "a"]),
        ("*?", ["a", "ab"], [""]),
        ("?", ["ü", "\udce9", "\n", "日"], ["", "ab"]),
        ("*.tar.gz", ["a.tar.gz", ".tar.gz"], ["a.tar.gz ", "a.tar"]),
        ("ab*ba", ["abba", "abxba"], ["aba", "ab"]),
        ("*aa*aa*", ["aaaa", "xaaxaax"], ["aaa"]),
    ],
)
def test_what_a_pattern_fits(text: str, fits: list[str], others: list[str]) -> None:
    pattern = Pattern(text)
    assert [name for name in fits if not pattern.matches(name)] == []
    assert [name for name in others if pattern.matches(name)] == []


def test_hidden_names_are_asked_for_with_a_dot() -> None:
    assert Pattern(".*").shows_hidden
    assert Pattern(".a?").shows_hidden
    assert not any(Pattern(text).shows_hidden for text in ("*", "?*", "[.]*", "a.*"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("*a" * 1000 + "*b", "a" * 4000),
        ("a*" * 1000 + "b", "a" * 4000),
        ("*?" * 1000 + "b", "a" * 4000),
        ("*[ab]" * 800 + "c", "ab" * 2000),
        ("*" * 4000 + "b", "a" * 4000),
        ("*" + "a" * 2000 + "b*", "a" * 4000),
        ("[" * 4000, "a" * 4000),
        ("[!" * 2000, "a" * 4000),
        ("[a-" * 1300, "a" * 4000),
    ],
)
def test_no_pattern_takes_long(text: str, name: str) -> None:
    """“matched in linear time”: the longest command line against the longest name, and more.

    A matcher that backtracks would take longer than the universe lasts.
    """
    begin = time.process_time()
    assert not Pattern(text).matches(name)
    assert time.process_time() - begin < 2


def test_names_fit_one_of_several_patterns_whatever_their_case() -> None:
    names = Names(["*.PHP", ".ftpaccess", "[a-c]x"])
    for name in ("x.php", "X.pHp", ".FTPaccess", "BX", ".php"):
        assert name in names
    for name in ("x.php5", "ftpaccess", "dx", "", "."):
        assert name not in names


def test_a_path_is_looked_at_name_by_name() -> None:
    names = Names(["closed", "*.php"])
    for path in ("/closed", "/a/closed/b", "/x.php/y", "/a/x.PHP"):
        assert names.are_in(path)
    for path in ("/", "/a", "/enclosed/b", "/a/x.php5"):
        assert not names.are_in(path)


@UNHURRIED
@given(st.lists(PATTERNS, max_size=4), st.lists(NAMES.filter(bool), max_size=4))
def test_a_path_has_a_name_where_a_pattern_fits_a_component(
    texts: list[str], components: list[str]
) -> None:
    patterns = [Pattern(text) for text in texts]
    fits = any(pattern.matches(name) for pattern in patterns for name in components)
    assert Names(texts).are_in("/" + "/".join(components)) == fits


def test_the_names_of_a_long_path_are_not_looked_at_one_by_one() -> None:
    """A session that says such paths all the time would keep the others waiting."""
    texts = ["*.php", "*.phtml", ".ht*", ".git", "*.bak"]
    names, patterns = Names(texts), [Pattern(text) for text in texts]
    path = "/a" * 2000

    def one_by_one() -> bool:
        return any(pattern.matches(name) for name in path.split("/") for pattern in patterns)

    times = [
        min(timeit.repeat(work, timer=time.process_time, number=10, repeat=5))
        for work in (one_by_one, lambda: names.are_in(path))
    ]
    assert times[0] > 4 * times[1], times


def test_no_patterns_fit_nothing() -> None:
    nothing = Names(())
    assert not nothing
    assert "name" not in nothing
    assert not nothing.are_in("/a/b")


@pytest.mark.parametrize("text", ["*", "a", "...", "[a]", "\udce9"])
def test_what_can_be_a_pattern_of_names(text: str) -> None:
    assert is_name_pattern(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "/", "a\0", None, 5, b"a"])
def test_what_cannot_be_a_pattern_of_names(text: object) -> None:
    assert not is_name_pattern(text)
