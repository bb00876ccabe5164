"""The accounts of the configuration as sessions know them, and their changes meanwhile."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import msgspec

from ftpcluster.config import ANONYMOUS, PLAIN, AccountConfig, Config
from ftpcluster.config.accounts import BrokenUser, UserConfig
from ftpcluster.refused_users import UnusableUser
from ftpcluster.users import MemoryUserManager, Permission, User

_MOST = 48 * 1024
"""Bytes of a packed change: a message has at most 64 KiB."""
_AT_ONCE = 64
"""Accounts in one message, if they fit."""
_DISABLED = "This account was disabled."
_REMOVED = "This account was removed."
_UNUSABLE = "This account cannot be used any more."


def accounts_of(config: Config) -> MemoryUserManager:
    """The users of a configuration."""
    users: list[User] = [_user(user) for user in config.users]
    if config.anonymous is not None:
        users.append(_make_user(ANONYMOUS, None, config.anonymous))
    users += [UnusableUser(each.login, each.why) for each in config.broken_users]
    return MemoryUserManager(users, aliases={"ftp": ANONYMOUS} if config.anonymous else {})


def _user(account: UserConfig) -> User:
    return _make_user(account.login, (account.password or "").removeprefix(PLAIN), account)


def _make_user(login: str, password: str | None, account: AccountConfig) -> User:
    return User(
        login,
        password,
        base_path=account.root,
        home_path=account.home,
        permissions=[
            Permission(each.path, readable=each.read, writable=each.write)
            for each in account.permissions
        ],
        maximum_connections=account.connections,
        read_speed_limit=account.upload,
        write_speed_limit=account.download,
        read_speed_limit_per_connection=account.upload_per_connection,
        write_speed_limit_per_connection=account.download_per_connection,
        enabled=account.enabled,
        expires=account.expires,
        allow=account.allow,
        hide=account.hide,
        forbid=account.forbid or (),
        create_home=account.create_home,
    )


# ---------------------------------------------------------------------- changes


class AccountChange(msgspec.Struct, frozen=True):
    """Accounts that are new or other than before, and the logins of those that are gone."""

    users: tuple[UserConfig, ...] = ()
    broken: tuple[BrokenUser, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def logins(self) -> set[str]:
        users, broken = self.users, self.broken
        return {*(each.login for each in users), *(each.login for each in broken), *self.removed}

    def __str__(self) -> str:
        counts = {"changed": self.users, "unusable": self.broken, "removed": self.removed}
        said = ", ".join(f"{len(found)} {name}" for name, found in counts.items() if found)
        return said or "no user changed"

    def packed(self) -> list[bytes]:
        """The change as contents of messages. Raises ValueError if an account does not fit."""
        found = [pickle.dumps(part, pickle.HIGHEST_PROTOCOL) for part in self._parts()]
        if any(len(each) > _MOST for each in found):
            raise ValueError("an account is too large for a message")
        return found

    def _parts(self) -> Iterator[AccountChange]:
        most = _AT_ONCE if len(pickle.dumps(self)) > _MOST else len(self.logins) or 1
        for start in range(0, len(self.users), most):
            yield AccountChange(users=self.users[start : start + most])
        for start in range(0, len(self.broken), most):
            yield AccountChange(broken=self.broken[start : start + most])
        for start in range(0, len(self.removed), _AT_ONCE):
            yield AccountChange(removed=self.removed[start : start + _AT_ONCE])


def change_between(before: Config, after: Config) -> AccountChange:
    """The accounts in which two configurations differ."""
    old: dict[str, UserConfig | BrokenUser] = _by_login(before)
    new: dict[str, UserConfig | BrokenUser] = _by_login(after)
    changed = [each for login, each in new.items() if old.get(login) != each]
    return AccountChange(
        users=tuple(each for each in changed if isinstance(each, UserConfig)),
        broken=tuple(each for each in changed if isinstance(each, BrokenUser)),
        removed=tuple(login for login in old if login not in new),
    )


def _by_login(config: Config) -> dict[str, UserConfig | BrokenUser]:
    broken = {each.login: each for each in config.broken_users}
    return {**broken, **{each.login: each for each in config.users}}


def unpacked(content: bytes) -> AccountChange:
    """A change from a message of the supervisor."""
    change = pickle.loads(content)  # noqa: S301 (the supervisor's own)
    assert isinstance(change, AccountChange)
    return change


def apply_change(manager: MemoryUserManager, change: AccountChange) -> list[tuple[User, str]]:
    """Change the users of a manager. Returns those whose sessions have to end, and the reasons.

    A user who stays is the same object: running sessions have its new rights and limits at once.
    """
    users = {user.login: user for user in manager.users}
    ended: list[tuple[User, str]] = []
    for account in change.users:
        new, old = _user(account), users.get(account.login)
        if old is None or type(old) is not User:
            users[account.login] = new
            continue
        vars(old).update(vars(new))
        if not account.enabled:
            ended.append((old, _DISABLED))
    for broken in change.broken:
        _forget(users, broken.login, _UNUSABLE, ended)
        users[broken.login] = UnusableUser(broken.login, broken.why)
    for login in change.removed:
        _forget(users, login, _REMOVED, ended)
    manager.users = tuple(users.values())
    return ended


def _forget(
    users: dict[str | None, User], login: str, reason: str, ended: list[tuple[User, str]]
) -> None:
    old = users.pop(login, None)
    if old is not None:
        old.enabled = False  # a login that has come as far as PASS ends there
        ended.append((old, reason))
