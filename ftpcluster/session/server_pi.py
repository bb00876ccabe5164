"""The server-PI: reads command lines, keeps the gates, runs commands, sends replies.

One command at a time. Lines that come while a command waits are queued; of those only what the
table allows during a transfer is looked at. Replies are gathered while a batch of lines is obeyed
and leave with one call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import CONTROL_TICKETS, TLSStream
from ftpcluster.protocol.command import (
    LineSplitter,
    TooMuchRubbish,
    split_command,
)
from ftpcluster.protocol.errors import (
    FTPError,
    SessionEnded,
    SyntaxProblem,
    TransferAborted,
)
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session import journal
from ftpcluster.session.commands.table import (
    COMMANDS,
    Command,
    During,
)
from ftpcluster.session.deadlines import Deadlines
from ftpcluster.session.gates import pass_gates, refuse_unknown, reply_for
from ftpcluster.session.run import Run, give_way, in_task
from ftpcluster.session.services import Services
from ftpcluster.session.state import Account, Activity, Conversation, Session, shown

_RECEIVE = 4096
_LINES_PER_TURN = 16
"""Lines of one session that are obeyed before the others get their turn."""
_QUEUED = 256
"""Lines that may wait behind a command before no more are read."""
_UNSENT = 64 * 1024
"""Bytes of replies that a client may leave unread before no more commands are obeyed."""


class ServerPI:
    """One session, from its greeting to its end."""

    __slots__ = (
        "_argument",
        "_began",
        "_command",
        "_deadlines",
        "_draining",
        "_emptied",
        "_entry",
        "_find_command",
        "_gathering",
        "_lines",
        "_on_end",
        "_reason",
        "_run",
        "_splitter",
        "_unsent",
        "ended",
        "session",
    )

    def __init__(
        self,
        services: Services,
        stream: Stream,
        conversation: Conversation,
        on_end: Callable[[ServerPI], None],
    ) -> None:
        """Takes over ``stream``. ``on_end`` is called once, when all is given back."""
        self.session = Session(services, stream, conversation, self.reply, self._room)
        self.ended = False
        self._on_end = on_end
        self._splitter = LineSplitter()
        self._lines: list[bytes | None] = []
        self._unsent = b""
        self._gathering = False
        self._run: Run[Reply | None] | None = None
        self._command: Command | None = None
        self._reason: FTPError | None = None
        self._argument = ""
        self._began = services.loop.time()
        self._find_command = services.find_command or COMMANDS.get
        self._draining = False
        self._entry: journal.Entry | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._deadlines = Deadlines(self.session, self._on_idle, self._on_stalled, self._on_unread)

    def start(self) -> None:
        """Greet, and serve until the session ends."""
        self.session.note(logging.DEBUG, "the session begins")
        stream = self.session.stream
        if isinstance(stream, TLSStream):
            self.session.protected = True
            self._begin(None, self._shake_hands(stream, self._greeting()))
        else:
            self._finish(self._greeting())
        if not self.ended and self._run is None:
            stream.watch(self._on_readable)

    def _greeting(self) -> Reply:
        return self.session.services.greeting

    async def _shake_hands(self, stream: TLSStream, reply: Reply | None) -> Reply | None:
        """Begin TLS, and then say ``reply``: with implicit TLS the greeting, else nothing."""
        try:
            await stream.handshake()
        except ConnectionError:
            self.end()
            return None
        return reply

    def _begin_tls(self) -> None:
        """Behind the reply to AUTH, the same connection goes on as TLS."""
        services, plain = self.session.services, self.session.stream
        self.session.wants_tls = False
        if not self._send_all():
            return
        assert services.tls is not None
        try:
            self.session.tls = context = services.tls.take()
            stream = TLSStream(
                services.loop, services.poller, plain.release(), context, CONTROL_TICKETS
            )
        except ConnectionError:
            self.end()
            return
        self.session.stream = stream
        self._begin(None, self._shake_hands(stream, None))

    def _leave_tls(self) -> None:
        stream = self.session.stream
        assert isinstance(stream, TLSStream)
        self.session.leaves_tls = False
        if self._send_all():
            stream.unwatch()
            self._begin(None, self._end_tls(stream))

    async def _end_tls(self, stream: TLSStream) -> None:
        """Behind the reply to CCC, the same connection goes on as plain text."""
        services = self.session.services
        try:
            fd = await stream.end_tls()
        except ConnectionError:
            self.end()
            return
        self.session.stream = Stream(services.loop, services.poller, fd)

    def _has_more_input(self) -> bool:
        return bool(self._lines) or self._splitter.pending or self.session.stream.has_input()

    # ------------------------------------------------------------------ reading

    def _on_readable(self) -> None:
        try:
            data = self.session.stream.recv(_RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            self.end()
            return
        if not data:
            self._on_eof()
            return
        self._deadlines.touch()
        try:
            self._lines += self._splitter.feed(data)
        except TooMuchRubbish:
            self.end(SyntaxProblem("Line too long."))
            return
        self._obey_lines()

    def _on_eof(self) -> None:
        """The client closed. Behind QUIT it may: then what runs still finishes."""
        if self._run is not None and any(
            line and line[:4].upper() == b"QUIT" for line in self._lines
        ):
            self.session.stream.unwatch()
        else:
            self.end()

    def _obey_lines(self) -> None:
        """Obey what is queued, as far as it may be obeyed now; send the replies together."""
        self._gathering = True
        obeyed = 0
        while self._lines and not self.ended:
            if self._run is not None:
                if not self._obey_meanwhile():
                    break
            elif obeyed == _LINES_PER_TURN or len(self._unsent) > _UNSENT:
                break
            else:
                self._obey(self._lines.pop(0))
            obeyed += 1
        self._gathering = False
        if not self.ended:
            self._send()
            self._watch_or_not()

    def _watch_or_not(self) -> None:
        """Stop reading from a client that is ahead of us, go on with one that no longer is."""
        if self.ended or (self._run is not None and self._command is None):
            return  # the handshake reads for itself
        stream = self.session.stream
        if self.session.ending:
            stream.unwatch()  # only its last words are still to be read
            return
        waits = len(self._lines) > (_QUEUED if self._run is not None else 0)
        if waits or len(self._unsent) > _UNSENT:
            stream.unwatch()
            if self._run is None and len(self._unsent) <= _UNSENT:
                self.session.services.loop.call_soon(self._obey_lines)
        elif not stream.is_watched:
            stream.watch(self._on_readable)

    # ------------------------------------------------------------------ obeying

    def _obey(self, line: bytes | None) -> None:
        session = self.session
        try:
            if line is None:
                raise SyntaxProblem("Command line too long.")
            verb, argument = split_command(line, session.settings.encoding)
            if session.rename_from is not None and verb != b"RNTO":
                session.rename_from = None
            command = self._find_command(verb)
            self._entry = journal.begin(session, command, verb, argument)
            command = command or refuse_unknown(session, verb)
            pass_gates(session, command, argument)
            self._argument = argument
            outcome = command.handler(session, argument)
        except Exception as error:
            self._finish(reply_for(self.session, error))
            return
        if isinstance(outcome, Reply):
            self._finish(outcome)
        else:
            if session.is_foreign:
                outcome = in_task(outcome)
            self._begin(command, outcome)

    def _begin(self, command: Command | None, coroutine: Coroutine[Any, Any, Reply | None]) -> None:
        """Run a coroutine as far as it comes at once; if it has to wait, let it go on later."""
        try:
            blocker = coroutine.send(None)
        except StopIteration as done:
            self._finish(done.value)
        except Exception as error:
            self._finish(reply_for(self.session, error))
        else:
            self._command = command
            if command is not None and command.is_long:
                self._deadlines.begin_transfer()
            self._run = Run(self.session.services.loop, coroutine, blocker, self._on_done)

    def _on_done(self, reply: Reply | None, error: BaseException | None) -> None:
        """A command that had to wait has ended."""
        self._run = self._command = None
        self._deadlines.end_transfer()
        reason, self._reason = self._reason, None
        if self.ended:
            if isinstance(error, Exception):
                reply_for(self.session, error)  # nobody hears it; but what is a bug is logged
            self._write_down(None)
            if self.session.last_transfer is not None:
                self._count_transfer(None)
            self._close()
            return
        if isinstance(error, asyncio.CancelledError):
            error = reason or TransferAborted()
        if error is not None:
            reply = reply_for(self.session, error)
        self._gathering = True
        self._finish(reply)
        if self._draining:
            self.end(shutting_down())
        if not self.ended:
            self._obey_lines()

    def _obey_meanwhile(self) -> bool:
        """Look at the lines that came while a command runs; False where all have to wait."""
        if self._command is None or not (self._command.is_long or self.session.has_workers):
            return False
        verb, argument = split_command(self._lines[0] or b"")
        row = self._find_command(verb)
        if row is not None and (
            row.during is During.ANSWERED or (row.during is During.ANSWERED_BARE and not argument)
        ):
            del self._lines[0]
            self._answer_meanwhile(row, argument)
            return True
        if any(self._is_abort(line) for line in self._lines):
            self._cancel(TransferAborted("Transfer aborted."))
        return False

    def _is_abort(self, line: bytes | None) -> bool:
        verb = b"" if line is None else split_command(line)[0]
        row = COMMANDS.get(verb)
        # whoever has removed the verb has it end nothing
        return row is not None and row.during is During.ABORTS and bool(self._find_command(verb))

    def _answer_meanwhile(self, command: Command, argument: str) -> None:
        try:
            pass_gates(self.session, command, argument)
            reply = command.handler(self.session, argument)
            assert isinstance(reply, Reply)
        except Exception as error:
            reply = reply_for(self.session, error)
        self.reply(reply)

    def _cancel(self, reason: FTPError) -> None:
        """End the command that runs; ``reason`` is what the client is told."""
        if self._run is not None and self._reason is None:
            self._reason = reason
            self._run.cancel()

    # ------------------------------------------------------------------ replying

    def reply(self, reply: Reply) -> None:
        """Send a reply, or gather it with others that are about to be sent."""
        if not reply.is_part:
            self.session.services.counts.replies[reply.code] += 1
        self._unsent += reply.encode(self.session.settings.encoding)
        if not self._gathering:
            self._send()

    def _finish(self, reply: Reply | None) -> None:
        """A command has ended; one that isn't ours has sent its replies itself."""
        if self._entry is not None:
            self._write_down(reply)
        if self.session.last_transfer is not None:
            self._count_transfer(reply)
        changes = self.session.wants_tls or self.session.leaves_tls
        if changes and self._has_more_input():
            self.end()  # somebody put commands behind AUTH, to have them obeyed as protected ones
            return
        if reply is not None:
            self.reply(reply)
        if self.session.ending:
            self._send(is_last=not self._lines)
            self._lines.clear()
            if not self._unsent:
                self.end()
        elif self.session.wants_tls:
            self._begin_tls()
        elif self.session.leaves_tls:
            self._leave_tls()

    def _count_transfer(self, reply: Reply | None) -> None:
        """A command that has moved data has ended."""
        session = self.session
        transfer, session.last_transfer = session.last_transfer, None
        assert transfer is not None
        session.services.counts.transfer(
            transfer.direction,
            session.progress,
            whole=reply is not None and reply.code == Code.TRANSFER_COMPLETE,
            protected=not transfer.stream.is_plain,
        )

    def _write_down(self, reply: Reply | None) -> None:
        """What came of the command, in the log."""
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.end(self.session, reply)

    def _send(self, *, is_last: bool = False) -> None:
        if not self._unsent or self.ended:
            return
        stream = self.session.stream
        try:
            sent = (stream.send_last if is_last else stream.send)(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.end()
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._deadlines.wait_for_reader(sent)
            stream.writable().add_done_callback(self._on_writable)

    def _send_all(self) -> bool:
        """Send what has to be sent before the connection goes on as another; False where it ends.

        Who has asked for that, and has not read thousands of replies, cannot be waited for.
        """
        self._send()
        if self._unsent:
            self.end()
        return not self.ended

    def _on_writable(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.cancelled() and not self.ended:
            self._send()
            if not self._unsent:
                self._deadlines.end_wait_for_reader()
                if self.session.ending:
                    self.end()
                    return
            if self._emptied is not None and len(self._unsent) <= _UNSENT:
                emptied, self._emptied = self._emptied, None
                if not emptied.done():
                    emptied.set_result(None)
            self._watch_or_not()

    async def _room(self) -> None:
        """Wait until the client has read what it was sent, but for a little."""
        if len(self._unsent) > _UNSENT:
            # a command's first step is not known as what runs: the session must not end in it
            await give_way()
            self._send()
        if len(self._unsent) > _UNSENT:
            self._emptied = self.session.services.loop.create_future()
            await self._emptied

    # ------------------------------------------------------------------ watching

    def activity(self) -> Activity:
        """What the session does now."""
        session = self.session
        command = ""
        if self._command is not None:
            command = journal.describe(session, self._command, self._argument)
        login = session.login
        # the account's name, by which limits go: a session may have logged in by an alias
        account = login.user.login if isinstance(login, Account) else None
        told = Activity(
            session.user_name if account is None else shown(account),
            not session.stream.is_plain,
            session.services.loop.time() - self._began,
            self._deadlines.idle,
            command,
        )
        transfer = session.transfer
        if transfer is None:
            return told
        speed, cause = transfer.waits.look(session.progress)
        return told._replace(
            direction=transfer.direction,
            size=transfer.total,
            moved=session.progress,
            speed=speed,
            held_by=cause,
        )

    # ------------------------------------------------------------------ ending

    def drain(self) -> None:
        """The server stops: end the session now, or after the transfer that runs."""
        self._draining = True
        if self._command is None or not self._command.transfers:
            self.end(shutting_down())

    def _on_idle(self) -> None:
        self.end(SessionEnded("Timeout; closing control connection."))

    def _on_stalled(self) -> None:
        self._cancel(TransferAborted("The transfer stalled."))

    def _on_unread(self) -> None:
        self.end(SessionEnded("Replies are not read; closing control connection."))

    def end(self, reason: FTPError | None = None) -> None:
        """End the session now; ``reason``, if any, is the last that the client is told."""
        if self.ended:
            return
        if reason is not None:
            self._gathering = False
            self.reply(reason.reply)
        if self.ended:
            return
        self.ended = True
        if self._entry is not None and reason is not None:
            self._entry.cut_for = reason.reply.text
        if reason is None:
            self.session.note(logging.DEBUG, "the session ends")
        else:
            self.session.note(logging.INFO, f"the session ends: {reason.reply.text}")
        self._deadlines.stop()
        self.session.stream.close()
        if self._run is not None:
            self._run.cancel()
        else:
            self._close()

    def _close(self) -> None:
        """Give back all that the session holds, once nothing of it runs any more."""
        session = self.session
        session.drop_data()
        session.log_out()
        # else only the garbage collector could free the session
        self._deadlines.forget()
        session.forget_client()
        session.services.quotas.end(session.conversation.session)
        self._on_end(self)


def shutting_down() -> SessionEnded:
    return SessionEnded("The server is shutting down.")
