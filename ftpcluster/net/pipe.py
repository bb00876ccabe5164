"""Pipes between a socket and a file, for splice(2)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import ClassVar

from ftpcluster.descriptors import close_quietly

SIZE = 1 << 20


class Pipe:
    """A pipe that is empty whenever it is borrowed; some are kept for the next upload.

    The pipe of a failed transfer may hold bytes. It is not given back, but closed when it is freed.
    """

    __slots__ = ("reader", "writer")
    _idle: ClassVar[list[Pipe]] = []
    _KEPT = 8

    def __init__(self) -> None:
        self.reader = self.writer = -1
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, SIZE)
        except PermissionError:
            pass  # over /proc/sys/fs/pipe-user-pages-soft: the default size works too

    @classmethod
    def borrow(cls) -> Pipe:
        """Raises OSError where no descriptor is left."""
        return cls._idle.pop() if cls._idle else cls()

    @classmethod
    def close_idle(cls) -> None:
        """Close the pipes that are kept for the next upload."""
        cls._idle.clear()

    def pour(self, count: int, fd: int) -> None:
        """Move ``count`` bytes that the pipe holds to a file."""
        while count:
            count -= os.splice(self.reader, fd, count)

    def drain(self, write: Callable[[bytes], object]) -> None:
        """Hand all that the pipe holds to ``write``, in order."""
        while True:
            try:
                block = os.read(self.reader, SIZE)
            except BlockingIOError:
                return
            write(block)

    def give_back(self) -> None:
        """Keep the pipe, which is empty, for the next upload."""
        if len(self._idle) < self._KEPT:
            self._idle.append(self)

    def __del__(self) -> None:
        if self.reader >= 0:
            close_quietly(self.reader)
            close_quietly(self.writer)
