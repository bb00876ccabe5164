"""The command that runs, where it had to wait: what it is, and who may end it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ftpcluster.protocol.errors import FTPError
from ftpcluster.protocol.reply import Reply
from ftpcluster.session.command_run import Blocker, CoroutineRun
from ftpcluster.session.journal import Entry
from ftpcluster.session.row import Command


class RunningCommand(CoroutineRun[Reply | None]):
    """A command on its way, or a TLS handshake, which has no ``command``.

    The end of its session cancels whatever runs. Others abort it, and say why: ABOR and the clocks
    a transfer or another long command, and nobody a short one.
    """

    __slots__ = ("argument", "command", "entry", "is_last", "reason")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Reply | None],
        blocker: Blocker | None,
        on_done: Callable[[Reply | None, BaseException | None], None],
        command: Command | None,
    ) -> None:
        self.command = command
        self.argument = ""
        self.entry: Entry | None = None  # of the journal
        self.reason: FTPError | None = None
        self.is_last = False
        """Whether the session ends behind it, since the server stops."""
        super().__init__(loop, coroutine, blocker, on_done)

    @property
    def transfers(self) -> bool:
        """Whether it uses a data connection: the client's end is not its end."""
        return self.command is not None and self.command.transfers

    @property
    def is_long(self) -> bool:
        """Whether it may be aborted, and some verbs are answered meanwhile."""
        return self.command is not None and self.command.is_long

    def abort(self, reason: FTPError) -> None:
        """End it; ``reason`` is what the client is told. The first one counts."""
        if self.reason is None:
            self.reason = reason
            self.cancel()
