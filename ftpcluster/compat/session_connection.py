"""The connection that custom commands get: a session's state under aioftp's names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

from ftpcluster.answers import settled
from ftpcluster.compat.command_state import CommandState
from ftpcluster.compat.connection import Connection
from ftpcluster.compat.pathio import AbstractPathIO
from ftpcluster.compat.server_paths import PathMethods, make_layer
from ftpcluster.net.passive import PassiveListener
from ftpcluster.net.stream import Stream
from ftpcluster.protocol.errors import NotLoggedIn, SessionEnded
from ftpcluster.protocol.reply import CustomReply
from ftpcluster.session.accepting import AcceptingData
from ftpcluster.session.login import Account, Claim
from ftpcluster.session.state import Session
from ftpcluster.users import User


class SessionConnection(Connection):
    """A ``Connection`` whose well-known names are the session's own state, read and written."""

    __slots__ = ("command_state", "layer", "server", "session")
    session: Session
    server: PathMethods
    command_state: CommandState
    layer: AbstractPathIO[Any]

    def __init__(self, session: Session, server: PathMethods, state: CommandState) -> None:
        object.__setattr__(self, "session", session)
        object.__setattr__(self, "server", server)
        object.__setattr__(self, "command_state", state)
        super().__init__(extra_workers=set())
        object.__setattr__(self, "layer", make_layer(server, self))

    def respond(self, code: str, lines: str | Iterable[str] = "", list: bool = False) -> None:  # noqa: FBT001, FBT002
        """Send a reply: ``code`` before every line, or, as a ``list``, before first and last."""
        wrapped = (lines,) if isinstance(lines, str) else tuple(lines)
        self.session.announce(CustomReply(code, wrapped, as_list=list))

    def __contains__(self, name: object) -> bool:
        if name in _LIVE:
            return _LIVE[str(name)].get(self) is not _ABSENT
        return super().__contains__(name)

    def __getitem__(self, name: str) -> asyncio.Future[Any]:
        if name not in _LIVE:
            return super().__getitem__(name)
        value = _LIVE[name].get(self)
        if value is _ABSENT and name == "data_connection":
            return self.command_state.await_data()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if value is not _ABSENT:
            future.set_result(value)
        return future

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LIVE:
            _LIVE[name].set(self, value)
        else:
            super().__setattr__(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in _LIVE:
            super().__delitem__(name)
        elif name not in self:
            raise KeyError(name)
        else:
            _LIVE[name].delete(self)


_ABSENT = object()
_Getter = Callable[[SessionConnection], Any]
_Setter = Callable[[SessionConnection, Any], None]
_Deleter = Callable[[SessionConnection], None]


class _Live:
    """How one well-known name is read, written and deleted."""

    def __init__(
        self, get: _Getter, set_: _Setter | None = None, delete: _Deleter | None = None
    ) -> None:
        self.get = get
        self._set = set_
        self._delete = delete

    def set(self, connection: SessionConnection, value: Any) -> None:
        if self._set is None:
            raise AttributeError("this part of the session cannot be set")
        self._set(connection, value)

    def delete(self, connection: SessionConnection) -> None:
        if self._delete is None:
            raise AttributeError("this part of the session cannot be deleted")
        self._delete(connection)


def _of_session(get: Callable[[Session], Any]) -> _Live:
    return _Live(lambda connection: get(connection.session))


def _of_server(name: str) -> _Live:
    return _Live(lambda connection: getattr(connection.server, name))


# ---------------------------------------------------------------------- transfers


def _get_restart(connection: SessionConnection) -> int:
    return connection.session.pending.restart


def _set_restart(connection: SessionConnection, offset: int) -> None:
    connection.session.pending.restart = offset


def _forget_restart(connection: SessionConnection) -> None:
    connection.session.pending.restart = 0


def _get_directory(connection: SessionConnection) -> PurePosixPath:
    return PurePosixPath(connection.session.current_directory)


def _set_directory(connection: SessionConnection, path: PurePosixPath | str) -> None:
    session = connection.session
    session.current_directory = session.path(str(path))


def _get_rename(connection: SessionConnection) -> Any:
    path = connection.session.pending.rename_from
    return _ABSENT if path is None else PurePosixPath(path)


def _set_rename(connection: SessionConnection, path: PurePosixPath | str) -> None:
    session = connection.session
    session.pending.rename_from = session.path(str(path))


def _forget_rename(connection: SessionConnection) -> None:
    connection.session.pending.rename_from = None


def _get_type(connection: SessionConnection) -> str:
    return "I" if connection.session.parameters.binary else "A"


def _set_type(connection: SessionConnection, kind: str) -> None:
    connection.session.parameters.binary = kind.upper() != "A"


def _listener(connection: SessionConnection) -> Any:
    data = connection.session.data
    return data if isinstance(data, PassiveListener | AcceptingData) else _ABSENT


def _listener_port(connection: SessionConnection) -> Any:
    data = connection.session.data
    return data.port if isinstance(data, PassiveListener | AcceptingData) else 0


def _get_data(connection: SessionConnection) -> Any:
    data = connection.session.data
    if not isinstance(data, Stream):
        return _ABSENT
    return connection.command_state.data_connection(data)


def _forget_data(connection: SessionConnection) -> None:
    """As in aioftp: the caller has the data connection now, and has to close it."""
    _drop_listener(connection)
    connection.session.data = None


def _drop_listener(connection: SessionConnection) -> None:
    if isinstance(connection.session.data, PassiveListener | AcceptingData):
        connection.session.drop_data()


# ---------------------------------------------------------------------- logins


def needs_slot(connection: SessionConnection) -> bool:
    """Whether a custom command has made a login for which no slot has been taken yet."""
    return connection.command_state.needs_slot and connection.session.is_logged_in


async def take_slot(connection: SessionConnection) -> None:
    """Count a login that a custom command has made, as every login is counted.

    Raises SessionEnded where the user has no connection left.
    """
    session = connection.session
    user, quotas = session.account.user, session.services.quotas
    number = session.conversation.session
    quotas.logout(number)  # of the previous user, if another one was logged in
    try:
        refused = await settled(quotas.login(number, user.login or "", user.maximum_connections))
    except BaseException:
        session.log_out()
        raise
    if refused is not None:
        session.log_out()
        raise SessionEnded(refused.explanation)
    connection.command_state.needs_slot = False


def _begin_login(connection: SessionConnection, user: User, name: str) -> None:
    """Begin a login. Its slot is taken when the running command has ended; where none runs, now."""
    state, session = connection.command_state, connection.session
    session.begin_login(user, name)
    state.needs_slot = True
    if not state.overriding:
        session.services.background(_take_slot_or_log_out(connection))


async def _take_slot_or_log_out(connection: SessionConnection) -> None:
    try:
        if needs_slot(connection):
            await take_slot(connection)
    except (NotLoggedIn, SessionEnded) as error:
        connection.session.note(logging.INFO, f"logged out: {error.reply.text}")


def _get_user(connection: SessionConnection) -> Any:
    login = connection.session.login
    found = login.user if isinstance(login, Claim | Account) else None
    return _ABSENT if found is None else found


def _set_user(connection: SessionConnection, user: User) -> None:
    """Set the user. ``notify_logout`` is called for it, as for users of the user manager."""
    session = connection.session
    login, name = session.login, user.login or ""
    is_logged = isinstance(login, Account) or (
        login is not None and login is connection.command_state.logged_claim
    )
    is_another = login is None or login.user is not user
    if login is not None and is_another:
        session.give_back_user(login)
    if is_another or isinstance(login, Account):
        session.login = Claim(name, user, needs_password=True, is_handed_out=True)
    if is_logged:
        _begin_login(connection, user, name)


def _get_logged(connection: SessionConnection) -> Any:
    return True if connection.session.is_logged_in else _ABSENT


def _set_logged(connection: SessionConnection, logged: bool) -> None:  # noqa: FBT001
    session = connection.session
    login = session.login
    if not logged or isinstance(login, Account):
        return
    if login is None or login.user is None:
        session.login = Claim("", None, needs_password=True)
        connection.command_state.logged_claim = session.login
    else:
        _begin_login(connection, login.user, login.login)


def _log_out(connection: SessionConnection) -> None:
    connection.session.log_out()


_LIVE: dict[str, _Live] = {
    "client_host": _of_session(lambda session: session.conversation.peer),
    "client_port": _of_session(lambda session: session.conversation.peer_port),
    "server_host": _of_session(lambda session: session.server_address),
    "server_port": _of_session(lambda session: session.stream.local_address()[1]),
    "passive_server_port": _Live(_listener_port),
    "command_connection": _Live(lambda connection: connection.command_state.control_stream),
    "socket_timeout": _of_session(lambda session: session.settings.stalled_timeout),
    "idle_timeout": _of_session(lambda session: session.settings.idle_timeout),
    "wait_future_timeout": _of_server("wait_future_timeout"),
    "block_size": _of_server("block_size"),
    "path_io": _Live(lambda connection: connection.layer),
    "loop": _of_session(lambda session: session.services.loop),
    "response": _Live(lambda connection: connection.respond),
    "acquired": _Live(lambda _: True),
    "restart_offset": _Live(_get_restart, _set_restart, _forget_restart),
    "user": _Live(_get_user, _set_user, _log_out),
    "logged": _Live(_get_logged, _set_logged, _log_out),
    "current_directory": _Live(_get_directory, _set_directory),
    "passive_server": _Live(_listener, None, _drop_listener),
    "data_connection": _Live(_get_data, None, _forget_data),
    "rename_from": _Live(_get_rename, _set_rename, _forget_rename),
    "transfer_type": _Live(_get_type, _set_type),
}
"""aioftp's names of a session's state; ``extra_workers`` is a plain value."""
