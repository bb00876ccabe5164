"""Closing, in a thread, sockets that a worker has, too: the worker may make close(2) block.

With SO_LINGER the last close of a socket blocks until its peer has taken all data, for as long as
that option says, even where the socket is non-blocking. Any process that has the socket may set the
option at any moment. Closing a channel also closes the descriptors in it that were not read, and
may block, too.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Iterable

from ftpcluster.descriptors import close_quietly

_NO_LINGER = struct.pack("ii", 0, 0)


class Closer:
    """Closes one worker's sockets in order. If a close blocks, only that worker's clients wait."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def close(self, descriptors: Iterable[int]) -> None:
        """Take these descriptors over, and close them soon."""
        for fd in descriptors:
            self._queue.put(fd)
        self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="closer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # no thread can be started: the next descriptor tries again
            self._thread = thread

    def end(self) -> None:
        """End the thread when all are closed."""
        if self._thread is None and not self._queue.empty():
            self._begin()
            if self._thread is None:  # open for ever would be worse than a close that blocks
                self._queue.put(None)
                self._run()
                return
        if self._thread is not None:
            self._queue.put(None)

    def _run(self) -> None:
        while (fd := self._queue.get()) is not None:
            forget_linger(fd)
            close_quietly(fd)


def close_aside(fd: int) -> None:
    """Close a descriptor in a thread of its own."""
    closer = Closer()
    closer.close((fd,))
    closer.end()


def forget_linger(fd: int) -> None:
    """Undo SO_LINGER, if it is a socket. It would block other processes that close it, too."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
    except OSError:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    except OSError:
        pass  # it is no socket
    finally:
        sock.detach()
