"""What a command of somebody else's finds a session's state in: the reference's ``Connection``."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from ftpcluster.compat.pathio import AbstractPathIO
from ftpcluster.net.passive import PassiveListener
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import TLSStream
from ftpcluster.protocol.errors import NotLoggedIn, SessionEnded
from ftpcluster.protocol.reply import CustomReply
from ftpcluster.session.arrival import Arrival
from ftpcluster.session.lingering import Lingering
from ftpcluster.session.server_dtp import DataTransfer, Download, Upload, accept, arrived
from ftpcluster.session.state import Account, Claim

if TYPE_CHECKING:
    from ftpcluster.session.state import Session
    from ftpcluster.users import User


class _Futures:
    """``connection.future.foo`` is ``connection["foo"]``: the future itself."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> asyncio.Future[Any]:
        return self._connection[name]

    def __delattr__(self, name: str) -> None:
        del self._connection[name]


class Connection(defaultdict[str, "asyncio.Future[Any]"]):
    """State of a connection, as values and as futures that can be awaited.

    ``connection.foo`` is the value (AttributeError where there is none), ``connection["foo"]`` and
    ``connection.future.foo`` the future of it, which is made when it is first asked for. Each can
    be deleted by all three. Keyword arguments are values to begin with.
    """

    __slots__ = ("future",)
    future: _Futures

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(asyncio.Future)
        object.__setattr__(self, "future", _Futures(self))
        for name, value in kwargs.items():
            self[name].set_result(value)

    def __getattr__(self, name: str) -> Any:
        if name in self and self[name].done():
            return self[name].result()
        raise AttributeError(f"the connection has no {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if self[name].done():
            self[name] = asyncio.Future()
        self[name].set_result(value)

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"the connection has no {name!r}") from None


