"""The users of a configuration, as ``ftpcluster user`` sees them: where each stands, what it has,
and what a change would make wrong."""

from __future__ import annotations

import datetime
import fnmatch
import functools
import glob
import os
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from ftpcluster.cli.aside import call_bounded
from ftpcluster.config import Config, ConfigError, UserConfig
from ftpcluster.config.accounts import SHARED, GroupConfig
from ftpcluster.config.checks import identity_of
from ftpcluster.config.decode import decode
from ftpcluster.config.environment import Environment
from ftpcluster.config.lines import Path
from ftpcluster.config.load import load_accounts
from ftpcluster.config.naming import dotted, quoted
from ftpcluster.config.setting import Key, keys, kind_of, show
from ftpcluster.config.sources import Sources
from ftpcluster.privileges import Identity

_SUFFIX = ".toml"
_LONGEST_NAME = 255
BUILT_IN = "built in"
SECRETS = ("password",)
"""Keys that are shown nowhere."""


@dataclass(frozen=True)
class Change:
    """A change of one user: values as a file has them, and keys that are removed."""

    login: str
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    without: tuple[str, ...] = ()
    is_new: bool = False
    is_removal: bool = False


@dataclass(frozen=True)
class ListedUser:
    """A user: ``place`` for messages, and ``path`` of its table in ``file``.

    ``file`` is the whole name of the file; None: variables of the environment have it.
    """

    login: str
    place: str
    file: str | None
    path: Path
    group: str | None
    enabled: bool | None
    expires: datetime.date | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class UserDirectory:
    """The directory of the files with one user each. ``where``: the key that names it."""

    path: str
    where: str
    identity: Identity | None


@dataclass(frozen=True)
class Value:
    """What a user has for a key, as a file would have it, and where it has that from."""

    value: Any
    shown: str
    origin: str
    where: str


@dataclass(frozen=True)
class Effective:
    """What holds for a user: each key, and the limits that all users of its group share."""

    account: ListedUser
    values: dict[str, Value]
    shared: dict[str, Value]


# ---------------------------------------------------------------------- looking at accounts


@dataclass(frozen=True)
class AccountFiles:
    """Where accounts come from: file, directory of the command, environment."""

    file: FilePath | None
    directory: str
    environment: Environment

    def accounts(self) -> tuple[list[ListedUser], list[str]]:
        """All users, and warnings of files that cannot be read. Raises ConfigError."""
        return call_bounded(functools.partial(_accounts, self))

    def directory_of(self, login: str) -> UserDirectory:
        """The directory for the file of a user. Raises ConfigError where there is none."""
        return call_bounded(functools.partial(_directory_of, self, login))

    def checked(self, change: Change, target: str) -> ListedUser | None:
        """The account that a change is for; None of a new one.

        Raises ConfigError where it is in another file than ``target``, and where the change would
        make it a broken one.
        """
        return call_bounded(functools.partial(_checked, self, change, target))

    def values_of(self, login: str) -> Effective:
        """A user, and what holds for it. Raises ConfigError where there is no such user."""
        return call_bounded(functools.partial(_values_of, self, login))

    def names(self) -> tuple[list[str], list[str]]:
        """The logins and the groups, as far as they can be read, for completion."""
        config, _ = self._load()
        users, groups = config.users or (), config.groups or ()
        return (
            [each.login for each in users if each is not None and each.login],
            [each.name for each in groups if each is not None and each.name],
        )

    def _load(self, change: Change | None = None) -> tuple[Config, Sources]:
        """All accounts; with a change those of the main file, and the changed one."""
        overlay = _Draft(self.directory, change)
        only = None if change is None else change.login
        return load_accounts(self.file, overlay, self.environment, only)


def _accounts(files: AccountFiles) -> tuple[list[ListedUser], list[str]]:
    config, sources = files._load()
    return _found(config, sources), sources.doubts


