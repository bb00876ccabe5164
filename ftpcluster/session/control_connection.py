"""The control connection: lines come in and are queued, replies are gathered and go out.

Lines that come while a command waits are queued. The final replies to a batch of lines are gathered
and sent with one call. A preliminary reply is sent at once, by itself. The server-PI obeys the
lines.

Lines that arrived before the client closed the control connection are still obeyed. A transfer goes
on even after that connection was reset: clients close both connections at once, and only the data
connection tells where the data end.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from time import monotonic

from ftpcluster.net.readiness import Readiness
from ftpcluster.net.stream import Stream
from ftpcluster.protocol.command import CommandLines, TooMuchRubbish
from ftpcluster.protocol.errors import FTPError, SessionEnded, SyntaxProblem
from ftpcluster.protocol.reply import Reply
from ftpcluster.session.command_run import give_way
from ftpcluster.session.conversation import Conversation
from ftpcluster.session.deadlines import Deadlines
from ftpcluster.session.ends import ending_session
from ftpcluster.session.login import Account
from ftpcluster.session.phases import ENDED, ENDING, HUNG_UP, LOST, SERVING, State
from ftpcluster.session.running_command import LONG, RunningCommand
from ftpcluster.session.services import Services
from ftpcluster.session.state import Session

_RECEIVE = 4096
_LINES_PER_TURN = 16
"""Lines of one session that are obeyed before other sessions get their turn."""
_QUEUED = 12 * 1024
"""Bytes that may wait behind a command before no more are read. With one read of 4 KiB a session
holds at most 16 KiB of its client's lines, before a login, too."""
ABORT, QUIT = b"ABOR", b"QUIT"
_UNSENT = 64 * 1024
"""Bytes of replies that a client may leave unread before no more commands are obeyed."""


