"""The flags of ``run``: each replaces the value of a key in the configuration file.

The flag of a key is declared with that key, in ``config``; other flags are declared here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from ftpcluster.config import ANONYMOUS, PLAIN, Config, ConfigError
from ftpcluster.config.accounts import OTHER_ACCOUNTS
from ftpcluster.config.environment import OF_A_USER, value_of
from ftpcluster.config.kinds import Directory, Port
from ftpcluster.config.lines import Path
from ftpcluster.config.setting import every_key
from ftpcluster.config.sources import Sources
from ftpcluster.passwords import is_hash

_LAID_APART = ("tls", "listen", "user")
"""Tables whose keys a flag does not simply replace."""
_NAME = re.compile(r"[^:\s\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Flag:
    """A flag of ``run``.

    ``spelling`` is the flag with its argument, and dots if it may be repeated. ``path`` is its key;
    in an array of tables, that of the first table.
    """

    spelling: str
    help: str
    default: str
    annotation: Any
    path: Path = ()

    @property
    def name(self) -> str:
        return self.spelling.partition(" ")[0]

    @property
    def metavar(self) -> str:
        return self.spelling.partition(" ")[2].removesuffix("...")

    @property
    def repeats(self) -> bool:
        return self.spelling.endswith("...")

    @property
    def parameter(self) -> str:
        """The name of its value in ``Flags``."""
        return self.name.removeprefix("--").replace("-", "_")

    def as_in_a_file(self, value: Any) -> Any:
        """The given value as a file would have it: the number 5, for instance, for ``--flag 5``."""
        if self.repeats:
            return list(value)
        is_text = isinstance(value, str | FilePath)
        return value_of(self.annotation, str(value)) if is_text else value

    def label(self, value: object) -> str:
        """What messages call a value of this flag."""
        if value is True:
            return self.name
        values = value if isinstance(value, tuple) else (value,)
        return " ".join(f"{self.name} {each}" for each in values)


_OTHERS = (
    Flag("--root DIR", "the directory that is served", "the current one", Directory),
    Flag(
        "--user NAME:PASSWORD...",
        "an account; without `:PASSWORD` the environment has it in `FTPCLUSTER_USER_<NAME>`",
        "none: anonymous reads; with a file, those of the file",
        str,
    ),
    Flag(
        "--anonymous",
        "anonymous users may read, beside the accounts",
        "off; on without accounts and without a file",
        bool,
    ),
    Flag("--writable", "accounts of `--user` may write; anonymous users never", "off", bool),
    Flag("--implicit-tls-port P", "a further port, where connections begin with TLS", "none", Port),
)


def _of_keys() -> Iterator[Flag]:
    for path, key in every_key(Config):
        setting = key.setting
        # other accounts' keys are those of a user
        if setting is not None and setting.flag and path[0] not in OTHER_ACCOUNTS:
            default = "off" if key.annotation is bool else key.default_text.replace('"', "")
            default = "none" if key.field.required else default
            yield Flag(setting.flag, setting.help, default, key.annotation, path)


FLAGS = {flag.parameter: flag for flag in (*_OTHERS, *_of_keys())}
"""All flags of ``run`` except ``--config``, by the names of their values in ``Flags``."""


def take_passwords(environment: MutableMapping[str, str]) -> dict[str, str]:
    """The passwords for ``--user`` in the environment, by the names of the variables.

    They are removed from it, used or not: worker processes must not inherit them.
    """
    names = [name for name in environment if name.startswith(OF_A_USER)]
    return {name: environment.pop(name) for name in names}


def _variable(login: str) -> str:
    """The environment variable that may hold a password."""
    return OF_A_USER + re.sub(r"\W", "_", login.upper())


def _here() -> str:
    """The directory that we were started in. Raises ConfigError."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the directory that this was started in is gone: cd to another") from None


