"""The passwords of accounts: in the configuration itself, or in files that it names."""

from __future__ import annotations

import msgspec

from ftpcluster.config.accounts import UserConfig
from ftpcluster.config.checks import identity_of
from ftpcluster.config.lines import Path
from ftpcluster.config.model import Config
from ftpcluster.config.progress import looking_at
from ftpcluster.config.sources import Sources
from ftpcluster.config.values import PLAIN, Unfit, read_password
from ftpcluster.passwords import is_hash
from ftpcluster.privileges import Identity
from ftpcluster.safe_paths import UnsafePath, reading_for

_MOST = 1024
"""Bytes of a file with a password. A longer one is another file, named by mistake."""


def with_passwords(config: Config, sources: Sources) -> Config:
    """Every user with a password; one who has none, or two, is refused."""
    identity = identity_of(config) if sources.is_sound(("run_as",)) else None
    users = [
        user if user is None else _with_password(user, ("user", index), sources, identity)
        for index, user in enumerate(config.users or ())
    ]
    return msgspec.structs.replace(config, users=tuple(users))


def _with_password(
    user: UserConfig, path: Path, sources: Sources, identity: Identity | None
) -> UserConfig:
    of_file = (*path, "password_file")
    if not sources.is_sound((*path, "password"), of_file):
        return user
    if user.password_file is None:
        if user.password is None:
            sources.refuse(
                (*path, "password"),
                "is missing; expected a hash (`ftpcluster hash` makes one), "
                f'or "{PLAIN}" with the password behind it',
            )
        return user
    if user.password is not None:
        sources.refuse(of_file, "password is given, too: leave one of them out")
        return user
    looking_at(user.password_file)
    try:
        with reading_for([user.password_file], identity), open(user.password_file, "rb") as file:
            content = file.read(_MOST + 1)
        password = _read(content)
    except (OSError, UnsafePath) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        sources.refuse(of_file, f"cannot be read: {why}", about=user.password_file)
        return user
    except Unfit as error:
        sources.refuse(of_file, str(error), about=user.password_file)
        return user
    return msgspec.structs.replace(user, password=password)


def _read(content: bytes) -> str:
    """Raises Unfit."""
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise Unfit("not UTF-8") from None
    if len(content) > _MOST or not text or "\n" in text:
        raise Unfit("expected one line with a password or a hash")
    if not is_hash(text) and not text.startswith(PLAIN):
        text = PLAIN + text
    return read_password(text)
