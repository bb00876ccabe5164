"""A ``Server``'s arguments: checked, and turned into the parts that sessions need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ftpcluster import arguments
from ftpcluster.compat.pathio import AbstractPathIO
from ftpcluster.net.certificates import Contexts
from ftpcluster.net.passive import PassivePorts
from ftpcluster.protocol.address import Networks
from ftpcluster.quota.bans import BanRules
from ftpcluster.quota.bucket import Throttle
from ftpcluster.quota.ledger import ConnectionLimits, Ledger
from ftpcluster.session.services import Settings
from ftpcluster.users import AbstractUserManager, MemoryUserManager, User

_REPLY = "a command replies with connection.response(code, lines)"
_COMMANDS = "commands are looked up in commands_mapping; override a verb's own method"
_FACTS = "facts of MLSD and MLST are made of what the path layer's stat gives"
NEVER_CALLED = {
    "dispatcher": _COMMANDS,
    "parse_command": _COMMANDS,
    "greeting": "welcome_message is what clients are greeted with",
    "write_line": _REPLY,
    "write_response": _REPLY,
    "response_writer": _REPLY,
    "build_mlsx_string": _FACTS,
    "_build_mlsx_facts_from_stats": _FACTS,
    "_format_mlsx_time": _FACTS,
    "_start_passive_server": "data_ports and masquerade_for say where passive connections go",
}
"""Methods of the reference's server that this one never calls, and the replacement for each."""

_NUMBERS = (
    "block_size",
    "socket_timeout",
    "idle_timeout",
    "wait_future_timeout",
    "path_timeout",
    "data_timeout",
    "login_timeout",
    "login_delay",
    "maximum_connections",
    "maximum_connections_per_address",
    "read_speed_limit",
    "write_speed_limit",
    "read_speed_limit_per_connection",
    "write_speed_limit_per_connection",
)
_AS_THEY_ARE = (
    *("welcome_message", "system_type", "encoding", "login_timeout", "idle_timeout"),
    *("data_timeout", "login_delay", "rename_replaces", "durable_uploads", "atomic_uploads"),
    *("require_tls", "require_tls_data", "require_session_reuse", "strict_tls_eof"),
)


def make_settings(given: Any) -> Settings:
    """The settings of sessions. Raises ValueError, as all here do, or TypeError."""
    arguments.check_encoding(given.encoding)
    arguments.check_lines(welcome_message=given.welcome_message, system_type=given.system_type)
    arguments.check_numbers(**{name: getattr(given, name) for name in _NUMBERS})
    return Settings(
        **{name: getattr(given, name) for name in _AS_THEY_ARE},
        stalled_timeout=given.socket_timeout,
        masquerade=given.ipv4_pasv_forced_response_address or None,
        masquerade_for=dict(given.masquerade_for or {}),
        hide=arguments.patterns("hide", given.hide),
        forbid=arguments.patterns("forbid", given.forbid),
    )


def _users(given: Any) -> AbstractUserManager:
    users = given.users
    if isinstance(users, AbstractUserManager) or users is None:
        return users or MemoryUserManager()
    listed = () if isinstance(users, User | str) else tuple(users)
    if not all(isinstance(each, User) for each in listed) or isinstance(users, User | str):
        raise TypeError(f"users: expected a list of User objects or a user manager, got {users!r}")
    return MemoryUserManager(listed)


def _contexts(given: Any) -> Contexts | None:
    for name in ("ssl", "tls"):
        source = getattr(given, name)
        if source is not None and not (callable(source) or hasattr(source, "wrap_socket")):
            raise TypeError(f"{name}: expected an ssl.SSLContext or a function, got {source!r}")
    source = given.ssl or given.tls
    if source is None:
        return None
    return Contexts(source, one_each=given.require_session_reuse, strict_eof=given.strict_tls_eof)


def _bans(given: Any) -> BanRules | None:
    if given.ban_failures is None:
        return None
    return BanRules(
        failures=given.ban_failures,
        window=given.ban_window,
        duration=given.ban_duration,
        allow=Networks(given.ban_allow),
    )


def _ports(given: Any) -> PassivePorts:
    return PassivePorts(None, arguments.ports(given.data_ports))


def _layer(given: Any) -> Callable[..., AbstractPathIO[Any]]:
    factory: Any = given.path_io_factory
    if not callable(factory):
        raise TypeError(
            f"path_io_factory: expected a class such as ftpcluster.PathIO, got {factory!r}"
        )
    made: Callable[..., AbstractPathIO[Any]] = factory
    return made


def _ledger(given: Any) -> Ledger:
    limits = given.maximum_connections, given.maximum_connections_per_address
    return Ledger(ConnectionLimits(*limits))


def _throttle(given: Any) -> Throttle:
    return Throttle(given.read_speed_limit, given.write_speed_limit)


def _throttle_per_connection(given: Any) -> Throttle:
    limits = given.read_speed_limit_per_connection, given.write_speed_limit_per_connection
    return Throttle(*limits)


MADE: tuple[tuple[frozenset[str], str, Callable[[Any], Any]], ...] = (
    (frozenset({"users"}), "user_manager", _users),
    (frozenset({"path_io_factory"}), "_layer_factory", _layer),
    (
        frozenset({"ssl", "tls", "require_session_reuse", "strict_tls_eof"}),
        "_contexts",
        _contexts,
    ),
    (frozenset({"ban_failures", "ban_window", "ban_duration", "ban_allow"}), "bans", _bans),
    (
        frozenset({"proxy_protocol"}),
        "_proxies",
        lambda given: None if given.proxy_protocol is None else Networks(given.proxy_protocol),
    ),
    (frozenset({"data_ports"}), "_ports", _ports),
    (
        frozenset({"maximum_connections", "maximum_connections_per_address"}),
        "ledger",
        _ledger,
    ),
    (frozenset({"read_speed_limit", "write_speed_limit"}), "throttle", _throttle),
    (
        frozenset({"read_speed_limit_per_connection", "write_speed_limit_per_connection"}),
        "throttle_per_connection",
        _throttle_per_connection,
    ),
)
"""For each attribute of a server: the arguments that it is made of, its name, and its maker."""

PARTS = ("settings", *(attribute for _, attribute, _ in MADE))
"""The attributes of a server that are made of its arguments."""
