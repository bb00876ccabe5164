"""The server-DTP: makes the data connection, says 150, copies, and closes (RFC 959 section 2.3).

The only place that sends preliminary replies. 150 is handed to the server-PI before the first
byte is copied, but it leaves when the command first waits or ends: a small file and both its
replies then take two system calls less, and the client cannot tell.
"""

from __future__ import annotations

import errno
import fcntl
import os
from types import TracebackType
from typing import ClassVar

from ftpcluster.net.passive import PassiveListener, await_data_connection
from ftpcluster.net.stream import Stream
from ftpcluster.protocol.ascii import FromNetwork, ToNetwork
from ftpcluster.protocol.errors import LocalProblem, NoDataConnection, TransferAborted
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.run import give_way
from ftpcluster.session.state import Session
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
    """``async with DataTransfer(session, "…") as data``: the data connection for one transfer.

    Leaving it closes the connection. The peer's disappearance becomes TransferAborted (426).
    """

    __slots__ = ("_data", "_session", "_text")

    def __init__(self, session: Session, text: str) -> None:
        self._session = session
        self._text = text

    async def __aenter__(self) -> Stream:
        session = self._session
        opening = Reply(Code.FILE_STATUS_OK, self._text)
        if isinstance(session.data, PassiveListener):
            self._data = await _passive(session, session.data, opening)
        elif session.data is None:
            raise NoDataConnection("Use PASV or EPSV first.")
        else:
            self._data, session.data = session.data, None
            session.announce(opening)
        session.progress = session.restart = 0
        return self._data

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        self._data.close()
        if isinstance(error, OSError) and error.errno in _GONE:
            raise TransferAborted from error


async def _passive(session: Session, listener: PassiveListener, opening: Reply) -> Stream:
    services, peer = session.services, session.conversation.peer
    fd = listener.accept(peer)
    session.announce(opening)
    if fd is None:
        # ``session.data`` stays what it is meanwhile: whatever ends this also abandons it
        timeout = session.settings.data_timeout
        try:
            fd = await await_data_connection(
                services.loop, services.poller, listener, peer, timeout
            )
        except BaseException:
            session.drop_data()
            raise
    session.data = None
    listener.give_back()
    return Stream(services.loop, services.poller, fd)


async def send_file(session: Session, data: Stream, file: File) -> None:
    """Send ``file`` from its position to the end that it had when it was opened."""
    if not session.binary:
        await _send_text(session, data, file)
    elif isinstance(file, LocalFile):
        await _sendfile(session, data, file)
    else:
        while block := await file.read(_BLOCK):
            await data.send_all(block)
            session.progress += len(block)


async def _sendfile(session: Session, data: Stream, file: LocalFile) -> None:
    start = position = file.position
    end = file.size
    turn = position + _TURN
    while position < end:
        if position >= turn:
            turn = position + _TURN
            await give_way()
        if not file.is_resident(position):
            await session.services.in_pool(file.read_ahead, position, _SENDFILE)
        try:
            sent = os.sendfile(data.fd, file.fd, position, min(end - position, _SENDFILE))
        except BlockingIOError:
            await data.writable()
            turn = position + _TURN
            continue
        if not sent:
            raise LocalProblem("The file became shorter while it was sent.")
        position += sent
        session.progress = position - start


async def _send_text(session: Session, data: Stream, file: File) -> None:
    convert = ToNetwork().convert
    while block := await file.read(_BLOCK):
        await data.send_all(convert(block))
        session.progress += len(block)


async def receive_file(session: Session, data: Stream, file: File) -> None:
    """Write what arrives to ``file`` until the peer closes the connection."""
    if not session.binary:
        await _receive_text(session, data, file)
    elif isinstance(file, LocalFile):
        await data.readable()  # clients wait for 150 before they send
        if await _receive_blocks(session, data, file, _SPLICE_FROM):
            await _splice(session, data, file)
    else:
        while block := await _recv(data):
            await file.write(block)
            session.progress += len(block)


async def _receive_blocks(session: Session, data: Stream, file: LocalFile, most: float) -> bool:
    """Copy through memory; False at the end of the data, True after ``most`` bytes."""
    received = 0
    turn = _TURN
    while received < most:
        try:
            count = data.recv_into(_scratch)
        except BlockingIOError:
            await data.readable()
            turn = received + _TURN
            continue
        if not count:
            return False
        file.write_now(_scratch[:count])
        received += count
        session.progress += count
        if received >= turn:
            turn = received + _TURN
            await give_way()
    return True


async def _splice(session: Session, data: Stream, file: LocalFile) -> None:
    if not file.can_splice:
        await _receive_blocks(session, data, file, float("inf"))
        return
    pipe = _Pipe.borrow()
    turn = 0
    while True:
        try:
            count = os.splice(data.fd, pipe.writer, _PIPE)
        except BlockingIOError:
            turn = 0
            await data.readable()
            continue
        if not count:
            break
        pipe.pour(count, file.fd)
        session.progress += count
        turn += count
        if turn >= _TURN:
            turn = 0
            await give_way()
    pipe.give_back()


async def _receive_text(session: Session, data: Stream, file: File) -> None:
    convert = FromNetwork()
    while block := await _recv(data):
        await file.write(convert.convert(block))
        session.progress += len(block)
    await file.write(convert.flush())


async def _recv(data: Stream) -> bytes:
    while True:
        try:
            return data.recv(_BLOCK)
        except BlockingIOError:
            await data.readable()


class _Pipe:
    """A pipe between a socket and a file, for splice; empty ones are kept for the next upload.

    One that is not given back, since its transfer failed, may hold bytes: it is closed with it.
    """

    __slots__ = ("reader", "writer")
    _idle: ClassVar[list[_Pipe]] = []
    _KEPT = 8

    def __init__(self) -> None:
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
        os.close(self.reader)
        os.close(self.writer)
