"""The server-PI: checks the gates, runs commands, and sends their replies.

One command at a time. Of the lines that come while it runs, only those that the table allows during
a transfer are looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any

from ftpcluster.answers import Answer, as_coroutine, settled
from ftpcluster.logs import is_told
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import CONTROL_TICKETS, TLSStream
from ftpcluster.protocol.command import TOO_LONG, to_text
from ftpcluster.protocol.errors import (
    FTPError,
    SessionEnded,
    SyntaxProblem,
    TransferAborted,
)
from ftpcluster.protocol.reply import Code, Replied, Reply, Then
from ftpcluster.session.activity import Activity, activity
from ftpcluster.session.command_run import in_task
from ftpcluster.session.commands.table import ALIASES, COMMANDS
from ftpcluster.session.control_connection import ABORT, QUIT, ControlConnection
from ftpcluster.session.conversation import Conversation
from ftpcluster.session.deadlines import Deadlines
from ftpcluster.session.ends import ending_session
from ftpcluster.session.journal import Entry
from ftpcluster.session.login import Account
from ftpcluster.session.phases import ENDED, ENDING, HUNG_UP, LOST, SERVING
from ftpcluster.session.preconditions import pass_gates, refuse_unknown, reply_for
from ftpcluster.session.row import Command, During
from ftpcluster.session.running_command import RunningCommand
from ftpcluster.session.services import Services
from ftpcluster.session.state import Session

_LONGEST_END = 1.0
"""Seconds that a cancelled command may delay the close of the control connection."""
_COMPLETE, _DEBUG, _INFO = Code.TRANSFER_COMPLETE, logging.DEBUG, logging.INFO
_GO_ON = Then.GO_ON  # to look it up in its class costs a call each time


class ServerPI(ControlConnection):
    """One session, from its greeting to its end."""

    __slots__ = ("_began", "_find_command", "_on_end")

    def __init__(
        self,
        services: Services,
        stream: Stream,
        conversation: Conversation,
        on_end: Callable[[ServerPI], None],
    ) -> None:
        """Takes over ``stream``. ``on_end`` is called once, when all is given back."""
        super().__init__(services, stream, conversation)
        self._on_end: Callable[[ServerPI], None] | None = on_end
        self._began = services.loop.time()
        self._find_command = services.find_command or COMMANDS.get
        self._deadlines = Deadlines(
            self.session, self._on_idle, self._on_stalled, self._on_unread, self.fail
        )

    @ending_session
    def start(self) -> None:
        """Greet, and serve until the session ends."""
        self.session.note(logging.DEBUG, "the session begins")
        stream = self.session.stream
        if isinstance(stream, TLSStream):
            self.session.parameters.protected = True
            self._begin(None, self._shake_hands(stream, self._greeting()))
        else:
            self._finish(self._greeting())
        self._send()
        if self._state is not ENDED and self._run is None:
            self._watch()

    def _greeting(self) -> Reply:
        return self.session.services.greeting

    async def _shake_hands(self, stream: TLSStream, reply: Reply | None) -> Reply | None:
        """Begin TLS, and then say ``reply``: with implicit TLS the greeting, else nothing."""
        try:
            await stream.handshake()
        except OSError:
            self.end()
            return None
        return reply

    def _begin_tls(self) -> None:
        """Behind the reply to AUTH, the same connection goes on as TLS."""
        services, plain = self.session.services, self.session.stream
        if not self._send_all():
            return
        assert services.tls is not None
        try:
            context = services.tls.take()
            stream = TLSStream(
                services.loop, services.poller, plain.release(), context, CONTROL_TICKETS
            )
        except OSError:
            self.end()
            return
        self.session.stream = self.session.tls = stream
        self._begin(None, self._shake_hands(stream, None))

    def _leave_tls(self) -> None:
        stream = self.session.stream
        assert isinstance(stream, TLSStream)
        if self._send_all():
            stream.unwatch()
            self._begin(None, self._end_tls(stream))

    async def _end_tls(self, stream: TLSStream) -> None:
        """Behind the reply to CCC, the same connection goes on as plain text."""
        services = self.session.services
        try:
            fd = await stream.end_tls()
            self.session.stream = Stream(services.loop, services.poller, fd)
        except OSError:
            self.end()

    # ------------------------------------------------------------------ obeying

    def _obey(self, verb: bytes, rest: bytes) -> None:
        session = self.session
        entry: Entry | None = None
        argument = ""
        outcome: Answer[Reply]
        try:
            if verb is TOO_LONG:
                raise SyntaxProblem("Command line too long.")
            if rest:
                argument = rest.decode(session.settings.encoding, "surrogateescape")
            command = self._find_command(verb)
            if command is None and verb in ALIASES:
                command = self._find_command(ALIASES[verb])
            if command is not None and command.logged and type(session.login) is Account:
                entry = Entry(session, command, verb, argument, _INFO)
            elif is_told(_DEBUG):
                entry = Entry(session, command, verb, argument, _DEBUG)
            command = command or refuse_unknown(session, verb)
            argument = pass_gates(session, command, argument)
            needs_task = command.needs_task or session.needs_task
            if needs_task and command.login:
                outcome = _handled(command, session, argument)
            else:
                outcome = command.handler(session, argument)
        except Exception as error:
            self._finish(reply_for(session, error), entry)
            return
        if isinstance(outcome, Reply):
            self._finish(outcome, entry)
            return
        coroutine = outcome if type(outcome) is CoroutineType else as_coroutine(outcome)
        run = self._begin(command, in_task(coroutine) if needs_task else coroutine, entry)
        if run is not None:
            run.argument = argument

    def _begin(
        self,
        command: Command | None,
        coroutine: Coroutine[Any, Any, Reply | None],
        entry: Entry | None = None,
    ) -> RunningCommand | None:
        """Run a coroutine up to its first wait, if any. A RunningCommand goes on from there."""
        try:
            blocker = coroutine.send(None)
        except StopIteration as done:
            self._finish(done.value, entry)
        except Exception as error:
            self._finish(reply_for(self.session, error), entry)
        else:
            if command is not None and (
                command.transfers or command.is_long or self._state >= HUNG_UP
            ):
                self._deadlines.begin_transfer(command)
            loop = self.session.services.loop
            run = self._run = RunningCommand(
                loop, coroutine, blocker, self._on_done, self._took_long, command
            )
            run.entry = entry
            return run
        return None

    def _on_done(self, reply: Reply | None, error: BaseException | None) -> None:
        """A command that had to wait has ended."""
        run, self._run = self._run, None
        assert run is not None
        try:  # as ``ending_session``, without its call
            self._deadlines.end_transfer()
            if self._state is ENDED:
                self._end_behind(run, error)
                return
            if isinstance(error, asyncio.CancelledError):
                error = run.reason or TransferAborted()
            if error is not None:
                reply = reply_for(self.session, error)
            self._finish(reply, run.entry)
            if run.is_last:
                self.end(shutting_down())
            if self._state is ENDED:
                return
            if self._lines.holds_anything:
                self._obey_lines()
                return
            if self._unsent:
                self._send()
            if self._unsent or self._state is not SERVING or not self.session.stream.is_watched:
                self._go_on(is_held=False)
        except Exception as failure:
            self.fail(failure)

    def _end_behind(self, run: RunningCommand, error: BaseException | None) -> None:
        """A command has ended after its session."""
        if isinstance(error, Exception):
            reply_for(self.session, error)  # nothing is sent any more; but a bug is logged
        if run.entry is not None:
            run.entry.end(self.session, None, is_cut=True)
        if self.session.last_transfer is not None:
            self._count_transfer(None)
        self._close()

    def _obey_meanwhile(self, verb: bytes, rest: bytes) -> bool:
        """Look at the lines that came while a command runs; False where all have to wait."""
        run = self._run
        assert run is not None
        if run.command is None or not (run.is_long or self.session.hooks.has_tasks):
            return False
        row = self._find_command(verb)
        if row is not None and (
            row.during is During.ANSWERED or (row.during is During.ANSWERED_BARE and not rest)
        ):
            self._lines.take()
            self._answer_meanwhile(row, rest)
            return True
        # ABOR ends nothing where a program has removed the verb
        if self._lines.has(ABORT) and self._find_command(ABORT) is not None:
            run.abort(TransferAborted("Transfer aborted."))
        elif self._lines.has(QUIT):
            self._deadlines.quit(run.command)
        return False

    def _answer_meanwhile(self, command: Command, rest: bytes) -> None:
        try:
            argument = to_text(rest, self.session.settings.encoding)
            argument = pass_gates(self.session, command, argument)
            reply = command.handler(self.session, argument)
            assert isinstance(reply, Reply)
        except Exception as error:
            reply = reply_for(self.session, error)
        self._reply(reply)
        if reply.then is Then.CLOSE:
            self._come_to(ENDING)

    # ------------------------------------------------------------------ replying

    def _finish(self, last: Reply | None, entry: Entry | None = None) -> None:
        """A command has ended, or the handshake, which has no reply."""
        session = self.session
        then = _GO_ON if last is None else last.then
        reply = None if type(last) is Replied else last
        if entry is not None:
            entry.end(session, reply)
        if session.last_transfer is not None:
            self._count_transfer(reply)
        if then is _GO_ON and self._state is not ENDING:
            if reply is not None:  # as ``_reply`` does, without a call
                session.services.counts.replies[reply.code] += 1
                if self._state < LOST:
                    self._unsent += reply.encode(session.settings.encoding)
            return
        changes = then is not _GO_ON and then is not Then.CLOSE
        if changes and self._has_more_input():
            self.end()  # commands behind AUTH: an attacker wants them obeyed as protected
            return
        if reply is not None:
            self._reply(reply)
        self._go_on_as(then)

    def _go_on_as(self, then: Then) -> None:
        """What follows the reply, if it is not the next command."""
        if then is Then.CLOSE or self._state is ENDING:
            self._come_to(ENDING)
            self._send(is_last=not self._lines)
            self._lines.clear()
            if not self._unsent:
                self.end()
        elif self._state >= HUNG_UP:
            pass  # the reply was the last
        elif then is Then.START_TLS:
            self._begin_tls()
        else:
            self._leave_tls()

    def _count_transfer(self, reply: Reply | None) -> None:
        """A command that has moved data has ended."""
        session = self.session
        transfer, session.last_transfer = session.last_transfer, None
        assert transfer is not None
        session.services.counts.transfer(
            transfer.direction,
            session.progress,
            whole=reply is not None and reply.code == _COMPLETE,
            protected=transfer.is_protected,
        )

    # ------------------------------------------------------------------ watching

    def activity(self) -> Activity:
        """What the session does now."""
        age = self.session.services.loop.time() - self._began
        return activity(self.session, self._run, age, self._deadlines.idle)

    # ------------------------------------------------------------------ ending

    @ending_session
    def drain(self) -> None:
        """The server stops: end the session now, or after the transfer that runs."""
        if self._run is None or not self._run.transfers:
            self.end(shutting_down())
        else:
            self._run.is_last = True

    def _on_idle(self) -> None:
        self.end(SessionEnded("Timeout; closing control connection."))

    def _on_stalled(self) -> None:
        run = self._run
        if run is None or not run.is_long:
            self._on_idle()
        elif run.transfers and self.session.last_transfer is None:
            run.abort(self.session.not_begun())
        else:
            run.abort(TransferAborted("The transfer stalled."))

    def _on_unread(self) -> None:
        self._give_up(SessionEnded("Replies are not read; closing control connection."))

    def end(self, reason: FTPError | None = None) -> None:
        """End the session now; ``reason``, if any, is the last reply."""
        if self._state is ENDED:
            return
        if reason is not None:
            self._reply(reason.reply)
            self._send()
        if self._state is ENDED:
            return  # the client was gone: to send the reply has ended the session
        self._state, run = ENDED, self._run
        if reason is not None and run is not None and run.entry is not None:
            run.entry.cut_for = reason.reply.text
        if reason is None:
            self.session.note(logging.DEBUG, "the session ends")
        else:
            self.session.note(logging.INFO, f"the session ends: {reason.reply.text}")
        self._deadlines.stop()
        self._lines.clear()
        if run is not None:
            self.session.stream.stop_watching()
            # what the command waits for may hang, but the client must not
            self.session.services.loop.call_later(_LONGEST_END, self.session.stream.close)
            run.cancel()
        else:
            self._close()

    def _close(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        session = self.session
        try:
            session.drop_data()
            session.log_out()
            # break the cycles: else only the garbage collector could free the session
            self._deadlines.forget()
            session.forget_client()
            session.stream.stop_watching()
        finally:
            session.services.quotas.end(session.conversation.session, session.stream.close)
            on_end(self)


async def _handled(command: Command, session: Session, argument: str) -> Reply:
    """Run a whole handler in a task. Even the part that never waits may run code that is not ours:
    it may ask for its task, or raise what no callback of the loop may raise."""
    return await settled(command.handler(session, argument))


def shutting_down() -> SessionEnded:
    return SessionEnded("The server is shutting down.")
