"""Loads a Config from file, environment and flags. This changes nothing, and may be repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from ftpcluster.config.account_directories import with_directories
from ftpcluster.config.account_passwords import with_passwords
from ftpcluster.config.allowed_places import check_allowed
from ftpcluster.config.broken_accounts import without_broken_accounts
from ftpcluster.config.checks import check, check_accounts, check_users
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
    sources = _given(file, flags, environment or Environment())
    config = decode(sources, Config)
    check(config, sources)
    config = without_broken_accounts(_settled(config, sources), sources)
    check_allowed(config, sources)
    for each in further:
        each(config, sources)
    check_accounts(config, sources)
    sources.check()
    return config


def load_user(
    file: Path | None, flags: Overlay, login: str, environment: Environment
) -> tuple[Config, list[str]]:
    """A configuration in which one user is as it should be now, and the warnings.

    Of the files that ``users`` names only that user's own is read, and what has nothing to do with
    accounts is not checked: a certificate that is being renewed must not keep a user out. Raises
    ConfigError.
    """
    sources = _given(file, flags, environment, only=login)
    config = decode(sources, Config)
    check_users(config, sources)
    config = without_broken_accounts(_settled(config, sources), sources)
    sources.check()
    return config, sources.doubts


def load_accounts(
    file: Path | None, overlay: Overlay, environment: Environment, only: str | None = None
) -> tuple[Config, Sources]:
    """The accounts, with all that is wrong with each in ``account_problems``.

    Errors elsewhere must not keep an administrator from them. ``only``: as in ``load_user``. Raises
    ConfigError where the file cannot be read.
    """
    sources = _given(file, overlay, environment, only)
    sources.values["strict_users"] = True  # then missing directories are errors of their accounts
    config = decode(sources, Config)
    check_users(config, sources)
    return _settled(config, sources), sources


def _given(
    file: Path | None, flags: Overlay, environment: Environment, only: str | None = None
) -> Sources:
    """All that is given: in files, variables and flags, which win in this order."""
    sources = Sources(file, flags.directory)
    for name in ("users", "strict_users"):  # they say how the files are read
        environment.only((name,)).lay_over(sources)
    add_user_files(sources, only)
    environment.lay_over(sources)
    flags.lay_over(sources)
    inherit(sources)
    return sources


def _settled(config: Config, sources: Sources) -> Config:
    config = with_directories(with_passwords(config, sources), sources)
    users = []
    for index, user in enumerate(config.users):
        place = sources.place(("user", index))
        is_elsewhere = user is not None and place.rank > 0
        users.append(msgspec.structs.replace(user, file=str(place.file)) if is_elsewhere else user)
    return msgspec.structs.replace(config, users=tuple(users))


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
