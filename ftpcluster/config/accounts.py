"""Accounts: the settings of users, and of anonymous logins."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ftpcluster.config.kinds import (
    Count,
    Date,
    Directory,
    File,
    GroupName,
    Login,
    NamePattern,
    NetworkList,
    Password,
    Speed,
    VirtualPath,
)
from ftpcluster.config.setting import COMPUTED, NO_LIMIT, Setting, Table

ANONYMOUS = "anonymous"
"""The table and the login for clients without an account."""
OTHER_ACCOUNTS = (ANONYMOUS, "user_defaults", "group")
"""The tables that have the keys of [[user]], too."""


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
    """The settings that users, their defaults, groups and anonymous logins have in common."""

    root: Annotated[
        Directory,
        Setting(
            "the directory that the user sees as `/`",
            "; `{login}` in it is the user's name. It has to exist",
            otherwise="that of the group or of `[user_defaults]`; without them it is needed",
            example='"/srv/ftp/pub"',
        ),
    ] = ""
    home: Annotated[
        VirtualPath,
        Setting(
            "where sessions begin, within `root`",
            "; `{login}` as in `root`. Where it does not exist `check` and `run` warn",
        ),
    ] = "/"
    create_home: Annotated[
        bool,
        Setting(
            "whether `root`, with `home` in it, is made at a login where it is missing",
            ": the directory above it has to be there, and workers that are confined may make it "
            "only beneath `roots`",
        ),
    ] = False
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
    enabled: Annotated[
        bool,
        Setting(
            "whether the user may log in",
            "; if not, that is 530, as with an unknown name",
        ),
    ] = True
    expires: Annotated[
        Date | None,
        Setting(
            "the last day, in local time, on which the user may log in",
            "; sessions go on",
            otherwise="never",
            example="2027-01-31",
        ),
    ] = None
    allow: Annotated[
        NetworkList | None,
        Setting(
            "where the user may come from",
            "; from elsewhere a login is 530, as with an unknown name",
            otherwise="anywhere",
            example='["192.0.2.0/24"]',
        ),
    ] = None
    hide: Annotated[
        tuple[NamePattern, ...] | None,
        Setting(
            "names that listings do not show, in place of those of `[storage]`",
            otherwise="those of `[storage]`",
            example='[".*"]',
        ),
    ] = None
    forbid: Annotated[
        tuple[NamePattern, ...] | None,
        Setting(
            "names that the user may not use, beside those of `[storage]`",
            "; those of a user, its group and `[user_defaults]` add up",
            otherwise="none",
            example='["*.php"]',
        ),
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


class UserDefaults(AccountConfig, frozen=True, kw_only=True):
    """What a [[user]] has that neither says it itself nor has it from its group."""


class GroupConfig(AccountConfig, frozen=True, kw_only=True):
    """Users who share limits. Its other keys are defaults of its users."""

    name: Annotated[
        GroupName,
        Setting("the name, which a user's `group` names; each only once", example='"staff"'),
    ]
    connections: Annotated[
        Count | None,
        Setting(
            "sessions of all users of the group; one more gets 530",
            otherwise=NO_LIMIT,
            example="200",
        ),
    ] = None
    download: Annotated[
        Speed | None,
        Setting(
            "the speed of all downloads of the group together",
            otherwise=NO_LIMIT,
            example='"100MB"',
        ),
    ] = None
    upload: Annotated[
        Speed | None,
        Setting(
            "the speed of all uploads of the group together",
            otherwise=NO_LIMIT,
            example='"100MB"',
        ),
    ] = None


SHARED = ("connections", "download", "upload")
"""Keys of a group that limit all its users together. They are no defaults of its users."""


class UserConfig(AccountConfig, frozen=True, kw_only=True):
    """One account. At least one, or [anonymous], is needed."""

    login: Annotated[
        Login, Setting("the name; no space, no colon; each only once", example='"alice"')
    ]
    password: Annotated[
        Password | None,
        Setting(
            'a hash, which `ftpcluster hash` makes, or `"plain:secret"`',
            "; of hashes argon2, scrypt and bcrypt, and those of crypt(3), as in `/etc/shadow`",
            otherwise="needed, or `password_file`",
            example='"plain:change me"',
        ),
    ] = None
    password_file: Annotated[
        File | None,
        Setting(
            "a file with the password or hash, in one line, as in `password`",
            ", but a password needs no `plain:` before it",
            otherwise="none",
            example='"/run/secrets/alice"',
        ),
    ] = None
    group: Annotated[
        GroupName | None,
        Setting("the name of a `[[group]]`", otherwise="none", example='"staff"'),
    ] = None
    file: Annotated[str, COMPUTED] = ""
    """The file of users that this account stands in; empty: it is in the main one."""

    def __repr__(self) -> str:
        return f"UserConfig(login={self.login!r}, root={self.root!r})"


class AnonymousConfig(AccountConfig, frozen=True, kw_only=True):
    """Logins as "anonymous" or "ftp", with any password."""

    root: Annotated[
        Directory,
        Setting(
            "the directory that the user sees as `/`", ". It has to exist", example='"/srv/ftp/pub"'
        ),
    ]

    permissions: Annotated[
        tuple[PermissionConfig, ...],
        Setting(
            "as those of a user",
            otherwise="everything may be read",
            example='[{ path = "/", read = true }]',
        ),
    ] = READ_ONLY


class BrokenUser(msgspec.Struct, frozen=True):
    """An account of the configuration that cannot be used. ``why`` is for the log."""

    login: str
    why: str
