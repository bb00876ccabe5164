"""The code that obeys a verb: a handler of the table, a method of a ``Server``, or a function.

An override holds for related verbs, too (its kin): one of ``stor`` that refuses uploads must not be
evaded with APPE. No method becomes a new verb by its name alone, since it may be a helper.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import secrets
import types
from collections.abc import Awaitable, Callable, Container, Iterator
from typing import Any

from ftpcluster.compat.decorators import Verb, is_verb_like, mark_of, verb_of
from ftpcluster.compat.extension import CustomHandler
from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import NotImplementedVerb
from ftpcluster.session.commands.table import COMMANDS
from ftpcluster.session.row import Argument, Command, During
from ftpcluster.session.state import Session

log = logging.getLogger("ftpcluster.server")

_METHODS = {"pass": "pass_"}
"""Verbs that are no names in Python."""
HEADS: dict[str, tuple[str, ...]] = {
    "xcwd": ("cwd",),
    "cdup": ("cwd",),
    "xcup": ("cdup",),
    "xpwd": ("pwd",),
    "xmkd": ("mkd",),
    "xrmd": ("rmd",),
    "appe": ("stor",),
    "stou": ("stor",),
    "nlst": ("list",),
    "stat": ("list",),
}
"""By verb: its heads, the verbs whose work it does. An override of a head, such as one that refuses
uploads, has to hold for this verb, too. A verb with one head calls the override (``_row_of_kin``).
A verb with several heads is refused (502) where one of them is overridden: no override does the
work of all."""


def method_name(verb: str) -> str:
    """The name of the method for a verb in lower case."""
    return _METHODS.get(verb, verb)


class VerbMap:
    """The verbs of one server: its ``commands_mapping``, and the row of each verb in it."""

    def __init__(self, server: Any, base: type, builtins: type) -> None:
        """``base``: ``Server`` itself. ``builtins``: the class with a method for each verb."""
        self.mapping: dict[str, Verb] = {}
        self._base = base
        self._builtins = builtins
        self._server = server
        self._builtin: dict[str, Verb] = {}
        self._own: dict[str, tuple[Verb, bool]] = {}
        self._names: dict[str, str] = {}
        self._rows: dict[str, tuple[Verb, str, Command]] = {}
        for verb in (row.verb.lower() for row in COMMANDS.values()):
            name = method_name(verb)
            self._names[name] = verb
            self._builtin[verb] = getattr(builtins, name).__get__(server)
            self._map_method(name, verb)
        self._map_own()

    def _map_method(self, name: str, verb: str) -> None:
        """Map a verb of the table to its built-in command, or to the override of it."""
        builtin = self._builtin[verb]
        found = getattr(type(self._server), name)
        own = vars(self._server).get(name)
        self.mapping.pop(verb, None)
        if callable(own):  # set before super().__init__()
            self.override(verb, own)
        elif found is getattr(self._builtins, name):
            self.mapping[verb] = builtin
        elif callable(found):
            if verb_of(name, found) not in (None, name.rstrip("_")):
                raise TypeError(
                    f"{type(self._server).__name__}.{name} overrides {verb.upper()} by its name, "
                    "and its decorator says another command: give it another name"
                )
            if is_verb_like(bound := getattr(self._server, name)):
                self.mapping[verb] = bound
        elif hasattr(found, "__get__"):
            self.mapping[verb] = _by_property(self._server, name, builtin)
        elif found is not None:
            self.mapping[verb] = builtin  # a value that only happens to have a verb's name

    def _map_own(self) -> None:
        """Map the methods that a decorator has made verbs; of two the one of the nearer class."""
        chosen: dict[str, str] = {}
        for name in sorted({*dir(type(self._server)), *vars(self._server)}):
            if hasattr(self._base, name):
                continue
            function = vars(self._server).get(name, getattr(type(self._server), name, None))
            verb = verb_of(name, function)
            if verb is None:
                continue
            rival = chosen.get(verb, method_name(verb))
            if verb in chosen or self.mapping.get(verb) != self._builtin.get(verb):
                distance, of_rival = self._distance(name), self._distance(rival)
                if distance == of_rival:
                    raise TypeError(
                        f"{type(self._server).__name__}: {rival} and {name} are both the command "
                        f"{verb.upper()}"
                    )
                if distance > of_rival:
                    continue
            chosen[verb] = name
        for verb, name in chosen.items():
            self._add(name, verb, getattr(self._server, name))

    def _distance(self, name: str) -> int:
        """The place in the MRO of the class that has a method; -1 is the server itself."""
        places = (vars(self._server), *(vars(kind) for kind in type(self._server).__mro__))
        return next(number for number, place in enumerate(places, -1) if name in place)

    def _add(self, name: str, verb: str, function: Verb) -> None:
        self._names[name] = verb
        # a replacement of the method keeps the gate of its verb
        _, needs_login = self._own.get(verb, (None, True))
        self._own[verb] = function, mark_of(function, "needs_login", default=needs_login)
        self._rows.pop(verb, None)
        self.mapping[verb] = function

    def override(self, verb: str, function: Any) -> None:
        """Have ``function`` obey a verb. Raises TypeError where it cannot."""
        if not is_verb_like(function):
            raise TypeError(f"{verb}: expected async def {verb}(connection, rest)")
        self.mapping[verb] = function

    def on_set(self, name: str, function: Any) -> None:
        """A function was set on the server. Raises TypeError where it cannot be a command."""
        verb = self._names.get(name) or verb_of(name, function)
        if verb is None:
            return
        self.override(verb, function)
        if verb in self._own or verb not in self._builtin:
            self._add(name, verb, function)

    def on_deleted(self, name: str, function: Any) -> None:
        """Such an attribute was deleted: if it obeyed its verb, the class's method obeys again."""
        verb = self._names.get(name)
        if verb is None or self.mapping.get(verb) is not function:
            return
        if verb not in self._own:
            self._map_method(name, verb)
        elif (inherited := getattr(self._server, name, None)) is not None:
            self._add(name, verb, inherited)
        else:
            del self.mapping[verb], self._own[verb], self._names[name]

    def warn(self) -> None:
        """Log each method that looks like a command and is none."""
        mapped = list(self.mapping.values())
        kind = type(self._server)
        for name in dir(kind):
            function = getattr(kind, name, None)
            if function is getattr(self._base, name, None):
                continue
            is_builtin = hasattr(self._base, name) and name in self._names
            if is_builtin and function is None:
                verb = self._names[name].upper()
                log.warning("%s.%s is None, and %s is turned off", kind.__name__, name, verb)
            elif not callable(function) or getattr(self._server, name) in mapped:
                continue
            elif not is_builtin and verb_of(name, function) in self.mapping:
                continue  # a nearer class has that command
            elif is_builtin:
                log.warning(
                    "%s.%s is no verb, and %s is turned off: expected "
                    "async def %s(self, connection, rest)",
                    *(kind.__name__, name, self._names[name].upper(), name),
                )
            elif not (name.startswith("_") or hasattr(self._base, name)) and _looks_like_verb(
                function
            ):
                log.warning(
                    '%s.%s is no verb: decorate it with @ftpcluster.command("%s") if it is one, '
                    "or begin its name with _",
                    *(kind.__name__, name, name.rstrip("_").upper()),
                )

    def find(self, verb: bytes) -> Command | None:
        """The row of a verb: the table's, unless ``commands_mapping`` says otherwise."""
        name = verb.decode("latin-1").lower()
        function = self.mapping.get(name)
        if function is None:
            return None
        if _is_same(function, self._builtin.get(name)):
            return self.builtin(name)
        return self._row(name, name, function)

    def builtin(self, name: str, overriding: Container[str] = ()) -> Command | None:
        """The row of a verb that is not overridden itself; None: the verb is unknown to clients.

        It is unknown where the program has deleted one of its heads from ``commands_mapping``: with
        STOR, APPE goes, too. ``overriding``: the verbs whose overrides run now and have called this
        verb. They are not called again.
        """
        for head in _heads_of(name):
            function = self.mapping.get(head)
            if function is None:
                return None
            if head not in overriding and not _is_same(function, self._builtin.get(head)):
                return self._row(name, head, function)
        return COMMANDS[name.upper().encode()]

    def _row(self, name: str, head: str, function: Verb) -> Command:
        known = self._rows.get(name)
        if known is not None and known[0] is function and known[1] == head:
            return known[2]
        if name != head:
            row = _row_of_kin(name, head, function)
        else:
            own, needs_login = self._own.get(name, (None, False))
            row = _row_of(name, function, login=needs_login and function is own)
        self._rows[name] = function, head, row
        return row


