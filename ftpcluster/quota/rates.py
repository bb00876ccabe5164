"""How fast data may move: limits of a server, of groups, of users and of connections. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

Direction = Literal[0, 1]
UPLOAD: Direction = 0
DOWNLOAD: Direction = 1
"""An upload is received by the server, a download is sent."""
Level = Literal["server", "group", "user"]


class LimitKey(NamedTuple):
    """Names a limit: of the server (empty name), of a group or of a user, in one direction."""

    level: Level
    name: str
    direction: Direction


class Rates(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Bytes per second in each direction; None is no limit, and so is 0."""

    upload: int | None = None
    download: int | None = None

    @property
    def is_limited(self) -> bool:
        return bool(self.upload or self.download)

    def of(self, direction: Direction) -> int | None:
        """The limit in one direction."""
        return (self.upload if direction == UPLOAD else self.download) or None

    def tightened(self, other: Rates) -> Rates:
        """The lower of two limits in each direction."""
        if not other.is_limited:
            return self
        return Rates(
            upload=tightest(self.upload, other.upload),
            download=tightest(self.download, other.download),
        )


def tightest(*rates: int | None) -> int | None:
    """The lowest of several limits; None where none of them limits."""
    return min(filter(None, rates), default=None)


class AccountSpeeds(NamedTuple):
    """The speed limits of an account.

    ``shared`` is for all sessions of ``login`` together, ``per_connection`` for each of them.
    ``group``: the group whose limits these sessions share with those of its other users.
    """

    login: str
    shared: Rates = Rates()
    per_connection: Rates = Rates()
    group: str | None = None


class SpeedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The shared speed limits of a configuration.

    ``groups`` by name, ``users`` by login; ``group_of`` has the group of each user that is in one.
    """

    server: Rates = Rates()
    groups: Mapping[str, Rates] = {}
    users: Mapping[str, Rates] = {}
    group_of: Mapping[str, str] = {}
