"""A ``Server``'s arguments: checked, and turned into the parts that sessions need."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import logging
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from ssl import PROTOCOL_TLS_CLIENT
from typing import Any, NamedTuple

from ftpcluster import arguments
from ftpcluster.compat.common import DEFAULT_BLOCK_SIZE
from ftpcluster.compat.local_pathio import PathIO
from ftpcluster.compat.pathio import AbstractPathIO
from ftpcluster.config import ANONYMOUS, Config
from ftpcluster.config.kinds import Announced, Frequency, NamePattern, SourcePort
from ftpcluster.config.sessions import session_defaults
from ftpcluster.config.setting import Keyword, Setting, every_key, kind_of
from ftpcluster.config.values import Unfit
from ftpcluster.net.certificates import Contexts
from ftpcluster.net.passive import PassivePorts
from ftpcluster.net.tls_sessions import NO_RENEWAL, can_renew
from ftpcluster.protocol.address import Networks
from ftpcluster.quota.arrivals import ArrivalRules
from ftpcluster.quota.bans import BanRules
from ftpcluster.quota.ledger import ConnectionLimits, Ledger
from ftpcluster.quota.rates import Rates
from ftpcluster.session.services import Settings
from ftpcluster.users import AbstractUserManager, MemoryUserManager, User

log = logging.getLogger("ftpcluster.server")

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
"""Methods of aioftp's server that this one never calls, and the replacement for each."""


class ServerKeyword(NamedTuple):
    """A keyword: its declaration, and the annotation of its key, if it has one."""

    setting: Setting
    annotation: Any = None

    @property
    def keyword(self) -> Keyword:
        assert self.setting.keyword is not None
        return self.setting.keyword


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Settings)}


def _alone(name: str, type_: str, help: str) -> ServerKeyword:
    """A keyword that is a field of ``Settings``, and no key."""
    keyword = Keyword(name, type_, default=_DEFAULTS[name])
    return ServerKeyword(Setting(help, session=name, keyword=keyword))


def _part(name: str, type_: str, help: str, default: Any = None) -> ServerKeyword:
    """A keyword that neither is a key nor a field of ``Settings``."""
    return ServerKeyword(Setting(help, keyword=Keyword(name, type_, default=default)))


_SECONDS = "float | None"
_OF_THE_LIBRARY = (
    _part("block_size", "int", "bytes that path layers are asked for", DEFAULT_BLOCK_SIZE),
    _part("wait_future_timeout", _SECONDS, "how long ConnectionConditions wait", 1),
    _part("path_timeout", _SECONDS, "how long operations of path layers take, where bounded"),
    _part("path_io_factory", "Callable[..., AbstractPathIO[Any]]", "the path layers", PathIO),
    _alone("encoding", "str", "that of names on the wire"),
    _part("ssl", "Source | None", "implicit TLS: a context, or a function that makes one"),
    _part("tls", "Source | None", "explicit TLS (AUTH TLS): a context, or a function"),
    _alone("system_type", "str", "the reply to SYST"),
    _alone("login_delay", "float", "before a failed login is answered"),
)


def every_keyword() -> Iterator[ServerKeyword]:
    """The library's own keywords, and those of keys."""
    yield from _OF_THE_LIBRARY
    for path, key in every_key(Config):
        if key.setting is not None and key.setting.keyword is not None and path[0] != ANONYMOUS:
            yield ServerKeyword(key.setting, key.annotation)


ARGUMENTS = {each.keyword.name: each for each in every_keyword()}
"""All keywords of a ``Server`` but ``users``, by their names."""


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """All keywords, with the defaults of those that are not given. Raises TypeError."""
    for name in given:
        if name not in ARGUMENTS:
            near = "".join(
                f"; did you mean {each!r}?"
                for each in difflib.get_close_matches(name, ARGUMENTS, 1)
            )
            raise TypeError(f"Server.__init__() got an unexpected keyword argument {name!r}{near}")
    defaults = {name: each.keyword.default for name, each in ARGUMENTS.items()}
    return {**defaults, **{name: kept(value) for name, value in given.items()}}


def kept(value: Any) -> Any:
    """A value as it is kept: all arguments are looked at again whenever one of them is set."""
    return tuple(value) if isinstance(value, Iterator) else value


def signature() -> inspect.Signature:
    """That of ``Server.__init__``, for ``help`` and editors."""
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    users = "Iterable[User] | AbstractUserManager | None"
    return inspect.Signature(
        [
            inspect.Parameter("self", positional),
            inspect.Parameter("users", positional, default=None, annotation=users),
            *(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=each.keyword.default,
                    annotation=each.keyword.type,
                )
                for name, each in ARGUMENTS.items()
            ),
        ],
        return_annotation="None",
    )


def described() -> str:
    """All keywords, a line each, for ``help``."""
    return "Keywords:\n\n" + "".join(
        f"{name}: {each.setting.plain_help}\n" for name, each in ARGUMENTS.items()
    )


def make_settings(given: Any) -> Settings:
    """The settings of sessions. Raises ValueError, as all here do, or TypeError."""
    arguments.check_encoding(given.encoding)
    settings = session_defaults()
    for name, argument in ARGUMENTS.items():
        value = _checked(name, argument, getattr(given, name))
        if argument.setting.session:
            settings[argument.setting.session] = value
    return Settings(**settings)


