"""Users, their permissions, and where they come from."""

from __future__ import annotations

import asyncio
import datetime
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from enum import Enum
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, ClassVar

from ftpcluster.arguments import check_booleans, check_numbers, check_texts, day, networks, patterns
from ftpcluster.passwords import BadHash, begin_comparing, check_hash, is_hash, matches_plain
from ftpcluster.protocol.address import Networks
from ftpcluster.protocol.path import is_beneath, resolve
from ftpcluster.quota.rates import AccountSpeeds, Rates


class PathIsNotAbsolute(Exception):
    """A virtual path that must be absolute is not."""


_ours: dict[type, dict[str, object]] = {}


def remember_methods(kind: type, *names: str) -> None:
    """Store the methods of ``kind`` for ``overrides``: a program may even replace them on it."""
    _ours.setdefault(kind, {}).update({name: getattr(kind, name) for name in names})


def overrides(owner: object, kind: type, *names: str) -> bool:
    """Whether a method of ``owner`` is another one than ``remember_methods`` has stored."""
    # a loop, faster than ``any``: each login calls this three times
    own, its_kind, ours = getattr(owner, "__dict__", ()), type(owner), _ours[kind]
    for name in names:  # noqa: SIM110
        if name in own or getattr(its_kind, name) is not ours[name]:
            return True
    return False


def _virtual(path: str | PurePosixPath) -> PurePosixPath:
    """A virtual path in normal form, as clients' paths are. Raises PathIsNotAbsolute."""
    if not PurePosixPath(path).is_absolute():
        raise PathIsNotAbsolute(
            f"expected a path from the user's root on, such as /pub, got {path}"
        )
    return PurePosixPath(resolve("/", str(path)))


class Permission:
    """What may be done at ``path`` and beneath it, unless a nearer permission says otherwise.

    The path is a virtual one, and must be absolute (else PathIsNotAbsolute): a relative one would
    match no path of a client, and so forbid nothing.
    """

    path: PurePosixPath
    covers_all: bool
    """Whether ``path`` is "/" and ``is_parent`` is not overridden."""

    def __init__(
        self, path: str | PurePosixPath = "/", *, readable: bool = True, writable: bool = True
    ) -> None:
        self.path = _virtual(path)
        self.readable = readable
        self.writable = writable

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "path":
            value = _virtual(value)
            covers_all = str(value) == "/" and not overrides(self, Permission, "is_parent")
            super().__setattr__("covers_all", covers_all)
        elif name == "is_parent":
            super().__setattr__("covers_all", False)
        super().__setattr__(name, value)

    def is_parent(self, other: str | PurePosixPath) -> bool:
        """Whether this permission covers ``other``, by components: "/foo" not "/foobar"."""
        return is_beneath(str(other), str(self.path))

    def __repr__(self) -> str:
        return (
            f"Permission({str(self.path)!r}, readable={self.readable!r}, "
            f"writable={self.writable!r})"
        )


remember_methods(Permission, "is_parent")


def _permissions(given: Iterable[Permission] | None) -> tuple[Permission, ...]:
    """Raises TypeError: later each command that names a path would fail."""
    found = tuple(given or ()) if isinstance(given, Iterable | None) else (given,)
    if isinstance(given, Permission) or not all(isinstance(each, Permission) for each in found):
        raise TypeError(f"permissions: expected a list of Permission objects, got {given!r}")
    return found or (Permission(),)


def _allowed(given: Iterable[str] | Networks | None) -> Networks | None:
    """Raises ValueError for a text that is no network."""
    return given if given is None or isinstance(given, Networks) else networks("allow", given)


