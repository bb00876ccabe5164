"""What the server sends over a data connection: files and listings."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from ftpcluster.answers import settled
from ftpcluster.net.tls import TLSStream
from ftpcluster.protocol.ascii import ToNetwork
from ftpcluster.protocol.errors import LocalProblem
from ftpcluster.quota.rates import DOWNLOAD
from ftpcluster.session.in_use import when_free
from ftpcluster.session.lingering import Lingering
from ftpcluster.session.sending_threads import LARGE
from ftpcluster.session.server_dtp import BLOCK, MOST, DataTransfer
from ftpcluster.session.transfer_waits import Cause
from ftpcluster.storage.base import COPY_REFUSED, File

_GATHERED_FROM = 64 * 1024
"""Bytes of a protected download that are worth a system call to send them in full segments."""
_buffer = memoryview(bytearray(128 * 1024))
"""One buffer for the process, half as large as a core's cache. No session keeps data in it over a
wait."""
_IN_LOOP = 16 << 20
"""Bytes that the loop sends before it tries again whether the client is fast enough for a
thread."""
_DOUBTS = 2
"""How often in a row sendfile may raise EAGAIN although the data connection is writable."""


class Download(DataTransfer):
    """What the server sends."""

    __slots__ = ()
    direction = "download"
    limited_as = DOWNLOAD

    async def _finish_tls(self, stream: TLSStream) -> None:
        await super()._finish_tls(stream)
        Lingering(self._session.services, stream, self._session.conversation.peer)

    def send_file_at_once(self, file: File, position: int) -> bool:
        """Send ``file`` from ``position`` on, and close the connection, all in one call.

        False where something has to wait. Then the ``async with`` block goes on with ``send_file``,
        from the same position; ``progress`` of the session counts the bytes already sent.
        """
        fd, count = file.kernel_fd, file.size - position
        if fd is None or not self._session.parameters.binary or not self.begin_at_once():
            return False
        try:
            if self._pending is not None:
                return False
            if count:
                if not file.is_resident(position):
                    return False
                sent = os.sendfile(self.stream.fd, fd, position, min(count, self.most))
                self._pending = self.moved(sent)
                if sent < count or self._pending is not None:
                    return False
        except BlockingIOError:
            return False
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in COPY_REFUSED:
                return False
            self.close_at_once(error)
            raise
        self.close_at_once()
        return True

    async def send_file(self, file: File, position: int) -> None:
        """Send ``file`` from ``position``, to which it was sought, up to its size when it was
        opened. The first ``progress`` bytes have been sent already."""
        position += self._session.progress
        if not self._session.parameters.binary:
            await self._send_blocks(file, position, ToNetwork().convert)
        elif file.kernel_fd is None:
            await self._send_blocks(file, position, bytes)
        elif isinstance(self.stream, TLSStream):
            await self._send_protected(self.stream, file, file.kernel_fd, position)
        else:
            await self._sendfile(file, file.kernel_fd, position)

    async def _send_blocks(
        self, file: File, position: int, convert: Callable[[bytes], bytes]
    ) -> None:
        """Copy through memory. The size that a program's own path layer reports may be wrong."""
        rest = math.inf
        if self.total is not None and file.has_size:
            rest = self.total - self._session.progress
        while rest:
            if not file.is_resident(position):
                await self._read_ahead(file, position)
            block = when_free(self._session, file.read, int(min(BLOCK, rest)))
            if not isinstance(block, bytes):
                self.waits.begin(Cause.DISK)
                block = await block
                self.waits.end()
            if not block:
                if rest < math.inf:
                    _check_shorter(file, position)
                return
            rest -= len(block)
            position += len(block)
            await self.send(convert(block))

    async def _send_protected(
        self, stream: TLSStream, file: File, source: int, position: int
    ) -> None:
        """Copy through the buffer that all sessions share.

        After a send that would block, TLS wants the same bytes again. They are read from the file
        again, so a client that reads slowly costs no memory.
        """
        end, again = file.size, 0
        if self._pace is None and end - position >= _GATHERED_FROM:
            stream.gather_output()
        while position < end:
            if not file.is_resident(position):
                await self._read_ahead(file, position)
            piece = _buffer[: again or min(end - position, self.most)]
            read = when_free(self._session, os.preadv, source, (piece,), position)
            count = read if isinstance(read, int) else await read
            if count < again or not count:
                _check_shorter(file, position + count)
                return
            try:
                sent = stream.send(piece[:count])
            except BlockingIOError:
                again = count
                await self.writable()
                continue
            again = 0
            position += sent
            if (pause := self.moved(sent)) is not None:
                await pause

    async def _sendfile(self, file: File, source: int, position: int) -> None:
        end, fd = file.size, self.stream.fd
        doubts, next_thread = 0, position
        while position < end:
            if not file.is_resident(position):
                await self._read_ahead(file, position)
            if position >= next_thread and end - position >= LARGE and self._may_have_thread:
                position = await self._send_in_thread(source, position, end)
                next_thread = position + _IN_LOOP
                continue
            asked = min(end - position, self.most)
            try:
                sent = os.sendfile(fd, source, position, asked)
            except BlockingIOError:
                doubts += 1
                if doubts > _DOUBTS:  # the file raises it, and not the connection
                    break
                await self.writable()
                continue
            except OSError as error:
                if error.errno not in COPY_REFUSED:
                    raise
                file.refuse_kernel_copies()
                break
            if not sent:
                _check_shorter(file, position)
                return
            doubts = 0
            position += sent
            if (pause := self.moved(sent)) is not None:
                await pause
            elif sent < asked:  # the socket is full, or the file has ended, which is seen next
                await self.writable()
        if position < end:
            await settled(file.seek(position))
            await self._send_blocks(file, position, bytes)

    @property
    def _may_have_thread(self) -> bool:
        return self._pace is None and self._session.services.sending.has_room

    async def _send_in_thread(self, source: int, position: int, end: int) -> int:
        """Send a large file in a thread while its client reads fast; returns the new position."""
        self._turn = 0
        self.waits.begin(Cause.CLIENT)
        position = await self._session.services.sending.send(
            self.stream, source, position, end, self._was_sent
        )
        self.waits.end()
        return position

    def _was_sent(self, count: int) -> bool:
        """Called by a thread: whether it may go on. It must stop when a speed limit applies."""
        self._session.progress += count
        return self._pace is None

    async def _read_ahead(self, file: File, position: int) -> None:
        """Have a thread wait for the disk."""
        self.waits.begin(Cause.DISK)
        await self._session.services.in_pool(file.read_ahead, position, MOST)
        self.waits.end()


def _check_shorter(file: File, position: int) -> None:
    """Raises LocalProblem where a file that ended before its size has become shorter."""
    if not file.is_exhausted(position):
        raise LocalProblem("The file became shorter while it was sent.")


class Listing(Download):
    """A listing that the server sends."""

    __slots__ = ()
    direction = "listing"

    def send_at_once(self, lines: bytes) -> bool:
        """Send ``lines``, and close the connection, all in one call.

        False where something has to wait: then the block goes on with ``send_rest``.
        """
        if not self.begin_at_once():
            return False
        try:
            while self._pending is None and self._session.progress < len(lines):
                start = self._session.progress
                sent = self.stream.send(lines[start : start + self.most])
                self._pending = self.moved(sent)
        except BlockingIOError:
            return False
        except BaseException as error:
            self.close_at_once(error)
            raise
        if self._pending is not None:
            return False
        self.close_at_once()
        return True

    async def send_rest(self, lines: bytes) -> None:
        """Send the rest of ``lines``."""
        await self.send(memoryview(lines)[self._session.progress :])
