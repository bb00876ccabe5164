"""A command that goes on after it had to wait: what it is, and what may end it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from ftpcluster.protocol.errors import FTPError
from ftpcluster.protocol.reply import Reply
from ftpcluster.session.command_run import Blocker, CoroutineRun
from ftpcluster.session.journal import Entry
from ftpcluster.session.row import Command

LONG = 0.5
"""Seconds of one step: a command that keeps the loop for longer has a slow storage."""


class RunningCommand(CoroutineRun[Reply | None]):
    """A command on its way, or a TLS handshake, which has no ``command``.

    The end of its session cancels whatever runs. ABOR and the deadlines abort a transfer or another
    long command, with a reason. Nothing aborts a short one.
    """

    __slots__ = ("_took_long", "argument", "command", "entry", "is_last", "reason")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Reply | None],
        blocker: Blocker | None,
        on_done: Callable[[Reply | None, BaseException | None], None],
        took_long: Callable[[float], None],
        command: Command | None,
    ) -> None:
        """``took_long`` is called with the seconds of a step that kept the other sessions
        waiting."""
        self._took_long = took_long
        self.command = command
        self.argument = ""
        self.entry: Entry | None = None  # of the journal
        self.reason: FTPError | None = None
        self.is_last = False
        """Whether the session ends after it, since the server stops."""
        super().__init__(loop, coroutine, blocker, on_done)

    def _step(self, blocker: Blocker | None = None) -> None:
        began = monotonic()
        super()._step(blocker)
        if (took := monotonic() - began) > LONG:
            self._took_long(took)

    @property
    def transfers(self) -> bool:
        """Whether it uses a data connection: then it outlives the control connection."""
        return self.command is not None and self.command.transfers

    @property
    def is_long(self) -> bool:
        """Whether it may be aborted, and some verbs are answered meanwhile."""
        return self.command is not None and self.command.is_long

    def abort(self, reason: FTPError) -> None:
        """End it; ``reason`` gives the reply. The first reason counts."""
        if self.reason is None:
            self.reason = reason
            self.cancel()
