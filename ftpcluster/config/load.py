"""Loads a Config from file, environment and flags. This changes nothing, and may be repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ftpcluster.config.account_directories import with_directories
from ftpcluster.config.account_passwords import with_passwords
from ftpcluster.config.allowed_places import check_allowed
from ftpcluster.config.broken_accounts import without_broken_accounts
from ftpcluster.config.checks import check, check_accounts
from ftpcluster.config.decode import decode
from ftpcluster.config.environment import Environment
from ftpcluster.config.model import Config
from ftpcluster.config.sources import Sources
from ftpcluster.config.user_files import add_user_files, inherit


class Overlay(Protocol):
    """What was given on a command line."""

    @property
    def directory(self) -> str:
        """The directory in which it was given: relative names begin there, even if it is gone."""

    def lay_over(self, sources: Sources) -> None:
        """Put what was given into the sources, or refuse it there."""


def load(
    file: Path | None,
    flags: Overlay,
    *further: Callable[[Config, Sources], None],
    environment: Environment | None = None,
) -> Config:
    """A server's configuration: flags win over the environment, which wins over the file.

    Raises ConfigError with all that is wrong. ``further``: checks that a reload does not make.
    """
    sources = Sources(file, flags.directory)
    if environment is not None:
        environment.only(("users",)).lay_over(sources)
        environment.only(("strict_users",)).lay_over(sources)
    add_user_files(sources)
    if environment is not None:
        environment.lay_over(sources)
    flags.lay_over(sources)
    inherit(sources)
    config = decode(sources, Config)
    check(config, sources)
    config = with_passwords(config, sources)
    config = with_directories(config, sources)
    config = without_broken_accounts(config, sources)
    check_allowed(config, sources)
    for each in further:
        each(config, sources)
    check_accounts(config, sources)
    sources.check()
    return config


def admin_socket(file: Path | None, environment: Environment) -> str | None:
    """The path of the admin socket; None: not configured.

    Only this key is checked: other errors must not keep an administrator from the server. Raises
    ConfigError.
    """
    sources = Sources(file)
    environment.only(("admin", "socket")).lay_over(sources)
    socket = sources.get(("admin", "socket"))
    sources.values = {} if socket is None else {"admin": {"socket": socket}}
    config = decode(sources, Config)
    sources.check()
    return config.admin.socket
