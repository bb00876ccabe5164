"""A whole configuration: the settings above all tables, and the part of it that a worker gets."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec

from ftpcluster.config.accounts import (
    AnonymousConfig,
    BrokenUser,
    GroupConfig,
    UserConfig,
    UserDefaults,
)
from ftpcluster.config.banning import BanConfig
from ftpcluster.config.confine_allow import ConfineAllow
from ftpcluster.config.kinds import Directory, Line, ObjectName, Pattern, RunAs, Workers
from ftpcluster.config.network import Data, Listen, TLSConfig
from ftpcluster.config.setting import COMPUTED, Keyword, Setting, Table
from ftpcluster.config.tables import (
    Admin,
    Limits,
    Log,
    MetricsConfig,
    Recycle,
    StorageConfig,
    Timeouts,
)

Loop = Literal["uvloop", "asyncio"]


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


class Config(Table, frozen=True, kw_only=True):
    """A whole server."""

    workers: Annotated[
        Workers,
        Setting(
            "processes that run sessions",
            otherwise="the cores that may be used",
            example="4",
            flag="--workers N",
        ),
    ] = msgspec.field(default_factory=available_cores)
    loop: Annotated[Loop, Setting("the event loop", flag="--loop uvloop|asyncio")] = "uvloop"
    run_as: Annotated[
        RunAs | None,
        Setting(
            "the user who serves, if the server is started as root",
            ": after binding, supervisor and workers become that user, and stay it",
            otherwise="the user who starts it",
            example='"ftp:ftp"',
            flag="--run-as USER[:GROUP]",
        ),
    ] = None
    confine: Annotated[
        bool,
        Setting(
            "workers can open the accounts' directories only, and do little else",
            ": no other files but what Python needs (Landlock), no system calls that sessions do "
            "not need (seccomp), and no rights of root's but to serve files of any owner and to "
            "use ports below 1024. `[confine_allow]` names what `server` and `user_manager` need",
        ),
    ] = True
    server: Annotated[
        ObjectName | None,
        Setting(
            "a subclass of `ftpcluster.Server`, in every worker",
            "; settings of the file win over the class's, but of two about TLS the stricter "
            "one wins. It gets the configured users if it takes any",
            otherwise="ftpcluster's",
            example='"mine:Server"',
            flag="--server MODULE:CLASS",
        ),
    ] = None
    strict_users: Annotated[
        bool,
        Setting(
            "accounts that cannot be served are an error",
            "; else there is a warning, their users cannot log in (530), and all others can. Where "
            "no account is left it is an error, too, unless `users` is set",
        ),
    ] = False
    user_manager: Annotated[
        ObjectName | None,
        Setting(
            "a function that makes the user manager, in every worker; then there are no other "
            "accounts",
            otherwise="the configured accounts",
            example='"mine:factory"',
            flag="--user-manager MODULE:FACTORY",
        ),
    ] = None
    user_files: Annotated[
        Pattern | None,
        Setting(
            "files with further `[[user]]` tables",
            "; nothing else may stand in them. `ftpcluster user` edits those in this directory",
            otherwise="none",
            example='"users.d/*.toml"',
        ),
    ] = msgspec.field(name="users", default=None)
    roots: Annotated[
        tuple[Directory, ...],
        Setting(
            "directories beneath which the accounts' directories lie",
            ": workers may open them, also for users who are added later without a reload",
            otherwise="the accounts' directories, and of a `root` with `{login}` in a group or in "
            "`[user_defaults]` the part before that",
            example='["/srv/ftp", "/home"]',
        ),
    ] = ()
    welcome: Annotated[
        Line | None,
        Setting(
            "the greeting, one line",
            "; with `server` the default is that of the class: `welcome`, if it sets none",
            session="welcome_message",
            fallback="ftpcluster ready.",
            keyword=Keyword("welcome_message", "str", default="welcome"),
        ),
    ] = None
    confine_allow: ConfineAllow = ConfineAllow()
    listen: tuple[Listen, ...] = msgspec.field(default_factory=lambda: (Listen(),))
    tls: TLSConfig | None = None
    data: Data = Data()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    storage: StorageConfig = StorageConfig()
    recycle: Recycle = Recycle()
    ban: BanConfig = BanConfig()
    admin: Admin = Admin()
    metrics: MetricsConfig = MetricsConfig()
    log: Log = Log()
    users: tuple[UserConfig, ...] = msgspec.field(name="user", default=())
    user_defaults: UserDefaults | None = None
    groups: tuple[GroupConfig, ...] = msgspec.field(name="group", default=())
    anonymous: AnonymousConfig | None = None
    broken_users: Annotated[tuple[BrokenUser, ...], COMPUTED] = ()
    open_beneath: Annotated[tuple[str, ...], COMPUTED] = ()
    """The directories that workers may open with all that is beneath them, whoever has them."""


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker gets. ``index`` counts from 0 and survives the worker's replacement.

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
