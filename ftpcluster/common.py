"""The names of ``aioftp.common``, re-exported from the modules that define them here."""

from ftpcluster.compat.common import (
    DEFAULT_BLOCK_SIZE,
    END_OF_LINE,
    AsyncStreamIterator,
    async_enterable,
    setlocale,
    with_timeout,
    wrap_with_container,
)
from ftpcluster.compat.connection import Connection
from ftpcluster.compat.pathio import AbstractAsyncLister, AsyncListerMixin

__all__ = [
    "DEFAULT_BLOCK_SIZE",
    "END_OF_LINE",
    "AbstractAsyncLister",
    "AsyncListerMixin",
    "AsyncStreamIterator",
    "Connection",
    "async_enterable",
    "setlocale",
    "with_timeout",
    "wrap_with_container",
]
