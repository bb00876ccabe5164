"""The built-in verbs as methods, for subclasses to override and to call with ``super()``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ftpcluster.compat.connection import Connection
from ftpcluster.compat.decorators import Verb
from ftpcluster.compat.extension import obey_builtin
from ftpcluster.compat.overrides import VerbMap, method_name
from ftpcluster.compat.session_connection import SessionConnection
from ftpcluster.protocol.errors import NotImplementedVerb
from ftpcluster.session.commands.table import COMMANDS

_STORES = {"wb": b"STOR", "ab": b"APPE"}


class BuiltinVerbs:
    """A method for every verb of the command table: ``async def verb(connection, rest) -> bool``.

    ``rest`` is what stands behind the verb. A method replies, and returns whether the session
    goes on.
    """

    _verbs: VerbMap

    @property
    def commands_mapping(self) -> dict[str, Verb]:
        """Lower-case verb → coroutine function ``(connection, rest)``; looked up per command."""
        return self._verbs.mapping

    @commands_mapping.setter
    def commands_mapping(self, mapping: dict[str, Verb]) -> None:
        self._verbs.mapping = mapping

    async def _builtin(self, verb: bytes, connection: Connection, rest: str) -> bool:
        """Obey a verb by its row, or by the override of a related verb that holds for it, too."""
        assert isinstance(connection, SessionConnection)
        overriding = connection.command_state.overriding
        row = self._verbs.builtin(verb.decode().lower(), overriding)
        if row is None:
            raise NotImplementedVerb
        return await obey_builtin(row, connection, str(rest))

    async def stor(self, connection: Connection, rest: str, mode: str = "wb") -> bool:
        """STOR path: upload; ``mode`` "ab" is APPE: to the end of the file."""
        if mode not in _STORES:
            raise ValueError(f'expected mode "wb" or "ab", got {mode!r}')
        assert isinstance(connection, SessionConnection)
        return await obey_builtin(COMMANDS[_STORES[mode]], connection, str(rest))

    if TYPE_CHECKING:
        # the others are made from the table, which type checkers cannot see

        async def _verb(self, connection: Connection, rest: str) -> bool: ...

        user = pass_ = quit = rein = acct = host = cwd = xcwd = cdup = xcup = _verb
        type = mode = stru = port = eprt = pasv = epsv = _verb
        retr = stou = appe = allo = avbl = rest = abor = list = nlst = mlsd = mlst = _verb
        pwd = xpwd = mkd = xmkd = rmd = xrmd = dele = rnfr = rnto = size = mdtm = mfmt = _verb
        hash = rang = xcrc = xmd5 = xsha1 = xsha256 = _verb
        syst = stat = feat = help = noop = opts = site = clnt = auth = pbsz = prot = ccc = _verb


def add_missing_methods() -> None:
    """Add a method for each verb of the table that has none."""
    for verb, row in COMMANDS.items():
        name = method_name(verb.decode().lower())
        if not hasattr(BuiltinVerbs, name):
            setattr(BuiltinVerbs, name, _make_method(name, verb, row.help))


def _make_method(
    name: str, verb: bytes, doc: str
) -> Callable[[BuiltinVerbs, Connection, str], Coroutine[Any, Any, bool]]:
    async def obey(self: BuiltinVerbs, connection: Connection, rest: str) -> bool:
        return await self._builtin(verb, connection, rest)

    obey.__name__ = name
    obey.__qualname__ = f"{BuiltinVerbs.__qualname__}.{name}"
    obey.__doc__ = f"{doc}."
    return obey


add_missing_methods()
