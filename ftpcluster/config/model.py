"""What a server is told, as the file has it: frozen structs, one for each table."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from ftpcluster.config.leaves import (
    Addresses,
    AddressPort,
    Age,
    Announced,
    Count,
    Duration,
    Failures,
    File,
    Folder,
    Grace,
    Line,
    Login,
    Memory,
    NamePattern,
    Network,
    NetworkList,
    ObjectName,
    Password,
    Port,
    PortRange,
    RunAs,
    Size,
    Speed,
    Threads,
    Umask,
    VirtualPath,
    Workers,
)
from ftpcluster.protocol.protection import Protection

Loop = Literal["uvloop", "asyncio"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]


LOOPBACK = ("127.0.0.0/8", "::1/128")

ANONYMOUS = "anonymous"
"""The table, and the login, of those who have no account."""


class ConfigError(Exception):
    """Settings are wrong. Each of its ``lines`` says where, what was expected, and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.lines = lines

    def __str__(self) -> str:
        return "; ".join(self.lines)


def available_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def default_port() -> int:
    """FTP's own port for those who may use it."""
    return 21 if os.geteuid() == 0 else 2121


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all tables. A field that has no default has to be given."""


class PermissionConfig(Table, frozen=True, kw_only=True):
    """What a user may do at a path and beneath it; nothing that is not said here."""

    path: VirtualPath
    read: bool = True
    write: bool = False


EVERYTHING = (PermissionConfig(path="/", write=True),)
READ_ONLY = (PermissionConfig(path="/"),)


class Account(Table, frozen=True, kw_only=True):
    """What users and anonymous ones have in common. Speeds are those of all sessions together."""

    root: Folder
    home: VirtualPath = "/"
    connections: Count | None = None
    download: Speed | None = None
    upload: Speed | None = None
    download_per_connection: Speed | None = None
    upload_per_connection: Speed | None = None
    permissions: tuple[PermissionConfig, ...] = EVERYTHING


class UserConfig(Account, frozen=True, kw_only=True):
    """One account."""

    login: Login
    password: Password

    def __repr__(self) -> str:
        return f"UserConfig(login={self.login!r}, root={self.root!r})"


class AnonymousConfig(Account, frozen=True, kw_only=True):
    """Whoever logs in as "anonymous" or "ftp", with any password."""

    permissions: tuple[PermissionConfig, ...] = READ_ONLY


class Listen(Table, frozen=True, kw_only=True):
    """Addresses to listen on (none: all of them), and how connections to them begin."""

    address: Addresses = ()
    port: Port = msgspec.field(default_factory=default_port)
    tls: Protection = Protection.EXPLICIT
    proxy_protocol: tuple[Network, ...] | None = None


class TLSConfig(Table, frozen=True, kw_only=True):
    """Certificate and key, as PEM files. Without ``key`` it is in the certificate's file."""

    certificate: File
    key: File | None = None
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    required: bool = False
    required_data: bool = False
    require_session_reuse: bool = False
    strict_eof: bool = False
    client_ca: File | None = None

    @property
    def key_file(self) -> str:
        return self.key or self.certificate

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(filter(None, (self.certificate, self.key, self.client_ca)))


class Data(Table, frozen=True, kw_only=True):
    """Data connections. ``ports``: the first and the last."""

    ports: PortRange | None = None
    masquerade: Announced | None = None
    masquerade_for: dict[Network, Announced] = {}
    active: bool = True


class Limits(Table, frozen=True, kw_only=True):
    """Limits of the whole server: connections, and bytes per second. None is no limit.

    ``digest_size`` None: that of the ``server`` class, else the sessions' default.
    """

    connections: Count | None = None
    connections_per_address: Count | None = None
    connections_not_logged_in: Count | None = None
    download: Speed | None = None
    upload: Speed | None = None
    download_per_connection: Speed | None = None
    upload_per_connection: Speed | None = None
    digest_size: Size | None = None


class Timeouts(Table, frozen=True, kw_only=True):
    """Deadlines in seconds. None: that of the ``server`` class, else the sessions' default.

    ``drain`` None: as ``shutdown``.
    """

    login: Duration | None = None
    idle: Duration | None = None
    data: Duration | None = None
    stalled: Duration | None = None
    shutdown: Grace = 30
    drain: Grace | None = None
    worker: Duration = 30


class StorageConfig(Table, frozen=True, kw_only=True):
    """Files. None: as the ``server`` class has it, else the sessions' default."""

    durable_uploads: bool | None = None
    atomic_uploads: bool | None = None
    hide: tuple[NamePattern, ...] | None = None
    forbid: tuple[NamePattern, ...] | None = None
    rename_replaces: bool | None = None
    umask: Umask | None = None
    threads: Threads = 16


class Ban(Table, frozen=True, kw_only=True):
    """An address with ``failures`` failed logins within ``window`` s is banned for ``duration`` s.

    Never one of ``allow``.
    """

    failures: Failures = 10
    window: Duration = 600
    duration: Duration = 1800
    allow: NetworkList = LOOPBACK


class Log(Table, frozen=True, kw_only=True):
    """What is logged, how and where. ``file`` None: stderr; ``transfers`` None: nowhere."""

    level: LogLevel = "info"
    format: LogFormat = "text"
    file: File | None = None
    transfers: File | None = None


class Recycle(Table, frozen=True, kw_only=True):
    """When a worker is replaced that does its work: bytes of memory, and seconds of life."""

    memory: Memory | None = None
    age: Age | None = None


class Admin(Table, frozen=True, kw_only=True):
    """The socket of ``who``, ``kick`` and so on. None: in the runtime folder."""

    enabled: bool = True
    socket: File | None = None


class MetricsConfig(Table, frozen=True, kw_only=True):
    """Where metrics are told, and how it is; None is nowhere."""

    listen: AddressPort | None = None


class Config(Table, frozen=True, kw_only=True):
    """A whole server."""

    workers: Workers = msgspec.field(default_factory=available_cores)
    loop: Loop = "uvloop"
    run_as: RunAs | None = None
    confine: bool = True
    server: ObjectName | None = None
    user_manager: ObjectName | None = None
    welcome: Line | None = None
    listen: tuple[Listen, ...] = msgspec.field(default_factory=lambda: (Listen(),))
    tls: TLSConfig | None = None
    data: Data = Data()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    storage: StorageConfig = StorageConfig()
    recycle: Recycle = Recycle()
    ban: Ban = Ban()
    admin: Admin = Admin()
    metrics: MetricsConfig = MetricsConfig()
    log: Log = Log()
    users: tuple[UserConfig, ...] = msgspec.field(name="user", default=())
    anonymous: AnonymousConfig | None = None


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
        ports = self.config.data.ports
        if ports is None:
            return None
        return range(ports[0] + self.index, ports[1] + 1, self.config.workers)
