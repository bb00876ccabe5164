"""What the server receives over a data connection."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

from ftpcluster.answers import settled
from ftpcluster.net.pipe import SIZE, Pipe
from ftpcluster.protocol.ascii import FromNetwork
from ftpcluster.quota.rates import UPLOAD
from ftpcluster.session.server_dtp import BLOCK, DataTransfer
from ftpcluster.storage.base import File

_SPLICE_FROM = 128 * 1024
"""Uploads go through memory up to here: a pipe costs more than copying a small file."""

_scratch = memoryview(bytearray(BLOCK))
"""One buffer for the process: between two waits only one session uses it."""


class Upload(DataTransfer):
    """What the server receives."""

    __slots__ = ()
    direction = "upload"
    limited_as = UPLOAD

    def receive_file(self, file: File) -> Coroutine[Any, Any, None]:
        """Write what arrives to ``file`` until the peer closes the connection."""
        if not self._session.parameters.binary:
            return self._receive_text(file)
        if file.is_synchronous:
            return self._receive_blocks(file)
        return self._receive_bytes(file)

    async def _receive_text(self, file: File) -> None:
        convert = FromNetwork()
        while block := await self.receive():
            await settled(file.write(convert.convert(block)))
        await settled(file.write(convert.flush()))

    async def _receive_bytes(self, file: File) -> None:
        while block := await self.receive():
            await settled(file.write(block))

    async def _receive_blocks(self, file: File) -> None:
        """Copy to a file of plain functions: through memory, and what is large in the kernel."""
        target = file.kernel_fd if self.stream.is_plain else None
        received = 0
        await self.readable()  # clients wait for 150 before they send
        while True:
            try:
                count = self.stream.recv_into(_scratch[: self.most])
            except BlockingIOError:
                await self.readable()
                continue
            if not count:
                return
            file.write(_scratch[:count])
            received += count
            if (pause := self.moved(count)) is not None:
                await pause
            if target is not None and received >= _SPLICE_FROM:
                if await self._splice(target):
                    return
                target = None

    async def _splice(self, target: int) -> bool:
        """Copy what is left by way of a pipe; False where there are no descriptors for one."""
        try:
            pipe = Pipe.borrow()
        except OSError:
            return False
        fd = self.stream.fd
        while True:
            try:
                count = os.splice(fd, pipe.writer, min(SIZE, self.most))
            except BlockingIOError:
                await self.readable()
                continue
            if not count:
                break
            pipe.pour(count, target)
            if (pause := self.moved(count)) is not None:
                await pause
        pipe.give_back()
        return True
