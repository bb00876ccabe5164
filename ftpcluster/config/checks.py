"""What must hold between the values of a configuration, and between them and this machine."""

from __future__ import annotations

import grp
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any

import msgspec

from ftpcluster.config.accounts import ANONYMOUS, AccountConfig
from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.network import TLSConfig
from ftpcluster.config.progress import looking_at
from ftpcluster.config.sources import Sources, quoted
from ftpcluster.config.values import PLAIN
from ftpcluster.net.certificates import BadCertificate, NoKey, make_context
from ftpcluster.privileges import CannotRunAs, Identity, barriers, may_read, parse_run_as
from ftpcluster.protocol.protection import Protection
from ftpcluster.safe_paths import controllers, is_led_by_others, reading_for

_LOGIN = "{login}"
_OTHERS = 0o004
_GROUP_OR_OTHERS = 0o044


def check(config: Config, sources: Sources) -> None:
    """Refuse values that do not fit together. Values of ``config`` count where they are sound."""
    for each in (
        _check_run_as, _check_users, _check_permissions, _check_data_ports, _check_ports_apart,
        _check_listeners, _check_tls, _check_certificates,
    ):  # fmt: skip
        each(config, sources)


def _check_run_as(config: Config, sources: Sources) -> None:
    """``run_as`` has to name a user, and a group, of this machine."""
    if config.run_as is not None and sources.is_sound(("run_as",)):
        looking_at(f"the name service, which is asked for {config.run_as} (run_as)")
        try:
            parse_run_as(config.run_as)
        except CannotRunAs as error:
            sources.refuse(("run_as",), str(error))


def _check_users(config: Config, sources: Sources) -> None:
    if sources.get(("user_manager",)) is not None:
        for name in ("user", ANONYMOUS):
            if sources.get((name,)) is not None:  # flags for them are refused elsewhere
                sources.refuse((name,), "has no effect, since user_manager knows the users")
    first: dict[str, int] = {}
    for index, user in enumerate(config.users or ()):
        path: Path = ("user", index, "login")
        if not sources.is_sound(path):
            continue
        if user.login in first:
            sources.refuse(
                path, f"{quoted(user.login)} is the login of user[{first[user.login]}], too"
            )
        elif user.login == ANONYMOUS and config.anonymous is not None:
            sources.refuse(path, f"{quoted(ANONYMOUS)} is the login of [{ANONYMOUS}], too")
        first.setdefault(user.login, index)


def _check_permissions(config: Config, sources: Sources) -> None:
    for path, _, account in accounts(config):
        seen = set()
        for index, permission in enumerate(account.permissions or ()):
            below = (*path, "permissions", index, "path")
            if sources.is_sound(below):
                if permission.path in seen:
                    sources.refuse(below, f"{quoted(permission.path)} is given twice")
                seen.add(permission.path)


def _check_data_ports(config: Config, sources: Sources) -> None:
    path: Path = ("data", "ports")
    if sources.is_sound(path, ("workers",)) and config.data.ports is not None:
        first, last = config.data.ports
        if last - first + 1 < config.workers:
            count = "1 port is" if first == last else f"{last - first + 1} ports are"
            sources.refuse(path, f"{count} too few for {config.workers} workers")


def _check_ports_apart(config: Config, sources: Sources) -> None:
    path: Path = ("data", "ports")
    if not sources.is_sound(path) or config.data.ports is None:
        return
    first, last = config.data.ports
    for index, listen in enumerate(config.listen or ()):
        if sources.is_sound(("listen", index)) and first <= listen.port <= last:
            sources.refuse(
                path,
                f"the server itself listens on port {listen.port}, which is among them: give "
                "others, or let it listen on another one",
            )


def _check_listeners(config: Config, sources: Sources) -> None:
    seen: dict[tuple[str, int], int] = {}
    for index, listen in enumerate(config.listen or ()):
        path: Path = ("listen", index)
        if not sources.is_sound(path):
            continue
        mode = sources.get((*path, "tls"))
        if mode in ("explicit", "implicit") and sources.get(("tls",)) is None:
            sources.refuse((*path, "tls"), f"{quoted(mode)} needs [tls] with a certificate")
        if mode == "implicit" and sources.get((*path, "port")) is None:
            sources.refuse((*path, "port"), "is missing; with implicit TLS it is 990 as a rule")
            continue  # the default is another listener's, as a rule
        for address in listen.address or ("all addresses",):
            other = seen.setdefault((address, listen.port), index)
            if other != index and listen.port:
                sources.refuse(
                    path, f"port {listen.port} of {address} is that of listen[{other}], too"
                )


