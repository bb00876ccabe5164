"""The reference's module of this name: what it has there, from where it is."""

from ftpcluster.compat.common import setlocale, with_timeout
from ftpcluster.compat.connection import Connection
from ftpcluster.compat.pathio import AbstractAsyncLister

__all__ = ["AbstractAsyncLister", "Connection", "setlocale", "with_timeout"]
