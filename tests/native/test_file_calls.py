"""What is asked of an open file: compiled and in Python alike."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO

import pytest

from ftpcluster.storage import file_calls
from tests.support.leaks import assert_leaves_nothing

compiled = pytest.importorskip("ftpcluster._native.file_calls", reason="was not built")
BOTH = pytest.mark.parametrize("twin", [file_calls, compiled], ids=["Python", "compiled"])


@pytest.fixture
def file() -> Iterator[IO[bytes]]:
    """A file on a disk: of tmpfs some kernels cannot say what is in memory."""
    with tempfile.NamedTemporaryFile(dir=Path(__file__).parent, prefix=".test-") as file:
        file.write(b"x" * 10_000)
        file.flush()
        yield file


@BOTH
def test_names_are_counted(twin: ModuleType, file: IO[bytes], tmp_path: Path) -> None:
    assert twin.count_links(file.fileno()) == 1
    other = file.name + "-other"
    os.link(file.name, other)
    assert twin.count_links(file.fileno()) == 2
    os.unlink(other)
    with open(tmp_path / "removed", "wb") as removed:
        os.unlink(removed.name)
        assert twin.count_links(removed.fileno()) == 0


@BOTH
@pytest.mark.parametrize("offset", [0, 9_999, 10_000, 1 << 40])
def test_both_say_what_is_in_memory(twin: ModuleType, file: IO[bytes], offset: int) -> None:
    assert twin.is_in_memory(file.fileno(), offset) in (True, None)  # just written, or its end
    assert twin.is_in_memory(file.fileno(), offset) == file_calls.is_in_memory(
        file.fileno(), offset
    )


@BOTH
def test_what_is_not_in_memory_is_known(twin: ModuleType, file: IO[bytes]) -> None:
    fd = file.fileno()
    os.fsync(fd)
    if not any(is_found_absent(file_calls, fd) for _ in range(100)):
        pytest.skip("this file system keeps it in memory, or does not say")
    assert any(is_found_absent(twin, fd) for _ in range(100))


def is_found_absent(twin: ModuleType, fd: int) -> bool:
    """Whether a page that was thrown out is said to be absent. A kernel that looks for the page may
    begin to read it, and then it cannot be thrown out at once."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return twin.is_in_memory(fd, 0) is False


@BOTH
def test_errors_are_those_of_the_kernel(twin: ModuleType, file: IO[bytes]) -> None:
    def code(call: object, *arguments: int) -> int | None:
        assert callable(call)
        with pytest.raises(OSError, match=r"\[Errno") as raised:
            call(*arguments)
        return raised.value.errno

    assert code(twin.count_links, -1) == errno.EBADF
    assert code(twin.is_in_memory, -1, 0) == errno.EBADF
    assert code(twin.is_in_memory, file.fileno(), -2) == errno.EINVAL
    reader, writer = os.pipe()
    assert code(twin.is_in_memory, reader, 0) == errno.ESPIPE
    os.close(reader)
    os.close(writer)
    for call in (twin.count_links, lambda fd: twin.is_in_memory(0, fd)):
        for wrong in (None, "0", 1 << 70):
            with pytest.raises((TypeError, OverflowError)):
                call(wrong)


def test_calls_leave_nothing_behind(file: IO[bytes]) -> None:
    fd = file.fileno()

    def call() -> None:
        compiled.count_links(fd)
        compiled.is_in_memory(fd, 5000)
        for wrong in (-1, None):
            with contextlib.suppress(OSError, TypeError):
                compiled.count_links(wrong)
            with contextlib.suppress(OSError, TypeError):
                compiled.is_in_memory(wrong, 0)

    assert_leaves_nothing(call, 2000, None)
