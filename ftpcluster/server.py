"""The names of ``aioftp.server``, re-exported from the modules that define them here."""

from ftpcluster.compat.available import AvailableConnections
from ftpcluster.compat.connection import Connection
from ftpcluster.compat.decorators import (
    ConnectionConditions,
    PathConditions,
    PathPermissions,
    worker,
)
from ftpcluster.compat.server import Server
from ftpcluster.users import AbstractUserManager, MemoryUserManager, Permission, User

__all__ = [
    "AbstractUserManager",
    "AvailableConnections",
    "Connection",
    "ConnectionConditions",
    "MemoryUserManager",
    "PathConditions",
    "PathPermissions",
    "Permission",
    "Server",
    "User",
    "worker",
]
