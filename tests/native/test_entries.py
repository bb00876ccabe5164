"""The compiled functions for directories do what their twins in Python do."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftpcluster.protocol import listing
from ftpcluster.storage import scanning
from ftpcluster.storage.base import Entry

compiled = pytest.importorskip("ftpcluster._native.entries", reason="was not built")
NOW = 1_700_000_000.0
BOTH = pytest.mark.parametrize(
    "entries_in", [scanning.entries_in, compiled.entries_in], ids=["Python", "compiled"]
)
Reader = Callable[..., Iterator[list[Entry]]]


def numbered(number: int) -> str:
    return {0: "root", 1: "böse"}.get(number, str(number))


def perm(mode: int) -> str:
    return listing.permission_fact(mode, readable=True, writable=True)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A directory with an entry of each kind, and names of each kind."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o6751)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "nowhere").symlink_to("/böse/\x01" + "x" * 3000)
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/socket")
    for name in (b"\xff\xfe", "ä€𝄞".encode(), b"\x01\r\n\x7f", "\x85\u200b".encode(), b"n" * 255):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    for name in (b".hidden", b"...", b". ", b" x"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
            pass
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 2**40 + 1)
    return tmp_path


def read(entries_in: Reader, directory: Path, most: int = 512) -> list[Entry]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return [entry for batch in entries_in(fd, most) for entry in batch]
    finally:
        os.close(fd)


def test_entries_are_the_same(odd: Path) -> None:
    expected, found = read(scanning.entries_in, odd), read(compiled.entries_in, odd)
    assert len(found) == 16
    assert [entry[0] for entry in found] == [entry[0] for entry in expected]
    assert [entry[2] for entry in found] == [entry[2] for entry in expected]
    for (_, status, _), (_, same, _) in zip(found, expected, strict=True):
        assert status[:] == same[:10]
        assert status.st_mtime == same.st_mtime
        assert status.st_mtime_ns == same.st_mtime_ns
        for name in ("mode", "ino", "dev", "nlink", "uid", "gid", "size"):
            assert getattr(status, f"st_{name}") == getattr(same, f"st_{name}")


@pytest.mark.parametrize("now", [NOW, 4e9])
def test_lines_are_the_same(odd: Path, now: float) -> None:
    expected, found = read(scanning.entries_in, odd), read(compiled.entries_in, odd)
    assert compiled.list_lines(found, now, numbered, numbered) == listing.list_lines(
        expected, now, numbered, numbered
    )
    assert compiled.fact_lines(found, perm) == listing.fact_lines(expected, perm)
    for prefix in ("", "a/", "ä/"):
        assert compiled.name_lines(found, prefix) == listing.name_lines(expected, prefix)


def test_statuses_from_elsewhere_and_chosen_facts_are_left_to_python(odd: Path) -> None:
    expected, found = read(scanning.entries_in, odd), read(compiled.entries_in, odd)
    facts = ("size", "unix.mode")
    assert compiled.fact_lines(found, perm, facts) == listing.fact_lines(expected, perm, facts)
    assert compiled.fact_lines(expected, perm) == listing.fact_lines(expected, perm)
    assert compiled.list_lines(expected, NOW) == listing.list_lines(expected, NOW)
    mixed = [*found[:3], *expected[3:]]
    assert compiled.fact_lines(mixed, perm) == listing.fact_lines(expected, perm)
    assert compiled.list_lines(mixed, NOW) == listing.list_lines(expected, NOW)
    assert compiled.list_lines([], NOW) == compiled.fact_lines([], perm) == ""


@pytest.fixture(scope="module")
def in_memory() -> Iterator[Path]:
    """Where a file may have any time (tmpfs)."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


