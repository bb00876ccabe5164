"""A file, with environment and flags over it, → Config. It changes nothing, and may be repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ftpcluster.config.allowed_places import check_allowed
from ftpcluster.config.checks import check, check_accounts, with_directories
from ftpcluster.config.decode import decode
from ftpcluster.config.environment import Environment
from ftpcluster.config.model import Config
from ftpcluster.config.sources import Sources


class Overlay(Protocol):
    """What was given on a command line."""

    @property
    def directory(self) -> str:
        """Where it was given: relative names lead from there, whatever became of it."""

    def lay_over(self, sources: Sources) -> None:
        """Put what was given into the sources, or refuse it there."""


def load(
    file: Path | None,
    flags: Overlay,
    *further: Callable[[Config, Sources], None],
    environment: Environment | None = None,
) -> Config:
    """A server's configuration: flags win over the environment, which wins over the file.

    Raises ConfigError with all that is wrong. ``further`` checks are those that do not hold for a
    reload.
    """
    sources = Sources(file, flags.directory)
    if environment is not None:
        environment.lay_over(sources)
    flags.lay_over(sources)
    config = decode(sources, Config)
    check(config, sources)
    config = with_directories(config, sources)
    check_allowed(config, sources)
    for each in further:
        each(config, sources)
    check_accounts(config, sources)
    sources.check()
    return config


def admin_socket(file: Path | None, environment: Environment) -> str | None:
    """The one key that says where a server is steered; None where nothing does.

    Whatever else is wrong does not keep anybody from the server. Raises ConfigError.
    """
    sources = Sources(file)
    environment.only(("admin", "socket")).lay_over(sources)
    socket = sources.get(("admin", "socket"))
    sources.values = {} if socket is None else {"admin": {"socket": socket}}
    config = decode(sources, Config)
    sources.check()
    return config.admin.socket
