"""A command that goes on after it had to wait: what it is, and what may end it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from ftpcluster.protocol.errors import FTPError
from ftpcluster.protocol.reply import Reply
from ftpcluster.session.command_run import Blocker
from ftpcluster.session.journal import Entry
from ftpcluster.session.row import Command

LONG = 0.5
"""Seconds of one step: a command that keeps the loop for longer has a slow storage."""


class RunningCommand:
    """A command on its way, from the step in which it first had to wait; or a TLS handshake, which
    has no ``command``.

    The end of its session cancels whatever runs. ABOR and the deadlines abort a transfer or another
    long command, with a reason. Nothing aborts a short one.
    """

    __slots__ = (
        "_blocker",
        "_cancelled",
        "_coroutine",
        "_loop",
        "_on_done",
        "_took_long",
        "argument",
        "command",
        "entry",
        "is_last",
        "reason",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Reply | None],
        blocker: Blocker | None,
        on_done: Callable[[Reply | None, BaseException | None], None],
        took_long: Callable[[float], None],
        command: Command | None,
    ) -> None:
        """Takes over a coroutine after a step that yielded ``blocker``.

        ``on_done(result, error)`` is called once, when it has ended; ``took_long`` with the seconds
        of a step that kept the other sessions waiting.
        """
        self._loop = loop
        self._coroutine = coroutine
        self._on_done = on_done
        self._took_long = took_long
        self._cancelled = False
        self.command = command
        self.argument = ""
        self.entry: Entry | None = None  # of the journal
        self.reason: FTPError | None = None
        self.is_last = False
        """Whether the session ends after it, since the server stops."""
        self._blocker = blocker
        if blocker is None:
            self._wait(None)
        else:  # as ``_wait``, without its call
            blocker._asyncio_future_blocking = False
            blocker.add_done_callback(self._step)

    def _wait(self, blocker: Blocker | None) -> None:
        self._blocker = blocker
        if blocker is None:  # it gave the loop a turn
            self._loop.call_soon(self._step)
        else:
            blocker._asyncio_future_blocking = False  # as a task does, to tell await from yield
            blocker.add_done_callback(self._step)
            if self._cancelled:
                blocker.cancel()

    def _step(self, _: Blocker | None = None) -> None:
        self._blocker = None
        began = monotonic()
        try:
            if self._cancelled:
                self._cancelled = False
                blocker = self._coroutine.throw(asyncio.CancelledError())
            else:
                blocker = self._coroutine.send(None)
        except StopIteration as done:
            self._on_done(done.value, None)
        except (Exception, asyncio.CancelledError) as error:
            self._on_done(None, error)
        else:
            self._wait(blocker)
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

    def cancel(self) -> None:
        """Throw CancelledError where the coroutine waits."""
        self._cancelled = True
        if self._blocker is not None:
            self._blocker.cancel()

    def abort(self, reason: FTPError) -> None:
        """End it; ``reason`` gives the reply. The first reason counts."""
        if self.reason is None:
            self.reason = reason
            self.cancel()
