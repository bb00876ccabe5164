"""Paths and listings of a ``Server``, as methods that a subclass may override."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import PurePath, PurePosixPath
from typing import Any

from ftpcluster.compat.connection import Connection
from ftpcluster.compat.layered import is_link
from ftpcluster.compat.pathio import AbstractPathIO
from ftpcluster.protocol import path as virtual_path
from ftpcluster.protocol.listing import list_time, mode_string, printable
from ftpcluster.storage.base import Storage
from ftpcluster.users import User, overrides, remember_methods


class PathMethods:
    """Where a client's path leads, and how LIST shows a file. Built-in commands call them, too."""

    path_io_factory: Callable[..., AbstractPathIO[Any]]
    path_timeout: float | None
    block_size: int
    wait_future_timeout: float | None
    _path_io_state: Any

    def overrides(self, *names: str) -> bool:
        """Whether this server, or its class, overrides any of these methods."""
        return overrides(self, PathMethods, *names)

    def open_storage(self, user: User) -> Storage | None:
        """The files of a user who logs in, where they are in a storage of your own.

        Without it ``path_io_factory`` says where they are. Raises OSError where they cannot be had.
        """
        return None

    @staticmethod
    def get_paths(connection: Connection, path: str | PurePosixPath) -> tuple[Any, PurePosixPath]:
        """The real and the virtual path that a client's ``path`` means, never outside base_path."""
        virtual = PurePosixPath(virtual_path.resolve(str(connection.current_directory), str(path)))
        base: PurePath = connection.user.base_path
        real = base / virtual.relative_to("/")
        if (
            not real.is_relative_to(base) or ".." in real.relative_to(base).parts
        ):  # "C:\\" within a path that was sent to Windows
            return base, PurePosixPath("/")
        return real, virtual

    @staticmethod
    def build_list_mtime(st_mtime: float, now: float | None = None) -> str:
        """A time as ``ls -l`` shows it, in local time: ``Jan  1 00:00`` or ``Jan  1  2001``."""
        if now is None:
            now = time.time()
        local = time.localtime(st_mtime).tm_gmtoff
        return list_time(st_mtime + local, now + local)

    async def build_list_string(self, connection: Connection, path: Any) -> str:
        """The line of LIST for a real ``path``, with no line ending. May be overridden."""
        layer: AbstractPathIO[Any] = connection.path_io
        if is_link(layer, path):
            status, is_dir, name = os.lstat(path), False, f"{path.name} -> {os.readlink(path)}"
        else:
            status, is_dir, name = await layer.stat(path), await layer.is_dir(path), path.name
        mode = getattr(status, "st_mode", 0o40755 if is_dir else 0o100644)
        links = getattr(status, "st_nlink", 1)
        when = self.build_list_mtime(status.st_mtime)
        size = status.st_size
        return f"{mode_string(mode)} {links} none none {size} {when} {printable(name)}"


remember_methods(PathMethods, "get_paths", "build_list_string", "build_list_mtime")


def make_layer(server: PathMethods, connection: Connection) -> AbstractPathIO[Any]:
    """A path layer for one connection; the first one makes the state that all share."""
    layer = server.path_io_factory(
        timeout=server.path_timeout, connection=connection, state=server._path_io_state
    )
    if server._path_io_state is None:
        server._path_io_state = layer.state
    return layer
