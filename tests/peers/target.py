"""What an attempt is tried on, the client that tries it, and what may come of it."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.dialogue import DEADLINE, Dialogue, rest_of

USER = ("user", "12345")
"""May do everything in the directory."""
PLAIN = ("plain", "plains")
"""As `USER`; his password is stored as it is."""
BOB = ("bob", "bobs")
"""May do so in two sessions at a time, where the server can be told so."""
LIMITED = ("limited", "limiteds")
"""May read; nothing in /foo; everything in /foobar; only write in /drop."""

OTHER_HOST = "127.0.0.2"
GUESSER = "127.0.0.7"
HALF_CLOSER = "127.0.0.8"
CROWDED = "127.0.0.10"
"""Those who guess passwords: each from an address of its own, since it may be banned."""

LOGIN = 2.0
"""Seconds that a client has to log in, where a server has such a deadline; strict servers only."""
IDLE = 4.0
"""Seconds without a command that end a session; strict servers only."""
DELAY = 0.3
"""Seconds before a failed login is answered, where a server can wait; strict servers only."""
FAILURES = 5
"""Failed logins that ban an address, where a server bans; strict servers only."""
PORTS = 5
"""How many data ports a strict server is told to use."""

TAKEN = (125, 150)
UNKNOWN = (500, 502)


class Broken(Exception):
    """Something did not hold: what, in words that are the same each time."""


class Lacking(Exception):
    """The server does not have what this attempt is about: it says so itself."""


@dataclass(frozen=True)
class Target:
    """A running server, as an attempt sees it.

    ``root`` is the directory that all its accounts share, ``outside`` lies beside it. ``patience``:
    seconds beyond a deadline, or for an answer, after which none is to be expected. ``race``:
    seconds that something may take that needs a lucky moment.
    """

    port: int
    root: Path
    outside: Path
    patience: float
    race: float

    @contextlib.contextmanager
    def session(self, account: tuple[str, str] = USER) -> Iterator[Client]:
        """Somebody who has logged in."""
        with Client(self.port) as client:
            client.logs_in(*account)
            yield client


class Client(Dialogue):
    """A client that takes every answer, and that there is none."""

    has_ended = False

    def asks(self, command: str | bytes) -> tuple[int, str]:
        """Code and text of the reply; (0, "") where the session ended instead."""
        try:
            self.send(command)
            return self.reply()
        except (EOFError, ConnectionError):
            self.has_ended = True
            return 0, ""

    def moves(self, command: str, content: bytes | None = None) -> tuple[int, bytes]:
        """A command with a data connection. The code of its first reply, and what was received.

        With ``content`` that is sent instead.
        """
        with self.passive() as data:
            code, _ = self.asks(command)
            if code not in TAKEN:
                return code, b""
            if content is None:
                return code, self._receives(data)
            with contextlib.suppress(ConnectionError):
                data.sendall(content)
                data.shutdown(socket.SHUT_WR)
            self.final()
        return code, b""

    def _receives(self, data: socket.socket) -> bytes:
        """What comes before the data connection ends, or the transfer is said to have failed."""
        received = b""
        while data in select.select([data, self.sock], [], [], DEADLINE)[0]:
            block = data.recv(1 << 16)
            received += block
            if not block:
                self.final()
                return received
        return received + (rest_of(data) if 200 <= self.final() < 300 else b"")

    def final(self) -> int:
        """The code of the reply that ends a transfer."""
        try:
            return self.reply()[0]
        except (EOFError, ConnectionError):
            self.has_ended = True
            return 0
