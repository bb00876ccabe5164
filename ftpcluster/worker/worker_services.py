"""What a worker's sessions share, made from the worker's configuration."""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ftpcluster.config import (
    Config,
    ConfigError,
    TLSConfig,
    WorkerConfig,
)
from ftpcluster.config.sessions import keepalive_of, session_defaults, session_settings
from ftpcluster.logfile import LogFile
from ftpcluster.net.active import why_no_source_port
from ftpcluster.net.certificates import ContextMaker, Contexts
from ftpcluster.net.passive import PassivePorts
from ftpcluster.net.poller import Poller
from ftpcluster.quota.quotas import Quotas
from ftpcluster.quota.rates import Rates
from ftpcluster.runtime import leave_aborts_to_the_main_thread
from ftpcluster.session.services import Services, Settings
from ftpcluster.storage.mounts import MountTable
from ftpcluster.users import AbstractUserManager
from ftpcluster.worker import custom_classes
from ftpcluster.worker.configured_users import accounts_of

_STRICTER_WINS = ("require_tls", "require_tls_data", "require_session_reuse", "strict_tls_eof")


def make_services(
    loop: asyncio.AbstractEventLoop,
    worker: WorkerConfig,
    quotas: Quotas,
    transfers: LogFile | None = None,
    mounts: MountTable | None = None,
) -> Services:
    """``transfers``: the log of transfers. ``mounts``: opened before the process was confined.

    Raises ConfigError where a class or factory of the user's cannot be used.
    """
    config = worker.config
    users = _users(config)
    given = session_settings(config)
    settings = Settings(**{**session_defaults(), **given})
    each = Rates(
        upload=config.limits.upload_per_connection,
        download=config.limits.download_per_connection,
    )
    server = None
    if config.server is not None:
        server = custom_classes.server(config, config.server, users)
        users, settings = server.user_manager, _with_settings_of_class(given, server.settings)
        of_class = server.throttle_per_connection.rates()
        each = Rates(
            upload=each.upload or of_class.upload, download=each.download or of_class.download
        )
    _check_active_port(settings)
    common: dict[str, Any] = {
        "loop": loop,
        "poller": Poller(loop),
        "settings": settings,
        "users": users,
        "quotas": quotas,
        "ports": PassivePorts(loop, worker.data_ports, settings.keepalive),
        **_threads(config.storage.threads),
        "rates_per_connection": lambda: each,
        "transfers": transfers,
        "sets_keepalive": settings.keepalive != keepalive_of(config),
        "mounts": mounts,
    }
    if config.tls is not None and worker.certificates is not None:
        common["tls"] = _contexts(worker.certificates, config.tls, settings)
    return Services(**common) if server is None else server.make_services(**common)


def _threads(count: int) -> dict[str, Any]:
    """Threads for file operations that may block: a pool for all users, and how many for each
    device that may not answer."""
    pool = ThreadPoolExecutor(count, "ftpcluster-files", leave_aborts_to_the_main_thread)
    return {"pool": pool, "file_threads": count}


def _check_active_port(settings: Settings) -> None:
    """Raises ConfigError where this process may not use ``data.active_port``."""
    if not settings.active or settings.active_port is None:
        return
    why = why_no_source_port(settings.active_port)
    if why is not None:
        raise ConfigError(f"data.active_port: {why}")


def _contexts(certificates: tuple[bytes, ...], tls: TLSConfig, settings: Settings) -> Contexts:
    maker = ContextMaker(
        certificates,
        minimum_version=tls.minimum_version,
        shares_authorities=settings.require_session_reuse,
    )
    return Contexts(
        maker, one_each=settings.require_session_reuse, strict_eof=settings.strict_tls_eof
    )


def _with_settings_of_class(given: dict[str, Any], of_class: Settings) -> Settings:
    """The settings of a custom ``Server`` hold where the configuration sets none."""
    settings = {
        field.name: getattr(of_class, field.name)
        for field in dataclasses.fields(Settings)
        if getattr(of_class, field.name) is not None
    }
    stricter = {name: given[name] or getattr(of_class, name) for name in _STRICTER_WINS}
    stricter["forbid"] = (*given.get("forbid", ()), *of_class.forbid)
    return Settings(**{**session_defaults(), **settings, **given, **stricter})


def _users(config: Config) -> AbstractUserManager:
    if config.user_manager is None:
        return accounts_of(config)
    return custom_classes.user_manager(config.user_manager)
