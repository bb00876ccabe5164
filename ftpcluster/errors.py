"""The names of ``aioftp.errors``, re-exported from the modules that define them here."""

from ftpcluster.compat.pathio import PathIOError
from ftpcluster.protocol.errors import NoAvailablePort
from ftpcluster.users import PathIsNotAbsolute

__all__ = ["NoAvailablePort", "PathIOError", "PathIsNotAbsolute"]
