"""Users' directories stay open for a while, and no longer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.storage import roots
from ftpcluster.storage.roots import OpenRoots


class Clock:
    """A loop whose timers the test lets end."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, _: float, function: Callable[[], None]) -> Clock:
        self.due.append(function)
        return self

    def cancel(self) -> None:
        self.due.clear()

    def end(self) -> None:
        due, self.due = self.due, []
        for function in due:
            function()


def is_open(directory: Path) -> bool:
    """Whether this process has it open."""
    for fd in Path("/proc/self/fd").iterdir():
        try:
            if os.path.samestat(fd.stat(), directory.stat()):
                return True
        except OSError:
            continue
    return False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(clock: Any) -> OpenRoots:
    return OpenRoots(clock)


def test_what_nobody_uses_is_closed_after_a_while(
    opened: OpenRoots, clock: Clock, root: Path
) -> None:
    first = opened.open(str(root)).fd
    assert opened.open(str(root)).fd == first
    clock.end()
    assert opened.open(str(root)).fd == first
    clock.end()
    assert is_open(root)
    clock.end()
    assert not is_open(root)
    assert not clock.due  # no timer runs where nothing is open


def test_what_a_session_uses_stays(opened: OpenRoots, clock: Clock, root: Path) -> None:
    used = opened.open(str(root))
    for _ in range(3):
        clock.end()
    assert opened.open(str(root)) is used


def test_what_was_replaced_is_opened_anew(opened: OpenRoots, clock: Clock, root: Path) -> None:
    used = opened.open(str(root))
    old = root.rename(root.with_name("old"))
    root.mkdir()
    assert opened.open(str(root)).identity == (root.stat().st_dev, root.stat().st_ino)
    del used
    for _ in range(2):
        clock.end()
    assert not is_open(old)


def test_only_so_many_are_kept(
    opened: OpenRoots, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roots, "_MOST", 1)
    for name in ("a", "b"):
        (root / name).mkdir()
        opened.open(str(root / name))
    assert (is_open(root / "a"), is_open(root / "b")) == (False, True)


def test_the_end_closes_all(opened: OpenRoots, clock: Clock, root: Path) -> None:
    opened.open(str(root))
    opened.close()
    assert not is_open(root)
    assert not clock.due
