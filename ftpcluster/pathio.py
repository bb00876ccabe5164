"""The names of ``aioftp.pathio``, re-exported from the modules that define them here."""

from ftpcluster.compat.local_pathio import AsyncPathIO, PathIO
from ftpcluster.compat.memory import MemoryPathIO, Node
from ftpcluster.compat.pathio import (
    AbstractPathIO,
    OpenFile,
    PathIOError,
    defend_file_methods,
    universal_exception,
)

AsyncPathIOContext = OpenFile

__all__ = [
    "AbstractPathIO",
    "AsyncPathIO",
    "AsyncPathIOContext",
    "MemoryPathIO",
    "Node",
    "PathIO",
    "PathIOError",
    "defend_file_methods",
    "universal_exception",
]
