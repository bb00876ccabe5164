"""How a custom command is run, and how it has a built-in one obeyed."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from ftpcluster.compat.decorators import Verb
from ftpcluster.compat.server_hooks import connection_of
from ftpcluster.compat.session_connection import SessionConnection, needs_slot, take_slot
from ftpcluster.protocol.errors import FTPError, LocalProblem, TransferAborted
from ftpcluster.protocol.reply import Replied, Reply, Then
from ftpcluster.session.preconditions import pass_gates, reply_for
from ftpcluster.session.row import Command
from ftpcluster.session.state import Session


class CustomHandler:
    """The handler of a custom command. Its row says that it needs a task."""

    def __init__(self, function: Verb, verb: str) -> None:
        """``function`` overrides ``verb``, and maybe obeys a related verb now."""
        self._function = function
        self._verb = verb

    async def __call__(self, session: Session, argument: str) -> Reply:
        connection = connection_of(session)
        state = connection.command_state
        before = state.overriding
        state.overriding = (*before, self._verb)
        try:
            goes_on = await _run(self._function, connection, argument)
        except BaseException as error:
            failure = _failure(connection, error)
            if failure is error:
                raise
            raise failure from error
        finally:
            state.overriding = before
        if needs_slot(connection):
            await take_slot(connection)
        held, state.held_reply = state.held_reply, None
        if state.is_ending or not goes_on:
            if held is not None:
                session.announce(held)
            return Replied(Then.CLOSE)
        return Replied(Then.GO_ON) if held is None else held


def _failure(connection: SessionConnection, error: BaseException) -> BaseException:
    """The exception that the core gets for an error of a custom command."""
    session, state = connection.session, connection.command_state
    if needs_slot(connection):
        session.log_out()
    # AUTH may have been obeyed in part: nobody knows whether the connection is protected
    ends = state.is_ending or state.held_reply is not None
    if ends and isinstance(error, ConnectionError | asyncio.CancelledError):
        error = TransferAborted()
    elif isinstance(error, Exception) and not isinstance(error, FTPError | ConnectionError):
        # an OSError of the core has a reply of its own; one of a custom command is a bug
        session.note_bug(error)
        error = LocalProblem()
    if ends and isinstance(error, FTPError):
        error.then = Then.CLOSE
    return error


async def _run(function: Verb, connection: SessionConnection, argument: str) -> bool:
    """Call a command, and wait for the tasks that it left in ``connection.extra_workers``."""
    workers: set[asyncio.Task[Any]] = connection.extra_workers
    try:
        answer: Any = function(connection, argument)
        if inspect.isasyncgen(answer) or inspect.isgenerator(answer):
            raise TypeError(
                f"{function!r} is a generator, and no command"
            )  # no line of it would run
        goes_on = await answer if inspect.isawaitable(answer) else answer
        while workers:
            done, _ = await asyncio.wait(workers)
            workers -= done
            for task in done:
                task.result()
    finally:
        for task in workers:
            task.cancel()
        workers.clear()
        connection.command_state.stop_sharing()
    return goes_on is not False


async def obey_builtin(command: Command, connection: SessionConnection, argument: str) -> bool:
    """Obey a built-in command that a custom one has called. Returns whether the session goes on."""
    session, state = connection.session, connection.command_state
    try:
        argument = pass_gates(session, command, argument)
        outcome = command.handler(session, argument)
        reply = await outcome if inspect.isawaitable(outcome) else outcome
    except Exception as error:
        reply = reply_for(session, error)
    if reply.then is Then.CLOSE:
        state.is_ending = True
    if state.held_reply is None and reply.then in (Then.START_TLS, Then.END_TLS):
        # a client begins TLS as soon as it has read this reply. The command may read lines until
        # it ends, and would take that for plain text behind AUTH: so the reply waits for its end
        state.held_reply = reply
    else:
        session.announce(reply)
    return not state.is_ending
