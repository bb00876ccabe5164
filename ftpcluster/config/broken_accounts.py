"""An account that is wrong harms only itself: it is left out, and everybody else is served."""

from __future__ import annotations

import msgspec

from ftpcluster.config.accounts import ANONYMOUS, BrokenUser
from ftpcluster.config.checks import accounts
from ftpcluster.config.model import Config
from ftpcluster.config.sources import Sources

CANNOT_LOG_IN = "its user cannot log in until that is mended"


def may_be_empty(sources: Sources) -> bool:
    """Whether a server may have no account: ``users`` names files in which some may come later."""
    return sources.get(("users",)) is not None


def without_broken_accounts(config: Config, sources: Sources) -> Config:
    """The configuration with the accounts that can be used; the others become warnings.

    With strict_users they are errors, and so they are if no account is left and there may not be
    none.
    """
    problems = sources.account_problems
    if not problems:
        return config
    users = config.users or ()
    sound = [user for index, user in enumerate(users) if ("user", index) not in problems]
    anonymous = None if (ANONYMOUS,) in problems else config.anonymous
    if config.strict_users or not (sound or anonymous or may_be_empty(sources)):
        sources.refuse_accounts()
        return config
    names = {user.login for user in sound}
    broken: list[BrokenUser] = []
    for path, login, _ in accounts(config):
        if path not in problems:
            continue
        whys = [text for _, text in problems[path]]
        sources.doubts += [f"{why}; {CANNOT_LOG_IN}" for why in whys]
        is_known = path == (ANONYMOUS,) or sources.is_sound((*path, "login"))
        if is_known and login not in names:
            names.add(login)
            broken.append(BrokenUser(login, "; ".join(whys)))
    return msgspec.structs.replace(
        config, users=tuple(sound), anonymous=anonymous, broken_users=tuple(broken)
    )
