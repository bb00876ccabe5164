"""The log of sessions: one line for an event, with the session, its peer, its user, and what came.

``[17] 192.0.2.7:50123 alice: RETR "/pub/a.iso": 226, 1048576 bytes in 0.52 s``. Logins, transfers
and changes are told at INFO, what a person should look at (failed logins, a disk that fails) at
WARNING, every command at DEBUG. What clients sent is printable here, and secrets are not in it.
"""

from __future__ import annotations

import logging

from ftpcluster.logs import has_fields, is_told, tell, write_whole
from ftpcluster.protocol.listing import printable
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.commands.table import Command
from ftpcluster.session.state import Account, Session
from ftpcluster.session.xferlog import transfer_line

_LONGEST = 1024
"""Characters of an argument that are told."""
_OUR_FAULT = (Code.LOCAL_ERROR, Code.INSUFFICIENT_STORAGE, Code.EXCEEDED_ALLOCATION)
_LINE_ENDS = str.maketrans("\u2028\u2029", "??")
"""What some take for an end of line, beside what is no character."""
_FILES = (b"RETR", b"STOR", b"STOU", b"APPE")
_ANONYMOUS = (None, "anonymous")
SECRETS = ("PASS", "ACCT")
_AS_GIVEN = ("MFMT", "SITE", "STOU")
"""Verbs that are told of whose argument is no path."""


class Entry:
    """A command that runs, and is told of when it has ended."""

    __slots__ = ("_began", "_level", "_session", "_what", "_who", "command", "fields")

    def __init__(self, session: Session, command: Command | None, what: str, level: int) -> None:
        self.command = command
        self._session = session
        self._level = level
        self._who = session.who  # who it is may change with the command
        self._what = what
        self.fields: dict[str, object] | None = None  # for a log that programs read
        self._began = session.services.loop.time()
        session.progress = 0

    def end(self, reply: Reply | None) -> None:
        """``reply``: its last one; None where the session ended before, or nobody knows it."""
        level, came, fields = self._level, "no reply", self.fields
        if reply is not None:
            came = str(int(reply.code))
            if reply.code >= Code.SERVICE_NOT_AVAILABLE or self._what.startswith("STOU"):
                came += f" {_safe(reply.text)}"
            if reply.code in _OUR_FAULT:
                level = max(level, logging.WARNING)
            if fields is not None:
                fields["code"] = int(reply.code)
        if self.command is not None and self.command.transfers:
            took = self._session.services.loop.time() - self._began
            came += f", {self._session.progress} bytes in {took:.2f} s"
            if fields is not None:
                fields |= {"bytes": self._session.progress, "seconds": round(took, 3)}
        tell(level, self._who, f"{self._what}: {came}", fields)


class FileTransfer(Entry):
    """A command that is written down in the log of transfers, too, once data was moved."""

    __slots__ = ()

    def end(self, reply: Reply | None) -> None:
        session = self._session
        if is_told(self._level):
            super().end(reply)
        if session.moved is None:
            return
        if reply is None:  # a command of somebody else's has replied for itself, and is done
            is_complete = not session.stream.closed
        else:
            is_complete = reply.code < Code.SERVICE_NOT_AVAILABLE
        login, file = session.login, session.services.transfers
        assert file is not None
        line = transfer_line(
            seconds=session.services.loop.time() - self._began,
            host=session.conversation.peer,
            size=session.progress,
            path=session.moved,
            user=self._who.user,
            is_binary=session.binary,
            is_upload=self.command is not None and self.command.verb != "RETR",
            is_anonymous=type(login) is Account and login.user.login in _ANONYMOUS,
            is_complete=is_complete,
        )
        if not write_whole(file.fd, line):
            session.note(logging.ERROR, "the log of transfers cannot be written; is its disk full?")


def begin(session: Session, command: Command | None, verb: bytes, argument: str) -> Entry | None:
    """A command begins: what is to be told of it, if anything is."""
    matters = command is not None and command.logged and type(session.login) is Account
    level = logging.INFO if matters else logging.DEBUG
    kind = Entry
    if session.services.transfers is not None and verb in _FILES and matters:
        kind = FileTransfer
        session.moved = None
    elif not is_told(level):
        return None
    name = _safe(verb.decode("ascii", "replace"))
    entry = kind(session, command, describe(session, command, name, argument), level)
    if has_fields():
        entry.fields = _fields(session, command, name, argument[:_LONGEST])
    return entry


def describe(session: Session, command: Command | None, verb: str, argument: str) -> str:
    """A command as a person reads it, without secrets."""
    argument = argument[:_LONGEST]
    if verb in SECRETS:
        return f"{verb} ****"
    if command is None or not command.logged or verb in _AS_GIVEN:
        return f"{verb} {_safe(argument)}".rstrip()
    path = f'"{_safe(session.path(argument))}"'
    if session.rename_from is not None:
        return f'{verb} "{_safe(session.rename_from)}" -> {path}'
    return f"{verb} {path}"


def _fields(
    session: Session, command: Command | None, verb: str, argument: str
) -> dict[str, object]:
    """A command as programs read it, without secrets."""
    if verb in SECRETS:
        return {"verb": verb}
    if command is None or not command.logged or verb in _AS_GIVEN:
        return {"verb": verb, "argument": argument} if argument else {"verb": verb}
    path = session.path(argument)
    if session.rename_from is not None:
        return {"verb": verb, "path": session.rename_from, "to": path}
    return {"verb": verb, "path": path}


def _safe(text: str) -> str:
    """What a client sent, as a part of a line that it cannot end."""
    return printable(text).translate(_LINE_ENDS)
