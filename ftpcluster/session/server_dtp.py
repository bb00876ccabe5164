"""The server-DTP: makes the data connection, says 150, copies, and closes (RFC 959 section 2.3).

The only place that sends preliminary replies. 150 leaves before the first byte is copied, and by
itself.
"""

from __future__ import annotations

import errno
from collections.abc import Coroutine
from socket import SOCK_NONBLOCK
from types import TracebackType
from typing import Any, ClassVar, Self

from ftpcluster.net.active import ActiveSource, ActiveTarget, connect
from ftpcluster.net.data_connection import await_data_connection
from ftpcluster.net.passive import PassiveListener
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import TLSStream
from ftpcluster.protocol.errors import NoDataConnection, TransferAborted
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.quota.rates import Direction
from ftpcluster.session.accepting import AcceptingData, shake_hands, wrap
from ftpcluster.session.hooks import NO_HOOKS
from ftpcluster.session.login import Account
from ftpcluster.session.state import Session
from ftpcluster.session.throttle import Pace
from ftpcluster.session.transfer_waits import Cause, TransferWaits

MOST = 1 << 20
"""Bytes of one sendfile: some 150 µs for which the other sessions wait."""
BLOCK = 256 * 1024
"""Bytes of one read or write where data goes through this process."""
_TURN = 256 * 1024
"""Bytes that a transfer moves at least before it looks at the clock and may give others a turn."""
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


