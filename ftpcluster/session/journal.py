"""The log of sessions: one line for an event, with the session, its peer, its user, and the result.

``[17] 192.0.2.7:50123 alice: RETR "/pub/a.iso": 226, 1048576 bytes in 0.52 s``. Logins, transfers
and changes are logged at INFO, every command at DEBUG, and what a person should look at (failed
logins, a failing disk) at WARNING. What clients sent is printable here, and secrets are not in it.
Transfers of files are written down in the log of transfers, too, where there is one.
"""

from __future__ import annotations

import logging

from ftpcluster.logs import has_fields, is_told, tell
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.protocol.text import visible
from ftpcluster.session.hooks import NO_HOOKS
from ftpcluster.session.login import Account
from ftpcluster.session.row import Command
from ftpcluster.session.state import PastTransfer, Session
from ftpcluster.session.xferlog import transfer_line

_LONGEST = 1024
"""Characters of an argument that are logged."""
_OUR_FAULT = (Code.LOCAL_ERROR, Code.INSUFFICIENT_STORAGE, Code.EXCEEDED_ALLOCATION)
_REFUSED = Code.SERVICE_NOT_AVAILABLE
"""A reply with this code or a higher one says why a command failed: its text is logged."""
_ANONYMOUS = (None, "anonymous")
SECRETS = ("PASS", "ACCT")
_OTHERS = (*SECRETS, "STOU")
"""Verbs whose lines are never like those of other transfers."""
_NO_TIME = 0.005
"""Seconds: less is 0.00."""


class Entry:
    """A command that runs; it is logged when it has ended."""

    __slots__ = (
        "_argument",
        "_began",
        "_command",
        "_level",
        "_source",
        "_verb",
        "_who",
        "cut_for",
    )

    def __init__(
        self, session: Session, command: Command | None, verb: bytes, argument: str, level: int
    ) -> None:
        self._command = command
        self._verb = verb
        self._argument = argument[:_LONGEST]
        self._level = level
        self._began = session.services.loop.time()
        self.cut_for = ""  # why the server ended the session before it was done, if it did
        # the command may change these; RNFR may be some commands ago
        self._who = session.who
        source = None if command is None else command.source  # as ``_source``, without its call
        self._source = None if source is None else source(session)

    def end(self, session: Session, reply: Reply | None, *, is_cut: bool = False) -> None:
        """``reply``: the final one; None where the session ended first, or the reply is unknown.

        ``is_cut``: the session ended before the command.
        """
        level, transfer = self._level, session.last_transfer
        is_our_fault = reply is not None and reply.code in _OUR_FAULT
        if is_our_fault or (self.cut_for and transfer is not None):
            level = max(level, logging.WARNING)
        if is_told(level) and not (
            transfer is not None and self._tell_moved(session, reply, transfer, level)
        ):
            self._tell(session, reply, level)
        if transfer is not None and transfer.path and session.services.transfers is not None:
            self._write_transfer(session, transfer, reply, is_cut=is_cut)

    def _tell_moved(
        self, session: Session, reply: Reply | None, transfer: PastTransfer, level: int
    ) -> bool:
        """``_tell`` for most lines, those about whole files, without its calls; else False."""
        command, path = self._command, transfer.path
        if (
            reply is None
            or not path
            or command is None
            or not command.names_path
            or command.source is not None
            or command.verb in _OTHERS
            or reply.code >= _REFUSED
            or session.hooks is not NO_HOOKS
            or len(self._argument) >= _LONGEST
            or not path.isprintable()
            or has_fields()
        ):
            return False
        took = session.services.loop.time() - self._began
        seconds = "0.00" if 0 <= took < _NO_TIME else f"{took:.2f}"
        came = f"{int(reply.code)}, {session.progress} bytes in {seconds} s"
        tell(level, self._who, f'{command.verb} "{path}": {came}', is_printable=True)
        return True

    def _tell(self, session: Session, reply: Reply | None, level: int) -> None:
        command = self._command
        verb = visible(self._verb.decode("ascii", "replace")) if command is None else command.verb
        if reply is None:
            came = f"cut: {self.cut_for}" if self.cut_for else "no reply"
        elif reply.code >= _REFUSED or verb == "STOU":
            came = f"{int(reply.code)} {visible(reply.text)}"
        else:
            came = str(int(reply.code))
        took = session.services.loop.time() - self._began
        if session.last_transfer is not None:
            came = f"{came.removesuffix('.')}, {session.progress} bytes in {took:.2f} s"
        what = _text(session, command, verb, self._argument, self._source)
        fields = None
        if has_fields():
            fields = _fields(session, command, verb, self._argument, self._source)
            if reply is not None:
                fields["code"] = int(reply.code)
            if session.last_transfer is not None:
                fields |= {"bytes": session.progress, "seconds": round(took, 3)}
        tell(level, self._who, f"{what}: {came}", fields)

    def _write_transfer(
        self, session: Session, transfer: PastTransfer, reply: Reply | None, *, is_cut: bool
    ) -> None:
        # without a reply: a command that is done may have replied for itself
        is_complete = not is_cut if reply is None else reply.code < _REFUSED
        login, file = session.login, session.services.transfers
        assert file is not None
        line = transfer_line(
            seconds=session.services.loop.time() - self._began,
            host=session.conversation.peer,
            size=session.progress,
            path=transfer.path,
            user=self._who.user,
            is_binary=session.parameters.binary,
            is_upload=transfer.direction == "upload",
            is_anonymous=type(login) is Account and login.user.login in _ANONYMOUS,
            is_complete=is_complete,
        )
        file.append(line)


def describe(session: Session, command: Command, argument: str) -> str:
    """A command that runs, as a person reads it, without secrets."""
    source = _source(session, command)
    return _text(session, command, command.verb, argument[:_LONGEST], source)


def _source(session: Session, command: Command | None) -> str | None:
    """The path that an earlier command named for this one: RNFR's, for RNTO."""
    return None if command is None or command.source is None else command.source(session)


def _text(
    session: Session, command: Command | None, verb: str, argument: str, source: str | None
) -> str:
    if verb in SECRETS:
        return f"{verb} ****"
    if command is None or not command.names_path:
        return f"{verb} {visible(argument)}".rstrip()
    path = _path(session, argument)
    if not path.isprintable():
        path = visible(path)
    if source is not None:
        return f'{verb} "{visible(source)}" -> "{path}"'
    return f'{verb} "{path}"'


def _path(session: Session, argument: str) -> str:
    """The path that is logged; a transfer has resolved it already."""
    transfer = session.last_transfer
    is_whole = len(argument) < _LONGEST
    if is_whole and transfer is not None and transfer.path and session.hooks is NO_HOOKS:
        return transfer.path
    return session.path(argument)


def _fields(
    session: Session, command: Command | None, verb: str, argument: str, source: str | None
) -> dict[str, object]:
    """The same as fields, which programs read."""
    if verb in SECRETS:
        return {"verb": verb}
    if command is None or not command.names_path:
        return {"verb": verb, "argument": argument} if argument else {"verb": verb}
    path = _path(session, argument)
    if source is not None:
        return {"verb": verb, "path": source, "to": path}
    return {"verb": verb, "path": path}
