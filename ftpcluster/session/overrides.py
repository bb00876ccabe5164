"""Which code obeys a verb: the table's handler, a method of a ``Server`` subclass, or a function.

An override holds for its kin: whoever overrides ``stor`` to refuse uploads must not be passed by
with APPE. And no method becomes a verb by its name alone, since helpers have names, too.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import NotImplementedVerb
from ftpcluster.session.commands.information import status
from ftpcluster.session.commands.table import COMMANDS, OPTIONAL, Command, During
from ftpcluster.session.extension import ForeignHandler, Verb, is_decorated, is_verb_like
from ftpcluster.session.state import Session

log = logging.getLogger("ftpcluster.server")

METHODS = {"pass": "pass_"}
"""Verbs whose methods have other names."""
_HEADS = {
    "xcwd": "cwd",
    "cdup": "cwd",
    "xcup": "cdup",
    "xpwd": "pwd",
    "xmkd": "mkd",
    "xrmd": "rmd",
    "appe": "stor",
    "stou": "stor",
    "nlst": "list",
    "stat": "list",
}
"""The verb whose override holds for another one, too."""


class VerbMap:
    """The verbs of one server: its ``commands_mapping``, and what that means."""

    def __init__(self, server: Any, base: type) -> None:
        """``base`` is the class that has a method for each verb of the table."""
        self.mapping: dict[str, Verb] = {}
        self._base = base
        self._server = server
        self._builtin: dict[str, Verb] = {}
        self._own: dict[str, Verb] = {}
        self._rows: dict[tuple[str, Verb], Command] = {}
        self._map_builtin()
        self._map_own()

    def _map_builtin(self) -> None:
        """The verbs of the table, and what a subclass has in their methods' places."""
        for verb in (row.verb.lower() for row in COMMANDS.values()):
            name = METHODS.get(verb, verb)
            builtin = getattr(self._base, name)
            found = getattr(type(self._server), name)
            if found is builtin or not callable(found):
                self._builtin[verb] = self.mapping[verb] = builtin.__get__(self._server)
            elif is_verb_like(bound := getattr(self._server, name)):
                self.mapping[verb] = bound

    def _map_own(self) -> None:
        """Methods of a subclass that a decorator has made new verbs."""
        for name in dir(type(self._server)):
            function = getattr(type(self._server), name)
            if not hasattr(self._base, name) and is_decorated(function):
                verb = getattr(function, "verb", name.rstrip("_"))
                if not name.startswith("_") or hasattr(function, "verb"):
                    self.mapping[verb] = self._own[verb] = getattr(self._server, name)

    def override(self, verb: str, function: Any) -> None:
        """Have ``function`` obey a verb. Raises TypeError where it cannot."""
        if not is_verb_like(function):
            raise TypeError(f"{verb}: expected async def {verb}(connection, rest)")
        self.mapping[verb] = function

    def warn(self) -> None:
        """Log each method that looks like a verb, and is none."""
        mapped = list(self.mapping.values())
        kind = type(self._server)
        for name in dir(kind):
            function = getattr(kind, name)
            if function is getattr(self._base, name, None) or not callable(function):
                continue
            if getattr(self._server, name) in mapped:
                continue
            verb = name.rstrip("_")
            if hasattr(self._base, name) and verb.upper().encode() in COMMANDS:
                log.warning(
                    "%s.%s is no verb, and %s is turned off: expected "
                    "async def %s(self, connection, rest)",
                    *(kind.__name__, name, verb.upper(), name),
                )
            elif not (name.startswith("_") or hasattr(self._base, name)) and _looks_like_verb(
                function
            ):
                log.warning(
                    '%s.%s is no verb: decorate it with @ftpcluster.command("%s") if it is one, '
                    "or begin its name with _",
                    *(kind.__name__, name, verb.upper()),
                )

    def find(self, verb: bytes) -> Command | None:
        """The row of a verb: the table's, unless ``commands_mapping`` says otherwise."""
        name = verb.decode("latin-1").lower()
        function = self.mapping.get(name)
        if function is None:
            return None
        if function is self._builtin.get(name):
            return self.builtin(name)
        return self._row(name, name, function)

    def builtin(self, name: str) -> Command | None:
        """The row of a verb that nobody has overridden itself; None where its head was removed."""
        head = _HEADS.get(name)
        while head is not None:
            function = self.mapping.get(head)
            if function is None:
                return None
            if function is not self._builtin.get(head):
                return self._row(name, head, function)
            head = _HEADS.get(head)
        return COMMANDS[name.upper().encode()]

    def _row(self, name: str, head: str, function: Verb) -> Command:
        row = self._rows.get((name, function))
        if row is None:
            if name != head:
                row = _row_of_kin(name, head, function)
            else:
                is_by_hand = function is not self._own.get(name)
                row = _row_of(name, function, login=not is_by_hand)
            self._rows[name, function] = row
        return row


def _looks_like_verb(function: Any) -> bool:
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        return False
    return list(inspect.signature(function).parameters) == ["self", "connection", "rest"]


def _row_of(name: str, function: Verb, *, login: bool) -> Command:
    """An override keeps the gates of its row; what else it needs it checks itself.

    ``login``: whether a new verb needs one that does not say so itself.
    """
    row = COMMANDS.get(name.upper().encode())
    handler = ForeignHandler(function)
    if row is not None:
        return dataclasses.replace(row, handler=handler, argument=OPTIONAL, during=During.WAITS)
    return Command(
        name.upper(),
        handler,
        OPTIONAL,
        login=getattr(function, "needs_login", login),
        transfers=getattr(function, "is_abortable", False),
    )


# ---------------------------------------------------------------------- kin


def _row_of_kin(name: str, head: str, function: Verb) -> Command:
    """The row of a verb that has no override itself, but whose head has: ``function``."""
    row = COMMANDS[name.upper().encode()]
    if name == "stat":
        return dataclasses.replace(row, handler=_bare_status)
    if name == "nlst" or (name == "appe" and not _takes_mode(function)):
        return dataclasses.replace(row, handler=_not_implemented)
    makers: dict[tuple[str, str], Callable[[Verb], Verb]] = {
        ("cdup", "cwd"): _upwards,
        ("xcup", "cwd"): _upwards,
        ("appe", "stor"): _appending,
        ("stou", "stor"): _under_a_new_name,
    }
    obeyed = makers.get((name, head), _as_it_is)(function)
    return dataclasses.replace(row, handler=ForeignHandler(obeyed), during=During.WAITS)


def _takes_mode(function: Verb) -> bool:
    try:
        inspect.signature(function).bind(None, "", "ab")
    except TypeError:
        return False
    return True


def _bare_status(session: Session, argument: str) -> Any:
    if argument:
        raise NotImplementedVerb
    return status(session, argument)


def _not_implemented(_: Session, __: str) -> Any:
    raise NotImplementedVerb


def _as_it_is(function: Verb) -> Verb:
    return function


def _upwards(cwd: Verb) -> Verb:
    def cdup(connection: Any, _: str) -> Awaitable[bool]:
        return cwd(connection, virtual.parent(str(connection.current_directory)))

    return cdup


def _appending(stor: Callable[..., Awaitable[bool]]) -> Verb:
    def appe(connection: Any, rest: str) -> Awaitable[bool]:
        return stor(connection, rest, "ab")

    return appe


def _under_a_new_name(stor: Verb) -> Verb:
    def stou(connection: Any, rest: str) -> Awaitable[bool]:
        return stor(connection, f"{rest or 'file'}.{secrets.token_hex(4)}")

    return stou
