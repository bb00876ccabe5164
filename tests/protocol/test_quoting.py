"""Paths in quotes."""

from __future__ import annotations

import pytest

from ftpcluster.protocol.quoting import two_paths


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("a b", ("a", "b")),
        ('"a b" c', ("a b", "c")),
        ('a "b c"', ("a", "b c")),
        ('"a ""b""" "c"', ('a "b"', "c")),
        ('"""" x', ('"', "x")),
        ('"a" "b" "c"', None),
        ("a", None),
        ("a b c", None),
        ('"a b', None),
        ('"" b', None),
        ('a ""', None),
        ('a"b c', None),
        ("", None),
    ],
)
def test_two_paths(argument: str, expected: tuple[str, str] | None) -> None:
    assert two_paths(argument) == expected
