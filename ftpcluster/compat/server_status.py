"""What a ``Server`` says of itself: where it listens, who is connected, what is left."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from ftpcluster.compat.server_hooks import connection_of
from ftpcluster.compat.session_connection import SessionConnection
from ftpcluster.compat.streams import ControlStream
from ftpcluster.net.passive import PassivePorts
from ftpcluster.quota.ledger import Ledger
from ftpcluster.quota.quotas import LocalQuotas
from ftpcluster.session.process_sessions import ProcessSessions


class Listening:
    """What a server listens on."""

    def __init__(self, sockets: tuple[socket.socket, ...]) -> None:
        self._sockets = sockets

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; none when the server is closed."""
        return tuple(sock for sock in self._sockets if sock.fileno() >= 0)

    def is_serving(self) -> bool:
        """Whether new connections are accepted."""
        return bool(self.sockets)


class LedgerConnections:
    """AvailableConnections of a server, as its ledger counts them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._taken = 0  # by hand; the numbers of sessions are positive
        self.maximum_value = ledger.limits.server
        self._taken = 0

    @property
    def value(self) -> int | None:
        """How many are left; None is no limit."""
        most = self.maximum_value
        return None if most is None else max(0, most - self.ledger.connections)

    def locked(self) -> bool:
        """Whether there is nothing left to acquire."""
        return self.value == 0

    def acquire(self) -> None:
        """Take one, as a client would; ValueError where none is left."""
        if self.ledger.admit(LocalQuotas.EPOCH, -1 - self._taken, None) is not None:
            raise ValueError("no connection is available")
        self._taken += 1

    def release(self) -> None:
        """Give one back that ``acquire`` has taken; ValueError where it has taken none."""
        if not self._taken:
            raise ValueError("no connection was acquired")
        self._taken -= 1
        self.ledger.release(LocalQuotas.EPOCH, -1 - self._taken)


class ServerStatus:
    """What a server says of itself."""

    server_host: str | None
    server_port: int
    ledger: Ledger
    _ports: PassivePorts
    data_ports: Iterable[int] | None
    _available: LedgerConnections | None
    _listening: Listening | None
    _reception: ProcessSessions | None

    @property
    def address(self) -> tuple[str | None, int]:
        """Host and port that the server listens on."""
        return self.server_host, self.server_port

    @property
    def server(self) -> Listening:
        """What the server listens on: its ``sockets``. AttributeError before the start."""
        if self._listening is None:
            raise AttributeError("the server has not been started")
        return self._listening

    @property
    def connections(self) -> dict[ControlStream, SessionConnection]:
        """Who is connected now, by control connection, whose ``close`` ends the session."""
        sessions = () if self._reception is None else self._reception.sessions
        connections = (connection_of(session) for session in sessions)
        return {connection.command_connection: connection for connection in connections}

    @property
    def available_connections(self) -> LedgerConnections:
        """How many connections may still be made."""
        if self._available is None or self._available.ledger is not self.ledger:
            self._available = LedgerConnections(self.ledger)
        return self._available

    @property
    def available_data_ports(self) -> PassivePorts | None:
        """None without ``data_ports``; else ``qsize()`` is the number of free ones."""
        return None if self.data_ports is None else self._ports
