"""What a server is told: frozen structs, validated once, by whoever makes them (the CLI)."""

from __future__ import annotations

import os
import re
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
    download: int | None = None
    upload: int | None = None
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
    drain: float | None = None
    worker: float = 30.0


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the whole server: connections, and bytes per second. None is no limit."""

    connections: int | None = None
    connections_per_address: int | None = None
    connections_not_logged_in: int | None = None
    download: int | None = None
    upload: int | None = None


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
    limits: Limits = Limits()
    tls: TLSConfig | None = None
    server: str | None = None
    user_manager: str | None = None
    run_as: str | None = None
    loop: Loop = "uvloop"
    log_level: LogLevel = "info"
    timeouts: Timeouts = Timeouts()


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker is told. ``index`` counts from 0 and survives the worker's replacement.

    ``certificates`` are the contents of the files of ``config.tls``, which a worker may be
    unable to read.
    """

    index: int
    config: Config
    certificates: tuple[bytes, ...] | None = None

    def __repr__(self) -> str:
        return f"WorkerConfig(index={self.index!r}, config={self.config!r})"

    @property
    def data_ports(self) -> range | None:
        """This worker's share of the data ports, so that workers never race for one."""
        ports = self.config.data_ports
        if ports is None:
            return None
        return range(ports[0] + self.index, ports[1] + 1, self.config.workers)


_SIZE = re.compile(r"(\d{1,15})(?:\.(\d{1,3}))? ?(|[kKMGT]i?)B?", re.ASCII)


def parse_size(text: str) -> int:
    """Bytes: "10MB" are 10⁷, "10MiB" 10 · 2²⁰, "1.5GB" 1.5 · 10⁹. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    whole, fraction, unit = match.groups()
    base = 1024 if unit.endswith("i") else 1000
    factor = base ** " kMGT".index(unit[0].replace("K", "k")) if unit else 1
    size = int(whole) * factor + (int(fraction) * factor // 10 ** len(fraction) if fraction else 0)
    if size < 1:
        raise ValueError(text)
    return size


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))
