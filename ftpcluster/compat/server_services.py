"""The services of a ``Server``'s sessions, with its commands, paths and path layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftpcluster.compat.connection import SessionConnection
from ftpcluster.compat.layered import LayeredStorage
from ftpcluster.compat.memory import MemoryPathIO
from ftpcluster.compat.pathio import AbstractPathIO, AsyncPathIO, PathIO
from ftpcluster.protocol.path import resolve
from ftpcluster.session.run import in_task
from ftpcluster.session.services import Services
from ftpcluster.session.state import Session
from ftpcluster.storage.base import MappedPath, Storage
from ftpcluster.storage.pooled import PooledStorage
from ftpcluster.users import User

if TYPE_CHECKING:
    from ftpcluster.compat.server import Server


@dataclass(kw_only=True)
class ServerServices(Services):
    """The services of a ``Server``'s sessions, with its commands, paths and path layers."""

    server: Server

    def open_storage(self, session: Session, user: User) -> Storage:
        factory = self.server.path_io_factory
        is_mapped = self.server.overrides("get_paths")
        if factory is PathIO and not is_mapped:
            return self.files.open(user.base_path)
        if factory is AsyncPathIO and not is_mapped:
            return PooledStorage(
                self.files.open(user.base_path), self.pool, self.settings.path_timeout
            )
        layer = session.view.layer
        if isinstance(layer, MemoryPathIO):
            layer.make_base(user.base_path)
        find_real = (lambda path: self._map(session, path).real) if is_mapped else None
        return LayeredStorage(layer, Path(user.base_path), self.settings.block_size, find_real)

    def locate(self, session: Session, argument: str) -> str:
        if not self.server.overrides("get_paths"):
            return resolve(session.current_folder, argument)
        return self._map(session, argument)

    def _map(self, session: Session, argument: str) -> MappedPath:
        """Both paths, as an overridden ``get_paths`` gives them."""
        real, virtual = self.server.get_paths(session.view, argument)
        return MappedPath(resolve("/", str(virtual)), Path(real))

    def make_view(self, session: Session) -> SessionConnection:
        return SessionConnection(session, self._make_layer)

    def _make_layer(self, connection: SessionConnection) -> AbstractPathIO:
        """A path layer for one connection; the first one makes the state that all share."""
        server = self.server
        layer: AbstractPathIO = server.path_io_factory(
            timeout=self.settings.path_timeout,
            connection=connection,
            state=server._path_io_state,
        )
        if server._path_io_state is None:
            server._path_io_state = layer.state
        return layer

    async def long_line(self, session: Session, path: str) -> str | None:
        """LIST's line where it, or the time in it, is made by an override; else None."""
        server = self.server
        if not server.overrides("build_list_string", "build_list_mtime"):
            return None
        real, _ = server.get_paths(session.view, path)
        return await in_task(server.build_list_string(session.view, real))
