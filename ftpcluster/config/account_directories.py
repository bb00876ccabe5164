"""The directories of accounts, as they are on this machine: what cannot be served is found."""

from __future__ import annotations

import functools
import os
import shlex
import stat
from collections.abc import Callable
from pathlib import Path as FilePath

import msgspec

from ftpcluster.config.accounts import ANONYMOUS, AccountConfig
from ftpcluster.config.broken_accounts import CANNOT_LOG_IN, may_be_empty
from ftpcluster.config.checks import accounts
from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.naming import quoted
from ftpcluster.config.progress import looking_at
from ftpcluster.config.sources import Sources
from ftpcluster.privileges import Identity, barriers, may_write_in, parse_run_as
from ftpcluster.safe_paths import is_led_by_others

_LOGIN = "{login}"
_MISSING = "there is no such directory"


def with_directories(config: Config, sources: Sources) -> Config:
    """Every account with its directory, checked.

    An account whose directory cannot be served harms no other: its user cannot log in until it can
    be served. With strict_users it is an error, and so it is if no account is left and there may
    not be none.
    """
    broken = _Broken()
    looked_at: dict[str, tuple[str, str]] = {}
    real_path = _RealPaths().of
    settled: dict[Path, AccountConfig] = {}
    for path, login, account in accounts(config):
        changes = _places(sources, path, login, account)
        if "root" in changes:
            root = changes["root"]
            if root not in looked_at:
                looking_at(f"{root} (the root of {quoted(login)})")
                looked_at[root] = _look_at(root, real_path)
            changes["root"], problem = looked_at[root]
            if problem == _MISSING and account.create_home:
                problem = _why_not_made(root, config, sources)
            if problem:
                broken[(*path, "root")] = problem, root
            elif not _is_beneath(changes["root"], config.roots, sources):
                text = "is not beneath any of the `roots`, so workers may not open it"
                sources.refuse((*path, "root"), text, about=root)
        settled[path] = msgspec.structs.replace(account, **changes)
    anonymous = settled.pop((ANONYMOUS,), None)
    users = tuple(settled.get(("user", index)) for index in range(len(config.users or ())))
    changed = {"users": users, "anonymous": anonymous}
    config = msgspec.structs.replace(config, **changed, open_beneath=_open_beneath(config, sources))
    _find_unreadable(config, sources, broken)
    unusable = {place[:-1] for place in broken} | sources.account_problems.keys()
    is_empty = len(unusable) == len(accounts(config))
    is_refused = config.strict_users or (is_empty and not may_be_empty(sources))
    for place, (problem, root) in broken.items():
        if is_refused:
            sources.refuse(place, problem, about=root)
        else:
            text = f"{problem}; {CANNOT_LOG_IN}"
            sources.doubt(place, text, about=root)
    return config


def _places(sources: Sources, path: Path, login: str, account: AccountConfig) -> dict[str, str]:
    """The root and the home of an account, with the login filled in; without what is wrong."""
    found: dict[str, str] = {}
    for name in ("root", "home"):
        below = (*path, name)
        text = getattr(account, name)
        if not sources.is_sound(below):
            continue
        if not text:
            sources.refuse(below, "is missing; expected the path of a directory")
        elif _LOGIN not in text or sources.is_sound((*path, "login")):
            found[name] = _filled_in(sources, below, text, login)
    return {name: text for name, text in found.items() if sources.is_sound((*path, name))}


def _why_not_made(root: str, config: Config, sources: Sources) -> str:
    """Why a missing directory could not be made at a login; empty: it could."""
    above = os.path.dirname(os.path.abspath(root))
    if not os.path.isdir(above):
        return f"there is no directory {above}, in which it could be made"
    beneath = _open_beneath(config, sources)
    if config.confine and not any(FilePath(root).is_relative_to(each) for each in beneath):
        return f"{_MISSING}; confined workers may make it only beneath `roots`: name {above} there"
    return ""


