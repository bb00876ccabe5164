"""Data connections accepted before the command that uses them, for example protected ones."""

from __future__ import annotations

import asyncio

from ftpcluster.expiry import Expiry, wait_for
from ftpcluster.net.data_connection import await_data_connection
from ftpcluster.net.passive import PassiveListener
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import DATA_TICKETS, TLSStream
from ftpcluster.protocol.errors import NoDataConnection, ProtectionRequired
from ftpcluster.session.command_run import give_way
from ftpcluster.session.conversation import Conversation
from ftpcluster.session.services import Services

_FAILED = "TLS handshake failed on the data connection."
_TURNS = 8
"""Turns of the loop that an arrived connection gets to be accepted and to begin its handshake. A
connection through a proxy takes four turns, or more on a busy loop."""
_SETTLE = 1.0
"""Seconds that 150 waits for a handshake that has begun."""


class AcceptingData:
    """A data connection on its way. When it comes it is accepted, and protected if need be."""

    __slots__ = ("_control", "_has_come", "_listener", "_stream", "task")

    def __init__(
        self,
        services: Services,
        talk: Conversation,
        listener: PassiveListener,
        control: TLSStream | None,
    ) -> None:
        """Takes over ``listener``. Without ``control`` the connection is a plain one."""
        self._control = control
        self._listener = listener
        self._has_come = False
        self._stream: TLSStream | None = None
        self.task = services.background(self._arrive(services, talk))
        self.task.add_done_callback(self._on_done)

    async def _arrive(self, services: Services, talk: Conversation) -> Stream:
        # no deadline here: it begins with the command that uses the connection (``wait``)
        fd = await await_data_connection(
            services.loop, services.poller, self._listener, talk.peer, None, talk.proxy
        )
        self._has_come = True
        self._listener.give_back()
        if self._control is None:
            return Stream(services.loop, services.poller, fd)
        self._stream = wrap(services, fd, self._control)
        return await shake_hands(services, self._stream, None)

    async def wait(self, timeout: float) -> Stream:
        """The connection. Raises NoDataConnection, at the latest after ``timeout`` seconds."""
        if not await wait_for(self.task, timeout) or self.task.cancelled():
            raise NoDataConnection(_FAILED) if self._has_come else self.nobody_came()
        return self.task.result()

    def nobody_came(self) -> NoDataConnection:
        """The error for a client that has made no data connection."""
        return self._listener.nobody_came()

    async def settle(self) -> None:
        """Let a handshake that the client has begun end before 150 is sent.

        basic-ftp mistakes a session that it offers to resume for an established one. If 150 arrived
        during the handshake, it would close the connection of an empty upload at once. A client
        that begins its handshake after 150 is not waited for. A client that pauses its handshake
        until 150 is waited for at most ``_SETTLE`` seconds.
        """
        if self._control is None:
            return
        for _ in range(_TURNS):
            if self.task.done() or (self._stream is not None and self._stream.has_begun):
                break
            await give_way()
        else:
            return
        await asyncio.wait((self.task,), timeout=_SETTLE)

    @property
    def port(self) -> int:
        return self._listener.port

    def abandon(self) -> None:
        """Close the connection, or stop waiting for it."""
        if not self.task.cancel() and not self.task.cancelled() and not self.task.exception():
            self.task.result().close()

    def _on_done(self, task: asyncio.Task[Stream]) -> None:
        """Abandon the listener if no connection came: only now does this task watch it no more.

        After a connection has come, the listener may be another session's. A command that uses the
        connection reports the failure; without such a command asyncio must not log it.
        """
        if not self._has_come:
            self._listener.abandon()
        if not task.cancelled():
            task.exception()


def wrap(services: Services, fd: int, control: TLSStream) -> TLSStream:
    """Make a stream of a data connection; ``fd`` is taken over. Raises NoDataConnection.

    With ``require_session_reuse`` the client may use up one of its tickets, even in a handshake
    that fails. So it gets another ticket with the next reply of ``control``.
    """
    settings = services.settings
    if settings.require_session_reuse:
        control.offer_ticket()
    try:
        return TLSStream(
            services.loop,
            services.poller,
            fd,
            control.context,
            DATA_TICKETS,
            strict_eof=settings.strict_tls_eof,
        )
    except OSError:
        raise NoDataConnection(_FAILED) from None


async def shake_hands(services: Services, stream: TLSStream, timeout: float | None) -> TLSStream:
    """Protect a data connection. Raises NoDataConnection, at the latest after ``timeout`` s.

    Raises ProtectionRequired where the client had to resume the control connection's session and
    did not.
    """
    loop = services.loop
    settings = services.settings
    # closing the stream cancels the handshake that waits for it
    timer = None if timeout is None else Expiry.after(loop, timeout, stream.close)
    try:
        await stream.handshake()
    except (OSError, asyncio.CancelledError) as error:
        timed_out = stream.closed
        stream.close()
        if isinstance(error, asyncio.CancelledError) and not timed_out:
            raise
        raise NoDataConnection(_FAILED) from None
    finally:
        if timer is not None:
            timer.cancel()
    if settings.require_session_reuse and not stream.is_resumed:
        stream.close()
        raise ProtectionRequired("The data connection has to resume this connection's TLS session.")
    return stream
