"""The accounting as sessions see it: one protocol with two implementations.

``LocalQuotas`` asks a ledger in this process (single-process mode); ``RemoteQuotas`` in
``ftpcluster.worker`` asks the supervisor's ledger over the channel. A session cannot see which of
them it has.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

from ftpcluster.quota.admission import Admission
from ftpcluster.quota.arrivals import ArrivalRules
from ftpcluster.quota.bans import BanRules
from ftpcluster.quota.leases import SessionLimits, session_limits
from ftpcluster.quota.ledger import Ledger, Refusal
from ftpcluster.quota.local_leases import LocalLeases
from ftpcluster.quota.rates import AccountSpeeds, Rates


class Promise(Protocol):
    """A future of an event loop, for an answer."""

    def __await__(self) -> Generator[Any, None, Refusal | None]: ...
    def done(self) -> bool: ...
    def set_result(self, result: Refusal | None, /) -> None: ...


class Quotas(Protocol):
    """What a session needs of the accounting."""

    async def identify(self, session: int, address: str) -> Refusal | None:
        """Take the slot of the address that a session behind a proxy comes from."""

    def counts(self, address: str) -> bool:
        """Whether failed logins of an address count. Then each password needs a try."""

    async def begin_try(self, session: int, address: str) -> Refusal | None:
        """A client at ``address`` has sent a password: ask whether it may be checked.

        This waits while as many of the site's passwords are being checked as may fail before a ban.
        ``login``, ``login_failed`` or ``end_try`` ends the try.
        """

    def end_try(self, session: int) -> None:
        """A password will not be checked. Harmless where the session has no try."""

    def login(
        self, session: int, login: str, limit: int | None
    ) -> Refusal | Awaitable[Refusal | None] | None:
        """Take a slot of the user ``login``, who may have ``limit`` sessions (None: any number)."""

    async def login_failed(self, session: int, login: str) -> float:
        """A login failed. Returns the seconds that its reply has to wait at least. The session may
        be ended meanwhile, if its address is banned for this.
        """

    def login_failed_unheard(self, session: int, login: str) -> None:
        """``login_failed`` for a client that has hung up, so that no reply has to wait.

        To be called before ``end``, after which the session's address is not known any more.
        """

    def logout(self, session: int) -> None:
        """Give the user's slot back. Harmless where none is held."""

    def end(self, session: int, close: Callable[[], None] = lambda: None) -> None:
        """The session is over: all that it held comes back. Harmless when repeated.

        ``close`` closes its connection. It is called after all is given back. So a client that sees
        the end, and connects again, finds its slot free.
        """

    def speed_limits(self, account: AccountSpeeds) -> SessionLimits | None:
        """The speed limits on the transfers of a session of this account; None: no limits."""


class LocalQuotas:
    """Quotas over a ledger in the same process."""

    EPOCH = 0

    def __init__(
        self,
        ledger: Ledger,
        rates: Callable[[], Rates] = Rates,
        *,
        clock: Callable[[], float] = lambda: 0.0,
        bans: BanRules | None = None,
        arrivals: ArrivalRules | None = None,
        end_unauthenticated: Callable[[int], None] = lambda _: None,
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
        promise: Callable[[], Promise] | None = None,
    ) -> None:
        """``rates`` returns the whole server's speed limits, ``clock`` the seconds of a monotonic
        clock. ``end_unauthenticated`` ends a session of a banned address, unless it has logged in.
        ``call_later`` is that of ``Admission``. ``promise`` makes a future; without it there are no
        tries."""
        self.ledger = ledger
        self._rates = rates
        self.leases = LocalLeases()
        self._clock = clock
        self._promise = promise
        self.guard = Admission(
            ledger,
            bans,
            lambda _, session: end_unauthenticated(session),
            call_later,
            arrivals=arrivals,
        )

    def admit(self, session: int, address: str | None) -> Refusal | None:
        """Take the slots of a new connection, as the supervisor does in a cluster."""
        return self.guard.admit(self.EPOCH, session, address, self._clock())

    async def identify(self, session: int, address: str) -> Refusal | None:
        return self.guard.identify(self.EPOCH, session, address, self._clock())

    def counts(self, address: str) -> bool:
        return self.guard.counts(address)

    async def begin_try(self, session: int, address: str) -> Refusal | None:
        if self._promise is None or not self.guard.counts(address):
            return None
        answer = self._promise()
        self.guard.begin_try(
            self.EPOCH, session, functools.partial(_resolve, answer), self._clock()
        )
        return await answer

    def end_try(self, session: int) -> None:
        self.guard.end_try(self.EPOCH, session, self._clock())

    async def login_failed(self, session: int, login: str) -> float:
        return self.guard.login_failed(self.EPOCH, session, login, self._clock())

    def login_failed_unheard(self, session: int, login: str) -> None:
        self.guard.login_failed(self.EPOCH, session, login, self._clock())

    def login(self, session: int, login: str, limit: int | None) -> Refusal | None:
        self.end_try(session)
        return self.ledger.login(self.EPOCH, session, login, limit)

    def logout(self, session: int) -> None:
        self.ledger.logout(self.EPOCH, session)

    def end(self, session: int, close: Callable[[], None] = lambda: None) -> None:
        self.ledger.release(self.EPOCH, session)
        self.end_try(session)
        close()

    def speed_limits(self, account: AccountSpeeds) -> SessionLimits | None:
        now = self._clock()
        self.leases.set_server(self._rates(), now)
        return session_limits(self.leases, account, now)


def _resolve(answer: Promise, refusal: Refusal | None) -> None:
    if not answer.done():  # the session may have ended meanwhile
        answer.set_result(refusal)
