"""The tables of the file about limits, files, bans, logs and so on, with their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from ftpcluster.config.kinds import (
    AddressPort,
    Age,
    Count,
    Duration,
    File,
    Frequency,
    Grace,
    Memory,
    NamePattern,
    Size,
    Speed,
    Threads,
    Umask,
)
from ftpcluster.config.setting import NO_LIMIT, Keyword, Setting, Table

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_NUMBER = "int | None"
_SECONDS = "float | None"


class Limits(Table, frozen=True, kw_only=True):
    """Limits of the whole server, exact over all workers."""

    connections: Annotated[
        Count | None,
        Setting(
            "connections of the whole server; one more gets 421",
            otherwise=NO_LIMIT,
            example="2000",
            is_set=True,
            flag="--max-connections N",
            keyword=Keyword("maximum_connections", _NUMBER),
        ),
    ] = None
    connections_per_address: Annotated[
        Count | None,
        Setting(
            "connections of each client address; one more gets 421",
            otherwise=NO_LIMIT,
            example="50",
            is_set=True,
            flag="--max-connections-per-address N",
            keyword=Keyword("maximum_connections_per_address", _NUMBER),
        ),
    ] = None
    connections_not_logged_in: Annotated[
        Count | None,
        Setting(
            "connections that have not logged in yet; one more gets 421",
            otherwise=NO_LIMIT,
            example="200",
        ),
    ] = None
    new_connections_per_address: Annotated[
        Frequency | None,
        Setting(
            "new connections of each client address (IPv6: of a /64) in a time; one more gets 421",
            '. `"60/m"`: 60 at once, and then one a second. Networks of `ban.allow`, by default'
            " loopback, have no such limit",
            otherwise=NO_LIMIT,
            example='"60/m"',
            keyword=Keyword("new_connections_per_address", "str | None"),
        ),
    ] = None
    download: Annotated[
        Speed | None,
        Setting(
            "the speed of all downloads together",
            otherwise=NO_LIMIT,
            example='"1GB"',
            flag="--download-limit SPEED",
            keyword=Keyword("write_speed_limit", _NUMBER),
        ),
    ] = None
    upload: Annotated[
        Speed | None,
        Setting(
            "the speed of all uploads together",
            otherwise=NO_LIMIT,
            example='"1GB"',
            flag="--upload-limit SPEED",
            keyword=Keyword("read_speed_limit", _NUMBER),
        ),
    ] = None
    download_per_connection: Annotated[
        Speed | None,
        Setting(
            "the speed of each connection's downloads",
            otherwise=NO_LIMIT,
            example='"50MB"',
            keyword=Keyword("write_speed_limit_per_connection", _NUMBER),
        ),
    ] = None
    upload_per_connection: Annotated[
        Speed | None,
        Setting(
            "the speed of each connection's uploads",
            otherwise=NO_LIMIT,
            example='"50MB"',
            keyword=Keyword("read_speed_limit_per_connection", _NUMBER),
        ),
    ] = None
    digest_size: Annotated[
        Size | None,
        Setting(
            "the most bytes of a file that HASH, XCRC, XMD5, XSHA1 and XSHA256 read",
            "; for more the reply is 550, unless a range is given. In each worker, one digest of a "
            "user is computed at a time",
            session="max_digest",
            fallback=4 << 30,
        ),
    ] = None


class Timeouts(Table, frozen=True, kw_only=True):
    """Deadlines."""

    login: Annotated[
        Duration | None,
        Setting(
            "from the greeting to the login",
            is_set=True,
            session="login_timeout",
            fallback=30,
            keyword=Keyword("login_timeout", _SECONDS),
        ),
    ] = None
    idle: Annotated[
        Duration | None,
        Setting(
            "without a command, and without a transfer",
            is_set=True,
            session="idle_timeout",
            fallback=300,
            keyword=Keyword("idle_timeout", _SECONDS),
        ),
    ] = None
    data: Annotated[
        Duration | None,
        Setting(
            "for the data connection to be there",
            session="data_timeout",
            fallback=30,
            keyword=Keyword("data_timeout", "float", default=30.0),
        ),
    ] = None
    stalled: Annotated[
        Duration | None,
        Setting(
            "a transfer without progress, replies that are not read",
            "; also of a client that has closed the control connection",
            session="stalled_timeout",
            fallback=120,
            keyword=Keyword("socket_timeout", _SECONDS),
        ),
    ] = None
    storage: Annotated[
        Duration | None,
        Setting(
            "a file operation on storage that may not answer, such as NFS or FUSE",
            ": then the reply is 451, and the session goes on. The end of an upload has ten"
            " times as long",
            session="storage_timeout",
            fallback=20,
            keyword=Keyword("storage_timeout", "float", default=20.0),
        ),
    ] = None
    shutdown: Annotated[Grace, Setting("for transfers, when the server stops")] = 30
    drain: Annotated[
        Grace | None,
        Setting(
            "for the sessions of replaced workers, after a reload for instance",
            ": then idle sessions get 421, and transfers are cut",
            otherwise="as `shutdown`",
            example='"30s"',
        ),
    ] = None
    keepalive: Annotated[
        Grace | None,
        Setting(
            "a connection that is silent, control or data: TCP asks whether the client is there",
            ", so that routers and load balancers do not forget it; `0`: never",
            session="keepalive",
            fallback=60,
            keyword=Keyword("keepalive", _SECONDS, default=60.0),
        ),
    ] = None
    worker: Annotated[
        Duration, Setting("a worker that does not answer", "; to start it has 15 s at least")
    ] = 30


class StorageConfig(Table, frozen=True, kw_only=True):
    """Files."""

    durable_uploads: Annotated[
        bool | None,
        Setting(
            "the 226 of an upload says that the disk has the file and its name",
            " (fsync of both): a crash of the machine does not lose them",
            session="durable_uploads",
            fallback=False,
            keyword=Keyword("durable_uploads", "bool", default=False),
        ),
    ] = None
    atomic_uploads: Annotated[
        bool | None,
        Setting(
            "an uploaded file gets its name, and replaces another one, only when it is complete",
            ": see below",
            session="atomic_uploads",
            fallback=False,
            keyword=Keyword("atomic_uploads", "bool", default=False),
        ),
    ] = None
    hide: Annotated[
        tuple[NamePattern, ...] | None,
        Setting(
            "names that listings do not show",
            "; a client that knows one may use it",
            otherwise="none",
            example='[".*", "*.tmp"]',
            session="hide",
            fallback=(),
            keyword=Keyword("hide", "Iterable[str]", default=()),
        ),
    ] = None
    forbid: Annotated[
        tuple[NamePattern, ...] | None,
        Setting(
            "names that nobody may use, in any place of a path",
            ": 550, or 553 where something would be written. What a `server` class forbids is "
            "forbidden, too",
            otherwise="none",
            example='[".ftpaccess", "*.php"]',
            session="forbid",
            fallback=(),
            keyword=Keyword("forbid", "Iterable[str]", default=()),
        ),
    ] = None
    rename_replaces: Annotated[
        bool | None,
        Setting(
            "whether RNTO may replace a file",
            "; if not, that is 550",
            is_set=True,
            session="rename_replaces",
            fallback=True,
            keyword=Keyword("rename_replaces", "bool", default=False),
        ),
    ] = None
    umask: Annotated[
        Umask | None,
        Setting(
            "the permissions that new files and directories do not get",
            ", of 666 and 777",
            otherwise="that of the process",
            example='"022"',
        ),
    ] = None
    threads: Annotated[
        Threads,
        Setting(
            "threads of each worker for file operations that may block",
            "; as many again for each device that may not answer, such as NFS or FUSE, and of these"
            " four for each user's directory",
        ),
    ] = 16


class Recycle(Table, frozen=True, kw_only=True):
    """When a worker is replaced although it works."""

    memory: Annotated[
        Memory | None,
        Setting(
            "resident memory of a worker",
            " (30 MB when it starts); looked at from its second minute on",
            otherwise="never",
            example='"500MB"',
        ),
    ] = None
    age: Annotated[
        Age | None, Setting("how long a worker lives", otherwise="never", example='"24h"')
    ] = None


class Admin(Table, frozen=True, kw_only=True):
    """The socket of `ftpcluster who`, `kick`, `limit`, `drain`, `reload` and so on."""

    enabled: Annotated[bool, Setting("whether there is one")] = True
    socket: Annotated[
        File | None,
        Setting(
            "where it is",
            ": `$RUNTIME_DIRECTORY` (systemd), for root `/run/ftpcluster`, else "
            "`$XDG_RUNTIME_DIR/ftpcluster`; where none of them is there, or another server has it, "
            "there is none",
            otherwise="`admin.sock` in the runtime directory",
            example='"/run/ftpcluster/admin.sock"',
        ),
    ] = None


class MetricsConfig(Table, frozen=True, kw_only=True):
    """For Prometheus; it takes the package prometheus-client."""

    listen: Annotated[
        AddressPort | None,
        Setting(
            "where `/metrics`, `/healthz` and `/readyz` are, over HTTP",
            "; an IPv6 address stands in brackets",
            otherwise="nowhere",
            example='"127.0.0.1:9121"',
            flag="--metrics ADDR:PORT",
        ),
    ] = None


class Log(Table, frozen=True, kw_only=True):
    """What is logged, how and where."""

    level: Annotated[LogLevel, Setting("what is logged", is_set=True, flag="--log-level L")] = (
        "info"
    )
    format: Annotated[
        LogFormat,
        Setting(
            "lines of text, or JSON objects, one a line",
            ", see below",
            flag="--log-format text|json",
        ),
    ] = "text"
    file: Annotated[
        File | None,
        Setting(
            "the file that all processes log to; SIGUSR1 opens it again",
            "; it is made if there is none",
            otherwise="stderr",
            example='"/var/log/ftpcluster.log"',
            flag="--log-file FILE",
        ),
    ] = None
    transfers: Annotated[
        File | None,
        Setting(
            "a line for each file that is sent or received, as wu-ftpd writes it",
            " (`man xferlog`)",
            otherwise="none is kept",
            example='"/var/log/xferlog"',
        ),
    ] = None
