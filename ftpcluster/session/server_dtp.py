"""The server-DTP: makes the data connection, says 150, copies, and closes (RFC 959 section 2.3).

The only place that sends preliminary replies. 150 is handed to the server-PI before the first
byte is copied, but it leaves when the command first waits or ends: a small file and both its
replies then take two system calls less, and the client cannot tell.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Self

from ftpcluster.net.active import ActiveTarget, connect
from ftpcluster.net.data_connection import await_data_connection
from ftpcluster.net.passive import PassiveListener
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import TLSStream
from ftpcluster.protocol.ascii import FromNetwork, ToNetwork
from ftpcluster.protocol.errors import (
    LocalProblem,
    NoDataConnection,
    TransferAborted,
)
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.quota.rates import DOWNLOAD, UPLOAD, Direction
from ftpcluster.session.arrival import Arrival, shake_hands, wrap
from ftpcluster.session.lingering import Lingering
from ftpcluster.session.run import give_way
from ftpcluster.session.state import Session
from ftpcluster.session.throttle import Pace
from ftpcluster.session.waits import Cause, Waits
from ftpcluster.storage.base import File
from ftpcluster.storage.local import LocalFile

_SENDFILE = 1 << 20
"""Bytes of one sendfile: some 150 µs for which the other sessions wait."""
_BLOCK = 256 * 1024
"""Bytes of one read or write where data goes through this process."""
_SPLICE_FROM = 128 * 1024
"""Uploads go through memory up to here: a pipe costs more than copying a small file."""
_PIPE = 1 << 20
_TURN = 16 << 20
"""Bytes after which a transfer that never has to wait gives the loop a turn."""
_GONE = {
    errno.ECONNRESET,
    errno.EPIPE,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.ENOTCONN,
}

_scratch = memoryview(bytearray(_BLOCK))
"""One buffer for the process: between two waits only one session uses it."""


class DataTransfer:
    """One transfer over one data connection, as a block: ``async with Download(session, "…")``.

    Leaving the block closes the connection. The peer's disappearance becomes TransferAborted.
    """

    __slots__ = (
        "_pace",
        "_session",
        "_shares",
        "_text",
        "_turn",
        "most",
        "path",
        "stream",
        "total",
        "waits",
    )
    stream: Stream
    direction: ClassVar[str]
    limited_as: ClassVar[Direction]

    def __init__(self, session: Session, text: str, total: int | None = None) -> None:
        """``text`` is what 150 says, ``total`` the bytes that will be copied, where it is known."""
        self._session = session
        self.total = total
        self.path = ""  # of the file that is moved, if it is one
        self._text = text
        self._turn = 0
        self._shares = False
        self.waits = Waits(session.services.loop.time)
        self._pace: Pace | None = None
        self._set_pace(total)

    def _set_pace(self, left: int | None) -> None:
        """``left``: the bytes that are still to be moved, where that is known."""
        session = self._session
        limits = session.account.speed_limits
        self._pace = None
        if limits is not None and limits.hold(self.limited_as):
            clock = session.services.loop.time
            self._pace = Pace(clock, limits, self.limited_as, self.waits, left)
        self.most = _SENDFILE if self._pace is None else self._pace.piece

    def limits_changed(self) -> None:
        """Go on at another pace."""
        if self._pace is not None and self._shares:
            self._pace.end()
        left = None if self.total is None else self.total - self._session.progress
        self._set_pace(left)
        if self._pace is not None and self._shares:
            self._pace.begin()
            self.most = self._pace.piece

    async def __aenter__(self) -> Self:
        session = self._session
        opening = Reply(Code.FILE_STATUS_OK, self._text)
        if session.data is None:
            raise NoDataConnection("Use PASV, EPSV, PORT or EPRT first.")
        if isinstance(session.data, PassiveListener):
            await accept(session, session.settings.data_timeout, opening)
        else:
            if isinstance(session.data, Arrival):
                await session.data.settle()
            session.announce(opening)
            if isinstance(session.data, Arrival):
                await arrived(session, session.data)
            elif isinstance(session.data, ActiveTarget):
                session.data = await _connect(session, session.data)
        self._begin(session.take_data())
        session.pending.restart = 0
        if self._pace is not None:
            try:
                await self._prepare(self._pace)
            except BaseException:
                self.end()
                self.stream.close()
                raise
        return self

    async def _prepare(self, pace: Pace) -> None:
        await pace.prepare()
        self.most = pace.piece

    @classmethod
    def over(cls, session: Session, stream: Stream) -> Self:
        """A transfer over a connection that somebody else has made, and closes after ``end``."""
        transfer = cls(session, "")
        transfer._begin(stream)
        return transfer

    def _begin(self, stream: Stream) -> None:
        self.stream = stream
        self._session.progress = 0
        self._session.transfer = self._session.last_transfer = self
        self._shares = True
        if self._pace is not None:
            self._pace.begin()

    def end(self) -> None:
        """Stop sharing in the limits; harmless when repeated."""
        self._session.transfer = None
        if self._pace is not None and self._shares:
            self._pace.end()
        self._shares = False

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self.end()
        try:
            if error is None and isinstance(self.stream, TLSStream):
                await self._finish_tls(self.stream)
        finally:
            self.stream.close()
        if isinstance(error, OSError) and error.errno in _GONE:
            raise TransferAborted from error

    async def _finish_tls(self, stream: TLSStream) -> None:
        """All was copied."""
        await stream.finish()

    async def moved(self, count: int) -> None:
        """So many bytes were copied: wait as long as limits and the other sessions ask for."""
        self._session.progress += count
        if self._pace is not None:
            await self._pace.spend(count)
            self._look_at_pace()
        self._turn += count
        if self._turn >= _TURN:
            self._turn = 0
            await give_way()

    async def writable(self) -> None:
        self._turn = 0
        self.waits.begin(Cause.CLIENT)
        await self.stream.writable()
        self.waits.end()
        self._look_at_pace()

    async def readable(self) -> None:
        self._turn = 0
        self.waits.begin(Cause.CLIENT)
        await self.stream.readable()
        self.waits.end()
        self._look_at_pace()

    def _look_at_pace(self) -> None:
        """What a transfer had in hand when it stood still may be others' by now."""
        if self._pace is not None:
            self.most = self._pace.piece

    async def send(self, data: bytes) -> None:
        """Send all of ``data``, in pieces that the limits allow."""
        rest = memoryview(data)
        while rest:
            piece = rest[: self.most]
            while True:
                try:
                    sent = self.stream.send(piece)
                    break
                except BlockingIOError:
                    await self.writable()  # TLS wants the same again, if the limits allow it or not
            rest = rest[sent:]
            await self.moved(sent)

    async def receive(self, most: int = _BLOCK) -> bytes:
        """What arrived next, at most ``most`` bytes; nothing at the end."""
        while True:
            try:
                block = self.stream.recv(min(self.most, most))
            except BlockingIOError:
                await self.readable()
                continue
            await self.moved(len(block))
            return block


