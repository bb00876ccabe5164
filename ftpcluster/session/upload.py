"""What the server receives over a data connection."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

from ftpcluster.answers import Answer, settled
from ftpcluster.net.pipe import SIZE, Pipe
from ftpcluster.net.tls import TLSStream
from ftpcluster.protocol.ascii import FromNetwork
from ftpcluster.quota.rates import UPLOAD
from ftpcluster.session.command_run import wait_out
from ftpcluster.session.server_dtp import BLOCK, DataTransfer
from ftpcluster.session.state import Session
from ftpcluster.session.transfer_waits import Cause
from ftpcluster.storage.base import COPY_REFUSED, File

_SPLICE_FROM = 128 * 1024
"""Bytes of an upload that go through memory: for less, a pipe costs more than copying."""

SCRATCH = memoryview(bytearray(BLOCK))
"""One buffer for the process: between two waits only one session uses it."""


class Upload(DataTransfer):
    """What the server receives."""

    __slots__ = ()
    direction = "upload"
    limited_as = UPLOAD

    async def receive_all(self, file: File, *, truncates: bool) -> None:
        """Begin, receive a file, and close the data connection."""
        if self.begin_at_once():
            await self._receive_and_close(file, truncates=truncates)
        else:
            async with self:
                await self.receive_file(file, truncates=truncates)

    async def _receive_and_close(self, file: File, *, truncates: bool) -> None:
        """``receive_file``; then close a connection that has begun at once."""
        self._start_clock()
        try:
            if self._pending is not None:
                await self.settle()
            await self.receive_file(file, truncates=truncates)
        except BaseException as error:
            self.close_at_once(error)
            raise
        self.close_at_once()

    def receive_file(self, file: File, *, truncates: bool) -> Coroutine[Any, Any, None]:
        """Write what arrives to ``file`` until the peer closes the connection.

        ``truncates``: empty the file first. This is not done before the data connection is there,
        so that nothing is lost where none comes.
        """
        cutting = file.truncate() if truncates else None
        if not self._session.parameters.binary:
            return self._receive_text(file, cutting)
        if file.is_synchronous:
            return self._receive_blocks(file)
        return self._receive_bytes(file, cutting)

    async def _receive_text(self, file: File, cutting: Answer[None]) -> None:
        await settled(cutting)
        convert = FromNetwork()
        while block := await self.receive():
            await self._write(file, convert.convert(block))
        await self._write(file, convert.flush())

    async def _receive_bytes(self, file: File, cutting: Answer[None]) -> None:
        await settled(cutting)
        while block := await self.receive():
            await self._write(file, block)

    async def _write(self, file: File, block: bytes) -> None:
        if (writing := file.write(block)) is not None:
            self.waits.begin(Cause.DISK)
            await writing
            self.waits.end()

    async def _receive_blocks(self, file: File) -> None:
        """Copy to a synchronous file."""
        waits = self.waits
        waits.begin(Cause.CLIENT)
        await self.stream.readable()  # clients wait for 150 before they send
        waits.end()
        if self._pace is not None:
            self._look_at_pace()
        await self.receive_rest(file, 0)

    async def receive_rest(self, file: File, received: int) -> None:
        """Copy to a synchronous file, behind the first ``received`` bytes: through memory, and the
        rest of a large one in the kernel."""
        stream = self.stream
        target = file.kernel_fd if stream.is_plain else None
        receive = stream.recv_records if isinstance(stream, TLSStream) else stream.recv_into
        while True:
            try:
                count = receive(SCRATCH[: self.most])
            except BlockingIOError:
                await self.readable()
                continue
            if not count:
                return
            file.write(SCRATCH[:count])
            received += count
            if (pause := self.moved(count)) is not None:
                await pause
            if target is not None and received >= _SPLICE_FROM:
                if await self._splice(file, target):
                    return
                target = None

    async def _splice(self, file: File, target: int) -> bool:
        """Copy the rest through a pipe; False where it has to go on through memory.

        That is so where there are no descriptors for a pipe, or the kernel does not copy to such a
        file.
        """
        try:
            pipe = Pipe.borrow()
        except OSError:
            return False
        fd = self.stream.fd
        while file.kernel_fd is not None:
            try:
                count = os.splice(fd, pipe.writer, min(SIZE, self.most))
            except BlockingIOError:
                await self.readable()
                continue
            except OSError as error:
                if error.errno not in COPY_REFUSED:
                    raise
                file.refuse_kernel_copies()
                break
            if not count:
                pipe.give_back()
                return True
            _pour(pipe, count, file, target)
            if (pause := self.moved(count)) is not None:
                await pause
        pipe.give_back()
        return False


def finish(session: Session, file: File) -> Answer[None]:
    """Finish a file that was received completely. 226 waits for this to succeed."""
    storage = session.account.storage
    is_slow = session.settings.durable_uploads or storage.now() is not storage
    if is_slow and file.is_synchronous:
        return _finish_in_pool(session, file)
    return file.finish()


async def _finish_in_pool(session: Session, file: File) -> None:
    """Finish in a thread: other sessions do not wait for the disk. ABOR comes too late here, so
    that the reply says whether the file is stored."""
    services = session.services
    work = services.loop.run_in_executor(services.pool, file.finish)
    await wait_out(work)
    work.result()


def _pour(pipe: Pipe, count: int, file: File, target: int) -> None:
    """Write what a pipe holds, through memory where the kernel does not copy to such a file."""
    file.look_at_name()
    try:
        pipe.pour(count, target)
    except OSError as error:
        if error.errno not in COPY_REFUSED:
            raise
        file.refuse_kernel_copies()
        pipe.drain(file.write)  # a plain function, as those of all files that have a descriptor