class ControlConnection(ABC):
    """The control connection of one session; its subclass, the server-PI, obeys commands."""

    __slots__ = (
        "_deadlines",
        "_emptied",
        "_lines",
        "_receiver",
        "_run",
        "_state",
        "_turn",
        "_unsent",
        "session",
    )
    _deadlines: Deadlines

    def __init__(self, services: Services, stream: Stream, conversation: Conversation) -> None:
        """Takes over ``stream``."""
        self.session = Session(services, stream, conversation, self)
        self._state = SERVING
        self._run: RunningCommand | None = None
        self._lines = CommandLines((ABORT, QUIT))
        self._turn: asyncio.Handle | None = None  # in which queued lines are going to be obeyed
        self._unsent = b""
        self._emptied: asyncio.Future[None] | None = None
        self._receiver: asyncio.Future[bytes] | None = None

    @abstractmethod
    def end(self, reason: FTPError | None = None) -> None:
        """End the session now; ``reason``, if any, is the last reply."""

    @abstractmethod
    def _close(self) -> None:
        """Give back all that the session holds; harmless when repeated."""

    def fail(self, error: Exception) -> None:
        """End the session for an unexpected error.

        Otherwise nothing would read its connection any more, and it would hold its slots until the
        idle timeout.
        """
        self.session.note_bug(error)
        try:
            self.end(SessionEnded("Local error; closing control connection."))
        except Exception as another:
            self.session.note_bug(another)
        self._state = ENDED
        if self._run is None:
            self._close()
        else:
            self._run.cancel()

    @abstractmethod
    def _obey(self, verb: bytes, rest: bytes) -> None:
        """Obey a command while no other one runs."""

    def _obey_and_time(self, verb: bytes, rest: bytes) -> None:
        began = monotonic()  # the loop's time may stand still meanwhile
        self._obey(verb, rest)
        if (took := monotonic() - began) > LONG:
            self._took_long(took)

    def _took_long(self, seconds: float) -> None:
        """A command has kept the other sessions waiting; mostly the cause is a slow storage."""
        login = self.session.login
        if isinstance(login, Account):
            login.storage.took_long(seconds)

    @abstractmethod
    def _obey_meanwhile(self, verb: bytes, rest: bytes) -> bool:
        """Look at a line that came while a command runs; False where it has to wait."""

    # ------------------------------------------------------------------ reading

    def _watch(self) -> None:
        """Read what comes. A connection that the kernel refuses to watch is as good as broken."""
        try:
            self.session.stream.watch(self._on_readable)
        except OSError:
            self._on_broken()

    def _on_readable(self) -> None:
        try:
            data = self.session.stream.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            self._on_broken()
            return
        try:
            is_busy = self._run is not None or self._turn is not None or self._receiver is not None
            line = None if is_busy or self._unsent else self._lines.split_single(data)
            if line is None:
                self._on_received(data)
                return
            # the usual case, without further calls: one line, and nothing before or after it
            deadlines = self._deadlines
            deadlines.heard = deadlines.time()
            began = monotonic()
            self._obey(*line)
            if (took := monotonic() - began) > LONG:
                self._took_long(took)
            if self._unsent:
                self._send()
            if self._unsent or not self.session.stream.is_watched:
                self._go_on(is_held=self._run is not None)
        except Exception as error:
            self.fail(error)

    def _on_received(self, data: bytes) -> None:
        if not data:
            self._on_eof()
            return
        deadlines = self._deadlines
        deadlines.heard = deadlines.time()
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(data)
        else:
            self._queue(data)

    def _queue(self, data: bytes) -> None:
        """Queue what was received, and obey it in its turn."""
        try:
            self._lines.feed(data)
        except TooMuchRubbish:
            self._give_up(SyntaxProblem("Line too long."))
            return
        if self._turn is None:
            self._obey_lines()
        elif len(self._lines) > _QUEUED:
            self._stop_reading()

    def _on_eof(self) -> None:
        """The client sends no more. It may still read. A line without its end is never obeyed."""
        run = self._run
        if self.session.hooks.has_tasks and (run is None or not run.transfers):
            self.end()  # a program's own task may never end by itself
            return
        self._come_to(HUNG_UP)
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(b"")
        self._stop_reading()
        self._deadlines.hang_up(None if run is None else run.command)
        self._obey_lines()

    def _stop_reading(self) -> None:
        try:
            self.session.stream.watch_for_break(self._on_broken)
        except OSError:
            self._on_broken()

    @ending_session
    def _on_broken(self) -> None:
        """The connection was reset: the client is gone, or closed it with replies unread."""
        self._give_up()

    def _give_up(self, reason: FTPError | None = None) -> None:
        """Read nothing more from the client, and send it nothing more than ``reason``.

        Only a transfer goes on, as long as it makes progress: all of an upload may have arrived.
        """
        if self._state >= LOST:
            return
        run = self._run
        if run is None or run.command is None or not run.transfers:
            self.end(reason)
            return
        if reason is not None:
            self.session.note(logging.INFO, f"the control connection is given up: {reason}")
            self._reply(reason.reply)
            self._send()
        self._come_to(LOST)
        self._lines.clear()
        self._unsent = b""
        self._say_there_is_room()
        self._deadlines.end_wait_for_reader()
        self._deadlines.lose(run.command)
        self.session.stream.unwatch()
        self.session.stream.unwatch_for_break()

    def _come_to(self, state: State) -> None:
        """Go on to ``state``, unless the session is past it."""
        if self._state < state:
            self._state = state

    def _obey_lines(self) -> None:
        """Obey the queued lines that may be obeyed now, and send their replies together."""
        obeyed = 0
        while self._state is not ENDED and (line := self._lines.head()) is not None:
            if obeyed == _LINES_PER_TURN or len(self._unsent) > _UNSENT:
                break
            if self._run is None:
                self._lines.take()
                self._obey_and_time(*line)
            elif not self._obey_meanwhile(*line):
                break
            obeyed += 1
        if self._state is not ENDED:
            self._send()
            self._go_on(is_held=self._run is not None and obeyed < _LINES_PER_TURN)

    def _go_on(self, *, is_held: bool) -> None:
        """Read on, or stop reading where too much is queued; obey later what is queued.

        ``is_held``: the queue has to wait for the end of the command that runs.
        """
        run = self._run
        if self._state is ENDED or (run is not None and run.command is None):
            return  # the handshake reads for itself
        stream = self.session.stream
        if self._state is ENDING:
            stream.unwatch()  # the client has only to read the last reply
            return
        has_room = len(self._unsent) <= _UNSENT
        is_queue_empty = not self._lines.holds_anything
        if not is_queue_empty and has_room and self._lines and not is_held:
            self._obey_soon()
        if self._state >= HUNG_UP:
            if run is None and not self._unsent and not self._lines:
                self.end()
        elif not has_room or (not is_queue_empty and len(self._lines) > _QUEUED):
            if stream.is_watched:
                self._stop_reading()
        elif not stream.is_watched:
            self._watch()

    def _obey_soon(self) -> None:
        """Obey the queue when other sessions have had their turn."""
        if self._turn is None:
            self._turn = self.session.services.loop.call_soon(self._obey_later)

    @ending_session
    def _obey_later(self) -> None:
        self._turn = None
        if self._state is not ENDED:
            self._obey_lines()

    def _has_more_input(self) -> bool:
        return self._lines.holds_anything or self.session.stream.has_input()

    async def receive(self) -> bytes:
        """The bytes that the client sends next, which are not obeyed; empty at the end."""
        held = self._lines.take_all()
        if held or self._state >= HUNG_UP:
            return held
        if not self.session.stream.is_watched:
            self._watch()  # too much was held
        self._receiver = self.session.services.loop.create_future()
        try:
            return await self._receiver
        finally:
            self._receiver = None

    def push_back(self, data: bytes) -> None:
        """Queue bytes from ``receive``, to be obeyed as commands. Raises TooMuchRubbish."""
        self._lines.push_back(data)

    # ------------------------------------------------------------------ replying

    def _reply(self, reply: Reply) -> None:
        """Gather a reply with others that are about to be sent."""
        if not reply.is_part:
            self.session.services.counts.replies[reply.code] += 1
        if self._state < LOST:
            self._unsent += reply.encode(self.session.settings.encoding)

    def announce(self, reply: Reply) -> None:
        """Send a reply that is not a command's last: at once, in a segment of its own.

        Some clients take no data before they have read 150, others read one reply per receive.
        """
        if self._unsent:
            self._send(in_command=True)
        if not reply.is_part:  # as ``_reply``, without its call
            self.session.services.counts.replies[reply.code] += 1
        if self._state < LOST:
            self._unsent += reply.encode(self.session.settings.encoding)
        self._send(in_command=True)

    def _send(self, *, is_last: bool = False, in_command: bool = False) -> None:
        """Send what the socket takes. The session does not end within a step of its command."""
        unsent = self._unsent
        if not unsent or self._state is ENDED:
            return
        stream, whole = self.session.stream, len(unsent)
        try:
            while unsent:  # that the kernel takes a part does not mean that it takes no more
                sent = stream.send_last(unsent) if is_last else stream.send(unsent)
                unsent = unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._on_send_failed(in_command=in_command)
            return
        self._unsent = unsent
        if not unsent:
            return
        self._deadlines.wait_for_reader(whole - len(unsent))
        try:
            stream.writable().add_done_callback(self._on_writable)
        except OSError:  # it cannot be watched
            self._on_send_failed(in_command=in_command)

    def _on_send_failed(self, *, in_command: bool) -> None:
        if in_command:
            self.session.services.loop.call_soon(self._on_broken)
        else:
            self._on_broken()

    def _send_all(self) -> bool:
        """Send all replies before TLS begins or ends; False where the session ends.

        A client that has left thousands of replies unread is not waited for.
        """
        self._send()
        if self._unsent:
            self.end()
        return self._state is not ENDED

    @ending_session
    def _on_writable(self, waiter: Readiness) -> None:
        if not waiter.cancelled() and self._state is not ENDED:
            self._send()
            if not self._unsent:
                self._deadlines.end_wait_for_reader()
                if self._state is ENDING:
                    self.end()
                    return
            if len(self._unsent) <= _UNSENT:
                self._say_there_is_room()
            self._go_on(is_held=False)

    async def room(self) -> None:
        """Wait until the client has read nearly all that it was sent."""
        if len(self._unsent) > _UNSENT:
            # in a command's first step ``_run`` is still None, and ``_send`` may end the session
            await give_way()
            self._send()
        if len(self._unsent) > _UNSENT:
            self._emptied = self.session.services.loop.create_future()
            await self._emptied

    def _say_there_is_room(self) -> None:
        emptied, self._emptied = self._emptied, None
        if emptied is not None and not emptied.done():
            emptied.set_result(None)
