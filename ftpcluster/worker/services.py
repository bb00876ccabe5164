"""What a worker's sessions share, made from what the worker is told."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ftpcluster.config import Config, ConfigError, UserConfig, WorkerConfig
from ftpcluster.net.certificates import ContextMaker, Contexts
from ftpcluster.net.passive import PassivePorts
from ftpcluster.net.poller import Poller
from ftpcluster.quota.ledger import ConnectionLimits
from ftpcluster.quota.quotas import Quotas
from ftpcluster.session.state import Services, Settings
from ftpcluster.users import AbstractUserManager, MemoryUserManager, Permission, User

if TYPE_CHECKING:
    from ftpcluster.server import Server

_THREADS = 16
_STRICTER_WINS = ("require_tls_data", "require_session_reuse", "strict_tls_eof")
_OURS = ("masquerade", "masquerade_for", "require_tls")
"""Settings that flags decide, whatever class serves."""


def make_services(
    loop: asyncio.AbstractEventLoop, worker: WorkerConfig, quotas: Quotas
) -> Services:
    """Raises ConfigError where a class or factory of the user's cannot be used."""
    config = worker.config
    users = _user_manager(config)
    settings = _settings(config)
    server = None
    if config.server is not None:
        server = _server(config, config.server, users)
        users, settings = server.user_manager, _with_their_settings(settings, server.settings)
    common: dict[str, Any] = {
        "loop": loop,
        "poller": Poller(loop),
        "settings": settings,
        "users": users,
        "quotas": quotas,
        "ports": PassivePorts(loop, worker.data_ports),
        "pool": ThreadPoolExecutor(_THREADS, "ftpcluster-files"),
    }
    if config.tls is not None and worker.certificates is not None:
        common["tls"] = Contexts(
            ContextMaker(worker.certificates, minimum_version=config.tls.minimum_version),
            one_each=settings.require_session_reuse,
            strict_eof=settings.strict_tls_eof,
        )
    return Services(**common) if server is None else server.make_services(**common)


def _settings(config: Config) -> Settings:
    return Settings(
        login_timeout=config.timeouts.login,
        idle_timeout=config.timeouts.idle,
        data_timeout=config.timeouts.data,
        stalled_timeout=config.timeouts.stalled,
        masquerade=config.masquerade,
        masquerade_for=config.masquerade_for,
        require_tls=config.tls is not None and config.tls.required,
        require_tls_data=config.tls is not None and config.tls.required_data,
        require_session_reuse=config.tls is not None and config.tls.require_session_reuse,
        strict_tls_eof=config.tls is not None and config.tls.strict_eof,
    )


def _with_their_settings(ours: Settings, theirs: Settings) -> Settings:
    """What the user's ``Server`` sets wins over the cluster's defaults."""
    changed = {
        field.name: getattr(theirs, field.name)
        for field in dataclasses.fields(Settings)
        if getattr(theirs, field.name) is not None and field.name not in _OURS
    }
    for name in _STRICTER_WINS:
        changed[name] = getattr(ours, name) or getattr(theirs, name)
    return dataclasses.replace(ours, **changed)


def _user_manager(config: Config) -> AbstractUserManager:
    if config.user_manager is None:
        return MemoryUserManager([make_user(user) for user in config.users])
    factory = _load("--user-manager", config.user_manager)
    manager = _call("--user-manager", config.user_manager, factory)
    if not isinstance(manager, AbstractUserManager):
        raise ConfigError(
            f"--user-manager {config.user_manager}: expected a factory of an "
            f"AbstractUserManager, got {type(manager).__name__}"
        )
    return manager


def _server(config: Config, name: str, users: AbstractUserManager) -> Server:
    """The user's ``Server``, who gets the users of the flags if it takes any."""
    from ftpcluster.server import Server

    factory = _load("--server", name)
    try:
        inspect.signature(factory).bind(users)
    except (TypeError, ValueError):
        server = _call("--server", name, factory)
    else:
        server = _call("--server", name, factory, users)
    if not isinstance(server, Server):
        raise ConfigError(
            f"--server {name}: expected a subclass of ftpcluster.Server, "
            f"got {type(server).__name__}"
        )
    if server.throttle.is_limited or server.ledger.limits != ConnectionLimits():
        raise ConfigError(
            f"--server {name}: each worker would have limits of its own; what holds for the whole "
            "server belongs in flags (--max-connections, --download-limit, --upload-limit)"
        )
    layer = server.path_io_factory(timeout=None, connection=None, state=None)
    if layer.state is not None and config.workers > 1:
        raise ConfigError(
            f"--server {name}: the files of {type(layer).__name__} live in one process, and "
            f"{config.workers} workers would each have their own; use --workers 1"
        )
    return server


def _load(flag: str, name: str) -> Callable[..., Any]:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ConfigError(f"{flag} {name}: expected package.module:name")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{flag} {name}: cannot be imported: {error}") from error
    except Exception as error:
        raise ConfigError(f"{flag} {name}: its import failed: {error!r}") from error
    if not callable(found):
        raise ConfigError(f"{flag} {name}: expected a class or a function")
    result: Callable[..., Any] = found
    return result


def _call(flag: str, name: str, factory: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return factory(*arguments)
    except Exception as error:
        raise ConfigError(f"{flag} {name}: calling it failed: {error!r}") from error


def make_user(user: UserConfig) -> User:
    return User(
        user.login,
        user.password,
        base_path=user.root,
        home_path=user.home,
        permissions=[
            Permission(each.path, readable=each.read, writable=each.write)
            for each in user.permissions
        ],
        maximum_connections=user.connections,
        read_speed_limit=user.upload,
        write_speed_limit=user.download,
    )
