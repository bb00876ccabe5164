"""What a server is told: read from a file and from flags, checked once, as frozen structs."""

from __future__ import annotations

from ftpcluster.config.model import (
    Account,
    AnonymousConfig,
    Config,
    ConfigError,
    Listen,
    Loop,
    PermissionConfig,
    TLSConfig,
    UserConfig,
    WorkerConfig,
)

__all__ = [
    "Account",
    "AnonymousConfig",
    "Config",
    "ConfigError",
    "Listen",
    "Loop",
    "PermissionConfig",
    "TLSConfig",
    "UserConfig",
    "WorkerConfig",
]