def _found(config: Config, sources: Sources, only: str | None = None) -> list[ListedUser]:
    """The users, or those with one login: to find the lines of all takes a while."""
    found = []
    for index, user in enumerate(config.users or ()):
        path: Path = ("user", index)
        login = sources.get((*path, "login"))
        if user is None or not isinstance(login, str) or only not in (None, login):
            continue
        stands = sources.place(path)
        place = sources.where(path)
        is_placed = stands.file is not None and place.startswith(f"{stands.file}:")
        problems = sources.account_problems.get(path, [])
        found.append(
            ListedUser(
                login,
                place,
                stands.file.absolute if is_placed and stands.file else None,
                stands.path,
                user.group,
                user.enabled,
                user.expires,
                tuple(dict.fromkeys(text for _, text in problems)),
            )
        )
    return found


def _only(config: Config, sources: Sources, login: str) -> ListedUser | None:
    """The user with a login. Raises ConfigError where there are two."""
    found = _found(config, sources, login)
    if len(found) > 1:
        places = " and ".join(each.place for each in found)
        raise ConfigError(f"{quoted(login)} is there twice, {places}: remove one of them by hand")
    return found[0] if found else None


def _needed(account: ListedUser | None, login: str) -> ListedUser:
    if account is None:
        raise ConfigError(
            f"there is no user {quoted(login)}; `ftpcluster user list` shows those that there are"
        )
    return account


# ---------------------------------------------------------------------- where its file is


def _directory_of(files: AccountFiles, login: str) -> UserDirectory:
    names = ("users", "user_manager", "run_as")
    sources = Sources(files.file, files.directory)
    for each in names:
        files.environment.only((each,)).lay_over(sources)
    sources.values = {each: sources.values[each] for each in names if each in sources.values}
    config = decode(sources, Config)
    if sources.get(("user_manager",)) is not None:
        raise ConfigError(
            f"{sources.where(('user_manager',))}: it knows the users, so no file has any"
        )
    if not isinstance(sources.get(("users",)), str) or not config.user_files:
        raise ConfigError(
            f"{files.file or 'the environment'}{':1' if files.file else ''}: users is not set, so "
            'there is no directory for files of users; add users = "users.d/*.toml" above the '
            "first table, and make that directory"
        )
    where = sources.where(("users",))
    directory, pattern = os.path.split(config.user_files)
    if glob.has_magic(directory):
        raise ConfigError(
            f"{where}: names several directories, so a new file has no place; expected "
            'one with a pattern behind it, such as "users.d/*.toml"'
        )
    name = _file_name(login)
    if not fnmatch.fnmatchcase(name, pattern) or name[0] == "." != pattern[0]:
        raise ConfigError(
            f"{where}: {quoted(name)} would not be read, since it does not match "
            f'{quoted(pattern)}; expected a pattern such as "users.d/*.toml"'
        )
    path = os.path.join(os.path.abspath(directory), name)
    if files.file is not None and path == os.path.abspath(files.file):
        raise ConfigError(f"{where}: the file of {quoted(login)} would be the main file")
    identity = identity_of(config) if sources.is_sound(("run_as",)) else None
    return UserDirectory(os.path.abspath(directory), where, identity)


def _file_name(login: str) -> str:
    """The name of the file of a user. Raises ConfigError where it would be no plain name."""
    how = kind_of(keys(UserConfig)["login"].annotation)
    assert how is not None
    try:
        how.read(login)
        encoded = login.encode()
    except ValueError:
        raise ConfigError(f"login: expected {how.expected}") from None
    if "/" in login or login in (".", ".."):
        raise ConfigError(
            f"{quoted(login)} cannot be the name of a file: put that user into the main file by "
            "hand, or choose another name"
        )
    if len(encoded) + len(_SUFFIX) > _LONGEST_NAME:
        most = _LONGEST_NAME - len(_SUFFIX)
        raise ConfigError(f"login: is too long for the name of a file: at most {most} bytes")
    return login + _SUFFIX


def file_of(directory: UserDirectory, login: str) -> str:
    """The whole name of the file of a user."""
    return os.path.join(directory.path, login + _SUFFIX)


# ---------------------------------------------------------------------- what a change would do


