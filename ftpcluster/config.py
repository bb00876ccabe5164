"""What a server is told: frozen structs, validated once, by whoever makes them (the CLI)."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

Loop = Literal["uvloop", "asyncio"]
LogLevel = Literal["debug", "info", "warning", "error"]


class ConfigError(Exception):
    """A setting is wrong; the message says which, what was expected and what to do."""


class PermissionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user may do at a path and beneath it."""

    path: str
    read: bool = True
    write: bool = True


class UserConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account. ``password=None`` accepts any password (anonymous)."""

    login: str
    password: str | None
    root: str
    home: str = "/"
    connections: int | None = None
    permissions: tuple[PermissionConfig, ...] = (PermissionConfig("/"),)

    def __repr__(self) -> str:
        return f"UserConfig(login={self.login!r}, root={self.root!r})"


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deadlines in seconds."""

    login: float = 30.0
    idle: float = 300.0
    data: float = 30.0
    stalled: float = 120.0
    shutdown: float = 30.0


class TLSConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Certificate and key, as PEM files."""

    certificate: str
    key: str
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    required: bool = False
    required_data: bool = False
    require_session_reuse: bool = False
    strict_eof: bool = False
    client_ca: str | None = None
    implicit_port: int | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole server."""

    workers: int
    users: tuple[UserConfig, ...]
    hosts: tuple[str, ...] = ()
    port: int = 2121
    data_ports: tuple[int, int] | None = None
    masquerade: str | None = None
    masquerade_for: dict[str, str] = {}
    proxy_protocol: tuple[str, ...] | None = None
    max_connections: int | None = None
    tls: TLSConfig | None = None
    server: str | None = None
    user_manager: str | None = None
    loop: Loop = "uvloop"
    log_level: LogLevel = "info"
    timeouts: Timeouts = Timeouts()


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker is told. ``index`` counts from 0 and survives the worker's replacement."""

    index: int
    config: Config

    @property
    def data_ports(self) -> range | None:
        """This worker's share of the data ports, so that workers never race for one."""
        ports = self.config.data_ports
        if ports is None:
            return None
        return range(ports[0] + self.index, ports[1] + 1, self.config.workers)


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))
