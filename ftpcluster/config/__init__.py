"""Settings: each declared once, read from a file, the environment and flags, and checked.

Its results are frozen structs. This package knows nothing of sessions, workers and the command
line.
"""

from __future__ import annotations

from ftpcluster.config.accounts import (
    ANONYMOUS,
    AccountConfig,
    AnonymousConfig,
    PermissionConfig,
    UserConfig,
)
from ftpcluster.config.banning import BanConfig
from ftpcluster.config.model import Config, ConfigError, Loop, WorkerConfig
from ftpcluster.config.network import Data, Listen, TLSConfig
from ftpcluster.config.tables import Limits, Log, StorageConfig, Timeouts
from ftpcluster.config.values import PLAIN

__all__ = [
    "ANONYMOUS",
    "AccountConfig",
    "AnonymousConfig",
    "BanConfig",
    "Config",
    "ConfigError",
    "Data",
    "Limits",
    "Listen",
    "Log",
    "Loop",
    "PLAIN",
    "PermissionConfig",
    "StorageConfig",
    "TLSConfig",
    "Timeouts",
    "UserConfig",
    "WorkerConfig",
]