def _check_tls(config: Config, sources: Sources) -> None:
    """Refuse a listener without TLS where TLS is required: no client could use it."""
    if config.tls is None:
        return
    for index, listen in enumerate(config.listen or ()):
        path: Path = ("listen", index, "tls")
        for name in ("required", "required_data"):
            if (
                sources.is_sound(path, ("tls", name))
                and listen.tls is Protection.OFF
                and getattr(config.tls, name)
            ):
                sources.refuse(path, f'"off" serves nobody, since tls.{name} is true')


def _check_certificates(config: Config, sources: Sources) -> None:
    names = ("certificate", "key", "client_ca")
    paths: list[Path] = [("tls", name) for name in names]
    if config.tls is None or not sources.is_sound(*paths, ("tls", "minimum_version")):
        return
    identity = identity_of(config) if sources.is_sound(("run_as",)) else None
    looking_at(f"{', '.join(config.tls.files)} ([tls])")
    try:
        try_certificates(config.tls, identity)
    except BadCertificate as error:
        text = str(error)
        if isinstance(error, NoKey):
            text += "; name its file with tls.key, or --tls-key"
        # an error of both files together is reported for the certificate
        at_fault = [n for n in names if text.startswith(f"{getattr(config.tls, n)}: ")]
        sources.refuse(("tls", (at_fault or names)[0]), text)


def try_certificates(tls: TLSConfig, identity: Identity | None) -> None:
    """Raises BadCertificate where the files cannot be used as they are now."""
    with reading_for(tls.files, identity):
        make_context(
            tls.certificate,
            tls.key_file,
            minimum_version=tls.minimum_version,
            client_ca=tls.client_ca,
        )


def identity_of(config: Config) -> Identity | None:
    """The user of ``run_as``; None: the one who starts the server. Raises CannotRunAs."""
    return None if config.run_as is None else parse_run_as(config.run_as)


# ---------------------------------------------------------------------- accounts and their
# directories


def accounts(config: Config) -> list[tuple[Path, str, Any]]:
    """All accounts, even wrong ones: the path of each, its login, and the account itself."""
    found: list[tuple[Path, str, Any]] = [
        (("user", index), user.login, user)
        for index, user in enumerate(config.users or ())
        if user is not None
    ]
    if config.anonymous is not None:
        found.append(((ANONYMOUS,), ANONYMOUS, config.anonymous))
    return found


def check_accounts(config: Config, sources: Sources) -> None:
    """Refuse a file without accounts: it was cut off or emptied, or is not finished yet.

    If something else is wrong, only that is reported: a misspelt [[user]] may be the reason.
    """
    brings_its_own = config.server is not None or config.user_manager is not None
    if sources.file is None or sources.has_problems or brings_its_own or accounts(config):
        return
    sources.refuse(
        ("user",),
        "there are no accounts, so nobody could log in: name some with [[user]] or [anonymous], "
        "or give --user or --anonymous",
    )


def with_directories(config: Config, sources: Sources) -> Config:
    """Every account with its directory, checked.

    An account whose directory cannot be served harms no other: its user cannot log in until it can
    be served. If no account is left, or with strict_users, it is an error.
    """
    broken = _Broken()
    looked_at: dict[str, tuple[str, str]] = {}
    settled: dict[Path, AccountConfig] = {}
    for path, login, account in accounts(config):
        changes: dict[str, str] = {}
        for name in ("root", "home"):
            below = (*path, name)
            text = getattr(account, name)
            if sources.is_sound(below) and (
                _LOGIN not in text or sources.is_sound((*path, "login"))
            ):
                changes[name] = _filled_in(sources, below, text, login)
        if "root" in changes and sources.is_sound((*path, "root")):
            root = changes["root"]
            if root not in looked_at:
                looking_at(f"{root} (the root of {quoted(login)})")
                looked_at[root] = _look_at(root)
            changes["root"], problem = looked_at[root]
            if problem:
                broken[(*path, "root")] = problem, root
        settled[path] = msgspec.structs.replace(account, **changes)
    anonymous = settled.pop((ANONYMOUS,), None)
    changed = {"users": tuple(settled.values()), "anonymous": anonymous}
    config = msgspec.structs.replace(config, **changed)
    _find_unreadable(config, sources, broken)
    is_refused = config.strict_users or len(broken) == len(accounts(config))
    for place, (problem, root) in broken.items():
        if is_refused:
            sources.refuse(place, problem, about=root)
        else:
            text = f"{problem}; its user cannot log in until that is mended"
            sources.doubt(place, text, about=root)
    return config


