"""The reference's module of this name: what it has there, from where it is."""

from ftpcluster.compat.memory import MemoryPathIO
from ftpcluster.compat.pathio import (
    AbstractPathIO,
    AsyncPathIO,
    PathIO,
    universal_exception,
)

__all__ = ["AbstractPathIO", "AsyncPathIO", "MemoryPathIO", "PathIO", "universal_exception"]
