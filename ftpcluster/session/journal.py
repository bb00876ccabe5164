"""The log of sessions: one line for an event, with the session, its peer, its user, and what came.

``[17] 192.0.2.7:50123 alice: RETR "/pub/a.iso": 226, 1048576 bytes in 0.52 s``. Logins, transfers
and changes are told at INFO, what a person should look at (failed logins, a disk that fails) at
WARNING, every command at DEBUG. What clients sent is printable here, and secrets are not in it.
"""

from __future__ import annotations

import logging

from ftpcluster.logs import has_fields, is_told, tell
from ftpcluster.protocol.listing import printable
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.commands.table import Command
from ftpcluster.session.state import Account, Session

_LONGEST = 1024
"""Characters of an argument that are told."""
_OUR_FAULT = (Code.LOCAL_ERROR, Code.INSUFFICIENT_STORAGE, Code.EXCEEDED_ALLOCATION)
_LINE_ENDS = str.maketrans("\u2028\u2029", "??")
"""What some take for an end of line, beside what is no character."""
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


def begin(session: Session, command: Command | None, verb: bytes, argument: str) -> Entry | None:
    """A command begins: what is to be told of it, if anything is."""
    matters = command is not None and command.logged and type(session.login) is Account
    level = logging.INFO if matters else logging.DEBUG
    if not is_told(level):
        return None
    name = _safe(verb.decode("ascii", "replace"))
    entry = Entry(session, command, describe(session, command, name, argument), level)
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
