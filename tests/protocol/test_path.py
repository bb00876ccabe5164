"""Virtual paths: in normal form, and never above "/"."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.protocol import path as virtual

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

PARTS = st.sampled_from(["", ".", "..", "...", "a", "b", ".a", "a.", "..b", " ", "\n", "..\n", "é"])
ARGUMENTS = st.lists(PARTS).map("/".join) | st.text(st.sampled_from("ab./\n"))


def model(current: str, argument: str) -> str:
    parts: list[str] = []
    for part in ("" if argument.startswith("/") else current).split("/") + argument.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts = [*parts, part]
    return "/" + "/".join(parts)


DIRECTORIES = ARGUMENTS.map(lambda text: model("/", text))


@UNHURRIED
@given(DIRECTORIES, ARGUMENTS)
def test_a_path_is_resolved_as_by_the_model(current: str, argument: str) -> None:
    assert virtual.resolve(current, argument) == model(current, argument)


@UNHURRIED
@given(DIRECTORIES, ARGUMENTS)
def test_a_resolved_path_is_in_normal_form(current: str, argument: str) -> None:
    path = virtual.resolve(current, argument)
    assert path.startswith("/")
    assert path == "/" or not {"", ".", ".."} & set(path[1:].split("/"))
    assert virtual.resolve("/elsewhere", path) == path


@pytest.mark.parametrize(
    ("current", "argument", "path"),
    [
        ("/", "", "/"),
        ("/", "..", "/"),
        ("/a", "../../../etc/passwd", "/etc/passwd"),
        ("/a/b", "..", "/a"),
        ("/a", "/../..", "/"),
        ("/a", "//b///c/", "/b/c"),
        ("/a", "b/./c/..", "/a/b"),
        ("/a", "...", "/a/..."),
        ("/", "..\n", "/..\n"),
        ("/a", "a b", "/a/a b"),
        ("/", "-la", "/-la"),
    ],
)
def test_a_path_seen_from_a_directory(current: str, argument: str, path: str) -> None:
    assert virtual.resolve(current, argument) == path


@UNHURRIED
@given(DIRECTORIES, st.sampled_from(["a", "...", ".a", " ", "\n", "é"]))
def test_directory_and_name_make_up_a_path(directory: str, name: str) -> None:
    path = virtual.join(directory, name)
    assert (virtual.parent(path), virtual.name(path)) == (directory, name)
    assert path == model(directory, name)


def test_the_top_is_its_own_parent_and_has_no_name() -> None:
    assert virtual.parent("/") == "/"
    assert virtual.parent("/a") == "/"
    assert virtual.name("/") == ""


@UNHURRIED
@given(DIRECTORIES, DIRECTORIES)
def test_beneath_goes_by_components(path: str, directory: str) -> None:
    path_parts = [part for part in path.split("/") if part]
    directory_parts = [part for part in directory.split("/") if part]
    expected = path_parts[: len(directory_parts)] == directory_parts
    assert virtual.is_beneath(path, directory) is expected


def test_a_name_that_begins_alike_is_not_beneath() -> None:
    assert virtual.is_beneath("/foo", "/foo")
    assert virtual.is_beneath("/foo/bar", "/foo")
    assert not virtual.is_beneath("/foobar", "/foo")
    assert not virtual.is_beneath("/", "/foo")