def _filled_in(sources: Sources, path: Path, text: str, login: str) -> str:
    """The text with ``{login}`` replaced. The login has to be one component of a path."""
    if _LOGIN not in text:
        return text
    if login in (".", "..") or "/" in login:
        sources.refuse(path, f"{_LOGIN} would be {quoted(login)}, which is no directory's name")
    return text.replace(_LOGIN, login)


def _look_at(root: str) -> tuple[str, str]:
    """The path of a directory, and what is wrong with it, if anything is.

    A link that another user could change is resolved now, once and for all.
    """
    try:
        path = FilePath(root).resolve(strict=True)
        if not path.is_dir():
            return root, "not a directory"
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        (path / ".").stat()  # to list it takes the open alone; to reach files takes this
    except FileNotFoundError:
        return root, "there is no such directory"
    except PermissionError:
        return root, "not permitted; the server may not read this directory"
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        why = error.strerror if isinstance(error, OSError) else None
        return root, why or "too many levels of links"
    return (str(path) if is_led_by_others(root) else os.path.abspath(root)), ""


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
    for (path, root), barrier in zip(sound, in_the_way, strict=True):
        if barrier == root:
            text = f"{who} may not read this directory; `{_let_in(identity, root, 'rx')}`"
            broken[path] = text, root
        elif barrier:
            text = f"{who} may not enter {barrier}, above it; `{_let_in(identity, barrier, 'x')}`"
            broken[path] = f"{text}, or serve a directory elsewhere", root


def _let_in(identity: Identity, directory: str, rights: str) -> str:
    status = os.stat(directory)
    who = "u" if status.st_uid == identity.uid else "g" if status.st_gid == identity.gid else "o"
    return f"chmod {who}+{rights} {shlex.quote(directory)}"


# ---------------------------------------------------------------------- warnings


def warnings(config: Config, sources: Sources) -> list[str]:
    """Warnings: what is no error, but may harm or surprise."""
    identity = identity_of(config)
    found = [*sources.doubts, *_no_home(config, sources)]
    if config.tls is not None:
        found += _unreadable(config.tls.files, identity)
    if sources.file is None:
        return found
    exposed = _exposed(sources.file, sources.passwords_in_file(), identity)
    return [
        *exposed,
        *_unreadable([str(sources.file)], identity),
        *_replaceable(sources.file, identity),
        *found,
    ]


def _exposed(file: FilePath, given: list[str], identity: Identity | None) -> Iterator[str]:
    """Warn of passwords that other users of this machine may read.

    If the server does not own the file, its group has to read it.
    """
    status = file.stat()
    uid, gid = (os.geteuid(), os.getegid()) if identity is None else (identity.uid, identity.gid)
    is_others = status.st_uid != uid
    mode = status.st_mode & (_OTHERS if is_others and status.st_gid == gid else _GROUP_OR_OTHERS)
    name = shlex.quote(str(file))
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
        looking_at(f"{account.root}{account.home} (the home of {quoted(login)})")
        root, directory = map(os.path.realpath, (account.root, account.root + account.home))
        is_there = os.path.isdir(directory) and FilePath(directory).is_relative_to(root)
        if os.path.isdir(root) and not is_there:
            yield (
                f"{sources.where((*path, 'home'))}: {account.home} is no directory in "
                f"{account.root}: "
                f"make it, or sessions of {login} begin in a missing directory"
            )
