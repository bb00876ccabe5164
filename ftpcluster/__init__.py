"""An FTP server on many processes, whose limits hold exactly over all of them."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from ftpcluster.compat.available import AvailableConnections
    from ftpcluster.compat.common import setlocale, with_timeout
    from ftpcluster.compat.connection import Connection
    from ftpcluster.compat.decorators import (
        ConnectionConditions,
        PathConditions,
        PathPermissions,
        command,
        worker,
    )
    from ftpcluster.compat.local_pathio import AsyncPathIO, PathIO
    from ftpcluster.compat.memory import MemoryPathIO
    from ftpcluster.compat.pathio import (
        AbstractAsyncLister,
        AbstractPathIO,
        PathIOError,
        universal_exception,
    )
    from ftpcluster.compat.server import Server
    from ftpcluster.protocol.errors import NoAvailablePort
    from ftpcluster.users import (
        AbstractUserManager,
        MemoryUserManager,
        PathIsNotAbsolute,
        Permission,
        User,
    )

_HOMES = {
    "AbstractAsyncLister": "compat.pathio",
    "AbstractPathIO": "compat.pathio",
    "AbstractUserManager": "users",
    "AsyncPathIO": "compat.local_pathio",
    "AvailableConnections": "compat.available",
    "Connection": "compat.connection",
    "ConnectionConditions": "compat.decorators",
    "MemoryPathIO": "compat.memory",
    "MemoryUserManager": "users",
    "NoAvailablePort": "protocol.errors",
    "PathConditions": "compat.decorators",
    "PathIO": "compat.local_pathio",
    "PathIOError": "compat.pathio",
    "PathIsNotAbsolute": "users",
    "PathPermissions": "compat.decorators",
    "Permission": "users",
    "Server": "compat.server",
    "User": "users",
    "command": "compat.decorators",
    "setlocale": "compat.common",
    "universal_exception": "compat.pathio",
    "with_timeout": "compat.common",
    "worker": "compat.decorators",
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
    if name == "__version__":
        from importlib.metadata import version  # here, since the supervisor does not need it

        return version("ftpcluster")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])


class _Package(ModuleType):
    """Keeps ``ftpcluster.worker`` the decorator: importing the subpackage would replace it."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
