"""Directories of thousands of files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_NAMES_OF_A_FILE = 30_000  # ext4 lets a file have 65,000


def make_entries(directory: Path, names: Iterable[str]) -> None:
    """Make ``directory`` with empty files of these names: hard links to few files.

    A new inode costs ext4 up to a millisecond where thousands were freed a moment ago, as by the
    test before; a link costs a fiftieth of that.
    """
    directory.mkdir()
    for count, name in enumerate(names):
        path = f"{directory}/{name}"
        if count % _NAMES_OF_A_FILE == 0:
            first = path
            os.mknod(first)
        else:
            os.link(first, path)
