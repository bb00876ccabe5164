"""What must hold between the values of a configuration. See also
``account_directories`` and ``warnings``."""

from __future__ import annotations

from typing import Any

from ftpcluster.config.accounts import ANONYMOUS
from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.naming import quoted
from ftpcluster.config.network import TLSConfig
from ftpcluster.config.progress import looking_at
from ftpcluster.config.sources import Sources
from ftpcluster.net.certificates import BadCertificate, NoKey, make_context
from ftpcluster.privileges import CannotRunAs, Identity, parse_run_as
from ftpcluster.protocol.protection import Protection
from ftpcluster.safe_paths import reading_for


def check(config: Config, sources: Sources) -> None:
    """Refuse values that do not fit together.

    A value of ``config`` may be wrong by itself: then it has been refused, and ``config`` has None
    in its place. So each check looks at a value only after ``sources.is_sound`` of its path.
    """
    check_users(config, sources)
    for each in (
        _check_run_as, _check_data_ports, _check_ports_apart, _check_listeners, _check_tls,
        _check_certificates, _check_deny,
    ):  # fmt: skip
        each(config, sources)


def check_users(config: Config, sources: Sources) -> None:
    """Refuse what is wrong with users and groups alone; see ``check``."""
    for each in (_check_users, _check_groups, _check_permissions):
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


def _check_groups(config: Config, sources: Sources) -> None:
    first: dict[str, int] = {}
    for index, group in enumerate(config.groups or ()):
        path: Path = ("group", index, "name")
        if not sources.is_sound(path):
            continue
        if group.name in first:
            sources.refuse(
                path, f"{quoted(group.name)} is the name of group[{first[group.name]}], too"
            )
        first.setdefault(group.name, index)
    for index, user in enumerate(config.users or ()):
        path = ("user", index, "group")
        if sources.is_sound(path) and user.group is not None and user.group not in first:
            known = f"; there are {', '.join(map(quoted, first))}" if first else ""
            sources.refuse(path, f"there is no [[group]] named {quoted(user.group)}{known}")


def _check_permissions(config: Config, sources: Sources) -> None:
    for path, _, account in accounts(config):
        seen = set()
        for index, permission in enumerate(account.permissions or ()):
            below = (*path, "permissions", index, "path")
            if sources.is_sound(below):
                if permission.path in seen:
                    sources.refuse(below, f"{quoted(permission.path)} is given twice")
                seen.add(permission.path)


def _check_deny(config: Config, sources: Sources) -> None:
    path: Path = ("ban", "deny")
    if sources.is_sound(path, ("ban", "allow")):
        both = set(config.ban.deny).intersection(config.ban.allow)
        for network in sorted(both):
            sources.refuse(path, f"{network} is in ban.allow, too; remove it from one of them")


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


# ---------------------------------------------------------------------- accounts


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
    brings_its_own = brings_its_own or config.user_files is not None
    if sources.file is None or sources.has_problems or brings_its_own or accounts(config):
        return
    sources.refuse(
        ("user",),
        "there are no accounts, so nobody could log in: name some with [[user]] or [anonymous], "
        "or give --user or --anonymous",
    )