def _is_same(function: Verb, builtin: Verb | None) -> bool:
    """Whether a function is a built-in command: as a bound method it is a new object each time."""
    return function is builtin or (type(function) is types.MethodType and function == builtin)


def _by_property(server: Any, name: str, builtin: Verb) -> Verb:
    """Obey with the function that a property returns at that moment, if it returns one."""

    def obey(connection: Any, rest: str) -> Awaitable[bool]:
        found: Any = getattr(server, name)
        obeyed: Verb = found if callable(found) else builtin
        return obeyed(connection, rest)

    return obey


def _looks_like_verb(function: Any) -> bool:
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        return False
    return list(inspect.signature(function).parameters) == ["self", "connection", "rest"]


def _row_of(name: str, function: Verb, *, login: bool) -> Command:
    """An override keeps the gates of its row, and checks for itself what else it needs.

    ``login``: whether a new verb needs a login, where no decorator says so.
    """
    row = COMMANDS.get(name.upper().encode())
    handler = CustomHandler(function, name)
    abortable = mark_of(function, "is_abortable", default=False)
    if row is not None:
        return dataclasses.replace(
            row,
            handler=handler,
            argument=Argument.OPTIONAL,
            during=During.WAITS,
            abortable=abortable,
            needs_task=True,
        )
    login = mark_of(function, "needs_login", default=login)
    return Command(
        name.upper(),
        handler,
        Argument.OPTIONAL,
        login=login,
        transfers=abortable,
        needs_task=True,
    )