class Download(DataTransfer):
    """What the server sends: files and listings."""

    __slots__ = ()
    direction = "download"
    limited_as = DOWNLOAD

    async def _finish_tls(self, stream: TLSStream) -> None:
        await super()._finish_tls(stream)
        Lingering(self._session.services, stream, self._session.conversation.peer)

    async def send_file(self, file: File) -> None:
        """Send ``file`` from its position to the end that it had when it was opened."""
        if not self._session.parameters.binary:
            await self._send_blocks(file, ToNetwork().convert)
        elif isinstance(file, LocalFile) and self.stream.is_plain:
            await self._sendfile(file)
        else:
            await self._send_blocks(file, bytes)

    async def _send_blocks(self, file: File, convert: Callable[[bytes], bytes]) -> None:
        """Copy through memory. What somebody's own layer says of sizes need not be so."""
        rest = math.inf if self.total is None or not file.has_size else self.total
        while rest:
            if isinstance(file, LocalFile) and not file.is_resident(file.position):
                await self._read_ahead(file, file.position)
            block = await file.read(int(min(_BLOCK, rest)))
            if not block:
                if rest < math.inf:
                    raise _became_shorter()
                return
            rest -= len(block)
            await self.send(convert(block))

    async def _sendfile(self, file: LocalFile) -> None:
        position, end = file.position, file.size
        fd, source = self.stream.fd, file.fd
        while position < end:
            if not file.is_resident(position):
                await self._read_ahead(file, position)
            try:
                sent = os.sendfile(fd, source, position, min(end - position, self.most))
            except BlockingIOError:
                await self.writable()
                continue
            if not sent:
                raise _became_shorter()
            position += sent
            await self.moved(sent)

    async def _read_ahead(self, file: LocalFile, position: int) -> None:
        """Have a thread wait for the disk."""
        self.waits.begin(Cause.DISK)
        await self._session.services.in_pool(file.read_ahead, position, _SENDFILE)
        self.waits.end()


def _became_shorter() -> LocalProblem:
    return LocalProblem("The file became shorter while it was sent.")


