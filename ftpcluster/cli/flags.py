"""Flags → what they lay over a configuration file: each wins over the key that it stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from ftpcluster.config.leaves import PLAIN
from ftpcluster.config.lines import Path
from ftpcluster.config.model import ANONYMOUS, ConfigError
from ftpcluster.config.tree import Tree
from ftpcluster.passwords import is_hash

_NAME = re.compile(r"[^:\s\x00-\x1f\x7f]+")
_KEYS = (
    ("workers", "--workers", ("workers",)),
    ("loop", "--loop", ("loop",)),
    ("run_as", "--run-as", ("run_as",)),
    ("metrics", "--metrics", ("metrics", "listen")),
    ("server", "--server", ("server",)),
    ("user_manager", "--user-manager", ("user_manager",)),
    ("log_level", "--log-level", ("log", "level")),
    ("log_file", "--log-file", ("log", "file")),
    ("log_format", "--log-format", ("log", "format")),
    ("data_ports", "--data-ports", ("data", "ports")),
    ("max_connections", "--max-connections", ("limits", "connections")),
    (
        "max_connections_per_address",
        "--max-connections-per-address",
        ("limits", "connections_per_address"),
    ),
    ("download_limit", "--download-limit", ("limits", "download")),
    ("upload_limit", "--upload-limit", ("limits", "upload")),
)
_KEYS_OF_ACCOUNTS = (
    ("max_connections_per_user", "--max-connections-per-user", "connections"),
    ("download_limit_per_user", "--download-limit-per-user", "download"),
    ("upload_limit_per_user", "--upload-limit-per-user", "upload"),
)


def take_passwords(users: tuple[str, ...], environment: MutableMapping[str, str]) -> dict[str, str]:
    """The passwords of ``--user`` that stand in the environment, by the variables' names.

    They are taken out of it: worker processes need not inherit them.
    """
    names = (_variable(user.partition(":")[0]) for user in users)
    return {name: environment.pop(name) for name in names if name in environment}


def _variable(login: str) -> str:
    """The environment variable that may hold a password."""
    return "FTPCLUSTER_USER_" + re.sub(r"\W", "_", login.upper())


def _here() -> str:
    """The folder that we were started in. Raises ConfigError."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the folder that this was started in is gone: cd to another") from None


