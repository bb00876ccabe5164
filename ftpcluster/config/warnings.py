"""What is no error in a configuration, but may harm or surprise."""

from __future__ import annotations

import grp
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath

from ftpcluster.config.checks import accounts, identity_of
from ftpcluster.config.model import Config
from ftpcluster.config.naming import quoted
from ftpcluster.config.progress import looking_at
from ftpcluster.config.sources import Sources
from ftpcluster.config.values import PLAIN
from ftpcluster.privileges import Identity, may_read
from ftpcluster.safe_paths import controllers

_OTHERS = 0o004
_GROUP_OR_OTHERS = 0o044


def warnings(config: Config, sources: Sources) -> list[str]:
    """Warnings: what is no error, but may harm or surprise."""
    identity = identity_of(config)
    found = [*sources.doubts, *_no_home(config, sources)]
    if config.tls is not None:
        found += _unreadable(config.tls.files, identity)
    if sources.file is None:
        return found
    return [
        *_all_exposed(sources, identity),
        *_unreadable([str(sources.file)], identity),
        *_replaceable(sources.file, identity),
        *found,
    ]


def _all_exposed(sources: Sources, identity: Identity | None) -> Iterator[str]:
    """Of many files of users the first is named, and how many others are like it."""
    given = sources.passwords_in_files()
    yield from _exposed(str(sources.file), given.pop(str(sources.file), []), identity)
    found = [line for file, each in given.items() for line in _exposed(file, each, identity)]
    if found:
        others = f"; {len(found) - 1} other files of users are like it" * (len(found) > 1)
        yield found[0] + others


def _exposed(file: str, given: list[str], identity: Identity | None) -> Iterator[str]:
    """Warn of passwords that other users of this machine may read.

    If the server does not own the file, its group has to read it.
    """
    status = os.stat(file)
    uid, gid = (os.geteuid(), os.getegid()) if identity is None else (identity.uid, identity.gid)
    is_others = status.st_uid != uid
    mode = status.st_mode & (_OTHERS if is_others and status.st_gid == gid else _GROUP_OR_OTHERS)
    name = shlex.quote(file)
    secrets = [each for each in given if each.startswith(PLAIN)]
    if secrets and mode:
        who = "others" if mode & _OTHERS else "its group"
        how = f"chmod 600 {name}"
        text = f"{file}: {who} may read the passwords in it"
    elif given and mode & _OTHERS:
        how = f"chmod 640 {name}"
        text = f"{file}: others may read the password hashes in it"
    else:
        return
    yield f"{text}; `{_for_group(name, gid) if identity is not None and is_others else how}`"


def _unreadable(files: Iterable[str], identity: Identity | None) -> Iterator[str]:
    """Warn of files that the user of ``run_as`` cannot read; the server would still start."""
    for file in files if identity is not None and os.geteuid() == 0 else ():
        assert identity is not None
        if may_read(identity, os.path.abspath(file)):
            continue
        who = quoted(identity.name)
        how = _for_group(shlex.quote(file), identity.gid)
        yield (
            f"{file}: {who} (run_as) may not read it, so every reload would fail; `{how}`, in a "
            f"directory that {who} may enter"
        )


def _replaceable(file: FilePath, identity: Identity | None) -> Iterator[str]:
    """A user who can write the configuration can be root at the next start."""
    if identity is not None and os.geteuid() == 0:
        place = controllers(os.path.abspath(file), identity).get(identity.uid)
        if place is not None or file.stat().st_uid == identity.uid:
            yield (
                f"{file}: {quoted(identity.name)} (run_as) could replace it, and be root at the "
                f"next start; `chown root {shlex.quote(place or str(file))}`"
            )


def _for_group(name: str, gid: int) -> str:
    try:
        group = grp.getgrgid(gid).gr_name
    except KeyError:
        group = str(gid)
    return f"chgrp {group} {name} && chmod 640 {name}"


def _no_home(config: Config, sources: Sources) -> Iterator[str]:
    """Warn of missing homes. Not an error: a user may remove the directory, and must not be able to
    keep the server from starting."""
    for path, login, account in accounts(config):
        if account.home == "/":
            continue  # it is the root, which was looked at
        looking_at(f"{account.root}{account.home} (the home of {quoted(login)})")
        root, directory = map(os.path.realpath, (account.root, account.root + account.home))
        is_there = os.path.isdir(directory) and FilePath(directory).is_relative_to(root)
        if os.path.isdir(root) and not is_there:
            yield (
                f"{sources.where((*path, 'home'))}: {account.home} is no directory in "
                f"{account.root}: "
                f"make it, or sessions of {login} begin in a missing directory"
            )