def _hidden(given: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if given is None else patterns("hide", given)


def _forbidden(given: Iterable[str]) -> tuple[str, ...]:
    return patterns("forbid", given)


_CHECKED: dict[str, Callable[[Any], Any]] = {
    "allow": _allowed,
    "forbid": _forbidden,
    "hide": _hidden,
    "expires": day,
    "base_path": lambda path: path if isinstance(path, PurePath) else Path(path),
    "home_path": _virtual,
    "permissions": _permissions,
}
"""The checks of a user's attributes, made each time one is set."""
_LIMITS = frozenset(
    {
        "maximum_connections",
        "read_speed_limit",
        "write_speed_limit",
        "read_speed_limit_per_connection",
        "write_speed_limit_per_connection",
    }
)


class User:
    """An account: who may log in, to which directory, with which rights and limits.

    ``login=None`` accepts any name, ``password=None`` any password. ``base_path`` is the real
    directory that becomes the user's "/"; ``home_path`` the virtual directory where sessions begin,
    which must be absolute (else PathIsNotAbsolute). Limits are connections, or bytes per second
    (ValueError for what is no number of at least 0); None is no limit. *Read* is what the server
    receives, *write* what it sends.

    ``enabled``, ``expires`` (the last day, local time) and ``allow`` (networks such as
    "192.0.2.0/24"; None: any) say when and from where the user may log in. Otherwise the client
    gets the reply of an unknown name, and the log says why. ``hide`` are names that listings do not
    show, in place of the server's (None: the server's); ``forbid`` names that this user may not
    use, beside the server's. ``create_home``: make ``base_path``, with ``home_path`` in it, at a
    login where it is missing.

    Attributes that are set later are checked, too. They take effect at the next login, permissions
    at once.
    """

    changes: ClassVar[int] = 0
    """How many times logins and passwords of users were set: whether indexes of them are stale."""
    # as they are in subclasses that do not call our __init__
    enabled: bool = True
    expires: datetime.date | None = None
    allow: Networks | None = None
    hide: tuple[str, ...] | None = None
    forbid: tuple[str, ...] = ()
    create_home: bool = False

    def __init__(
        self,
        login: str | None = None,
        password: str | None = None,
        *,
        base_path: str | Path = Path("."),
        home_path: str | PurePosixPath = PurePosixPath("/"),
        permissions: Iterable[Permission] | None = None,
        maximum_connections: int | None = None,
        read_speed_limit: int | None = None,
        write_speed_limit: int | None = None,
        read_speed_limit_per_connection: int | None = None,
        write_speed_limit_per_connection: int | None = None,
        enabled: bool = True,
        expires: datetime.date | None = None,
        allow: Iterable[str] | None = None,
        hide: Iterable[str] | None = None,
        forbid: Iterable[str] = (),
        create_home: bool = False,
    ) -> None:
        self.create_home = create_home
        self.hide = _hidden(hide)
        self.forbid = patterns("forbid", forbid)
        self.enabled = enabled
        self.expires = expires
        self.allow = _allowed(allow)
        self.login = login
        self.password = password
        self.base_path = Path(base_path)
        self.home_path = PurePosixPath(home_path)
        self.permissions = _permissions(permissions)
        self.maximum_connections = maximum_connections
        self.read_speed_limit = read_speed_limit
        self.write_speed_limit = write_speed_limit
        self.read_speed_limit_per_connection = read_speed_limit_per_connection
        self.write_speed_limit_per_connection = write_speed_limit_per_connection

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("login", "password"):
            check_texts(**{name: value})
            User.changes += 1
        elif name in _LIMITS:
            check_numbers(**{name: value})
        elif name in ("enabled", "create_home"):
            check_booleans(**{name: value})
        elif name in _CHECKED:
            value = _CHECKED[name](value)
        super().__setattr__(name, value)

    async def get_permissions(self, path: str | PurePosixPath) -> Permission:
        """The nearest permission above a virtual path.

        A subclass may override this. Then it is called before every command that names a path.
        """
        return nearest_permission(self.permissions, path)

    def __repr__(self) -> str:
        return (
            f"User({self.login!r}, base_path={str(self.base_path)!r}, "
            f"home_path={str(self.home_path)!r}, permissions={self.permissions!r})"
        )


remember_methods(User, "get_permissions")


def speeds_of(user: User) -> AccountSpeeds:
    """A user's speed limits."""
    return AccountSpeeds(
        user.login or "",
        shared=Rates(upload=user.read_speed_limit, download=user.write_speed_limit),
        per_connection=Rates(
            upload=user.read_speed_limit_per_connection,
            download=user.write_speed_limit_per_connection,
        ),
    )


_NOTHING = Permission("/", readable=False, writable=False)


def nearest_permission(permissions: Iterable[Permission], path: str | PurePosixPath) -> Permission:
    """The nearest permission above a virtual path. Where there is none, nothing is allowed."""
    covering = [permission for permission in permissions if permission.is_parent(path)]
    if len(covering) == 1:
        return covering[0]
    return max(covering, key=lambda permission: len(permission.path.parts), default=_NOTHING)


class AbstractUserManager(ABC):
    """Where users come from: subclass it for a database or a directory service.

    ``timeout``: the seconds that methods with the ``with_timeout`` decorator may take; None: any.
    """

    class GetUserResponse(Enum):
        OK = "ok"
        PASSWORD_REQUIRED = "password_required"  # noqa: S105
        ERROR = "error"

    def __init__(self, *, timeout: float | None = None) -> None:
        self.timeout = timeout

    @property
    def needs_task(self) -> bool:
        """Whether its coroutines get a real task, for which they may ask asyncio."""
        return type(self) is not MemoryUserManager or overrides(
            self, MemoryUserManager, "get_user", "authenticate", "notify_logout"
        )

    @abstractmethod
    async def get_user(self, login: str) -> tuple[GetUserResponse, User | None, str]:
        """Look up a login name: a response, the user (None for ERROR), and a message.

        OK means that any password is right. ERROR means that there is no login, even if a user is
        returned. The client never sees the message of ERROR: every name gets the same reply.
        """

    @abstractmethod
    async def authenticate(self, user: User, password: str) -> bool:
        """Whether ``password`` is the user's.

        It may raise TooManyLogins: the password is not checked, and the client is told to come back
        later. It may raise BadHash, for a damaged hash: the login fails, and the log has an error.
        If the client hangs up, it is cancelled only after some seconds: a wrong password must
        count all the same.
        """

    async def notify_logout(self, user: User) -> None:  # noqa: B027
        """Called once for every user that ``get_user`` has returned with OK or PASSWORD_REQUIRED.

        That is when the login is over, or when there will be none: the password was wrong, another
        USER came, or the client left. Never called for ERROR.
        """


class MemoryUserManager(AbstractUserManager):
    """Users that are kept in memory.

    ``aliases``: further login names, each with the login that it stands for. Logins come first.
    """

    def __init__(
        self,
        users: Iterable[User] | None = None,
        *,
        timeout: float | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(timeout=timeout)
        self._aliases = dict(aliases or {})
        self.users = (User(),) if users is None else tuple(users)

    @property
    def users(self) -> tuple[User, ...]:
        """The users; may be set."""
        return self._users

    @users.setter
    def users(self, users: Iterable[User]) -> None:
        self._users = tuple(users)
        self._look_up_anew()

    def _look_up_anew(self) -> None:
        """Index the users by their logins, as they are now."""
        self._changes = User.changes
        self._by_login: dict[str | None, User] = {}
        for user in self._users:
            self._by_login.setdefault(user.login, user)
        for alias, login in self._aliases.items():
            if login in self._by_login:
                self._by_login.setdefault(alias, self._by_login[login])
        passwords = [user.password for user in self._users if user.password is not None]
        self._decoy = next(filter(_is_whole_hash, passwords), "nobody's password")

    async def get_user(
        self, login: str
    ) -> tuple[AbstractUserManager.GetUserResponse, User | None, str]:
        return self.find(login)

    def find(self, login: str) -> tuple[AbstractUserManager.GetUserResponse, User | None, str]:
        """``get_user`` as a plain function."""
        if self._changes != User.changes:
            self._look_up_anew()
        user = self._by_login.get(login) or self._by_login.get(None)
        if user is None:
            return self.GetUserResponse.ERROR, None, "no such user"
        if user.password is None:
            return self.GetUserResponse.OK, user, "any password"
        return self.GetUserResponse.PASSWORD_REQUIRED, user, "password required"

    async def authenticate(self, user: User, password: str) -> bool:
        return self.recognizes(user, password) or await self.compare_hash(user, password)

    def recognizes(self, user: User, password: str) -> bool:
        """Whether ``password`` is the user's, as far as that is known without computing a hash."""
        return user.password is None or matches_plain(user.password, password)

    def has_hash(self, user: User) -> bool:
        """Whether a hash has to be computed to know whether a password is the user's."""
        return user.password is not None and is_hash(user.password)

    async def compare_hash(self, user: User | None, password: str) -> bool:
        """Whether ``password`` fits the user's hash; False where there is no user, or no hash.

        All of these take the same time, else the time would tell which users exist.
        """
        comparison = self.begin_comparing(user, password)
        return comparison is not None and await asyncio.wrap_future(comparison)

    def begin_comparing(self, user: User | None, password: str) -> Future[bool] | None:
        """``compare_hash`` in a thread; None is False, without a hash. Raises TooManyLogins."""
        stored = None if user is None else user.password
        if user is not None and self.has_hash(user):
            return begin_comparing(stored, self._decoy, password)
        if is_hash(self._decoy):
            return begin_comparing(None, self._decoy, password)
        # a plain password was compared already; without one, comparing the decoy takes that time
        if stored is None:
            matches_plain(self._decoy, password)
        return None


PASSWORD_CHECKS = ("authenticate", "recognizes", "has_hash", "compare_hash", "begin_comparing")
"""The methods of ``MemoryUserManager`` that decide whether a password is right."""
remember_methods(MemoryUserManager, "get_user", "notify_logout", *PASSWORD_CHECKS)


def _is_whole_hash(password: str) -> bool:
    if not is_hash(password):
        return False
    try:
        check_hash(password)
    except BadHash:
        return False
    return True
