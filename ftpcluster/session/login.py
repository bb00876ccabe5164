"""How far a login has come: somebody has said USER, or has logged in."""

from __future__ import annotations

import msgspec

from ftpcluster.protocol.pattern import Names
from ftpcluster.quota.leases import SessionLimits
from ftpcluster.session.rights import Rights
from ftpcluster.storage.base import Storage
from ftpcluster.users import User


class Unauthenticated(msgspec.Struct):
    """What counts against a client that has not logged in.

    ``since``: when it connected, or logged out, on the loop's clock.
    """

    since: float
    failed_logins: int = 0
    unknown_verbs: int = 0


class Claim(msgspec.Struct, frozen=True):
    """Somebody said USER. ``user`` is None where no user has that name, which no reply reveals.

    ``is_handed_out``: the user manager has to be told when the user is not needed any more.
    ``refused``: why there will be no login, for the log; then ``user`` is None, too.
    """

    login: str
    user: User | None
    needs_password: bool
    is_handed_out: bool = False
    refused: str = ""


class Account(msgspec.Struct, frozen=True):
    """Somebody has logged in.

    ``made``: the paths that this login has stored in directories that it may not read.
    ``forbidden``: the names that it may not use; ``unlisted``: those that listings do not show.
    """

    user: User
    storage: Storage
    rights: Rights
    forbidden: Names
    unlisted: Names
    speed_limits: SessionLimits | None = None
    made: dict[str, None] = {}
