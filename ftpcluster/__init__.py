"""An FTP server cluster: many processes, exact limits."""

from ftpcluster.server import Server
from ftpcluster.users import (
    AbstractUserManager,
    MemoryUserManager,
    PathIsNotAbsolute,
    Permission,
    User,
)

__all__ = [
    "AbstractUserManager",
    "MemoryUserManager",
    "PathIsNotAbsolute",
    "Permission",
    "Server",
    "User",
]
