"""An FTP server cluster: many processes, exact limits."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftpcluster.common import setlocale, with_timeout
    from ftpcluster.protocol.errors import NoAvailablePort
    from ftpcluster.quota.available import AvailableConnections
    from ftpcluster.server import Server
    from ftpcluster.session.connection import Connection
    from ftpcluster.session.extension import (
        ConnectionConditions,
        PathConditions,
        PathPermissions,
        command,
        worker,
    )
    from ftpcluster.storage.memory import MemoryPathIO
    from ftpcluster.storage.pathio import (
        AbstractAsyncLister,
        AbstractPathIO,
        AsyncPathIO,
        PathIO,
        PathIOError,
        universal_exception,
    )
    from ftpcluster.users import (
        AbstractUserManager,
        MemoryUserManager,
        PathIsNotAbsolute,
        Permission,
        User,
    )

_HOMES = {
    "AbstractAsyncLister": "storage.pathio",
    "AbstractPathIO": "storage.pathio",
    "AbstractUserManager": "users",
    "AsyncPathIO": "storage.pathio",
    "AvailableConnections": "quota.available",
    "Connection": "session.connection",
    "ConnectionConditions": "session.extension",
    "MemoryPathIO": "storage.memory",
    "MemoryUserManager": "users",
    "NoAvailablePort": "protocol.errors",
    "PathConditions": "session.extension",
    "PathIO": "storage.pathio",
    "PathIOError": "storage.pathio",
    "PathIsNotAbsolute": "users",
    "PathPermissions": "session.extension",
    "Permission": "users",
    "Server": "server",
    "User": "users",
    "command": "session.extension",
    "setlocale": "common",
    "universal_exception": "storage.pathio",
    "with_timeout": "common",
    "worker": "session.extension",
}

__all__ = [
    "AbstractAsyncLister",
    "AbstractPathIO",
    "AbstractUserManager",
    "AsyncPathIO",
    "AvailableConnections",
    "Connection",
    "ConnectionConditions",
    "MemoryPathIO",
    "MemoryUserManager",
    "NoAvailablePort",
    "PathConditions",
    "PathIO",
    "PathIOError",
    "PathIsNotAbsolute",
    "PathPermissions",
    "Permission",
    "Server",
    "User",
    "command",
    "setlocale",
    "universal_exception",
    "with_timeout",
    "worker",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the supervisor needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(_HOMES)


class _Package(ModuleType):
    """The import system binds a subpackage to its parent: ``worker`` stays the decorator."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
