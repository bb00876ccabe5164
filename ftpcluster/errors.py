"""The reference's module of this name: what it has there, from where it is."""

from ftpcluster.compat.pathio import PathIOError
from ftpcluster.protocol.errors import NoAvailablePort
from ftpcluster.users import PathIsNotAbsolute

__all__ = ["NoAvailablePort", "PathIOError", "PathIsNotAbsolute"]