class Listing(Download):
    """What the server tells of files."""

    __slots__ = ()
    direction = "listing"


class Upload(DataTransfer):
    """What the server receives."""

    __slots__ = ()
    direction = "upload"
    limited_as = UPLOAD

    async def receive_file(self, file: File) -> None:
        """Write what arrives to ``file`` until the peer closes the connection."""
        if not self._session.parameters.binary:
            convert = FromNetwork()
            while block := await self.receive():
                await file.write(convert.convert(block))
            await file.write(convert.flush())
        elif isinstance(file, LocalFile):
            await self.readable()  # clients wait for 150 before they send
            splices = file.can_splice and self.stream.is_plain
            if await self._receive_blocks(file, _SPLICE_FROM if splices else None):
                await self._splice(file)
        else:
            while block := await self.receive():
                await file.write(block)

    async def _receive_blocks(self, file: LocalFile, most: int | None) -> bool:
        """Copy through memory; False at the end of the data, True after ``most`` bytes."""
        received = 0
        while most is None or received < most:
            try:
                count = self.stream.recv_into(_scratch[: self.most])
            except BlockingIOError:
                await self.readable()
                continue
            if not count:
                return False
            file.write_now(_scratch[:count])
            received += count
            await self.moved(count)
        return True

    async def _splice(self, file: LocalFile) -> None:
        try:
            pipe = _Pipe.borrow()
        except OSError:  # no descriptors: it goes without
            await self._receive_blocks(file, None)
            return
        fd = self.stream.fd
        while True:
            try:
                count = os.splice(fd, pipe.writer, min(_PIPE, self.most))
            except BlockingIOError:
                await self.readable()
                continue
            if not count:
                break
            pipe.pour(count, file.fd)
            await self.moved(count)
        pipe.give_back()


async def accept(session: Session, timeout: float, opening: Reply | None = None) -> None:
    """Accept the data connection that PASV prepared, and announce ``opening`` if it is given.

    Raises NoDataConnection after ``timeout`` seconds.
    """
    services, talk, listener = session.services, session.conversation, session.data
    assert isinstance(listener, PassiveListener)
    fd = listener.accept(talk.peer) if talk.proxy is None else None
    if opening is not None:
        session.announce(opening)
    if fd is None:
        # ``session.data`` stays what it is meanwhile: whatever ends this also abandons it
        try:
            fd = await await_data_connection(
                services.loop, services.poller, listener, talk.peer, timeout, talk.proxy
            )
        except BaseException:
            if session.data is listener:
                session.drop_data()
            raise
    listener.give_back()
    session.data = Stream(services.loop, services.poller, fd)


async def _connect(session: Session, target: ActiveTarget) -> Stream:
    """Make an active data connection; also there this server is the server of TLS (RFC 4217)."""
    services, timeout = session.services, session.settings.data_timeout
    source = session.server_address
    session.data = None
    fd = await connect(services.loop, services.poller, target, source, timeout)
    if session.tls is not None and session.parameters.protected:
        return await shake_hands(services, wrap(services, fd, session.tls), timeout)
    return Stream(services.loop, services.poller, fd)


async def arrived(session: Session, arrival: Arrival) -> Stream:
    """Wait for a data connection that is accepted as it comes. Raises NoDataConnection."""
    try:
        stream = await arrival.wait(session.settings.data_timeout)
    except BaseException:
        if session.data is arrival:
            session.drop_data()
        raise
    if session.data is arrival:  # else another one who waited for it was faster
        session.data = stream
    return stream


def close_idle_pipes() -> None:
    """Close the pipes that are kept for the next upload."""
    _Pipe._idle.clear()


class _Pipe:
    """A pipe between a socket and a file, for splice; empty ones are kept for the next upload.

    One that is not given back, since its transfer failed, may hold bytes: it is closed with it.
    """

    __slots__ = ("reader", "writer")
    _idle: ClassVar[list[_Pipe]] = []
    _KEPT = 8

    def __init__(self) -> None:
        self.reader = self.writer = -1
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _PIPE)
        except PermissionError:
            pass  # over /proc/sys/fs/pipe-user-pages-soft: the default size works too

    @classmethod
    def borrow(cls) -> _Pipe:
        return cls._idle.pop() if cls._idle else cls()

    def pour(self, count: int, fd: int) -> None:
        """Move ``count`` bytes that the pipe holds to a file."""
        while count:
            count -= os.splice(self.reader, fd, count)

    def give_back(self) -> None:
        if len(self._idle) < self._KEPT:
            self._idle.append(self)

    def __del__(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            os.close(self.writer)
