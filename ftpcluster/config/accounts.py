"""Accounts: the settings of users, and of anonymous logins."""

from __future__ import annotations

from typing import Annotated

from ftpcluster.config.kinds import Count, Directory, Login, Password, Speed, VirtualPath
from ftpcluster.config.setting import NO_LIMIT, Setting, Table

ANONYMOUS = "anonymous"
"""The table and the login for clients without an account."""


class PermissionConfig(Table, frozen=True, kw_only=True):
    """What a user may do at a path and beneath it; the nearest path above decides."""

    path: Annotated[VirtualPath, Setting("the path, as the user sees it", example='"/"')]
    read: Annotated[bool, Setting("whether it may be read and listed")] = True
    write: Annotated[
        bool, Setting("whether it may be written, made, renamed and removed", example="true")
    ] = False


EVERYTHING = (PermissionConfig(path="/", write=True),)
READ_ONLY = (PermissionConfig(path="/"),)


class AccountConfig(Table, frozen=True, kw_only=True):
    """The settings that users and anonymous logins have in common."""

    root: Annotated[
        Directory,
        Setting(
            "the directory that the user sees as `/`",
            "; `{login}` in it is the user's name. It has to exist",
            example='"/srv/ftp/pub"',
        ),
    ]
    home: Annotated[
        VirtualPath,
        Setting(
            "where sessions begin, within `root`",
            "; `{login}` as in `root`. Where it does not exist `check` and `run` warn",
        ),
    ] = "/"
    connections: Annotated[
        Count | None,
        Setting(
            "sessions of each user; one more gets 530",
            otherwise=NO_LIMIT,
            example="8",
            flag="--max-connections-per-user N",
        ),
    ] = None
    download: Annotated[
        Speed | None,
        Setting(
            "the speed of all downloads of a user together",
            otherwise=NO_LIMIT,
            example='"10MB"',
            flag="--download-limit-per-user SPEED",
        ),
    ] = None
    upload: Annotated[
        Speed | None,
        Setting(
            "the speed of all uploads of a user together",
            otherwise=NO_LIMIT,
            example='"10MB"',
            flag="--upload-limit-per-user SPEED",
        ),
    ] = None
    download_per_connection: Annotated[
        Speed | None,
        Setting("the speed of each connection's downloads", otherwise=NO_LIMIT, example='"5MB"'),
    ] = None
    upload_per_connection: Annotated[
        Speed | None,
        Setting("the speed of each connection's uploads", otherwise=NO_LIMIT, example='"5MB"'),
    ] = None
    permissions: Annotated[
        tuple[PermissionConfig, ...],
        Setting(
            "what may be done where; the nearest path above decides",
            ", see below; with any, what they do not cover may not be touched",
            otherwise="everything may be read and written",
            example="""[
  { path = "/", read = true, write = false },
  { path = "/incoming", read = true, write = true },
]""",
        ),
    ] = EVERYTHING


class UserConfig(AccountConfig, frozen=True, kw_only=True):
    """One account. At least one, or [anonymous], is needed."""

    login: Annotated[
        Login, Setting("the name; no space, no colon; each only once", example='"alice"')
    ]
    password: Annotated[
        Password,
        Setting(
            'a hash, which `ftpcluster hash` makes, or `"plain:secret"`',
            "; of hashes argon2, scrypt and bcrypt, and those of crypt(3), as in `/etc/shadow`",
            example='"plain:change me"',
        ),
    ]

    def __repr__(self) -> str:
        return f"UserConfig(login={self.login!r}, root={self.root!r})"


class AnonymousConfig(AccountConfig, frozen=True, kw_only=True):
    """Logins as "anonymous" or "ftp", with any password."""

    permissions: Annotated[
        tuple[PermissionConfig, ...],
        Setting("as those of a user", otherwise="everything may be read"),
    ] = READ_ONLY