TIMES = st.one_of(
    st.integers(-(2**40), 2**40),
    st.integers(0, 2**31),
    st.sampled_from([-62135596801, -62135596800, -1, 0, 59, 86399, 253402300799, 253402300800]),
    st.integers(-86400, 86400).map(int(NOW).__add__),
    st.integers(-15_778_480, -15_778_470).map(int(NOW).__add__),
    st.integers(55, 65).map(int(NOW).__add__),
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(TIMES, st.integers(0, 2**63 - 4096), st.integers(0, 0o7777))
def test_each_time_size_and_mode_is_shown_alike(
    in_memory: Path, seconds: int, size: int, mode: int
) -> None:
    file = in_memory / "file"
    file.touch()
    os.truncate(file, size)
    file.chmod(mode)
    os.utime(file, (0, seconds))
    expected = read(scanning.entries_in, in_memory)
    found = read(compiled.entries_in, in_memory)
    assert compiled.list_lines(found, NOW) == listing.list_lines(expected, NOW)
    assert compiled.fact_lines(found, perm) == listing.fact_lines(expected, perm)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace").decode())))
def test_each_name_is_shown_alike(names: list[str]) -> None:
    entries = [(name, os.stat("/"), None) for name in names]
    for prefix in ("", "\u00e4"):
        assert compiled.name_lines(entries, prefix) == listing.name_lines(entries, prefix)


@BOTH
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1500])
def test_batches(entries_in: Reader, tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / f"{number:0100d}").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        batches = list(entries_in(fd, 8))
        assert [len(batch) for batch in batches[:-1]] == [8] * (len(batches) - 1)
        names = [entry[0] for batch in batches for entry in batch]
        assert sorted(names) == [f"{number:0100d}" for number in range(count)]
        os.fstat(fd)
    finally:
        os.close(fd)


@BOTH
def test_a_batch_ends_when_its_time_is_over(entries_in: Reader, odd: Path) -> None:
    fd = os.open(odd, os.O_RDONLY)
    try:
        assert [len(batch) for batch in entries_in(fd, 512, 0.0)] == [1] * 16
        os.lseek(fd, 0, os.SEEK_SET)
        assert [len(batch) for batch in entries_in(fd, 512, 1e6)] == [16]
    finally:
        os.close(fd)


@BOTH
def test_what_is_removed_meanwhile_is_left_out(entries_in: Reader, odd: Path) -> None:
    fd = os.open(odd, os.O_RDONLY)
    try:
        batches = entries_in(fd, 1)
        names = [next(batches)[0][0]]
        left = next(name for name in os.listdir(odd) if name not in names)
        for name in os.listdir(odd):
            if name not in (*names, left):
                path = odd / name
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        names += [entry[0] for batch in batches for entry in batch]
        assert names[1:] == [left]
    finally:
        os.close(fd)


@BOTH
@pytest.mark.parametrize(("fd", "error"), [("file", errno.ENOTDIR), ("closed", errno.EBADF)])
def test_errors(entries_in: Reader, odd: Path, fd: str, error: int) -> None:
    number = os.open(odd / "file", os.O_RDONLY)
    if fd == "closed":
        os.close(number)
    with pytest.raises(OSError, match=os.strerror(error)) as raised:
        list(entries_in(number, 512))
    assert raised.value.errno == error
    if fd != "closed":
        os.close(number)


def test_wrong_arguments_are_refused(odd: Path) -> None:
    fd = os.open(odd, os.O_RDONLY)
    try:
        with pytest.raises(ValueError, match="one entry at least"):
            compiled.entries_in(fd, 0)
        with pytest.raises(TypeError):
            compiled.list_lines([(b"name", found, None) for _, found, _ in read_one(odd)], NOW)
        with pytest.raises((TypeError, ValueError)):
            compiled.fact_lines([("name",)], perm)
        with pytest.raises(ZeroDivisionError):
            compiled.fact_lines(read_one(odd), lambda mode: str(1 // 0))
        with pytest.raises(TypeError):
            compiled.name_lines([None])
    finally:
        os.close(fd)


def read_one(directory: Path) -> list[Entry]:
    return read(compiled.entries_in, directory)[:1]


def test_threads_may_not_read_one_directory_at_the_same_time(tmp_path: Path) -> None:
    """It must not crash; a thread that comes in between is refused."""
    for number in range(2000):
        (tmp_path / str(number)).touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    batches = compiled.entries_in(fd, 100)
    found: list[str] = []

    def take() -> None:
        while True:
            try:
                batch = next(batches, None)
            except ValueError:
                continue
            if batch is None:
                return
            found.extend(entry[0] for entry in batch)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    os.close(fd)
    assert sorted(found, key=int) == [str(number) for number in range(2000)]