@dataclass(frozen=True, kw_only=True, repr=False)
class Flags:
    """What was given to ``ftpcluster run``; None is what was not. ``passwords``: see above.

    Relative names lead from ``folder``, also at a reload, when that may have been removed.
    """

    folder: str = field(default_factory=_here)
    workers: int | None = None
    hosts: tuple[str, ...] = ()
    port: int | None = None
    root: FilePath | None = None
    users: tuple[str, ...] = ()
    passwords: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    writable: bool = False
    data_ports: str | None = None
    masquerades: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    max_connections: int | None = None
    max_connections_per_user: int | None = None
    max_connections_per_address: int | None = None
    download_limit: str | None = None
    upload_limit: str | None = None
    download_limit_per_user: str | None = None
    upload_limit_per_user: str | None = None
    server: str | None = None
    user_manager: str | None = None
    tls_cert: FilePath | None = None
    tls_key: FilePath | None = None
    implicit_tls_port: int | None = None
    require_tls: bool = False
    loop: str | None = None
    run_as: str | None = None
    metrics: str | None = None
    log_level: str | None = None
    log_format: str | None = None
    log_file: str | None = None

    def doubts(self) -> Iterator[str]:
        """What is no error, and may not be what was meant."""
        if self.writable and not self.users:
            yield (
                "--writable: has no effect without --user: it is those accounts that may write, "
                "anonymous users never"
            )

    def lay_over(self, tree: Tree) -> None:
        """Put what was given into the tree; what cannot be is refused there."""
        for name, flag, path in _KEYS:
            value = getattr(self, name)
            if value is not None:
                tree.put(path, value, f"{flag} {value}")
        has_tls = self._lay_tls(tree)
        self._lay_listeners(tree, has_tls=has_tls)
        self._lay_masquerades(tree)
        self._lay_accounts(tree)

    # ------------------------------------------------------------------ listeners and TLS

    def _lay_tls(self, tree: Tree) -> bool:
        """Whether there is a certificate, from wherever."""
        certificate = self.tls_cert
        if certificate is not None:
            tree.put(("tls", "certificate"), str(certificate), f"--tls-cert {certificate}")
        elif tree.get(("tls",)) is None:
            for flag, given in (
                ("--tls-key", self.tls_key is not None),
                ("--implicit-tls-port", self.implicit_tls_port is not None),
                ("--require-tls", self.require_tls),
            ):
                if given:
                    tree.refuse_flag(f"{flag} needs --tls-cert")
            return False
        key = self.tls_key or certificate  # also where the file names one: they are a pair
        if key is not None:
            tree.put(("tls", "key"), str(key), f"--tls-key {key}")
        if self.require_tls:
            tree.put(("tls", "required"), self.require_tls, "--require-tls")
        return True

    def _lay_listeners(self, tree: Tree, *, has_tls: bool) -> None:
        implicit = self.implicit_tls_port if has_tls else None
        if not (self.hosts or self.proxies or self.port is not None or implicit is not None):
            return
        plain = self._find(tree, is_implicit=False)
        path: Path = ("listen", plain)
        tree.put_default(path, {})
        if self.hosts:
            label = " ".join(f"--host {host}" for host in self.hosts)
            tree.put((*path, "address"), list(self.hosts), label)
        if self.port is not None:
            tree.put((*path, "port"), self.port, f"--port {self.port}")
        if implicit is not None:
            self._lay_implicit(tree, plain, implicit)
        for index in range(len(tree.tables("listen")) if self.proxies else 0):
            path = ("listen", index, "proxy_protocol")
            tree.put(path, [], "--proxy-protocol")
            for number, network in enumerate(self.proxies):
                tree.put((*path, number), network, f"--proxy-protocol {network}")

    def _lay_implicit(self, tree: Tree, plain: int, port: int) -> None:
        """A listener with implicit TLS: a new one listens where the plain one does."""
        index = self._find(tree, is_implicit=True)
        label = f"--implicit-tls-port {port}"
        address = tree.get(("listen", plain, "address"))
        tree.put_default(("listen", index), {} if address is None else {"address": address})
        tree.put(("listen", index, "tls"), "implicit", label)
        tree.put(("listen", index, "port"), port, label)

    @staticmethod
    def _find(tree: Tree, *, is_implicit: bool) -> int:
        """The first listener of that kind; where there is none, the next one."""
        listeners = tree.tables("listen")
        for index, listener in enumerate(listeners):
            if (listener.get("tls") == "implicit") == is_implicit:
                return index
        return len(listeners)

    def _lay_masquerades(self, tree: Tree) -> None:
        everywhere = [text for text in self.masquerades if "=" not in text]
        for text in everywhere[1:]:
            tree.refuse_flag(f"--masquerade {text}: the address for all clients is given already")
        for text in self.masquerades:
            network, equals, address = text.partition("=")
            path: Path = ("data", "masquerade_for", network) if equals else ("data", "masquerade")
            tree.put(path, address if equals else text, f"--masquerade {text}")

    # ------------------------------------------------------------------ accounts

    def _lay_accounts(self, tree: Tree) -> None:
        if tree.get(("user_manager",)) is not None:
            self._refuse_what_a_user_manager_knows(tree)
            return
        had_accounts = any(tree.get((name,)) is not None for name in ("user", ANONYMOUS))
        seen: set[str] = set()
        for text in self.users:
            self._lay_user(tree, text, seen)
        # with a file anonymous users have to be asked for: else a file that was cut off or emptied
        # would let everybody in, at a reload without anybody noticing
        is_alone = tree.file is None and not self.users
        if self.anonymous or is_alone:
            if self.root is not None or tree.get((ANONYMOUS, "root")) is None:
                self._put_root(tree, (ANONYMOUS,))
                self._refuse_all_of_the_machine(tree)
        elif self.root is not None and not self.users:
            why = f"the accounts of {tree.file} have folders of their own"
            if not had_accounts:
                why = f"there is no account that would have it beside {tree.file}"
            tree.refuse_flag(
                f"--root {self.root}: {why}; --user and --anonymous add some that take this one"
            )
        self._lay_limits_of_accounts(tree)

    def _refuse_what_a_user_manager_knows(self, tree: Tree) -> None:
        for flag, given in (
            ("--user", bool(self.users)),
            ("--anonymous", self.anonymous),
            ("--writable", self.writable),
            ("--root", self.root is not None),
            *((flag, getattr(self, name) is not None) for name, flag, _ in _KEYS_OF_ACCOUNTS),
        ):
            if given:
                tree.refuse_flag(
                    f"{flag}: has no effect, since user_manager knows the users: leave it out; "
                    "folders, permissions and limits are those of the users that it makes"
                )

    def _lay_limits_of_accounts(self, tree: Tree) -> None:
        paths: list[Path] = [("user", index) for index in range(len(tree.tables("user")))]
        if isinstance(tree.get((ANONYMOUS,)), dict):
            paths.append((ANONYMOUS,))
        for name, flag, key in _KEYS_OF_ACCOUNTS:
            value = getattr(self, name)
            if value is not None:
                for path in paths:
                    tree.put((*path, key), value, f"{flag} {value}")

    def _lay_user(self, tree: Tree, text: str, seen: set[str]) -> None:
        """Add an account, or put it in the place of one that has the same login."""
        login, colon, password = text.partition(":")
        label = f"--user {login}"
        if not _NAME.fullmatch(login):
            # a password could stand where the name should: it is not repeated
            tree.refuse_flag("--user: expected NAME:PASSWORD, with a name that has no space in it")
            return
        if login in seen:
            tree.refuse_flag(f"{label}: given twice")
            return
        seen.add(login)
        variable = _variable(login)
        if not colon and variable not in self.passwords:
            tree.refuse_flag(f"{label}: no password; give {login}:PASSWORD or set {variable}")
            return
        password = password if colon else self.passwords[variable]
        logins = [each.get("login") for each in tree.tables("user")]
        path: Path = ("user", logins.index(login) if login in logins else len(logins))
        permission = {"path": "/", "read": True, "write": self.writable}
        tree.put(path, {}, label)
        tree.put((*path, "login"), login, label)
        is_plain = not is_hash(password)
        tree.put((*path, "password"), PLAIN * is_plain + password, label)
        tree.put((*path, "permissions"), [permission], label)
        self._put_root(tree, path)

    def _refuse_all_of_the_machine(self, tree: Tree) -> None:
        """Services are started in "/": whoever forgot to name a folder did not mean all of them."""
        if self.root is None and self.folder == "/":
            tree.refuse_flag(
                "anonymous users would read all of /, where it was started: say what is "
                'served: root = "/srv/ftp" in [anonymous], a [[user]], or --root DIR'
            )

    def _put_root(self, tree: Tree, path: Path) -> None:
        root = "." if self.root is None else str(self.root)
        tree.put((*path, "root"), root, f"--root {root}")