def _checked(name: str, argument: ServerKeyword, value: Any) -> Any:
    """The value as sessions take it. Other values are checked where they are used."""
    annotation = argument.annotation
    if annotation == SourcePort:
        return None if value is None else _as_key(name, annotation, value)
    if argument.keyword.type.startswith(("int", "float")):
        arguments.check_numbers(**{name: value})
    elif argument.keyword.type == "bool":
        arguments.check_booleans(**{name: value})
    elif argument.keyword.type == "str":
        arguments.check_lines(**{name: value})
    elif annotation == tuple[NamePattern, ...]:
        return arguments.patterns(name, value)
    elif annotation == Announced:
        return None if value in (None, "") else _as_key(name, annotation, value)
    elif typing.get_origin(annotation) is dict:
        return _mapping(name, annotation, value or {})
    return value


def _mapping(name: str, annotation: Any, given: Any) -> dict[Any, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{name}: expected a dict, got {given!r}")
    key, inner = typing.get_args(annotation)
    return {
        _as_key(name, key, str(each)): _as_key(name, inner, value) for each, value in given.items()
    }


def _as_key(name: str, annotation: Any, value: Any) -> Any:
    """The value as the key would read it. Raises ValueError."""
    kind = kind_of(annotation)
    assert kind is not None
    try:
        return kind.read(value)
    except Unfit as error:
        raise ValueError(f"{name}: {error}") from None
    except ValueError:
        raise ValueError(f"{name}: expected {kind.expected}, got {value!r}") from None


def _users(given: Any) -> AbstractUserManager:
    users = given.users
    if isinstance(users, AbstractUserManager) or users is None:
        return users or MemoryUserManager()
    is_several = isinstance(users, Iterable) and not isinstance(users, User | str)
    listed = tuple(users) if is_several else (None,)
    if not all(isinstance(each, User) for each in listed):
        raise TypeError(f"users: expected a list of User objects or a user manager, got {users!r}")
    return MemoryUserManager(listed)


def _contexts(given: Any) -> Contexts | None:
    for name in ("ssl", "tls"):
        source = getattr(given, name)
        if source is not None and not (callable(source) or hasattr(source, "wrap_socket")):
            raise TypeError(f"{name}: expected an ssl.SSLContext or a function, got {source!r}")
        if getattr(source, "protocol", None) == PROTOCOL_TLS_CLIENT:
            raise ValueError(
                f"{name}: that context is for clients; make one for servers, by "
                "ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) or "
                "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)"
            )
    if given.ssl and given.tls:
        raise ValueError(
            "ssl and tls: give one of them; with ssl every connection begins with TLS, with tls "
            "clients may ask for it (AUTH TLS). For both make two servers"
        )
    source = given.ssl or given.tls
    if source is None:
        return None
    if given.require_session_reuse and not can_renew():
        log.warning("%s", NO_RENEWAL)
    return Contexts(source, one_each=given.require_session_reuse, strict_eof=given.strict_tls_eof)


def _bans(given: Any) -> BanRules | None:
    if given.ban_failures is None:
        return None
    return BanRules(
        failures=given.ban_failures,
        window=given.ban_window,
        duration=given.ban_duration,
        allow=arguments.networks("ban_allow", given.ban_allow),
    )


def _arrivals(given: Any) -> ArrivalRules:
    rate = given.new_connections_per_address
    allow = arguments.networks("ban_allow", given.ban_allow)
    deny = arguments.networks("ban_deny", given.ban_deny)
    if rate is None:
        return ArrivalRules(allow=allow, deny=deny)
    number, seconds = _as_key("new_connections_per_address", Frequency, rate)
    return ArrivalRules(most=number, period=seconds, allow=allow, deny=deny)


def _proxies(given: Any) -> Networks | None:
    if given.proxy_protocol is None:
        return None
    return arguments.networks("proxy_protocol", given.proxy_protocol)


def _ports(given: Any) -> PassivePorts:
    return PassivePorts(None, arguments.ports(given.data_ports), given.keepalive)


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


class Throttle:
    """``limit``: bytes per second in one direction; None is no limit."""

    __slots__ = ("limit",)

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit

    def __repr__(self) -> str:
        return f"Throttle({self.limit!r})"


class StreamThrottle:
    """A pair of limits, by aioftp's names: ``read`` for what is received, ``write`` for
    what is sent. They may be set at any time, for sessions that begin later."""

    __slots__ = ("read", "write")

    def __init__(self, *, read: int | None = None, write: int | None = None) -> None:
        self.read = Throttle(read)
        self.write = Throttle(write)

    def rates(self) -> Rates:
        """As they are now."""
        return Rates(upload=self.read.limit, download=self.write.limit)

    def __repr__(self) -> str:
        return f"StreamThrottle(read={self.read.limit!r}, write={self.write.limit!r})"


def _throttle(given: Any) -> StreamThrottle:
    return StreamThrottle(read=given.read_speed_limit, write=given.write_speed_limit)


def _throttle_per_connection(given: Any) -> StreamThrottle:
    return StreamThrottle(
        read=given.read_speed_limit_per_connection, write=given.write_speed_limit_per_connection
    )


MADE: tuple[tuple[frozenset[str], str, Callable[[Any], Any]], ...] = (
    (frozenset({"users"}), "user_manager", _users),
    (frozenset({"path_io_factory"}), "_layer_factory", _layer),
    (
        frozenset({"ssl", "tls", "require_session_reuse", "strict_tls_eof"}),
        "_contexts",
        _contexts,
    ),
    (frozenset({"ban_failures", "ban_window", "ban_duration", "ban_allow"}), "bans", _bans),
    (frozenset({"new_connections_per_address", "ban_allow", "ban_deny"}), "arrivals", _arrivals),
    (
        frozenset({"proxy_protocol"}),
        "_proxies",
        _proxies,
    ),
    (frozenset({"data_ports", "keepalive"}), "_ports", _ports),
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
