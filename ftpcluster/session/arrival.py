"""Protected data connections: accepted early, and shaken hands with."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from ftpcluster.net.passive import PassiveListener, await_data_connection
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import DATA_TICKETS, TLSStream
from ftpcluster.protocol.errors import NoDataConnection, ProtectionRequired

if TYPE_CHECKING:
    from ftpcluster.session.state import Services, Session


class Arrival:
    """A protected data connection on its way: accepted, and shaken hands with, when it comes."""

    __slots__ = ("_has_come", "_listener", "task")

    def __init__(
        self, session: Session, listener: PassiveListener, context: ssl.SSLContext
    ) -> None:
        self._listener = listener
        self._has_come = False
        services = session.services
        self.task = services.loop.create_task(
            self._arrive(services, session.conversation.peer, context)
        )
        services.tasks.add(self.task)  # the server's end waits for it
        self.task.add_done_callback(services.tasks.discard)
        self.task.add_done_callback(self._on_done)

    async def _arrive(self, services: Services, peer: str, context: ssl.SSLContext) -> Stream:
        timeout = services.settings.data_timeout
        fd = await await_data_connection(
            services.loop, services.poller, self._listener, peer, timeout
        )
        self._has_come = True
        self._listener.give_back()
        return await shake_hands(services, fd, context, timeout)

    @property
    def port(self) -> int:
        return self._listener.port

    def abandon(self) -> None:
        """It is not wanted any more."""
        if not self.task.cancel() and not self.task.cancelled() and not self.task.exception():
            self.task.result().close()

    def _on_done(self, task: asyncio.Task[Stream]) -> None:
        """Only now does nobody watch the listener any more; it may be another session's by now.

        A failure is told by the command that uses the connection, if there ever is one.
        """
        if not self._has_come:
            self._listener.abandon()
        if not task.cancelled():
            task.exception()


async def shake_hands(
    services: Services, fd: int, context: ssl.SSLContext, timeout: float
) -> TLSStream:
    """Protect a data connection. Raises NoDataConnection, at the latest after ``timeout`` s.

    And ProtectionRequired where the client had to resume the control connection's session.
    """
    loop = services.loop
    problem = NoDataConnection("TLS handshake failed on the data connection.")
    try:
        stream = TLSStream(loop, services.poller, fd, context, DATA_TICKETS)
    except ConnectionError:
        raise problem from None
    settings = services.settings
    stream.strict_eof = settings.strict_tls_eof
    timer = loop.call_later(timeout, stream.close)  # who waits for it is cancelled
    try:
        await stream.handshake()
    except (ConnectionError, asyncio.CancelledError) as error:
        timed_out = stream.closed
        stream.close()
        if isinstance(error, asyncio.CancelledError) and not timed_out:
            raise
        raise problem from None
    finally:
        timer.cancel()
    stream.acknowledge_now()
    if settings.require_session_reuse and not stream.is_resumed:
        stream.close()
        raise ProtectionRequired("The data connection has to resume this connection's TLS session.")
    return stream
