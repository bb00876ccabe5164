"""Whether a new configuration differs from the running one in its accounts only.

Then no worker has to be replaced: the workers that run get the changed accounts. A confined worker
cannot be allowed more files later, so the directories of new accounts have to be among those that
it may open.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any

import msgspec

from ftpcluster.config import Config, ConfigError
from ftpcluster.config.accounts import UserConfig
from ftpcluster.worker.configured_users import AccountChange, change_between

_OF_ACCOUNTS: dict[str, Any] = {
    "users": (),
    "broken_users": (),
    "groups": (),
    "user_defaults": None,
}


def accounts_alone(running: Config, new: Config, started_with: Config) -> AccountChange | None:
    """What has changed, if nothing but accounts has and the workers can use them; else None.

    ``started_with``: the configuration with which the workers were started.
    """
    if running == new or running.server is not None or running.user_manager is not None:
        return None
    if _without_accounts(running) != _without_accounts(new):
        return None
    change = change_between(running, new)
    if new.confine and not all(_may_open(started_with, user) for user in change.users):
        return None
    return change


def refuse_to_lose_all(running: Config, new: Config) -> None:
    """Raises ConfigError where all users of files would be gone at once: more likely their storage
    is not mounted, and their sessions would end."""
    were_there = [each for each in running.users if each.file]
    if were_there and new.user_files and not (new.users or new.broken_users):
        raise ConfigError(
            f"{new.user_files}: there were {len(were_there)} users, and no file is there now: is "
            "its storage mounted? If they are to go, remove them with `ftpcluster user remove`, or "
            "restart the server"
        )


def with_user(running: Config, loaded: Config, login: str) -> Config | None:
    """The running configuration with one user as ``loaded`` has it.

    None where that cannot be said: groups or defaults have changed, which may concern other users,
    or the user is gone from its own file, and may stand in one that was not read.
    """
    if (running.groups, running.user_defaults) != (loaded.groups, loaded.user_defaults):
        return None
    users = {each.login: each for each in running.users}
    broken = {each.login: each for each in running.broken_users}
    before = users.pop(login, None)
    was_broken = broken.pop(login, None) is not None
    users.update({each.login: each for each in loaded.users if each.login == login})
    broken.update({each.login: each for each in loaded.broken_users if each.login == login})
    if login not in users and login not in broken:
        stood_elsewhere = before is not None and PurePath(before.file).name != f"{login}.toml"
        if was_broken or stood_elsewhere:
            return None
    changed = {"users": tuple(users.values()), "broken_users": tuple(broken.values())}
    return msgspec.structs.replace(running, **changed)


def _without_accounts(config: Config) -> Config:
    return msgspec.structs.replace(config, **_OF_ACCOUNTS)


def _may_open(started_with: Config, user: UserConfig) -> bool:
    """Whether confined workers may open a user's directory, and write there if the user may."""
    root = PurePath(user.root)
    if any(root.is_relative_to(os.path.realpath(each)) for each in started_with.open_beneath):
        return True
    known = [each for each in started_with.users if each.root == user.root]
    if not _writes(user):
        return bool(known)
    return any(_writes(each) for each in known)


def _writes(user: UserConfig) -> bool:
    return any(each.write for each in user.permissions)