def _checked(files: AccountFiles, change: Change, target: str) -> ListedUser | None:
    config, before = files._load()
    account = _only(config, before, change.login)
    if change.is_new:
        if account is not None:
            raise ConfigError(f"{account.place}: {quoted(change.login)} is there already")
    elif _needed(account, change.login).file != target:
        raise ConfigError(
            f"{_needed(account, change.login).place}: {quoted(change.login)} stands here; "
            f"`ftpcluster user` changes {os.path.basename(target)} only: edit this by hand, or "
            "move that table there"
        )
    if change.is_removal:
        return account
    _, after = files._load(change)
    known = {text for found in before.account_problems.values() for _, text in found}
    new = [
        text for found in after.account_problems.values() for _, text in found if text not in known
    ]
    if new:
        raise ConfigError(*dict.fromkeys(new))
    if after.get(("user", _index(after, change.login))) is None:
        after.check()
    return account


@dataclass(frozen=True)
class _Draft:
    """The command line's part of a configuration: the change, if there is one."""

    directory: str
    change: Change | None

    def lay_over(self, sources: Sources) -> None:
        if self.change is not None:
            _lay_over(self.change, sources)


def _index(sources: Sources, login: str) -> int:
    logins = [each.get("login") for each in sources.tables("user")]
    return logins.index(login) if login in logins else len(logins)


def _lay_over(change: Change, sources: Sources) -> None:
    """Put the values of a change in the place of those that there are."""
    index = _index(sources, change.login)
    if change.is_new:
        sources.put_draft(("user", index), {"login": change.login}, change.login)
    for key in change.without:
        table = sources.get(("user", index))
        if isinstance(table, dict):
            table.pop(key, None)
    for key, value in change.values.items():
        sources.put_draft(("user", index, key), value, f"{change.login}: {key}")


# ---------------------------------------------------------------------- what holds for a user


def _values_of(files: AccountFiles, login: str) -> Effective:
    config, sources = files._load()
    account = _needed(_only(config, sources, login), login)
    index = _index(sources, login)
    user = config.users[index]
    values = {
        name: _value(sources, ("user", index, name), key, getattr(user, key.field.name))
        for name, key in keys(UserConfig).items()
        if name != "login"
    }
    shared = {}
    for number, group in enumerate(config.groups or ()):
        if group is None or group.name is None or group.name != user.group:
            continue
        for name in SHARED:
            path: Path = ("group", number, name)
            if sources.get(path) is not None:
                key = keys(GroupConfig)[name]
                shared[name] = _value(sources, path, key, getattr(group, name))
    return Effective(account, values, shared)


def _value(sources: Sources, path: Path, key: Key, value: Any) -> Value:
    given = sources.get(path)
    if given is None:
        assert key.setting is not None
        text = key.default_text.replace("`", "") if value == key.default else _shown(key, value)
        return Value(_plain(value), text, BUILT_IN, "")
    origin = sources.origin(path)
    where = sources.where(path).removesuffix(dotted(sources.place(origin).path)).rstrip(": ")
    kind = str(origin[0])
    if path[-1] in SECRETS:
        return Value(None, "set, and not shown", kind, where)
    is_wrong = not sources.is_sound(path)
    return Value(
        _plain(given) if is_wrong else _plain(value),
        "wrong" if is_wrong else _shown(key, value),
        kind,
        where,
    )


def _shown(key: Key, value: Any) -> str:
    if kind_of(key.annotation) is None:
        return ", ".join(_flat(each) for each in value) if isinstance(value, tuple) else str(value)
    return show(key.annotation, value)


def _flat(value: Any) -> str:
    """A table in one line."""
    plain = _plain(value)
    if not isinstance(plain, dict):
        return str(plain)
    told = (
        f"{name} = {str(each).lower() if isinstance(each, bool) else quoted(str(each))}"
        for name, each in plain.items()
    )
    return f"{{ {', '.join(told)} }}"


def _plain(value: Any) -> Any:
    """A value for JSON."""
    import msgspec

    return msgspec.to_builtins(value)
