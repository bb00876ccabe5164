"""The built-in verbs as methods, for subclasses to override and to call with ``super()``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ftpcluster.compat.connection import Connection
from ftpcluster.compat.extension import Verb, obey_builtin
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

    async def user(self, connection: Connection, rest: str) -> bool:
        """USER name: say who you are."""
        return await self._builtin(b"USER", connection, rest)

    async def pass_(self, connection: Connection, rest: str) -> bool:
        """PASS password: log in."""
        return await self._builtin(b"PASS", connection, rest)

    async def quit(self, connection: Connection, rest: str) -> bool:
        """QUIT: end the session."""
        return await self._builtin(b"QUIT", connection, rest)

    async def cwd(self, connection: Connection, rest: str) -> bool:
        """CWD [path]: change the current folder."""
        return await self._builtin(b"CWD", connection, rest)

    async def xcwd(self, connection: Connection, rest: str) -> bool:
        """XCWD [path]: as CWD."""
        return await self._builtin(b"XCWD", connection, rest)

    async def cdup(self, connection: Connection, rest: str) -> bool:
        """CDUP: change to the folder above."""
        return await self._builtin(b"CDUP", connection, rest)

    async def xcup(self, connection: Connection, rest: str) -> bool:
        """XCUP: as CDUP."""
        return await self._builtin(b"XCUP", connection, rest)

    async def type(self, connection: Connection, rest: str) -> bool:
        """TYPE A|I|L 8: text or binary."""
        return await self._builtin(b"TYPE", connection, rest)

    async def mode(self, connection: Connection, rest: str) -> bool:
        """MODE S: stream."""
        return await self._builtin(b"MODE", connection, rest)

    async def stru(self, connection: Connection, rest: str) -> bool:
        """STRU F: file."""
        return await self._builtin(b"STRU", connection, rest)

    async def pasv(self, connection: Connection, rest: str) -> bool:
        """PASV: open a data port (IPv4)."""
        return await self._builtin(b"PASV", connection, rest)

    async def epsv(self, connection: Connection, rest: str) -> bool:
        """EPSV [1|2]: open a data port."""
        return await self._builtin(b"EPSV", connection, rest)

    async def retr(self, connection: Connection, rest: str) -> bool:
        """RETR path: download."""
        return await self._builtin(b"RETR", connection, rest)

    async def stor(self, connection: Connection, rest: str, mode: str = "wb") -> bool:
        """STOR path: upload; ``mode`` "ab" is APPE: to the end of the file."""
        if mode not in _STORES:
            raise ValueError(f'expected mode "wb" or "ab", got {mode!r}')
        assert isinstance(connection, SessionConnection)
        return await obey_builtin(COMMANDS[_STORES[mode]], connection, str(rest))

    async def appe(self, connection: Connection, rest: str) -> bool:
        """APPE path: upload to a file's end."""
        return await self._builtin(b"APPE", connection, rest)

    async def rest(self, connection: Connection, rest: str) -> bool:
        """REST offset: where the next transfer begins."""
        return await self._builtin(b"REST", connection, rest)

    async def abor(self, connection: Connection, rest: str) -> bool:
        """ABOR: end the transfer that runs."""
        return await self._builtin(b"ABOR", connection, rest)

    async def list(self, connection: Connection, rest: str) -> bool:
        """LIST [path]: list a folder as ls -l does."""
        return await self._builtin(b"LIST", connection, rest)

    async def nlst(self, connection: Connection, rest: str) -> bool:
        """NLST [path]: list names."""
        return await self._builtin(b"NLST", connection, rest)

    async def mlsd(self, connection: Connection, rest: str) -> bool:
        """MLSD [path]: list a folder's facts."""
        return await self._builtin(b"MLSD", connection, rest)

    async def mlst(self, connection: Connection, rest: str) -> bool:
        """MLST [path]: the facts of one entry."""
        return await self._builtin(b"MLST", connection, rest)

    async def pwd(self, connection: Connection, rest: str) -> bool:
        """PWD: name the current folder."""
        return await self._builtin(b"PWD", connection, rest)

    async def xpwd(self, connection: Connection, rest: str) -> bool:
        """XPWD: as PWD."""
        return await self._builtin(b"XPWD", connection, rest)

    async def mkd(self, connection: Connection, rest: str) -> bool:
        """MKD path: make a folder."""
        return await self._builtin(b"MKD", connection, rest)

    async def xmkd(self, connection: Connection, rest: str) -> bool:
        """XMKD path: as MKD."""
        return await self._builtin(b"XMKD", connection, rest)

    async def rmd(self, connection: Connection, rest: str) -> bool:
        """RMD path: remove an empty folder."""
        return await self._builtin(b"RMD", connection, rest)

    async def xrmd(self, connection: Connection, rest: str) -> bool:
        """XRMD path: as RMD."""
        return await self._builtin(b"XRMD", connection, rest)

    async def dele(self, connection: Connection, rest: str) -> bool:
        """DELE path: remove a file."""
        return await self._builtin(b"DELE", connection, rest)

    async def rnfr(self, connection: Connection, rest: str) -> bool:
        """RNFR path: what to rename."""
        return await self._builtin(b"RNFR", connection, rest)

    async def rnto(self, connection: Connection, rest: str) -> bool:
        """RNTO path: its new name."""
        return await self._builtin(b"RNTO", connection, rest)

    async def size(self, connection: Connection, rest: str) -> bool:
        """SIZE path: bytes of a file."""
        return await self._builtin(b"SIZE", connection, rest)

    async def mdtm(self, connection: Connection, rest: str) -> bool:
        """MDTM path: when a file was changed."""
        return await self._builtin(b"MDTM", connection, rest)

    async def syst(self, connection: Connection, rest: str) -> bool:
        """SYST: the kind of system."""
        return await self._builtin(b"SYST", connection, rest)

    async def feat(self, connection: Connection, rest: str) -> bool:
        """FEAT: what this server can do."""
        return await self._builtin(b"FEAT", connection, rest)

    async def help(self, connection: Connection, rest: str) -> bool:
        """HELP [verb]: this text."""
        return await self._builtin(b"HELP", connection, rest)

    async def noop(self, connection: Connection, rest: str) -> bool:
        """NOOP: nothing."""
        return await self._builtin(b"NOOP", connection, rest)

    async def pbsz(self, connection: Connection, rest: str) -> bool:
        """PBSZ 0: the size of protected buffers."""
        return await self._builtin(b"PBSZ", connection, rest)

    async def prot(self, connection: Connection, rest: str) -> bool:
        """PROT P|C: protect data connections, or not."""
        return await self._builtin(b"PROT", connection, rest)

    async def opts(self, connection: Connection, rest: str) -> bool:
        """OPTS UTF8 ON, OPTS MLST fact;…: options."""
        return await self._builtin(b"OPTS", connection, rest)

    async def auth(self, connection: Connection, rest: str) -> bool:
        """AUTH TLS: protect the control connection."""
        return await self._builtin(b"AUTH", connection, rest)

    async def port(self, connection: Connection, rest: str) -> bool:
        """PORT h1,h2,h3,h4,p1,p2: connect to my data port (IPv4)."""
        return await self._builtin(b"PORT", connection, rest)

    async def eprt(self, connection: Connection, rest: str) -> bool:
        """EPRT |1|address|port|: connect to my data port."""
        return await self._builtin(b"EPRT", connection, rest)

    async def rein(self, connection: Connection, rest: str) -> bool:
        """REIN: begin anew."""
        return await self._builtin(b"REIN", connection, rest)

    async def acct(self, connection: Connection, rest: str) -> bool:
        """ACCT: nothing, there are no accounts."""
        return await self._builtin(b"ACCT", connection, rest)

    async def host(self, connection: Connection, rest: str) -> bool:
        """HOST name: the server that you mean."""
        return await self._builtin(b"HOST", connection, rest)

    async def stou(self, connection: Connection, rest: str) -> bool:
        """STOU [prefix]: upload to a new name."""
        return await self._builtin(b"STOU", connection, rest)

    async def allo(self, connection: Connection, rest: str) -> bool:
        """ALLO bytes: is there room for so much?"""
        return await self._builtin(b"ALLO", connection, rest)

    async def avbl(self, connection: Connection, rest: str) -> bool:
        """AVBL [path]: bytes that may be written there."""
        return await self._builtin(b"AVBL", connection, rest)

    async def stat(self, connection: Connection, rest: str) -> bool:
        """STAT [path]: this session, or a folder."""
        return await self._builtin(b"STAT", connection, rest)

    async def mfmt(self, connection: Connection, rest: str) -> bool:
        """MFMT time path: set when a file was changed."""
        return await self._builtin(b"MFMT", connection, rest)

    async def site(self, connection: Connection, rest: str) -> bool:
        """SITE command: what this server has of its own."""
        return await self._builtin(b"SITE", connection, rest)

    async def hash(self, connection: Connection, rest: str) -> bool:
        """HASH path: a file's digest."""
        return await self._builtin(b"HASH", connection, rest)

    async def rang(self, connection: Connection, rest: str) -> bool:
        """RANG first last: the bytes that the next HASH looks at."""
        return await self._builtin(b"RANG", connection, rest)

    async def xcrc(self, connection: Connection, rest: str) -> bool:
        """XCRC path: a file's CRC-32."""
        return await self._builtin(b"XCRC", connection, rest)

    async def xmd5(self, connection: Connection, rest: str) -> bool:
        """XMD5 path: a file's MD5."""
        return await self._builtin(b"XMD5", connection, rest)

    async def xsha1(self, connection: Connection, rest: str) -> bool:
        """XSHA1 path: a file's SHA-1."""
        return await self._builtin(b"XSHA1", connection, rest)

    async def xsha256(self, connection: Connection, rest: str) -> bool:
        """XSHA256 path: a file's SHA-256."""
        return await self._builtin(b"XSHA256", connection, rest)

    async def ccc(self, connection: Connection, rest: str) -> bool:
        """CCC: go on without TLS on the control connection."""
        return await self._builtin(b"CCC", connection, rest)

    async def clnt(self, connection: Connection, rest: str) -> bool:
        """CLNT name: what program you are."""
        return await self._builtin(b"CLNT", connection, rest)


def add_missing_methods() -> None:
    """Add a method for each verb of the table that has none above: a new verb needs only a row."""
    for verb in COMMANDS:
        name = method_name(verb.decode().lower())
        if not hasattr(BuiltinVerbs, name):
            setattr(BuiltinVerbs, name, _method(verb))


def _method(verb: bytes) -> Callable[[BuiltinVerbs, Connection, str], Awaitable[bool]]:
    async def obey(self: BuiltinVerbs, connection: Connection, rest: str) -> bool:
        return await self._builtin(verb, connection, rest)

    return obey


add_missing_methods()