def _open_beneath(config: Config, sources: Sources) -> tuple[str, ...]:
    """The directories where accounts are that are added later: workers may open them at once."""
    if config.roots or not sources.is_sound(("roots",)):
        return config.roots
    found = []
    for table in (config.user_defaults, *(config.groups or ())):
        before, login, _ = (table.root if table is not None and table.root else "").partition(
            _LOGIN
        )
        # of "/srv/ftp-{login}" that would be /srv; and never everything
        if login and before.endswith("/") and os.path.abspath(before) != "/":
            found.append(os.path.abspath(before))
    return tuple(dict.fromkeys(found))


def _is_beneath(root: str, roots: tuple[str, ...], sources: Sources) -> bool:
    if not roots or not sources.is_sound(("roots",)):
        return True
    return any(FilePath(root).is_relative_to(os.path.realpath(each)) for each in roots)


def _filled_in(sources: Sources, path: Path, text: str, login: str) -> str:
    """The text with ``{login}`` replaced. The login has to be one component of a path."""
    if _LOGIN not in text:
        return text
    if login in (".", "..") or "/" in login:
        sources.refuse(path, f"{_LOGIN} would be {quoted(login)}, which is no directory's name")
    return text.replace(_LOGIN, login)


def _look_at(root: str, real_path: Callable[[str], str]) -> tuple[str, str]:
    """The path of a directory, and what is wrong with it, if anything is.

    A link that another user could change is resolved now, once and for all.
    """
    whole = os.path.abspath(root)
    try:
        path = real_path(whole)
        if not stat.S_ISDIR(os.stat(path).st_mode):
            return root, "not a directory"
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        os.stat(f"{path}/.")  # to list it takes the open alone; to reach files takes this
    except FileNotFoundError:
        return root, _MISSING
    except PermissionError:
        return root, "not permitted; the server may not read this directory"
    except OSError as error:
        return root, error.strerror or str(error)
    return (path if path != whole and is_led_by_others(root) else whole), ""


class _RealPaths:
    """Resolves the links of paths. Of ten thousand accounts in one directory, that is resolved
    once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of(self, path: str) -> str:
        """Raises OSError where nothing is there."""
        if ".." in path.split("/"):
            return os.path.realpath(path, strict=True)
        above, name = os.path.split(os.path.abspath(path))
        if above not in self._known:
            self._known[above] = os.path.realpath(above, strict=True)
        found = os.path.join(self._known[above], name)
        is_link = stat.S_ISLNK(os.lstat(found).st_mode)
        return os.path.realpath(found, strict=True) if is_link else found


_Broken = dict[Path, tuple[str, str]]
"""For each root that cannot be served: its place, what is wrong with it, and its path."""


def _find_unreadable(config: Config, sources: Sources, broken: _Broken) -> None:
    """Find roots that the user of ``run_as`` cannot read. Only root can check that."""
    if config.run_as is None or not sources.is_sound(("run_as",)) or os.geteuid() != 0:
        return
    identity = parse_run_as(config.run_as)
    sound = [
        ((*path, "root"), account.root)
        for path, _, account in accounts(config)
        if sources.is_sound((*path, "root")) and (*path, "root") not in broken
    ]
    who = f"{quoted(identity.name)} (run_as), who serves,"
    looking_at(f"the directories of {len(sound)} accounts, as {quoted(identity.name)} (run_as)")
    in_the_way = barriers(identity, [root for _, root in sound])
    may_make_in = functools.cache(functools.partial(may_write_in, identity))
    for (path, root), barrier in zip(sound, in_the_way, strict=True):
        if barrier == root and not os.path.lexists(root):  # it is made at a login: create_home
            above = os.path.dirname(root)
            if not may_make_in(above):
                mend = f"chown {identity.name} {shlex.quote(above)}"
                broken[path] = f"{who} may not make it in {above}; `{mend}`", root
        elif barrier == root:
            text = f"{who} may not read this directory; `{_let_in(identity, root, 'rx')}`"
            broken[path] = text, root
        elif barrier:
            text = f"{who} may not enter {barrier}, above it; `{_let_in(identity, barrier, 'x')}`"
            broken[path] = f"{text}, or serve a directory elsewhere", root


def _let_in(identity: Identity, directory: str, rights: str) -> str:
    status = os.stat(directory)
    who = "u" if status.st_uid == identity.uid else "g" if status.st_gid == identity.gid else "o"
    return f"chmod {who}+{rights} {shlex.quote(directory)}"
