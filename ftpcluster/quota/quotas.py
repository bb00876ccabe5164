"""The seam between a session and whoever counts: one protocol, whoever implements it.

``LocalQuotas`` asks a ledger in this process (single-process mode); ``RemoteQuotas`` in
``ftpcluster.worker`` asks the supervisor's over the channel. A session cannot tell which it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ftpcluster.quota.bucket import SpeedLimited, Throttle, UserThrottles
from ftpcluster.quota.ledger import Ledger, Refusal


class Quotas(Protocol):
    """What a session needs of the accounting."""

    async def identify(self, session: int, address: str) -> Refusal | None:
        """Take the slot of the address that a session behind a proxy comes from."""

    async def login(self, session: int, login: str, limit: int | None) -> Refusal | None:
        """Take a slot of the user ``login``, of whom ``limit`` sessions may exist (None: any)."""

    def logout(self, session: int) -> None:
        """Give the user's slot back. Harmless where none is held."""

    def end(self, session: int) -> None:
        """The session is over: all that it held comes back. Harmless when repeated."""

    def throttles(self, user: SpeedLimited) -> Sequence[Throttle]:
        """What limits the speed of a user's sessions together: the server's and the user's."""


class LocalQuotas:
    """Quotas over a ledger in the same process."""

    EPOCH = 0

    def __init__(self, ledger: Ledger, throttle: Throttle | None = None) -> None:
        self.ledger = ledger
        self._throttle = throttle or Throttle()
        self._users = UserThrottles()

    def admit(self, session: int, address: str | None) -> Refusal | None:
        """Take the slots of a new connection, as the supervisor does in a cluster."""
        return self.ledger.admit(self.EPOCH, session, address)

    async def identify(self, session: int, address: str) -> Refusal | None:
        return self.ledger.identify(self.EPOCH, session, address)

    async def login(self, session: int, login: str, limit: int | None) -> Refusal | None:
        return self.ledger.login(self.EPOCH, session, login, limit)

    def logout(self, session: int) -> None:
        self.ledger.logout(self.EPOCH, session)

    def end(self, session: int) -> None:
        self.ledger.release(self.EPOCH, session)

    def throttles(self, user: SpeedLimited) -> Sequence[Throttle]:
        return (self._throttle, *self._users.of(user))
