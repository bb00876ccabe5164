"""Closing descriptors that a worker has had a hand in: in a thread, since it may make that wait.

Linux lets the one who closes a socket last wait until its peer has taken what was sent, for as
long as SO_LINGER says, whether the socket is non-blocking or not; and whoever else has the socket
may set that at any moment. The same happens where descriptors that lie in a channel go with it.
"""

from __future__ import annotations

import os
import queue
import socket
import struct
import threading
from collections.abc import Iterable

_NO_LINGER = struct.pack("ii", 0, 0)


class Closer:
    """Closes what one worker has had, in order: where it has to wait, only that worker's
    clients do."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def close(self, descriptors: Iterable[int]) -> None:
        """Close them soon. They are nobody's from now on."""
        for fd in descriptors:
            self._queue.put(fd)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="closer", daemon=True)
            self._thread.start()

    def end(self) -> None:
        """Nothing more comes."""
        if self._thread is not None:
            self._queue.put(None)

    def _run(self) -> None:
        while (fd := self._queue.get()) is not None:
            forget_linger(fd)
            os.close(fd)


def close_aside(fd: int) -> None:
    """Close one of a worker that is gone, or does not matter any more."""
    closer = Closer()
    closer.close((fd,))
    closer.end()


def forget_linger(fd: int) -> None:
    """Undo SO_LINGER, where it is a socket: also for the next worker that is to close it."""
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
