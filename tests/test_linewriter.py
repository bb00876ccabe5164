"""Lines to a descriptor whose reader stops, or whose disk is full: nobody waits, none is cut."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.linewriter import LineWriter, Losses, hold_threads, release_threads
from tests.support.cluster import until

ENOUGH = 60_000
"""Lines that fill every pipe and the queue."""


class Counted(Losses):
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[int] = []

    def begin(self, why: str) -> None:
        self.begun.append(why)

    def line(self, count: int, why: str) -> bytes:
        return f"{count} lost: {why}\n".encode()

    def end(self, count: int, why: str) -> None:
        self.ended.append(count)


class Ends:
    """A writer's end, and what was read at the other one."""

    def __init__(self, ours: int, theirs: int) -> None:
        self.ours, self.theirs = ours, theirs
        self.seen = b""

    def read(self) -> None:
        """Read until nobody can write any more."""
        while data := os.read(self.theirs, 65536):
            self.seen += data

    def lines(self) -> list[str]:
        return self.seen.decode().splitlines()


@contextlib.contextmanager
def ends(kind: str) -> Iterator[Ends]:
    if kind == "socket":
        one, other = socket.socketpair()
        pair = one.detach(), other.detach()
    else:
        theirs, ours = os.pipe()
        pair = ours, theirs
        os.set_blocking(ours, kind == "pipe that blocks")
    try:
        yield Ends(*pair)
    finally:
        for fd in pair:
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.mark.parametrize("kind", ["pipe", "pipe that blocks", "socket"])
def test_a_reader_that_stops_holds_nobody_up_and_is_told_what_it_has_missed(kind: str) -> None:
    with ends(kind) as pair:
        losses = Counted()
        writer = LineWriter(pair.ours, losses)
        for number in range(ENOUGH):
            writer.write(b"line %d\n" % number)  # nobody reads; it would wait for ever
        reader = threading.Thread(target=pair.read, daemon=True)
        reader.start()
        until(lambda: losses.ended)
        writer.write(b"behind\n")
        until(lambda: pair.seen.endswith(b"behind\n"))
        lines = pair.lines()
        kept = [int(line.removeprefix("line ")) for line in lines if line.startswith("line")]
        (lost,) = (line for line in lines if "lost" in line)
        assert kept == [*range(len(kept))]  # in order, and none of them cut
        assert lost == f"{ENOUGH - len(kept)} lost: nobody read them"
        assert lines[-2:] == [lost, "behind"]
        assert (losses.begun, losses.ended) == (["nobody read them"], [ENOUGH - len(kept)])


def test_a_number_of_lost_lines_that_cannot_be_written_is_no_lost_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where the disk is full just then: the next line tells the same number."""
    with ends("pipe that blocks") as pair:
        losses = Counted()
        writer = LineWriter(pair.ours, losses)
        is_read = threading.Event()
        written: list[bytes] = []
        failed: list[bytes] = []

        def put(data: bytes) -> int:
            is_read.wait()
            if b"lost" in data and not failed:
                failed.append(data)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written.append(data)
            return len(data)

        monkeypatch.setattr(writer, "_put", put)
        for _ in range(6):
            writer.write(b"x" * 65536)  # the queue has room for four
        is_read.set()
        until(lambda: writer._is_failing)
        writer.write(b"behind\n")
        until(lambda: losses.ended)
        assert failed == [b"2 lost: nobody read them\n"]
        assert written[4:] == [b"2 lost: nobody read them\nbehind\n"]
        assert losses.ended == [2]


def test_no_thread_is_started_before_that_is_allowed() -> None:
    with ends("pipe that blocks") as pair:
        hold_threads()
        try:
            before = threading.active_count()
            writer = LineWriter(pair.ours, Counted())
            writer.write(b"early\n")
            assert threading.active_count() == before
        finally:
            release_threads()
        assert os.read(pair.theirs, 100) == b"early\n"


@contextlib.contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """Files cannot grow beyond that, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("flags", [os.O_APPEND, 0])
def test_a_full_disk_leaves_no_line_cut_and_the_number_of_those_that_are_lost(
    tmp_path: Path, flags: int
) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | flags)
    losses = Counted()
    writer = LineWriter(fd, losses)
    with no_more_than(1005):
        for number in range(200):
            writer.write(b"line %04d\n" % number)  # the 101st is cut behind 5 bytes
    writer.write(b"again\n")
    writer.write(b"and again\n")
    os.close(fd)
    text = (tmp_path / "log").read_text()
    whole = "".join(f"line {number:04d}\n" for number in range(100))
    cut = "" if flags else "line \n"  # a file that only we write cannot be cut by its end
    assert text == f"{whole}{cut}100 lost: File too large\nagain\nand again\n"
    assert (losses.begun, losses.ended) == (["File too large"], [100])


def test_the_end_of_another_process_s_line_is_left_alone(tmp_path: Path) -> None:
    """Where somebody has appended behind the cut, nothing is taken back."""
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writer = LineWriter(fd, Counted())
    put = writer._put

    def put_and_be_followed(data: bytes) -> int:
        count = put(data)
        if count < len(data):
            with no_more_than(resource.RLIM_INFINITY):
                path.write_bytes(path.read_bytes() + b"\nanother's\n")
        return count

    writer._put = put_and_be_followed
    with no_more_than(5):
        writer.write(b"a line\n")
    writer.write(b"again\n")
    os.close(fd)
    assert re.fullmatch(r"a lin\nanother's\n\n1 lost: .*\nagain\n", path.read_text())


def test_a_reader_that_is_gone_costs_lines_until_there_is_another_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    fd = os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    writer = LineWriter(fd, Counted())
    os.close(reader)
    for _ in range(3):
        writer.write(b"nobody\n")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer.write(b"somebody\n")
    assert os.read(reader, 1000) == b"3 lost: Broken pipe\nsomebody\n"
    os.close(reader)
    os.close(fd)
