"""The hooks of a ``Server``'s sessions: its paths, path layers and listings, and its commands."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from ftpcluster.compat.command_state import CommandState
from ftpcluster.compat.layered import LayeredStorage, MappedPath
from ftpcluster.compat.local_pathio import AsyncPathIO, PathIO
from ftpcluster.compat.memory import MemoryPathIO
from ftpcluster.compat.pathio import os_errors
from ftpcluster.compat.server_paths import PathMethods
from ftpcluster.compat.session_connection import SessionConnection
from ftpcluster.protocol.path import resolve
from ftpcluster.session.command_run import in_task
from ftpcluster.session.hooks import SessionHooks
from ftpcluster.session.rights import AskedRights, Rights
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Storage
from ftpcluster.users import Permission, User, overrides


class ServerHooks(SessionHooks):
    """The hooks of one session of a ``Server``. The core knows no PathIOError: none leaves here."""

    __slots__ = ("_connection", "_server", "_session", "state")

    def __init__(self, server: PathMethods, session: Session) -> None:
        self._server = server
        self._session = session
        self._connection: SessionConnection | None = None
        self.state = CommandState(session)

    @property
    def connection(self) -> SessionConnection:
        """The session as commands and path layers see it; made when it is first asked for."""
        if self._connection is None:
            self._connection = SessionConnection(self._session, self._server, self.state)
        return self._connection

    # ------------------------------------------------------------------ files

    def open_storage(self, user: User) -> Storage | None:
        server, services = self._server, self._session.services
        if (custom := server.open_storage(user)) is not None:
            return custom
        factory, is_mapped = server.path_io_factory, server.overrides("get_paths")
        if factory is PathIO and not is_mapped:
            return None
        if factory is AsyncPathIO and not is_mapped:
            home = user.home_path if user.create_home else None
            return services.files.open_in_threads(user.base_path, server.path_timeout, home)
        with os_errors():
            layer = self.connection.layer
        if isinstance(layer, MemoryPathIO):
            layer.make_base(user.base_path)
        find_real = (lambda path: self._map(path).real) if is_mapped else None
        return LayeredStorage(layer, Path(user.base_path), server.block_size, find_real)

    def rights_of(self, user: User) -> Rights | None:
        return _MappedRights(user) if overrides(user, User, "get_permissions") else None

    def locate(self, argument: str) -> str | None:
        return self._map(argument) if self._server.overrides("get_paths") else None

    def _map(self, argument: str) -> MappedPath:
        """Both paths, as an overridden ``get_paths`` gives them."""
        with os_errors():
            real, virtual = self._server.get_paths(self.connection, argument)
        return MappedPath(resolve("/", str(virtual)), Path(real))

    def list_line(self, path: str) -> Coroutine[Any, Any, str] | None:
        """LIST's line where it, or the time in it, is made by an override."""
        if not self._server.overrides("build_list_string", "build_list_mtime"):
            return None
        return in_task(self._build_line(path))

    async def _build_line(self, path: str) -> str:
        server, connection = self._server, self.connection
        with os_errors():
            real, _ = server.get_paths(connection, path)
            return await server.build_list_string(connection, real)

    # ------------------------------------------------------------------ commands

    @property
    def has_tasks(self) -> bool:
        return self._connection is not None and bool(self._connection.extra_workers)

    def on_data_taken(self) -> None:
        self.state.stop_sharing()

    def on_data_dropped(self) -> None:
        self.state.on_data_dropped()

    def on_logout(self) -> None:
        self.state.needs_slot = False


class _MappedRights(AskedRights):
    """The rights of a user with a ``get_permissions`` of its own, which may ask a path layer."""

    async def at(self, path: str) -> Permission:
        with os_errors():
            return await super().at(path)


def connection_of(session: Session) -> SessionConnection:
    """The session as commands see it, whose server is a ``Server``."""
    hooks = session.hooks
    assert isinstance(hooks, ServerHooks)
    return hooks.connection
