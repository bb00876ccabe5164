"""What a storage refuses that does not have a method."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ftpcluster.storage.base import Entry, File, Storage, WriteMode, status_of


class Least(Storage):
    """The methods that are needed."""

    def stat(self, path: str) -> os.stat_result:
        return status_of(is_directory=True)

    def scan(self, path: str) -> Iterator[list[Entry]]:
        yield []


class LeastFile(File):
    size = 0

    def seek(self, offset: int) -> None:
        pass

    def close(self) -> None:
        pass


REFUSED = os.strerror(errno.EOPNOTSUPP)
CALLS: list[Callable[[Any], object]] = [
    lambda storage: storage.open_reader("/a"),
    lambda storage: storage.open_writer("/a", WriteMode.TRUNCATE),
    lambda storage: storage.mkdir("/a"),
    lambda storage: storage.rmdir("/a"),
    lambda storage: storage.unlink("/a"),
    lambda storage: storage.rename("/a", "/b", replace=True),
    lambda storage: storage.read_link("/a"),
    lambda storage: storage.set_modified("/a", 0.0),
    lambda storage: storage.chmod("/a", 0o644),
    lambda storage: storage.symlink("/a", "/b"),
]
OF_FILES: list[Callable[[Any], object]] = [
    lambda file: file.read(1),
    lambda file: file.write(b"x"),
    lambda file: file.truncate(),
]


@pytest.mark.parametrize("call", CALLS)
def test_what_a_storage_has_not_is_refused(call: Callable[[Any], object]) -> None:
    with pytest.raises(OSError, match=REFUSED):
        call(Least())


@pytest.mark.parametrize("call", OF_FILES)
def test_what_a_file_has_not_is_refused(call: Callable[[Any], object]) -> None:
    with pytest.raises(OSError, match=REFUSED):
        call(LeastFile())


def test_the_other_methods_answer() -> None:
    least = Least()
    assert least.opened() is None
    assert least.available("/") is None
    assert least.mover("/a", "/b", replace=True) is None
    assert least.now() is least