class DataTransfer:
    """One transfer over one data connection, as a block: ``async with Download(session, "…")``.

    Leaving the block closes the connection. The peer's disappearance becomes TransferAborted. Where
    nothing has to wait, ``begin_at_once`` and ``close_at_once`` do the same without the block, in
    one call. A transfer that has begun at once may still become a block.
    """

    __slots__ = (
        "_pace",
        "_pending",
        "_session",
        "_shares",
        "_text",
        "_turn",
        "_waits",
        "most",
        "path",
        "stream",
        "total",
    )
    stream: Stream
    direction: ClassVar[str]
    limited_as: ClassVar[Direction]

    def __init__(
        self, session: Session, text: str, total: int | None = None, path: str = ""
    ) -> None:
        """``text`` is what 150 says, ``total`` the number of bytes that will be copied, where that
        is known.

        ``path``: that of the file, if a file is moved.
        """
        self._session = session
        self.total = total
        self.path = path
        self._text = text
        self._turn = 0
        self._shares = False
        self._pace: Pace | None = None
        self._waits: TransferWaits | None = None  # a transfer that never waits needs none
        self._pending: Coroutine[Any, Any, None] | None = None
        """What a transfer that has begun at once has to wait for before it goes on."""
        self.most = MOST
        login = session.login
        if type(login) is Account and login.speed_limits is not None:
            self._set_pace(total)

    def _set_pace(self, left: int | None) -> None:
        """``left``: the bytes that are still to be moved, where that is known."""
        session = self._session
        limits = session.account.speed_limits
        self._pace = None
        if limits is not None and limits.hold(self.limited_as):
            clock = session.services.loop.time
            self._pace = Pace(clock, limits, self.limited_as, self.waits, left)
        self.most = MOST if self._pace is None else self._pace.piece

    @property
    def waits(self) -> TransferWaits:
        """For how long the transfer has waited, and for whom."""
        if self._waits is None:
            self._waits = TransferWaits(self._session.services.loop.time)
        return self._waits

    def _start_clock(self) -> None:
        """Measure waits: from now on the transfer may be watched."""
        if self._waits is None:
            self._waits = TransferWaits(self._session.services.loop.time)

    def limits_changed(self) -> None:
        """Go on at another pace."""
        if self._pace is not None and self._shares:
            self._pace.end()
        left = None if self.total is None else self.total - self._session.progress
        self._set_pace(left)
        if self._pace is not None and self._shares:
            self._pace.begin()
            self.most = self._pace.piece

    @property
    def is_protected(self) -> bool:
        return not self.stream.is_plain

    @property
    def has_begun(self) -> bool:
        """Whether 150 was said, and the connection is there: leaving the block closes it."""
        return self._shares

    def begin_at_once(self) -> bool:
        """Say 150 over a plain data connection that has come already.

        False where something has to be waited for: then nothing has been done.
        """
        session = self._session
        listener, talk = session.data, session.conversation
        if type(listener) is not PassiveListener:
            return False
        fd = listener.accept(talk.peer) if talk.proxy is None else None
        if fd is None:
            return False
        session.control.announce(Reply(Code.FILE_STATUS_OK, self._text))
        listener.give_back()
        if session.hooks is not NO_HOOKS:
            session.hooks.on_data_taken()
        session.data = None
        services = session.services
        self.stream = Stream(services.loop, services.poller, fd, SOCK_NONBLOCK)
        session.progress = session.pending.restart = 0
        session.transfer = session.last_transfer = self
        self._shares = True
        if self._pace is not None:
            self._pace.begin()
            self._pending = self._pace.prepare()
            self.most = self._pace.piece
        return True

    async def settle(self) -> None:
        """Wait until a transfer that has begun at once may go on."""
        pending, self._pending = self._pending, None
        if pending is not None:
            await pending
        self._look_at_pace()

    def close_at_once(self, error: BaseException | None = None) -> None:
        """Close a data connection that has begun at once; ``error``: why it ends before its time.

        Raises TransferAborted where the peer is gone.
        """
        if self._pace is None and self._pending is None:  # as ``end``, without its call
            self._session.transfer, self._shares = None, False
        else:
            self.end()
        self.stream.close()
        if error is not None:
            raise_if_gone(error)

    async def __aenter__(self) -> Self:
        self._start_clock()
        if self._shares:
            await self._settle_or_close()
            return self
        session = self._session
        opening = Reply(Code.FILE_STATUS_OK, self._text)
        if session.data is None:
            raise NoDataConnection("Use PASV, EPSV, PORT or EPRT first.")
        if isinstance(session.data, PassiveListener):
            await accept(session, session.settings.data_timeout, opening)
        else:
            if isinstance(session.data, AcceptingData):
                await session.data.settle()
            session.announce(opening)
            if isinstance(session.data, AcceptingData):
                await arrived(session, session.data)
            elif isinstance(session.data, ActiveTarget):
                session.data = await _connect(session, session.data)
        self._set_pace(self.total)  # the limits may have changed while the connection was awaited
        self._begin(session.take_data())
        session.pending.restart = 0
        if self._pace is not None:
            self._pending = self._pace.prepare()
            await self._settle_or_close()
        return self

    async def _settle_or_close(self) -> None:
        try:
            await self.settle()
        except BaseException:
            self.close_at_once()
            raise

    @classmethod
    def begun(cls, session: Session, fd: int, total: int | None, path: str) -> Self:
        """A transfer after its 150, over a connection that ``PassiveListener.accept`` has returned.

        It takes the connection over.
        """
        transfer = cls(session, "", total, path)
        services = session.services
        transfer.stream = Stream(services.loop, services.poller, fd, SOCK_NONBLOCK)
        session.transfer = session.last_transfer = transfer
        transfer._shares = True
        return transfer

    @classmethod
    def over(cls, session: Session, stream: Stream) -> Self:
        """A transfer over a connection that somebody else has made, and closes after ``end``."""
        transfer = cls(session, "")
        transfer._start_clock()
        transfer._begin(stream)
        return transfer

    def _begin(self, stream: Stream) -> None:
        self.stream = stream
        session = self._session
        session.progress = 0
        session.transfer = session.last_transfer = self
        self._shares = True
        if self._pace is not None:
            self._pace.begin()

    def end(self) -> None:
        """Stop sharing in the limits; harmless when repeated."""
        self._session.transfer = None
        if self._pending is not None:
            self._pending.close()
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
        raise_if_gone(error)

    async def _finish_tls(self, stream: TLSStream) -> None:
        """All was copied."""
        await stream.finish()

    def moved(self, count: int) -> Coroutine[Any, Any, None] | None:
        """``count`` bytes were copied. Returns what to await before the next, if limits or the
        other sessions ask for a wait."""
        self._session.progress += count
        self._turn += count
        pause = None if self._pace is None else self._pace.spend(count)
        if pause is None and (self._turn < _TURN or not self._session.services.poller.is_late):
            if self._pace is not None:
                self._look_at_pace()
            return None
        return self._pause(pause)

    async def _pause(self, pause: Coroutine[Any, Any, None] | None) -> None:
        if pause is not None:
            await pause
        self._look_at_pace()
        if self._turn >= _TURN:
            self._turn = 0
            await self._session.services.poller.turn()

    async def writable(self) -> None:
        """Wait until the data connection takes something."""
        self._turn = 0
        waits = self.waits
        waits.begin(Cause.CLIENT)
        await self.stream.writable()
        waits.end()
        if self._pace is not None:
            self._look_at_pace()

    async def readable(self) -> None:
        """Wait until something has arrived."""
        self._turn = 0
        waits = self.waits
        waits.begin(Cause.CLIENT)
        await self.stream.readable()
        waits.end()
        if self._pace is not None:
            self._look_at_pace()

    def _look_at_pace(self) -> None:
        """Ask for the size of the next piece: after a wait, other transfers may have its share."""
        if self._pace is not None:
            self.most = self._pace.piece

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of ``data``, in pieces that the limits allow."""
        rest = memoryview(data)
        while rest:
            piece = rest[: self.most]
            while True:
                try:
                    sent = self.stream.send(piece)
                    break
                except BlockingIOError:
                    await self.writable()  # TLS wants the same again, whatever the limits allow
            rest = rest[sent:]
            if (pause := self.moved(sent)) is not None:
                await pause

    async def receive(self, most: int = BLOCK) -> bytes:
        """What arrived next, at most ``most`` bytes; nothing at the end."""
        while True:
            try:
                block = self.stream.recv(min(self.most, most))
            except BlockingIOError:
                await self.readable()
                continue
            if (pause := self.moved(len(block))) is not None:
                await pause
            return block


def raise_if_gone(error: BaseException | None) -> None:
    if isinstance(error, OSError) and error.errno in _GONE:
        raise TransferAborted from error


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
        # ``session.data`` stays the listener meanwhile: whatever ends this also abandons it
        try:
            fd = await await_data_connection(
                services.loop, services.poller, listener, talk.peer, timeout, talk.proxy
            )
        except BaseException:
            if session.data is listener:
                session.drop_data()
            raise
    session.data = None  # before anything fails: another session may get the listener
    listener.give_back()
    session.data = Stream(services.loop, services.poller, fd, SOCK_NONBLOCK)


async def _connect(session: Session, target: ActiveTarget) -> Stream:
    """Make an active data connection. For TLS, this side is the server there, too (RFC 4217)."""
    services, settings = session.services, session.settings
    timeout = settings.data_timeout
    source = ActiveSource(session.server_address, settings.active_port or 0, settings.keepalive)
    session.data = None
    fd = await connect(services.loop, services.poller, target, source, timeout)
    if session.tls is not None and session.parameters.protected:
        return await shake_hands(services, wrap(services, fd, session.tls), timeout)
    return Stream(services.loop, services.poller, fd)


async def arrived(session: Session, arrival: AcceptingData) -> Stream:
    """Wait for a data connection that is accepted as it comes. Raises NoDataConnection."""
    try:
        stream = await arrival.wait(session.settings.data_timeout)
    except BaseException:
        if session.data is arrival:
            session.drop_data()
        raise
    if session.data is arrival:  # else another caller waited for it, too, and was faster
        session.data = stream
    return stream
