"""Threads that send large files, with calls that block.

A transfer in the loop is woken for each third of a send buffer, and its client with it. A thread in
a blocking sendfile(2) goes on in the kernel, and the loop is free meanwhile. Only fast clients get
one: where a send buffer stays full for a moment, the transfer goes on in the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable

from ftpcluster.net.stream import Stream
from ftpcluster.session.command_run import wait_out
from ftpcluster.storage.base import COPY_REFUSED
from ftpcluster.storage.threads import Threads

THREADS = 8
"""At most, in a process. Further transfers are sent in the loop."""
LARGE = 8 << 20
"""Bytes that are worth the way to a thread and back."""
PIECE = 1 << 20
"""Bytes of one call. Between two calls, progress is counted and new limits take effect."""
_PATIENCE = struct.pack("@ll", 0, 50_000)
"""Microseconds that a call waits for room: enough for a client that reads some MB/s."""
_LOOP_GOES_ON = COPY_REFUSED | {errno.EAGAIN}


class SendingThreads:
    """Sends with ``sendfile``, a few transfers at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads = Threads(loop, "ftpcluster-sending")
        self._busy = 0

    @property
    def has_room(self) -> bool:
        return self._busy < THREADS

    async def send(
        self, stream: Stream, source: int, position: int, end: int, told: Callable[[int], bool]
    ) -> int:
        """Send a file from ``position`` on; returns the position reached, which may be the same.

        ``told`` is called in the thread with the number of bytes of each piece; False ends the
        sending. A cancellation shuts down the connection's output, which ends the call that blocks:
        the thread uses the descriptors no more.
        """
        work = _Sending(self._loop.create_future(), stream.fd, source, position, end, told)
        try:
            _set_patience(stream.fd)
            os.set_blocking(stream.fd, True)
        except OSError:
            return position  # the loop will meet the same error
        try:
            self._threads.begin(work)
        except RuntimeError:  # no thread can be started
            os.set_blocking(stream.fd, False)
            return position
        self._busy += 1
        try:
            await asyncio.shield(work.done)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):  # it is broken: the call has failed
                stream.end_output()
            await wait_out(work.done)
            raise
        finally:
            self._busy -= 1
            if not stream.closed:
                os.set_blocking(stream.fd, False)
        if work.error is not None:
            raise work.error
        return work.position

    def close(self) -> None:
        self._threads.close()


class _Sending:
    """What a thread does for one transfer."""

    __slots__ = ("_end", "_fd", "_source", "_told", "done", "error", "position")

    def __init__(
        self,
        done: asyncio.Future[None],
        fd: int,
        source: int,
        position: int,
        end: int,
        told: Callable[[int], bool],
    ) -> None:
        self.done = done
        self.position = position
        self.error: OSError | None = None
        self._fd, self._source, self._end, self._told = fd, source, end, told

    def run(self) -> None:
        while self.position < self._end:
            asked = min(PIECE, self._end - self.position)
            try:
                sent = os.sendfile(self._fd, self._source, self.position, asked)
            except OSError as error:
                if error.errno not in _LOOP_GOES_ON:
                    self.error = error
                return
            self.position += sent
            if not self._told(sent) or sent < asked:
                return

    def ended(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def forsaken(self) -> None:
        pass


def _set_patience(fd: int) -> None:
    sock = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
    finally:
        sock.detach()
