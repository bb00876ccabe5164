"""What custom commands have begun in a session: replies, overrides, logins, data connections."""

from __future__ import annotations

import asyncio
from typing import Any

from ftpcluster.compat.streams import ControlStream, DataConnection
from ftpcluster.net.passive import PassiveListener
from ftpcluster.net.stream import Stream
from ftpcluster.protocol.errors import ProtectionRequired
from ftpcluster.protocol.reply import Reply
from ftpcluster.session.accepting import AcceptingData
from ftpcluster.session.login import Claim
from ftpcluster.session.server_dtp import arrived
from ftpcluster.session.state import Session


class CommandState:
    """What custom commands have begun in one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.overriding: tuple[str, ...] = ()
        """The verbs whose overrides run now, the outermost first."""
        self.held_reply: Reply | None = None
        """The reply to AUTH or CCC. It is sent when the command has ended."""
        self.is_ending = False
        """The custom command has called a built-in one that ends the session, such as QUIT."""
        self.needs_slot = False
        """A custom command has made a login, for which no slot has been taken yet."""
        self.logged_claim: Claim | None = None
        """The claim for which a command has set ``logged`` while ``user`` was not set yet."""
        self._control: ControlStream | None = None
        self._data: DataConnection | None = None
        self._awaited: asyncio.Future[Any] | None = None

    @property
    def control_stream(self) -> ControlStream:
        """The control connection as commands see it."""
        if self._control is None:
            self._control = ControlStream(self._session)
        return self._control

    def data_connection(self, stream: Stream) -> DataConnection:
        """A data connection as commands see it."""
        if self._data is None or self._data.stream is not stream:
            self._data = DataConnection(self._session, stream)
        return self._data

    def await_data(self) -> asyncio.Future[Any]:
        """The future of a data connection that PASV prepared. The first call accepts it."""
        if self._awaited is None or self._awaited.done():
            self._awaited = self._begin_awaiting()
        return self._awaited

    def _begin_awaiting(self) -> asyncio.Future[Any]:
        session = self._session
        awaited: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not isinstance(session.data, PassiveListener | AcceptingData):
            return awaited
        try:
            session.check_data_protection()
        except ProtectionRequired as error:
            awaited.set_exception(error)
        else:
            if isinstance(session.data, PassiveListener):
                session.data = AcceptingData(
                    session.services, session.conversation, session.data, None
                )
            awaited = session.services.background(self._accept(session.data))
        awaited.add_done_callback(_heard)
        return awaited

    async def _accept(self, arrival: AcceptingData) -> DataConnection:
        return self.data_connection(await arrived(self._session, arrival))

    def stop_sharing(self) -> None:
        """No command reads or writes the data connection any more.

        It may stay open. Other transfers get its share of the speed limits.
        """
        if self._data is not None and self._data.stream is self._session.data:
            self._data.end()

    def on_data_dropped(self) -> None:
        """The data connection is gone, or its listener. The future of it is cancelled."""
        self.stop_sharing()
        self._data = None
        awaited, self._awaited = self._awaited, None
        if awaited is not None and awaited is not asyncio.current_task():
            awaited.cancel()


def _heard(awaited: asyncio.Future[Any]) -> None:
    """Take the exception, if any: asyncio would log it where no command awaits the future."""
    if not awaited.cancelled():
        awaited.exception()
