"""Lines to a descriptor that may take none for a while: no writer waits for its reader.

A pipe is full when its reader stops, a terminal when somebody presses Ctrl-S, a socket when the
service behind it is stuck; a disk may be full; a file that another machine or a program serves
(NFS, FUSE) may keep a write for ever. A loop that waited for them would serve nobody. What cannot
be written at once, or may have to wait, goes into a queue, which a thread empties. What is beyond
the bound of the queue, or fails, is lost; it is counted, and told as soon as lines can be written
again.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import fcntl
import functools
import os
import re
import select
import socket
import stat
import threading
from collections.abc import Callable

from ftpcluster.runtime import leave_aborts_to_the_main_thread

_MOST_WAITING = 256 * 1024
"""Bytes that wait in the queue at the most."""
_LAST_WORDS = 0.3
"""Seconds that the end of the process waits for a reader that has been slow."""
_NOT_READ = "nobody read them"
_NOT_TAKEN = "its file system did not take them"
_LOCAL = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs")
)
"""File systems that write to memory first, of this machine. A write to them costs some 3 µs less
than a thread that has to be woken for it."""

_writers: list[LineWriter] = []
_may_start_threads = True


def hold_threads() -> None:
    """Start no thread until ``release_threads``: this process is going to be confined."""
    global _may_start_threads
    _may_start_threads = False


def release_threads() -> None:
    """Threads may be started, and those that are needed by now are."""
    global _may_start_threads
    _may_start_threads = True
    for writer in _writers:
        writer.start_if_needed()


class Losses:
    """Called with news of lost lines, in any thread."""

    def begin(self, why: str) -> None:
        """From now on lines are lost."""

    def line(self, count: int, why: str) -> bytes:
        """What is written before the next line."""
        return b""

    def end(self, count: int, why: str) -> None:
        """Lines are written again."""


class LineWriter:
    """Writes whole lines, in order, and never waits."""

    def __init__(self, fd: int, losses: Losses) -> None:
        self.fd = fd
        self.losses = losses
        self._put, self._blocks, self._why_full = _way_to_write(fd)
        self._is_behind = self._blocks
        """Whether lines go through the queue."""
        self._queue: collections.deque[bytes] = collections.deque()
        self._waiting = 0  # bytes
        self._lost = 0
        self._why = ""
        self._is_cut = False
        self._is_failing = False
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        _writers.append(self)

    def write(self, line: bytes) -> None:
        """Write a line, now or as soon as it can be."""
        if self._is_behind or self._lost:
            with self._lock:
                self._write_behind(line)
            return
        try:
            count = self._put(line)
        except OSError as error:
            self._on_failure(line, 0, error)
        else:
            if count < len(line):
                self._go_on(line, count)

    def flush(self, seconds: float) -> None:
        """Wait until nothing waits to be written, for so long at the most."""
        with self._lock:
            self._news.wait_for(lambda: not self._queue, seconds)

    def start_if_needed(self) -> None:
        """Start the thread if lines wait."""
        with self._lock:
            if self._queue:
                self._start()

    # ------------------------------------------------------------------ at once

    def _write_behind(self, line: bytes) -> None:
        """Write a line behind others that wait, or were lost."""
        if self._is_behind:
            self._enqueue(line)
            return
        told, head = self._lost, self._head()
        try:
            self._put_all(head + line, 0)
        except _Stopped as stop:
            if not (stop.count and isinstance(stop.error, BlockingIOError)):
                self._on_failure(line, stop.count, stop.error)
                return
            self._on_failure(head + line, stop.count, stop.error)  # the rest will follow
        self._on_told(told)

    def _go_on(self, line: bytes, count: int) -> None:
        """A part of a line was written. A disk that is full says so with the next bytes."""
        try:
            self._put_all(line, count)
        except _Stopped as stop:
            self._on_failure(line, stop.count, stop.error)

    def _put_all(self, data: bytes, count: int) -> None:
        """Write what is behind the first ``count`` bytes. Raises _Stopped."""
        try:
            while count < len(data):
                count += self._put(data[count:])
        except OSError as error:
            raise _Stopped(count, error) from error

    def _on_failure(self, line: bytes, count: int, error: OSError) -> None:
        """No more than ``count`` bytes of a line could be written."""
        with self._lock:
            if isinstance(error, BlockingIOError):
                self._enqueue(line[count:], is_begun=count > 0)
            else:
                self._take_back(count)
                self._lose(error.strerror or str(error))

    # ------------------------------------------------------------------ what is lost

    def _head(self) -> bytes:
        """What comes before the next line."""
        head = b"\n" * self._is_cut
        return head + self.losses.line(self._lost, self._why) if self._lost else head

    def _lose(self, why: str) -> None:
        self._why = why
        self._lost += 1
        if self._lost == 1:
            self.losses.begin(why)

    def _on_told(self, count: int) -> None:
        """So many lost lines stand in the log now, as a number."""
        self._lost -= count
        self._is_cut = False
        if count:
            self.losses.end(count, self._why)

    def _take_back(self, count: int) -> None:
        """Remove the beginning of a line; else the next one begins with a line's end.

        Others append to the same file: only where it ends with ours.
        """
        if count == 0:
            return
        with contextlib.suppress(OSError):
            is_file = stat.S_ISREG(os.fstat(self.fd).st_mode)
            if is_file and _flags(self.fd) & os.O_APPEND:
                end = os.lseek(self.fd, 0, os.SEEK_CUR)
                if end == os.fstat(self.fd).st_size:
                    os.ftruncate(self.fd, end - count)
                    return
        self._is_cut = True

    # ------------------------------------------------------------------ the queue

    def _enqueue(self, line: bytes, *, is_begun: bool = False) -> None:
        has_gap = self._lost and not self._is_failing  # its end is told before further lines
        if not is_begun and (has_gap or self._waiting + len(line) > _MOST_WAITING):
            self._lose(self._why_full)
            return
        if is_begun:
            self._queue.appendleft(line)
        else:
            self._queue.append(line)
        self._waiting += len(line)
        self._is_behind = True
        self._start()

    def _start(self) -> None:
        if self._thread is None and _may_start_threads:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        self._news.notify_all()

    def _run(self) -> None:
        leave_aborts_to_the_main_thread()
        while (next_ := self._next()) is not None:
            line, head, told = next_
            error = self._write_patiently(head + line)
            with self._lock:
                if line:
                    self._waiting -= len(self._queue.popleft())
                self._is_failing = error is not None
                if error is None:
                    self._on_told(told)
                else:
                    self._lose(error.strerror or str(error))

    def _next(self) -> tuple[bytes, bytes, int] | None:
        """A line, what comes before it, and how many lost lines that tells of; None: no more."""
        with self._lock:
            while not self._queue:
                self._news.notify_all()
                if self._lost and not self._is_failing:
                    return b"", self._head(), self._lost
                if not self._blocks:
                    self._is_behind = False
                    self._thread = None
                    return None
                self._news.wait()
            # what was lost came later than what waits, unless it failed
            if self._is_failing:
                return self._queue[0], self._head(), self._lost
            return self._queue[0], b"\n" * self._is_cut, 0

    def _write_patiently(self, data: bytes) -> OSError | None:
        """Write all, however long that takes; what went wrong, if anything did."""
        count = 0
        while True:
            try:
                self._put_all(data, count)
            except _Stopped as stop:
                count = stop.count
                if not isinstance(stop.error, BlockingIOError):
                    with self._lock:
                        self._take_back(count)
                    return stop.error
                _wait_for_room(self.fd)
            else:
                return None


class _Stopped(Exception):
    """So many bytes were written, and no more for the time being, or for good."""

    def __init__(self, count: int, error: OSError) -> None:
        self.count = count
        self.error = error


def _way_to_write(fd: int) -> tuple[Callable[[bytes], int], bool, str]:
    """What writes to a descriptor, whether it may block, and why lines that wait are lost.

    The descriptor may be shared with other programs, and O_NONBLOCK is a flag of all of them.
    """
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            # never closed: the number is somebody else's
            sock = socket.socket(fileno=fd)
            atexit.register(sock.detach)
            return functools.partial(_send, sock), False, _NOT_READ
        if stat.S_ISREG(mode):
            return functools.partial(os.write, fd), not _is_local(fd), _NOT_TAKEN
        may_block = stat.S_ISFIFO(mode) or os.isatty(fd)
        blocks = may_block and not _flags(fd) & os.O_NONBLOCK
    except OSError:
        blocks = False
    return functools.partial(os.write, fd), blocks, _NOT_READ


def _is_local(fd: int) -> bool:
    """Whether a file is on one of the file systems that take writes at once.

    The kernel's own lists say so; statfs would wait for the file system. What they do not have,
    as where a file is of another mount namespace, is taken for one that may hang.
    """
    try:
        with open(f"/proc/self/fdinfo/{fd}") as facts:
            found = re.search(r"^mnt_id:\s*(\d+)$", facts.read(), re.MULTILINE)
        with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
            for mount in mounts:
                if found is not None and mount.startswith(f"{found[1]} "):
                    return mount.partition(" - ")[2].partition(" ")[0] in _LOCAL
    except OSError:
        pass
    return False


def _send(sock: socket.socket, data: bytes) -> int:
    return sock.send(data, socket.MSG_DONTWAIT)


def _flags(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def _wait_for_room(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll()


@atexit.register
def _flush_all() -> None:
    for writer in _writers:
        writer.flush(_LAST_WORDS)
