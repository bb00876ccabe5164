"""The two connections of a session for custom commands, with the methods of aioftp's streams.

Both keep the limits that the session has.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from ftpcluster.compat.common import DEFAULT_BLOCK_SIZE, AsyncStreamIterator
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import TLSStream
from ftpcluster.protocol.reply import Reply
from ftpcluster.quota.rates import DOWNLOAD, UPLOAD, Direction
from ftpcluster.session.download import Download
from ftpcluster.session.lingering import Lingering
from ftpcluster.session.server_dtp import DataTransfer
from ftpcluster.session.state import Session
from ftpcluster.session.throttle import Pace
from ftpcluster.session.transfer_waits import TransferWaits
from ftpcluster.session.upload import Upload


class CommandStream(ABC):
    """A connection that commands read and write."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._collected = b""

    @property
    @abstractmethod
    def stream(self) -> Stream:
        """The connection itself."""

    @abstractmethod
    async def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes; all until the end where it is negative; none at the end."""

    @abstractmethod
    async def readline(self) -> bytes:
        """A line with its newline, or what is left at the end."""

    @abstractmethod
    async def write(self, data: bytes) -> None:
        """Send all of ``data``."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    @property
    def writer(self) -> Writer:
        """The same as asyncio's writers are."""
        return Writer(self)

    def collect(self, data: bytes) -> None:
        """Have ``data`` sent by the next ``drain``. What was not drained is lost with ``close``."""
        self._collected += data

    def _take_collected(self) -> bytes:
        collected, self._collected = self._collected, b""
        return collected

    async def drain(self) -> None:
        """Send what was collected."""
        if self._collected:
            await self.write(b"")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``sockname`` and ``peername``, as of asyncio's transports."""
        talk = self._session.conversation
        if name == "peername":
            return talk.peer, talk.peer_port
        if name == "sockname" and not self.stream.closed:
            return self.stream.local_address()
        return default

    async def readexactly(self, count: int) -> bytes:
        """``count`` bytes. Raises asyncio.IncompleteReadError where the end comes before."""
        data = b""
        while len(data) < count:
            block = await self.read(count - len(data))
            if not block:
                raise asyncio.IncompleteReadError(data, count)
            data += block
        return data

    def iter_by_block(self, count: int = DEFAULT_BLOCK_SIZE) -> AsyncStreamIterator:
        """What arrives until the end, in blocks of at most ``count`` bytes."""
        return AsyncStreamIterator(lambda: self.read(count))

    def iter_by_line(self) -> AsyncStreamIterator:
        """What arrives until the end, in lines."""
        return AsyncStreamIterator(self.readline)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.drain()
        finally:
            self.close()


class Writer:
    """What of ``asyncio.StreamWriter`` commands use."""

    def __init__(self, stream: CommandStream) -> None:
        self._stream = stream
        self.write = stream.collect
        self.drain = stream.drain
        self.close = stream.close
        self.get_extra_info = stream.get_extra_info

    def is_closing(self) -> bool:
        return self._stream.stream.closed

    async def wait_closed(self) -> None:
        """Nothing: it is closed at once."""


class DataConnection(CommandStream):
    """A data connection in the hands of a custom command."""

    def __init__(self, session: Session, stream: Stream) -> None:
        super().__init__(session)
        self._stream = stream
        self._transfers: list[DataTransfer] = []

    @property
    def stream(self) -> Stream:
        return self._stream

    def _transfer(self, kind: type[DataTransfer]) -> Any:
        for transfer in self._transfers:
            if type(transfer) is kind:
                return transfer
        transfer = kind.over(self._session, self.stream)
        self._transfers.append(transfer)
        return transfer

    async def read(self, count: int = -1) -> bytes:
        upload: Upload = self._transfer(Upload)
        if count >= 0:
            return await upload.receive(count)
        return b"".join([block async for block in self.iter_by_block()])

    async def readline(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n") and (byte := await self.read(1)):
            line += byte
        return bytes(line)

    async def write(self, data: bytes) -> None:
        download: Download = self._transfer(Download)
        await download.send(self._take_collected() + data)

    def end(self) -> None:
        """Stop sharing in the limits, until it is read or written again."""
        for transfer in self._transfers:
            transfer.end()
        self._transfers.clear()

    def close(self) -> None:
        """Close it: for the client, the end of the data."""
        has_sent = not self.stream.closed and any(
            isinstance(transfer, Download) for transfer in self._transfers
        )
        self.end()
        if has_sent and isinstance(self.stream, TLSStream) and self.stream.say_end():
            session = self._session
            Lingering(session.services, self.stream, session.conversation.peer)
        self.stream.close()
        if self._session.data is self.stream:
            self._session.data = None


class _Raw(Reply):
    """Bytes among the replies."""

    __slots__ = ("_bytes",)
    is_part = True

    def __init__(self, data: bytes) -> None:
        super().__init__(0, "")
        self._bytes = data

    def encode(self, _: str = "utf-8") -> bytes:
        return self._bytes


class ControlStream(CommandStream):
    """The control connection in the hands of a custom command.

    What a command reads is no command any more. What it leaves unread are the next commands.
    """

    @property
    def stream(self) -> Stream:
        return self._session.stream

    async def read(self, count: int = -1) -> bytes:
        control = self._session.control
        if count < 0:
            return b"".join([block async for block in self.iter_by_block()])
        received = await control.receive() if count else b""
        control.push_back(received[count:])
        return await self._received(received[:count])

    async def readline(self) -> bytes:
        control, line = self._session.control, b""
        while not line.endswith(b"\n") and (received := await control.receive()):
            end = received.find(b"\n") + 1 or len(received)
            control.push_back(received[end:])
            line += received[:end]
        return await self._received(line)

    async def _received(self, data: bytes) -> bytes:
        await self._spend(len(data), UPLOAD)
        return data

    async def write(self, data: bytes) -> None:
        data = self._take_collected() + data
        self._session.announce(_Raw(data))
        await self._session.room()
        await self._spend(len(data), DOWNLOAD)

    async def _spend(self, count: int, direction: Direction) -> None:
        session = self._session
        limits = session.account.speed_limits if session.is_logged_in else None
        if limits is None or not limits.hold(direction) or not count:
            return
        clock = session.services.loop.time
        pace = Pace(clock, limits, direction, TransferWaits(clock))
        pace.begin()
        try:
            if (pause := pace.spend(count)) is not None:
                await pause
        finally:
            pace.end()

    def close(self) -> None:
        """End the session."""
        self._session.control.end()