# ---------------------------------------------------------------------- kin


def _heads_of(name: str) -> Iterator[str]:
    """The heads of a verb, and theirs, from the nearest on."""
    for head in HEADS.get(name, ()):
        yield head
        yield from _heads_of(head)


def _row_of_kin(name: str, head: str, function: Verb) -> Command:
    """The row of a verb without an override of its own; ``function`` overrides its head."""
    row = COMMANDS[name.upper().encode()]
    if name == "stat":
        return dataclasses.replace(row, handler=_bare_status)
    has_several = len(HEADS[name]) > 1
    if has_several or name == "nlst" or (name == "appe" and not _takes_mode(function)):
        return dataclasses.replace(row, handler=_not_implemented)
    makers: dict[tuple[str, str], Callable[[Verb], Verb]] = {
        ("cdup", "cwd"): _upwards,
        ("xcup", "cwd"): _upwards,
        ("appe", "stor"): _appending,
        ("stou", "stor"): _under_a_new_name,
    }
    obeyed = makers.get((name, head), _as_it_is)(function)
    return dataclasses.replace(
        row,
        handler=CustomHandler(obeyed, head),
        during=During.WAITS,
        abortable=mark_of(function, "is_abortable", default=False),
        needs_task=True,
    )


def _takes_mode(function: Verb) -> bool:
    """Whether the third argument is a mode. If it is not, APPE would replace the file."""
    parameters = list(inspect.signature(function).parameters.values())
    for position, each in enumerate(parameters[:3]):
        if each.kind is each.VAR_POSITIONAL:
            return True
        if position == 2:
            is_mode = each.name == "mode" or each.default in ("wb", each.empty)
            return is_mode and each.kind is not each.KEYWORD_ONLY
    return False


def _bare_status(session: Session, argument: str) -> Any:
    if argument:
        raise NotImplementedVerb
    return COMMANDS[b"STAT"].handler(session, argument)


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