class DataConnection:
    """A data connection, in the hands of somebody's own command. It keeps the session's limits."""

    def __init__(self, session: Session, stream: Stream) -> None:
        self._session = session
        self.stream = stream
        self._transfers: list[DataTransfer] = []

    def _transfer(self, kind: type[DataTransfer]) -> Any:
        for transfer in self._transfers:
            if type(transfer) is kind:
                return transfer
        transfer = kind.over(self._session, self.stream)
        self._transfers.append(transfer)
        return transfer

    async def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes; all until the end where it is negative; none at the end."""
        upload: Upload = self._transfer(Upload)
        if count >= 0:
            return await upload.receive(count)
        return b"".join([block async for block in self.iter_by_block()])

    async def readline(self) -> bytes:
        """A line with its newline, or what is left at the end."""
        line = bytearray()
        while not line.endswith(b"\n") and (byte := await self.read(1)):
            line += byte
        return bytes(line)

    async def write(self, data: bytes) -> None:
        """Send all of ``data``."""
        download: Download = self._transfer(Download)
        await download.send(data)

    async def iter_by_block(self, count: int = 8192) -> AsyncIterator[bytes]:
        """What arrives until the end, in blocks of at most ``count`` bytes."""
        while block := await self.read(count):
            yield block

    def end(self) -> None:
        """Stop sharing in the limits, until it is read or written again."""
        for transfer in self._transfers:
            transfer.end()
        self._transfers.clear()

    def close(self) -> None:
        """Close it: for the client, the end of the data."""
        has_sent = not self.stream.closed and any(
            isinstance(transfer, Download) for transfer in self._transfers
        )
        self.end()
        if has_sent and isinstance(self.stream, TLSStream) and self.stream.say_end():
            session = self._session
            Lingering(session.services, self.stream, session.conversation.peer)
        self.stream.close()
        if self._session.data is self.stream:
            self._session.data = None

    async def __aenter__(self) -> DataConnection:
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()


class SessionConnection(Connection):
    """A ``Connection`` whose well-known names are the session's own state, read and written."""

    __slots__ = ("_awaited", "layer", "session")
    session: Session
    layer: AbstractPathIO
    _awaited: asyncio.Future[Any] | None

    def __init__(self, session: Session, make_layer: Callable[[Any], AbstractPathIO]) -> None:
        object.__setattr__(self, "session", session)
        object.__setattr__(self, "_awaited", None)
        super().__init__(extra_workers=set())
        object.__setattr__(self, "layer", make_layer(self))

    def respond(self, code: str, lines: str | Iterable[str] = "", list: bool = False) -> None:  # noqa: FBT001, FBT002
        """Send a reply: ``code`` before every line, or, as a ``list``, before first and last."""
        wrapped = (lines,) if isinstance(lines, str) else tuple(lines)
        self.session.announce(CustomReply(code, wrapped, as_list=list))

    def __contains__(self, name: object) -> bool:
        if name in _LIVE:
            return _LIVE[str(name)].get(self.session) is not _ABSENT
        return super().__contains__(name)

    def __getitem__(self, name: str) -> asyncio.Future[Any]:
        if name not in _LIVE:
            return super().__getitem__(name)
        value = _LIVE[name].get(self.session)
        if value is _ABSENT and name == "data_connection":
            return self._await_data_connection()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if value is not _ABSENT:
            future.set_result(value)
        return future

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LIVE:
            _LIVE[name].set(self.session, value)
        else:
            super().__setattr__(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in _LIVE:
            super().__delitem__(name)
        elif name not in self:
            raise KeyError(name)
        else:
            _LIVE[name].delete(self.session)

    def _await_data_connection(self) -> asyncio.Future[Any]:
        """The future of a data connection that PASV prepared: asking for it accepts it."""
        awaited = self._awaited
        if awaited is None or awaited.done():
            loop = asyncio.get_running_loop()
            if isinstance(self.session.data, PassiveListener | Arrival):
                awaited = self.session.services.background(self._accept())
                awaited.add_done_callback(_heard)
            else:
                awaited = loop.create_future()
            object.__setattr__(self, "_awaited", awaited)
        return awaited

    def accepting_task(self) -> asyncio.Task[Any] | None:
        """The task that accepts the data connection, while it runs."""
        awaited = self._awaited
        return awaited if isinstance(awaited, asyncio.Task) and not awaited.done() else None

    def stop_awaiting(self) -> None:
        """The listener is gone: whoever waits for its connection need not."""
        awaited = self._awaited
        object.__setattr__(self, "_awaited", None)
        if awaited is not None and awaited is not asyncio.current_task():
            awaited.cancel()

    async def _accept(self) -> Any:
        self.session.check_data_protection()
        if isinstance(self.session.data, Arrival):
            await arrived(self.session, self.session.data)
        else:
            await accept(self.session, self.session.settings.data_timeout)
        return _get_data(self.session)


def _heard(awaited: asyncio.Future[Any]) -> None:
    """Nobody may be there any more to hear why no connection came."""
    if not awaited.cancelled():
        awaited.exception()


_ABSENT = object()


class _Live:
    """How one well-known name is read, written and deleted on a session."""

    def __init__(
        self,
        get: Callable[[Session], Any],
        set_: Callable[[Session, Any], None] | None = None,
        delete: Callable[[Session], None] | None = None,
    ) -> None:
        self.get = get
        self._set = set_
        self._delete = delete

    def set(self, session: Session, value: Any) -> None:
        if self._set is None:
            raise AttributeError("this part of the session cannot be set")
        self._set(session, value)

    def delete(self, session: Session) -> None:
        if self._delete is None:
            raise AttributeError("this part of the session cannot be deleted")
        self._delete(session)


def _attribute(name: str, absent: Any = _ABSENT) -> _Live:
    """A name that is an attribute of the session; deleting it sets ``absent``."""

    def get(session: Session) -> Any:
        value = getattr(session, name)
        return _ABSENT if value is None else value

    def set_(session: Session, value: Any) -> None:
        setattr(session, name, value)

    def delete(session: Session) -> None:
        setattr(session, name, None if absent is _ABSENT else absent)

    return _Live(get, set_, delete)


def _user(session: Session) -> Any:
    login = session.login
    found = login.user if isinstance(login, Claim | Account) else None
    return _ABSENT if found is None else found


def _logged(session: Session) -> Any:
    return True if isinstance(session.login, Account) else _ABSENT


def _log_out(session: Session) -> None:
    session.log_out()


def _get_folder(session: Session) -> PurePosixPath:
    return PurePosixPath(session.current_folder)


def _set_folder(session: Session, path: PurePosixPath | str) -> None:
    session.current_folder = session.path(str(path))


def _get_rename(session: Session) -> Any:
    return _ABSENT if session.rename_from is None else PurePosixPath(session.rename_from)


def _set_rename(session: Session, path: PurePosixPath | str) -> None:
    session.rename_from = session.path(str(path))


def _forget_rename(session: Session) -> None:
    session.rename_from = None


def _get_type(session: Session) -> str:
    return "I" if session.binary else "A"


def _set_type(session: Session, kind: str) -> None:
    session.binary = kind.upper() != "A"


def _listener(session: Session) -> Any:
    data = session.data
    return data if isinstance(data, PassiveListener | Arrival) else _ABSENT


def _listener_port(session: Session) -> Any:
    data = session.data
    return data.port if isinstance(data, PassiveListener | Arrival) else 0


def _get_data(session: Session) -> Any:
    if not isinstance(session.data, Stream):
        return _ABSENT
    if session.data_view is None or session.data_view.stream is not session.data:
        session.data_view = DataConnection(session, session.data)
    return session.data_view


def _forget_data(session: Session) -> None:
    """The reference's way to say that whoever has the connection now will close it."""
    _drop_listener(session)
    session.data = None


def _drop_listener(session: Session) -> None:
    if isinstance(session.data, PassiveListener | Arrival):
        session.drop_data()


async def take_slot(session: Session) -> None:
    """Count a login that a command of the user's own has made, as every login is counted.

    Raises SessionEnded where the user has no connection left.
    """
    user, quotas = session.account.user, session.services.quotas
    number = session.conversation.session
    quotas.logout(number)  # of the user before, where it is another one now
    try:
        refused = await quotas.login(number, user.login or "", user.maximum_connections)
    except BaseException:
        session.log_out()
        raise
    if refused is not None:
        session.log_out()
        raise SessionEnded(refused.explanation)
    session.login = msgspec.structs.replace(session.account, holds_slot=True)


def _begin_login(session: Session, user: User, name: str) -> None:
    """The slot is taken after the command that runs. A login by a task takes it at once."""
    session.begin_login(user, name, holds_slot=False)
    if not session.overriding:
        session.services.background(_take_slot_or_log_out(session))


async def _take_slot_or_log_out(session: Session) -> None:
    try:
        if session.is_logged_in and not session.account.holds_slot:
            await take_slot(session)
    except (NotLoggedIn, SessionEnded) as error:
        session.note(logging.INFO, f"logged out: {error.reply.text}")


def _set_user(session: Session, user: User) -> None:
    """The user manager is told of this user's end, too, as of users that it has given itself."""
    login, name = session.login, user.login or ""
    is_logged = isinstance(login, Account) or (isinstance(login, Claim) and login.is_logged)
    is_another = login is None or login.user is not user
    if login is not None and is_another:
        session.give_back_user(login)
    if is_another or isinstance(login, Account):
        session.login = Claim(name, user, needs_password=True, is_handed_out=True)
    if is_logged:
        _begin_login(session, user, name)


def _set_logged(session: Session, logged: bool) -> None:  # noqa: FBT001
    login = session.login
    if not logged or isinstance(login, Account):
        return
    if login is None or login.user is None:
        session.login = Claim("", None, needs_password=True, is_logged=True)
    else:
        _begin_login(session, login.user, login.login)


_LIVE: dict[str, _Live] = {
    "client_host": _Live(lambda session: session.conversation.peer),
    "client_port": _Live(lambda session: session.conversation.peer_port),
    "server_host": _Live(lambda session: session.server_address),
    "server_port": _Live(lambda session: session.stream.local_address()[1]),
    "passive_server_port": _Live(_listener_port),
    "command_connection": _Live(lambda session: session.stream),
    "socket_timeout": _Live(lambda session: session.settings.stalled_timeout),
    "idle_timeout": _Live(lambda session: session.settings.idle_timeout),
    "wait_future_timeout": _Live(lambda session: session.settings.wait_future_timeout),
    "block_size": _Live(lambda session: session.settings.block_size),
    "path_io": _Live(lambda session: session.view.layer),
    "loop": _Live(lambda session: session.services.loop),
    "response": _Live(lambda session: session.view.respond),
    "acquired": _Live(lambda session: True),
    "restart_offset": _attribute("restart", 0),
    "user": _Live(_user, _set_user, _log_out),
    "logged": _Live(_logged, _set_logged, _log_out),
    "current_directory": _Live(_get_folder, _set_folder),
    "passive_server": _Live(_listener, None, _drop_listener),
    "data_connection": _Live(_get_data, None, _forget_data),
    "rename_from": _Live(_get_rename, _set_rename, _forget_rename),
    "transfer_type": _Live(_get_type, _set_type),
}
"""The reference's names of a session's state; ``extra_workers`` is a plain value."""
