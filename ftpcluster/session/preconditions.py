"""The gates before a command, in this order: 500/502, 530, 501, 503. And replies to errors."""

from __future__ import annotations

import logging
import re

from ftpcluster.protocol.command import check_argument
from ftpcluster.protocol.errors import (
    ArgumentProblem,
    BadSequence,
    FTPError,
    LocalProblem,
    NotImplementedVerb,
    NotLoggedIn,
    SessionEnded,
    SyntaxProblem,
    TransferAborted,
    reply_for_os_error,
)
from ftpcluster.protocol.reply import Reply
from ftpcluster.session.commands.table import NOT_IMPLEMENTED
from ftpcluster.session.login import Account
from ftpcluster.session.row import Argument, Command
from ftpcluster.session.state import Session

# module constants: to look them up in their class takes longer
_NONE, _NEEDED = Argument.NONE, (Argument.REQUIRED, Argument.NEEDS_WORDS)
_PLAIN = (Argument.OPTIONAL, Argument.REQUIRED)
_UNKNOWN_VERBS = 10
"""Unknown verbs before login after which a session ends: no FTP client talks so (ALPACA)."""
_OTHER_PROTOCOLS = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI|EHLO|HELO|SSH-.*)", re.DOTALL
)
"""First words of HTTP, SMTP and SSH clients. An attacker may have made a browser send the FTP
commands that follow."""
_NOT_FOR_OTHERS = "This is an FTP server; goodbye."


def refuse_unknown(session: Session, verb: bytes) -> Command:
    """500 or 502 for a verb that is not in the table.

    Before login, too many of them end the session, and so does the first word of another protocol.
    """
    if verb in NOT_IMPLEMENTED:
        raise NotImplementedVerb
    if not verb.strip():
        raise SyntaxProblem  # a line of blanks is a mistake, and no sign of another protocol
    if type(session.login) is not Account:
        session.unauthenticated.unknown_verbs += 1
        is_too_much = session.unauthenticated.unknown_verbs >= _UNKNOWN_VERBS
        if is_too_much or _OTHER_PROTOCOLS.fullmatch(verb):
            raise SessionEnded(_NOT_FOR_OTHERS)
    raise SyntaxProblem


def pass_gates(session: Session, command: Command, argument: str) -> str:
    """The argument as the handler gets it. Raises the error of a gate that is closed."""
    if command.login and type(session.login) is not Account:
        raise NotLoggedIn
    if argument and command.argument not in _PLAIN:
        argument = argument.strip(" ")
    if argument:
        if command.argument is _NONE:
            raise ArgumentProblem(f"{command.verb} takes no argument.")
        if not argument.isprintable():
            check_argument(argument)
    elif command.argument in _NEEDED:
        raise ArgumentProblem(f"{command.verb} needs an argument.")
    if command.sequence is not None:
        missing = command.sequence(session)
        if missing is not None:
            raise BadSequence(missing)
    if command.transfers and session.settings.require_tls_data:
        session.check_data_protection()
    return argument


def reply_for(session: Session, error: BaseException) -> Reply:
    """The reply to an error. An unexpected error is logged, and its reply is 451."""
    if isinstance(error, FTPError):
        return error.reply
    if isinstance(error, ConnectionError):
        return TransferAborted().reply
    if isinstance(error, OSError) and error.errno is not None:
        return reply_for_os_error(error)
    if isinstance(error, TimeoutError):
        session.note(logging.WARNING, "the path layer did not answer in time")
        return LocalProblem("The files cannot be reached at this moment.").reply
    session.note_bug(error)
    return FTPError().reply
