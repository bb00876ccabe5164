"""The decorators of custom commands: aioftp's, and ``command``.

A command is ``async def verb(self, connection, rest) -> bool`` of a ``Server`` subclass, or any
such function in ``commands_mapping``; False ends the session. It sends its replies itself, with
``connection.response(code, lines)``. ``overrides`` says which verbs these are.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import Any, TypeVar

from ftpcluster.expiry import wait_for
from ftpcluster.protocol.path import resolve
from ftpcluster.protocol.reply import Code

F = TypeVar("F", bound=Callable[..., Any])
Verb = Callable[[Any, str], Awaitable[bool]]

_BAD_SEQUENCE = str(int(Code.BAD_SEQUENCE))
_FILE_UNAVAILABLE = str(int(Code.FILE_UNAVAILABLE))


class ConnectionConditions:
    """Decorator: what the connection must have before the command runs.

    ``fields`` are the class's own ``user_required``, ``login_required``,
    ``passive_server_started``, ``data_connection_made`` and ``rename_from_required``. With ``wait``
    they may take ``connection.wait_future_timeout`` seconds to come about. Where one is missing the
    reply is ``fail_code`` with ``fail_info``, or with a text of its own where that is None.
    """

    user_required = ("user", "no user; use USER first")
    login_required = ("logged", "not logged in")
    passive_server_started = ("passive_server", "no passive connection; use PASV first")
    data_connection_made = ("data_connection", "no data connection was made")
    rename_from_required = ("rename_from", "nothing to rename; use RNFR first")

    def __init__(
        self,
        *fields: tuple[str, str],
        wait: bool = False,
        fail_code: str = _BAD_SEQUENCE,
        fail_info: str | None = None,
    ) -> None:
        self.fields = fields
        self.wait = wait
        self.fail_code = fail_code
        self.fail_info = fail_info

    def __call__(self, command: F) -> F:
        @functools.wraps(command)
        async def checked(
            server: Any, connection: Any, rest: Any, *args: Any, **kwargs: Any
        ) -> Any:
            timeout = connection.wait_future_timeout if self.wait else 0
            for name, message in self.fields:
                if not await _comes_about(connection, name, timeout):
                    info = self.fail_info or f"bad sequence of commands ({message})"
                    connection.response(self.fail_code, info)
                    return True
            return await command(server, connection, rest, *args, **kwargs)

        checked.is_command = True  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]


async def _comes_about(connection: Any, name: str, timeout: float | None) -> bool:
    if name in connection:
        return True
    if name == "passive_server" and "data_connection" in connection:
        return True  # it has served its purpose
    if not timeout and name != "data_connection":
        return False
    awaited = connection[name]
    return (
        await wait_for(awaited, timeout) and not awaited.cancelled() and awaited.exception() is None
    )


class PathConditions:
    """Decorator: what must be true of the path that the argument names, else 550.

    ``conditions`` are the class's own ``path_must_exists``, ``path_must_not_exists``,
    ``path_must_be_dir`` and ``path_must_be_file``; the connection's path layer is asked.
    """

    path_must_exists = ("exists", True, "path does not exist")
    path_must_not_exists = ("exists", False, "path already exists")
    path_must_be_dir = ("is_dir", True, "path is not a directory")
    path_must_be_file = ("is_file", True, "path is not a file")

    def __init__(self, *conditions: tuple[str, bool, str]) -> None:
        self.conditions = conditions

    def __call__(self, command: F) -> F:
        @functools.wraps(command)
        async def checked(
            server: Any, connection: Any, rest: Any, *args: Any, **kwargs: Any
        ) -> Any:
            real, _ = server.get_paths(connection, rest)
            for question, wanted, message in self.conditions:
                if bool(await getattr(connection.path_io, question)(real)) is not wanted:
                    connection.response(_FILE_UNAVAILABLE, message)
                    return True
            return await command(server, connection, rest, *args, **kwargs)

        checked.is_command = True  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]


class PathPermissions:
    """Decorator: permissions that the user must have at the path, all of them, else 550.

    ``permissions`` are the class's own ``readable`` and ``writable``.
    """

    readable = "readable"
    writable = "writable"

    def __init__(self, *permissions: str) -> None:
        self.permissions = permissions

    def __call__(self, command: F) -> F:
        @functools.wraps(command)
        async def checked(
            server: Any, connection: Any, rest: Any, *args: Any, **kwargs: Any
        ) -> Any:
            _, path = server.get_paths(connection, rest)
            # permissions go by components: with ".." among them they would be those of another path
            virtual = PurePosixPath(resolve("/", str(path)))
            granted = await connection.user.get_permissions(virtual)
            may = all(getattr(granted, permission) for permission in self.permissions)
            login = connection.session.login
            if not may or login.forbidden.are_in(str(virtual)):
                connection.response(_FILE_UNAVAILABLE, "permission denied")
                return True
            return await command(server, connection, rest, *args, **kwargs)

        checked.is_command = True  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]


def worker(command: F) -> F:
    """Decorator: ABOR ends the command. The client is then told so (426, and 226 for ABOR)."""

    @functools.wraps(command)
    async def abortable(*args: Any, **kwargs: Any) -> Any:
        return await command(*args, **kwargs)

    abortable.is_command = True  # type: ignore[attr-defined]
    abortable.is_abortable = True  # type: ignore[attr-defined]
    return abortable  # type: ignore[return-value]


def command(verb: str, *, login: bool = True) -> Callable[[F], F]:
    """Decorator: the method, or function, is the command for ``verb``.

    ``login=False``: also for clients that have not logged in.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", verb):
        raise ValueError(f'expected a verb such as "XMOVE", got {verb!r}')

    def mark(function: F) -> F:
        @functools.wraps(function)
        async def marked(*args: Any, **kwargs: Any) -> Any:
            answer = function(*args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer

        marked.is_command = True  # type: ignore[attr-defined]
        marked.verb = verb.lower()  # type: ignore[attr-defined]
        marked.needs_login = login  # type: ignore[attr-defined]
        return marked  # type: ignore[return-value]

    return mark


def mark_of(function: Any, name: str, *, default: bool) -> bool:
    """The value that a decorator above has set on a function, or on the function of a partial."""
    while (mark := getattr(function, name, None)) is None and isinstance(
        function, functools.partial
    ):
        function = function.func
    return mark if isinstance(mark, bool) else default


def verb_of(name: str, function: Any) -> str | None:
    """The verb of a method that a decorator above has made a command; else None."""
    if not callable(function) or getattr(function, "is_command", None) is not True:
        return None
    verb: str | None = getattr(function, "verb", None)
    return verb or (None if name.startswith("_") else name.rstrip("_"))


def is_verb_like(function: Any) -> bool:
    """Whether a function can be called with a connection and the text behind the verb."""
    try:
        inspect.signature(function).bind(None, "")
    except (TypeError, ValueError):
        return False
    return True
