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
        """Wait until the client has read nearly all that it was sent."""

    async def receive(self) -> bytes:
        """The bytes that the client sends next, which are not obeyed; empty at the end."""

    def push_back(self, data: bytes) -> None:
        """Queue bytes from ``receive``, to be obeyed as commands. Raises TooMuchRubbish."""

    def end(self, reason: FTPError | None = None) -> None:
        """End the session now; ``reason``, if any, is the last reply."""


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
