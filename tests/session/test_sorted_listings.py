"""The order of LIST, NLST and STAT, and options in front of names (protocol.md, “Listing”)."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.support.dialogue import Dialogue
from tests.support.many_entries import make_entries

NAMES = ["B", "a", "b", "Z9", "~", "ä", "\udcff", "file 2", "file-1", "10", "9", "\U0001f600", "_"]
LISTS = ("LIST", "NLST", "STAT")
HOLDS = 10_000
"""Entries that are sorted."""


def listed(client: Dialogue, command: str, names: list[str]) -> list[str]:
    """In which order these names come."""
    if command.startswith("STAT"):
        lines = client.says(command, 213).split("\n")[1:-1]
    else:
        text = client.downloads(command).decode("utf-8", "surrogateescape")
        lines = text.split("\r\n")[:-1]
    found = []
    for line in lines:
        fits = [name for name in names if line == name or line.endswith((f" {name}", f"/{name}"))]
        found.append(max(fits, key=len))
    return found


def by_bytes(names: list[str]) -> list[str]:
    return sorted(names, key=os.fsencode)


@pytest.fixture
def shuffled(root: Path) -> list[str]:
    (root / "directory").mkdir()
    names = random.Random(1).sample(NAMES, len(NAMES))
    for name in names:
        (root / "directory" / name).touch()
    return names


@pytest.mark.parametrize("verb", LISTS)
@pytest.mark.parametrize("argument", ["directory", "-la directory", "-R /directory", "directory/*"])
def test_listings_are_sorted_by_the_bytes_of_names(
    client: Dialogue, shuffled: list[str], verb: str, argument: str
) -> None:
    assert listed(client, f"{verb} {argument}", shuffled) == by_bytes(shuffled)


@pytest.mark.parametrize("verb", LISTS)
@pytest.mark.parametrize("argument", ["-r", "-lar", "-l -r"])
def test_an_option_turns_the_order_around(
    client: Dialogue, shuffled: list[str], verb: str, argument: str
) -> None:
    found = listed(client, f"{verb} {argument} directory", shuffled)
    assert found == by_bytes(shuffled)[::-1]


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ("-t", "cabd"),
        ("-lt", "cabd"),
        ("-lrt", "dbac"),
        ("-t -r", "dbac"),
        ("-S", "bdac"),
        ("-Sr", "cadb"),
        ("-tS", "bdac"),
        ("-St", "cabd"),
        ("--sort=time", "abcd"),
        ("", "abcd"),
    ],
)
@pytest.mark.parametrize("verb", LISTS)
def test_options_sort_by_time_and_size(
    client: Dialogue, root: Path, verb: str, options: str, order: str
) -> None:
    """Newest first, largest first; where that is the same, by name."""
    sizes, times = {"a": 1, "b": 30, "c": 1, "d": 2}, {"a": 500, "b": 500, "c": 2000, "d": 100}
    for name in "dbca":
        (root / name).write_bytes(bytes(sizes[name]))
        os.utime(root / name, (times[name], times[name]))
    for path in ("", "./", "/*"):
        if (verb, options, path) == ("STAT", "", ""):
            continue  # that is the status of the session
        command = " ".join(word for word in (verb, options, path) if word)
        assert listed(client, command, [*"abcd"]) == [*order]


@pytest.mark.parametrize("verb", ["LIST", "NLST"])
@pytest.mark.parametrize("more", [0, 1])
def test_as_many_entries_as_can_be_held_are_sorted(
    client: Dialogue, root: Path, verb: str, more: int
) -> None:
    """Others come as they are read, and each comes once."""
    numbers = range(HOLDS + more)
    make_entries(root / "directory", (f"{number * 7919 % 1_000_003:07d}" for number in numbers))
    lines = client.downloads(f"{verb} directory").decode().split("\r\n")[:-1]
    names = [line[-7:] for line in lines]
    assert len(names) == HOLDS + more
    assert len(set(names)) == len(names)
    assert (names == sorted(names)) is (more == 0)
    few = client.downloads(f"{verb} directory/*00").decode().split("\r\n")[:-1]
    assert few
    assert few == sorted(few, key=lambda line: line[-7:])


# ---------------------------------------------------------------------- names with a dash


@pytest.fixture
def dashed(root: Path) -> Path:
    for name in ("-x", "plain", "-a b"):
        (root / name).touch()
    (root / "-dir").mkdir()
    (root / "-dir/inner").touch()
    return root


@pytest.mark.usefixtures("dashed")
@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ("-- -x", ["-x"]),
        ("-x", ["-x"]),
        ("-la -x", ["-x"]),
        ("-la -- -x", ["-x"]),
        ("-- -a b", ["-a b"]),
        ("./-a b", ["-a b"]),
        ("-dir", ["inner"]),
        ("-- -dir", ["inner"]),
        ("-l -a -dir", ["inner"]),
        ("-dir/inner", ["inner"]),
        ("--", ["-a b", "-dir", "-x", "plain"]),
        ("-la --", ["-a b", "-dir", "-x", "plain"]),
        ("-la", ["-a b", "-dir", "-x", "plain"]),
        ("-la ", ["-a b", "-dir", "-x", "plain"]),
        ("-- -*", ["-a b", "-dir", "-x"]),
    ],
)
@pytest.mark.parametrize("verb", LISTS)
def test_a_name_may_begin_with_a_dash(
    client: Dialogue, verb: str, argument: str, found: list[str]
) -> None:
    """“--” ends options, and a last word that is an entry is that entry."""
    names = ["-x", "plain", "-a b", "-dir", "inner"]
    assert listed(client, f"{verb} {argument}", names) == found


@pytest.mark.parametrize("verb", ["LIST", "NLST"])
def test_a_missing_name_behind_the_options_is_refused(client: Dialogue, verb: str) -> None:
    with client.passive():
        client.says(f"{verb} -- -missing", 550)
        client.says(f"{verb} -l -- missing", 550)
