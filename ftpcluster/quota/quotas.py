"""The seam between a session and whoever counts: one protocol, whoever implements it.

``LocalQuotas`` asks a ledger in this process (single-process mode); ``RemoteQuotas`` in
``ftpcluster.worker`` asks the supervisor's over the channel. A session cannot tell which it has.
"""

from __future__ import annotations

from typing import Protocol

from ftpcluster.quota.ledger import Ledger, Refusal


class Quotas(Protocol):
    """What a session needs of the accounting."""

    async def login(self, session: int, login: str, limit: int | None) -> Refusal | None:
        """Take a slot of the user ``login``, of whom ``limit`` sessions may exist (None: any)."""

    def logout(self, session: int) -> None:
        """Give the user's slot back. Harmless where none is held."""

    def end(self, session: int) -> None:
        """The session is over: all that it held comes back. Harmless when repeated."""


class LocalQuotas:
    """Quotas over a ledger in the same process."""

    EPOCH = 0

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def admit(self, session: int, address: str) -> Refusal | None:
        """Take the slots of a new connection, as the supervisor does in a cluster."""
        return self.ledger.admit(self.EPOCH, session, address)

    async def login(self, session: int, login: str, limit: int | None) -> Refusal | None:
        return self.ledger.login(self.EPOCH, session, login, limit)

    def logout(self, session: int) -> None:
        self.ledger.logout(self.EPOCH, session)

    def end(self, session: int) -> None:
        self.ledger.release(self.EPOCH, session)