class Flags:
    """What was given to ``ftpcluster run``, by the flags' parameters. Its ``repr`` shows no value.

    Relative names begin in ``directory``, even at a reload, when it may have been removed.
    ``passwords``: see ``take_passwords``.
    """

    def __init__(
        self,
        *,
        directory: str | None = None,
        passwords: Mapping[str, str] | None = None,
        **given: Any,
    ) -> None:
        """None, False and an empty tuple mean that a flag was not given."""
        if unknown := given.keys() - FLAGS.keys():
            raise TypeError(f"there is no flag for {min(unknown)!r}")
        self.directory = _here() if directory is None else directory
        self._passwords = passwords or {}
        self._given = {
            name: value
            for name, value in given.items()
            if value is not None and value is not False and value != ()
        }
        self._users: tuple[str, ...] = self._given.get("user", ())
        self._root: FilePath | None = self._given.get("root")

    def _of(self, table: str) -> list[tuple[Flag, Any]]:
        """What was given for the keys of a table at the top."""
        flags = [(FLAGS[name], value) for name, value in self._given.items()]
        return [(flag, value) for flag, value in flags if flag.path[:1] == (table,)]

    def doubts(self) -> Iterator[str]:
        """Warnings of flags that have no effect."""
        if "writable" in self._given and not self._users:
            yield (
                "--writable: has no effect without --user: it is those accounts that may write, "
                "anonymous users never"
            )

    def lay_over(self, sources: Sources) -> None:
        """Put the given values into the sources. Values that do not fit are refused there."""
        for name, value in self._given.items():
            flag = FLAGS[name]
            if flag.path and flag.path[0] not in _LAID_APART and name != "masquerade":
                self._lay(sources, flag, value)
        has_tls = self._lay_tls(sources)
        self._lay_listeners(sources, has_tls=has_tls)
        self._lay_masquerades(sources)
        self._lay_accounts(sources)

    @staticmethod
    def _lay(sources: Sources, flag: Flag, value: Any) -> None:
        """Replace a key; each value of a flag that is repeated has a label of its own."""
        if not flag.repeats:
            sources.put(flag.path, flag.as_in_a_file(value), flag.label(value))
            return
        sources.put(flag.path, [], flag.name)
        for index, each in enumerate(value):
            sources.put((*flag.path, index), each, flag.label(each))

    # ------------------------------------------------------------------ listeners and TLS

    def _lay_tls(self, sources: Sources) -> bool:
        """Set the keys of TLS. Returns whether there is a certificate, in the file or by a flag."""
        given = self._of("tls")
        certificate = self._given.get("tls_cert")
        if certificate is None and sources.get(("tls",)) is None:
            implicit = FLAGS["implicit_tls_port"]
            others = [implicit] if implicit.parameter in self._given else []
            for flag in (*(flag for flag, _ in given), *others):
                sources.refuse_unplaced(f"{flag.name} needs --tls-cert")
            return False
        if certificate is not None:  # and its key, even if the file names one
            key = FLAGS["tls_key"]
            sources.put(key.path, str(certificate), key.label(certificate))
        for flag, value in given:
            sources.put(flag.path, flag.as_in_a_file(value), flag.label(value))
        return True

    def _lay_listeners(self, sources: Sources, *, has_tls: bool) -> None:
        implicit = self._given.get("implicit_tls_port") if has_tls else None
        given = self._of("listen")
        if not given and implicit is None:
            return
        plain = self._find(sources, is_implicit=False)
        sources.put_default(("listen", plain), {})
        for flag, value in given:
            if flag is not FLAGS["proxy_protocol"]:
                path: Path = ("listen", plain, flag.path[-1])
                sources.put(path, flag.as_in_a_file(value), flag.label(value))
        if implicit is not None:
            self._lay_implicit(sources, plain, implicit)
        self._lay_proxies(sources)

    def _lay_proxies(self, sources: Sources) -> None:
        """Set the proxies, for all listeners."""
        proxies = self._given.get("proxy_protocol", ())
        for index in range(len(sources.tables("listen")) if proxies else 0):
            path: Path = ("listen", index, "proxy_protocol")
            sources.put(path, [], "--proxy-protocol")
            for number, network in enumerate(proxies):
                sources.put((*path, number), network, f"--proxy-protocol {network}")

    def _lay_implicit(self, sources: Sources, plain: int, port: int) -> None:
        """A listener with implicit TLS: a new one listens where the plain one does."""
        index = self._find(sources, is_implicit=True)
        label = f"--implicit-tls-port {port}"
        address = sources.get(("listen", plain, "address"))
        sources.put_default(("listen", index), {} if address is None else {"address": address})
        sources.put(("listen", index, "tls"), "implicit", label)
        sources.put(("listen", index, "port"), port, label)

    @staticmethod
    def _find(sources: Sources, *, is_implicit: bool) -> int:
        """The index of the first listener of that kind; if there is none, that of a new one."""
        listeners = sources.tables("listen")
        for index, listener in enumerate(listeners):
            if (listener.get("tls") == "implicit") == is_implicit:
                return index
        return len(listeners)

    def _lay_masquerades(self, sources: Sources) -> None:
        masquerades: tuple[str, ...] = self._given.get("masquerade", ())
        everywhere = [text for text in masquerades if "=" not in text]
        for text in everywhere[1:]:
            sources.refuse_unplaced(
                f"--masquerade {text}: the address for all clients is given already"
            )
        for text in masquerades:
            network, equals, address = text.partition("=")
            path: Path = ("data", "masquerade_for", network) if equals else ("data", "masquerade")
            sources.put(path, address if equals else text, f"--masquerade {text}")

    # ------------------------------------------------------------------ accounts

    def _lay_accounts(self, sources: Sources) -> None:
        if sources.get(("user_manager",)) is not None:
            self._refuse_what_a_user_manager_knows(sources)
            return
        had_accounts = any(sources.get((name,)) is not None for name in ("user", ANONYMOUS))
        seen: set[str] = set()
        for text in self._users:
            self._lay_user(sources, text, seen)
        # with a file, anonymous users need a table or a flag: otherwise a file that was cut off or
        # emptied would let everybody in, and after a reload nobody would notice
        has_users = bool(self._users) or sources.get(("user",)) is not None
        is_alone = sources.file is None and not has_users
        if "anonymous" in self._given or is_alone:
            if self._root is not None or sources.get((ANONYMOUS, "root")) is None:
                self._put_root(sources, (ANONYMOUS,))
                self._refuse_all_of_the_machine(sources)
        elif self._root is not None and not self._users:
            given = sources.file or "the environment"
            why = f"the accounts of {given} have directories of their own"
            if not had_accounts:
                why = f"there is no account that would have it beside {given}"
            sources.refuse_unplaced(
                f"--root {self._root}: {why}; --user and --anonymous add some that take this one"
            )
        self._lay_limits_of_accounts(sources)

    def _refuse_what_a_user_manager_knows(self, sources: Sources) -> None:
        others = [FLAGS[name] for name in ("user", "anonymous", "writable", "root")]
        limits = [flag for flag, _ in self._of("user")]
        for flag in (*(each for each in others if each.parameter in self._given), *limits):
            sources.refuse_unplaced(
                f"{flag.name}: has no effect, since user_manager knows the users: leave it out; "
                "directories, permissions and limits are those of the users that it makes"
            )

    def _lay_limits_of_accounts(self, sources: Sources) -> None:
        paths: list[Path] = [("user", index) for index in range(len(sources.tables("user")))]
        if isinstance(sources.get((ANONYMOUS,)), dict):
            paths.append((ANONYMOUS,))
        for flag, value in self._of("user"):
            for path in paths:
                sources.put((*path, flag.path[-1]), flag.as_in_a_file(value), flag.label(value))

    def _lay_user(self, sources: Sources, text: str, seen: set[str]) -> None:
        """Add an account, or put it in the place of one that has the same login."""
        login, colon, password = text.partition(":")
        label = f"--user {login}"
        if not _NAME.fullmatch(login):
            # a password could stand where the name should: it is not repeated
            sources.refuse_unplaced(
                "--user: expected NAME:PASSWORD, with a name that has no space in it"
            )
            return
        if login in seen:
            sources.refuse_unplaced(f"{label}: given twice")
            return
        seen.add(login)
        variable = _variable(login)
        if not colon and variable not in self._passwords:
            sources.refuse_unplaced(
                f"{label}: no password; give {login}:PASSWORD or set {variable}"
            )
            return
        password = password if colon else self._passwords[variable]
        logins = [each.get("login") for each in sources.tables("user")]
        path: Path = ("user", logins.index(login) if login in logins else len(logins))
        permission = {"path": "/", "read": True, "write": "writable" in self._given}
        sources.put(path, {}, label)
        sources.put((*path, "login"), login, label)
        is_plain = not is_hash(password)
        sources.put((*path, "password"), PLAIN * is_plain + password, label)
        sources.put((*path, "permissions"), [permission], label)
        self._put_root(sources, path)

    def _refuse_all_of_the_machine(self, sources: Sources) -> None:
        """Services are started in "/": a forgotten --root must not mean all directories."""
        if self._root is None and self.directory == "/":
            sources.refuse_unplaced(
                "anonymous users would read all of /, where it was started: say what is "
                'served: root = "/srv/ftp" in [anonymous], a [[user]], or --root DIR'
            )

    def _put_root(self, sources: Sources, path: Path) -> None:
        root = "." if self._root is None else str(self._root)
        sources.put((*path, "root"), root, f"--root {root}")
