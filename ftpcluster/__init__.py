"""An FTP server cluster: many processes, exact limits."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {"Server": "ftpcluster.server"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the supervisor needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(
        importlib.import_module(_HOMES.get(name, "ftpcluster.users")), name
    )
    return value


def __dir__() -> list[str]:
    return __all__
