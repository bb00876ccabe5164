"""The control connection as commands use it."""

from __future__ import annotations

from typing import Protocol

from ftpcluster.protocol.errors import FTPError
from ftpcluster.protocol.reply import Reply


class Control(Protocol):
    """The control connection, as commands use it."""

    def announce(self, reply: Reply) -> None:
        """Send a reply that is not a command's last: at once, in a segment of its own."""

    async def room(self) -> None:
        """Wait until the client has read what it was sent, but for a little."""

    async def receive(self) -> bytes:
        """What the client sends next, which then is no command; nothing at the end."""

    def push_back(self, data: bytes) -> None:
        """Have what ``receive`` gave be a command after all. Raises TooMuchRubbish."""

    def end(self, reason: FTPError | None = None) -> None:
        """End the session now; ``reason``, if any, is the last that the client is told."""


class _Nobody:
    """In place of the control connection, after the session's end."""

    def announce(self, reply: Reply) -> None:
        pass

    async def room(self) -> None:
        pass

    async def receive(self) -> bytes:
        return b""

    def push_back(self, data: bytes) -> None:
        pass

    def end(self, reason: FTPError | None = None) -> None:
        pass


NOBODY = _Nobody()
