"""Options of LIST, NLST and STAT."""

from __future__ import annotations

import pytest

from ftpcluster.protocol.list_options import ListOptions, split_options


@pytest.mark.parametrize(
    ("argument", "options", "path"),
    [
        ("", ListOptions(), ""),
        ("path -a", ListOptions(), "path -a"),
        ("-a", ListOptions(hidden=True), ""),
        ("-la  two words", ListOptions(hidden=True), "two words"),
        ("-lt -r x", ListOptions(by="t", is_reversed=True), "x"),
        ("-tS", ListOptions(by="S"), ""),
        ("--all --sort=time x", ListOptions(hidden=True), "x"),
        ("-- -a", ListOptions(), "-a"),
        ("-a -- -- x", ListOptions(hidden=True), "-- x"),
        ("-", ListOptions(), ""),
    ],
)
def test_options_stand_before_the_path(argument: str, options: ListOptions, path: str) -> None:
    assert split_options(argument) == (options, path)
