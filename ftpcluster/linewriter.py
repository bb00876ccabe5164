"""Writes lines to a descriptor, and never waits for its reader or its disk.

A pipe is full when its reader stops, a terminal when somebody presses Ctrl-S, a socket when the
service behind it is stuck; a disk may be full; a write to a file that another machine or a program
serves (NFS, FUSE) may last for ever. An event loop that waited for them would serve nobody. So a
line that cannot be written at once, or may have to wait, goes into a queue, which a thread empties.
Lines beyond the bound of the queue are lost, and so are those whose write fails. They are counted,
and their number is written as soon as lines can be written again.
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
"""Seconds that the exit of the process waits for the queue of each writer."""
_NOT_READ = "nobody read them"
_NOT_TAKEN = "its file system did not take them"
_LOCAL = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs")
)
"""File systems of this machine that take writes into memory. Writing to them at once takes some 3
µs less than waking a thread."""

_writers: list[LineWriter] = []
_may_start_threads = True


def hold_threads() -> None:
    """Start no thread until ``release_threads``: Landlock confines only later threads."""
    global _may_start_threads
    _may_start_threads = False


def release_threads() -> None:
    """Allow threads again, and start those that are needed by now."""
    global _may_start_threads
    _may_start_threads = True
    for writer in _writers:
        writer.start_if_needed()


class Losses:
    """Is told of lost lines, in any thread. ``why`` is the reason, ``count`` their number."""

    def begin(self, why: str) -> None:
        """A first line was lost."""

    def line(self, count: int, why: str) -> bytes:
        """What to write before the next line; it may tell the number."""
        return b""

    def end(self, count: int, why: str) -> None:
        """Lines can be written again."""


class LineWriter:
    """Writes whole lines, in order, and never waits."""

    def __init__(self, fd: int, losses: Losses) -> None:
        self.fd = fd
        self.losses = losses
        self._put, self._blocks, self._why_full = _way_to_write(fd)
        self._is_queueing = self._blocks
        """Whether lines go into the queue."""
        self._queue: collections.deque[bytes] = collections.deque()
        self._waiting = 0  # bytes
        self._lost = 0
        self._why = ""
        self._is_cut = False  # the last line that was written lacks its end
        self._is_failing = False  # the thread's last write failed
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        _writers.append(self)

    def write(self, line: bytes) -> None:
        """Write a line, at once or as soon as possible."""
        if self._is_queueing or self._lost:
            with self._lock:
                self._write_after_others(line)
            return
        try:
            count = self._put(line)
        except OSError as error:
            self._on_failure(line, 0, error)
        else:
            if count < len(line):
                self._go_on(line, count)

    def flush(self, seconds: float) -> None:
        """Wait until the queue is empty, ``seconds`` at most."""
        with self._lock:
            self._news.wait_for(lambda: not self._queue, seconds)

    def start_if_needed(self) -> None:
        """Start the thread if lines are in the queue."""
        with self._lock:
            if self._queue:
                self._start()

    # ------------------------------------------------------------------ at once

    def _write_after_others(self, line: bytes) -> None:
        """Write a line after others that are in the queue or were lost."""
        if self._is_queueing:
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
        """Write the rest of a line. A full disk takes a part, and reports its error only now."""
        try:
            self._put_all(line, count)
        except _Stopped as stop:
            self._on_failure(line, stop.count, stop.error)

    def _put_all(self, data: bytes, count: int) -> None:
        """Write ``data`` from byte ``count`` on. Raises _Stopped."""
        try:
            while count < len(data):
                count += self._put(data[count:])
        except OSError as error:
            raise _Stopped(count, error) from error

    def _on_failure(self, line: bytes, count: int, error: OSError) -> None:
        """Queue or lose a line of which only ``count`` bytes could be written."""
        with self._lock:
            if isinstance(error, BlockingIOError):
                self._enqueue(line[count:], is_begun=count > 0)
            else:
                self._take_back(count)
                self._lose(error.strerror or str(error))

    # ------------------------------------------------------------------ what is lost

    def _head(self) -> bytes:
        """The bytes before the next line: the end of a cut one, and the number of lost ones."""
        head = b"\n" * self._is_cut
        return head + self.losses.line(self._lost, self._why) if self._lost else head

    def _lose(self, why: str) -> None:
        self._why = why
        self._lost += 1
        if self._lost == 1:
            self.losses.begin(why)

    def _on_told(self, count: int) -> None:
        """The number of ``count`` lost lines was written."""
        self._lost -= count
        self._is_cut = False
        if count:
            self.losses.end(count, self._why)

    def _take_back(self, count: int) -> None:
        """Remove the first ``count`` bytes of a line whose rest could not be written.

        Other processes append to the same file. So this is done only where our bytes are the last
        ones; else the next line begins with a newline.
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
        # lines were lost: until their number is written, in its place, further ones are lost, too
        has_gap = self._lost and not self._is_failing
        if not is_begun and (has_gap or self._waiting + len(line) > _MOST_WAITING):
            self._lose(self._why_full)
            return
        if is_begun:
            self._queue.appendleft(line)
        else:
            self._queue.append(line)
        self._waiting += len(line)
        self._is_queueing = True
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
                elif line:  # else it was only the number of lost lines
                    self._lose(error.strerror or str(error))

    def _next(self) -> tuple[bytes, bytes, int] | None:
        """A line, the bytes before it, and the number of lost lines in these; None: no more."""
        with self._lock:
            while not self._queue:
                self._news.notify_all()
                if self._lost and not self._is_failing:
                    return b"", self._head(), self._lost
                if not self._blocks:
                    self._is_queueing = False
                    self._thread = None
                    return None
                self._news.wait()
            # lines that found the queue full came after those in it; one whose write failed, before
            if self._is_failing:
                return self._queue[0], self._head(), self._lost
            return self._queue[0], b"\n" * self._is_cut, 0

    def _write_patiently(self, data: bytes) -> OSError | None:
        """Write all of it, however long that takes. Returns the error, if there was one."""
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
    """``count`` bytes were written, and no more: for now (BlockingIOError), or for good."""

    def __init__(self, count: int, error: OSError) -> None:
        self.count = count
        self.error = error


def _way_to_write(fd: int) -> tuple[Callable[[bytes], int], bool, str]:
    """The function that writes, whether it may block, and the reason why a full queue loses lines.

    O_NONBLOCK is not set here: other programs may share the descriptor, and would get it, too.
    """
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISSOCK(mode):
            # detached at the end: it must not close a descriptor that is not ours
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
    """Whether a file is on one of the file systems of ``_LOCAL``.

    /proc says so; statfs(2) would wait for the file system. A file whose mount is not listed there,
    since it is of another mount namespace, is taken for one that may hang.
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
