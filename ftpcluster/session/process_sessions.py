"""Where accepted connections become sessions, in a worker and in a ``Server`` alike."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterator

import msgspec

from ftpcluster.descriptors import close_quietly
from ftpcluster.net.acceptor import refuse
from ftpcluster.net.proxy_header import read_origin
from ftpcluster.net.stream import Stream
from ftpcluster.protocol.address import is_ipv4
from ftpcluster.protocol.errors import FTPError, SessionEnded
from ftpcluster.protocol.protection import Protection
from ftpcluster.protocol.proxy import BadProxyHeader, HealthCheck
from ftpcluster.session.activity import Activity
from ftpcluster.session.conversation import Conversation
from ftpcluster.session.login import Account
from ftpcluster.session.server_pi import ServerPI
from ftpcluster.session.services import Services
from ftpcluster.session.state import Session
from ftpcluster.users import User

log = logging.getLogger(__name__)


class AcceptedConnection(msgspec.Struct, frozen=True):
    """A connection that was accepted and admitted. ``fd`` is the session's from now on.

    ``is_proxied``: a PROXY header stands before everything else, and says who the peer is;
    ``proxy`` is the address that sent the header, ``reached`` the proxy's IPv4 address that the
    client connected to, where that is known. ``any_address``: see ``Conversation``.
    """

    session: int
    fd: int
    peer: str
    peer_port: int
    tls: Protection = Protection.EXPLICIT
    is_proxied: bool = False
    any_address: bool | None = None
    proxy: str | None = None
    reached: str | None = None


class ProcessSessions:
    """The sessions of one process."""

    def __init__(self, services: Services, on_empty: Callable[[], None]) -> None:
        """``on_empty`` is called whenever the last session has ended."""
        self._services = services
        self._on_empty = on_empty
        self._sessions: dict[int, ServerPI] = {}
        self._coming: dict[asyncio.Task[AcceptedConnection | None], AcceptedConnection] = {}
        self._is_draining = self._is_ended = False

    @property
    def is_empty(self) -> bool:
        return not self._sessions and not self._coming

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions that run now."""
        return tuple(each.session for each in self._sessions.values())

    def receive(self, arrived: AcceptedConnection) -> None:
        """Begin a session, at once or when the proxy has named the client."""
        if not arrived.is_proxied:
            self._begin(arrived)
            return
        if self._is_draining:
            self._forget(arrived)
            return
        task = self._services.loop.create_task(self._identify(arrived))
        self._coming[task] = arrived
        task.add_done_callback(self._on_identified)

    async def _identify(self, arrived: AcceptedConnection) -> AcceptedConnection | None:
        """The connection with its client's address, whose slot is taken; None: it was refused."""
        services = self._services
        origin = await read_origin(services.loop, services.poller, arrived.fd)
        arrived = msgspec.structs.replace(arrived, proxy=arrived.peer)
        if origin is not None:
            reached = origin.destination if is_ipv4(origin.destination) else None
            arrived = msgspec.structs.replace(
                arrived, peer=origin.address, peer_port=origin.port, reached=reached
            )
        refused = await services.quotas.identify(arrived.session, arrived.peer)
        if refused is None:
            return arrived
        close = functools.partial(refuse, arrived.fd, refused.explanation)
        services.quotas.end(arrived.session, close)
        return None

    def _on_identified(self, task: asyncio.Task[AcceptedConnection | None]) -> None:
        """Not done in the task: a task that is cancelled before its first step runs no code."""
        came = self._coming.pop(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            self._forget(came)
            if isinstance(error, BadProxyHeader):
                level = logging.DEBUG if isinstance(error, HealthCheck) else logging.WARNING
                log.log(level, "a connection from the proxy %s was closed: %s", came.peer, error)
            elif error is not None:
                log.error("a connection from a proxy failed", exc_info=error)
        elif (arrived := task.result()) is not None:
            if self._is_ended:
                self._forget(arrived)
            else:
                self._begin(arrived)
        self._look_whether_empty()

    def _forget(self, arrived: AcceptedConnection) -> None:
        self._services.quotas.end(arrived.session, functools.partial(close_quietly, arrived.fd))

    def _begin(self, arrived: AcceptedConnection) -> None:
        services = self._services
        try:
            stream = services.control_stream(arrived.fd, arrived.tls)
        except OSError:
            services.quotas.end(arrived.session)
            return
        try:
            self._begin_on(stream, arrived)
        except Exception:  # connections that arrived with it must go on
            log.exception("a session could not begin: this is a bug")
            services.quotas.end(arrived.session, stream.close)

    def _begin_on(self, stream: Stream, arrived: AcceptedConnection) -> None:
        services = self._services
        conversation = Conversation(
            arrived.session,
            arrived.peer,
            arrived.peer_port,
            arrived.tls,
            arrived.proxy,
            arrived.reached,
            services.settings.any_address if arrived.any_address is None else arrived.any_address,
        )
        session = ServerPI(services, stream, conversation, self._on_session_end)
        self._sessions[arrived.session] = session
        session.start()
        if self._is_draining:
            session.drain()

    def _on_session_end(self, session: ServerPI) -> None:
        del self._sessions[session.session.conversation.session]
        self._look_whether_empty()

    def _look_whether_empty(self) -> None:
        if self.is_empty:
            self._on_empty()

    def drain(self) -> None:
        """End idle sessions now, and transfers when they are done."""
        self._is_draining = True
        self._stop_waiting()
        for session in tuple(self._sessions.values()):
            session.drain()

    def end_all(self, reason: FTPError | None = None) -> None:
        """End every session now; ``reason``, if any, is the last reply."""
        self._is_ended = True
        self._stop_waiting()
        for session in tuple(self._sessions.values()):
            _end(session, reason)

    def end(self, number: int, reason: str, *, only_unauthenticated: bool = False) -> None:
        """End one session, if it still runs; ``reason`` is its last reply.

        ``only_unauthenticated``: unless it has logged in.
        """
        session = self._sessions.get(number)
        if session is None:
            self._end_coming(number, reason)
        elif not (only_unauthenticated and session.session.is_logged_in):
            _end(session, SessionEnded(reason))

    def end_user(self, user: User, reason: str) -> None:
        """End the sessions that have logged in as a user; ``reason`` is their last reply."""
        for session in tuple(self._sessions.values()):
            login = session.session.login
            if isinstance(login, Account) and login.user is user:
                _end(session, SessionEnded(reason))

    def _end_coming(self, number: int, reason: str) -> None:
        """End a connection whose client the proxy has not named yet."""
        for task, arrived in self._coming.items():
            if arrived.session == number and not task.cancel():
                # its task has just ended: it is a session before the loop calls this
                self._services.loop.call_soon(self.end, number, reason)

    def activities(self) -> Iterator[tuple[int, Activity]]:
        """What each session does now, by its number."""
        for number, session in self._sessions.items():
            yield number, session.activity()

    def limits_changed(self, login: str | None) -> None:
        """Speed limits of a user have changed; None: those of all users."""
        for session in self._sessions.values():
            session.session.limits_changed(login)

    def _stop_waiting(self) -> None:
        """Close the connections whose client the proxy has not named: they have no session yet."""
        for task in tuple(self._coming):
            task.cancel()


def _end(session: ServerPI, reason: FTPError | None) -> None:
    """End a session. An error ends only this one: others are to be ended after it."""
    try:
        session.end(reason)
    except Exception as error:
        session.fail(error)
