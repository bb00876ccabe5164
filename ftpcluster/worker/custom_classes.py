"""Custom code: ``server`` and ``user_manager``, named in the configuration.

All functions raise ConfigError where it cannot be used.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ftpcluster.config import Config, ConfigError
from ftpcluster.quota.ledger import ConnectionLimits
from ftpcluster.users import AbstractUserManager

if TYPE_CHECKING:
    from ftpcluster.compat.server import Server


KEYS = ("server", "user_manager")
"""The keys that name custom code."""


def look(config: Config) -> None:
    """Import all custom code, without calling it."""
    for key in KEYS:
        name = getattr(config, key)
        if name is not None:
            _load(key, name)


def user_manager(name: str) -> AbstractUserManager:
    """The user manager that the factory makes."""
    factory = _load("user_manager", name)
    manager = _call("user_manager", name, factory)
    if not isinstance(manager, AbstractUserManager):
        raise ConfigError(
            f"user_manager {name}: expected a factory of an AbstractUserManager, "
            f"got {type(manager).__name__}"
        )
    return manager


def server(config: Config, name: str, users: AbstractUserManager) -> Server:
    """The user's ``Server``. It gets the configured users, if it takes any."""
    from ftpcluster.compat.server import Server

    factory = _load("server", name)
    try:
        inspect.signature(factory).bind(users)
    except (TypeError, ValueError):
        made = _call("server", name, factory)
        if isinstance(made, Server):
            _give_users(config, name, made, users)
    else:
        made = _call("server", name, factory, users)
    if not isinstance(made, Server):
        raise ConfigError(
            f"server {name}: expected a subclass of ftpcluster.Server, got {type(made).__name__}"
        )
    is_limited = made.throttle.rates().is_limited or made.ledger.limits != ConnectionLimits()
    if is_limited or made.arrivals.most is not None:
        raise ConfigError(
            f"server {name}: each worker would have limits of its own; what holds for the whole "
            "server belongs into [limits], or --max-connections, --download-limit, --upload-limit"
        )
    if made.bans is not None or made.arrivals.deny:
        keyword = "ban_deny" if made.bans is None else "ban_failures"
        raise ConfigError(
            f"server {name}: the supervisor bans, for all workers: {keyword} belongs into [ban]"
        )
    layer = made.path_io_factory(timeout=None, connection=None, state=None)
    if layer.state is not None and config.workers > 1:
        raise ConfigError(
            f"server {name}: the files of {type(layer).__name__} live in one process, and "
            f"{config.workers} workers would each have their own; use one (--workers 1)"
        )
    return made


def _give_users(config: Config, name: str, made: Server, users: AbstractUserManager) -> None:
    """Set the users of a ``Server`` that takes no argument: without users it admits everybody."""
    if made.users is None:
        made.users = users
    elif config.user_manager is not None or config.users:
        raise ConfigError(
            f"server {name}: it has users of its own and takes no others, so those that are "
            "configured could not log in"
        )


def _load(key: str, name: str) -> Callable[..., Any]:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(f"{key} {name}: expected package.module:name")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{key} {name}: cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{key} {name}: its import failed: {error!r}") from error
    if not callable(found):
        raise ConfigError(f"{key} {name}: expected a class or a function")
    if inspect.isclass(found):
        _check_class(key, name, found)
    result: Callable[..., Any] = found
    return result


def _check_class(key: str, name: str, found: type) -> None:
    """Refuse a class that makes something else, before it is called: ``check`` calls none."""
    from ftpcluster.compat.server import Server

    wanted, called = {
        "server": (Server, "a subclass of ftpcluster.Server"),
        "user_manager": (AbstractUserManager, "a factory of an AbstractUserManager"),
    }[key]
    if not issubclass(found, wanted):
        raise ConfigError(f"{key} {name}: expected {called}, got the class {found.__name__}")


def _call(key: str, name: str, factory: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return factory(*arguments)
    except (Exception, SystemExit) as error:
        text = f"{key} {name}: calling it failed: {error!r}"
        if isinstance(error, PermissionError):
            text += "; [confine_allow] names the files that custom code may open"
        raise ConfigError(text) from error
