"""Admission of connections, in a supervisor and in a ``Server`` alike: slots, and bans."""

from __future__ import annotations

import functools
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ftpcluster.protocol.address import Bits, plain, site
from ftpcluster.quota.arrivals import ArrivalRules, Arrivals
from ftpcluster.quota.bans import Ban, BanRules, Bans
from ftpcluster.quota.ledger import Ledger, Refusal
from ftpcluster.quota.login_tries import Answer, LoginTries

log = logging.getLogger(__name__)

_REMEMBERED = 1024
"""Addresses whose results are remembered: to look for an address in ``ban.allow`` takes a while."""
_COMPLAINT_INTERVAL = 1.0
"""Seconds between two lines about connections that were refused for one reason."""


@dataclass(slots=True)
class _Untold:
    """Refusals for one reason that are not logged yet."""

    due: float
    count: int = 0
    last: str = ""
    is_awaited: bool = False


def counting(rules: BanRules | None) -> Callable[[str], bool]:
    """A function that returns whether failed logins of an address count."""
    if rules is None:
        return lambda _: False
    allow = rules.allow
    return functools.lru_cache(_REMEMBERED)(lambda address: plain(address) not in allow)


class Admission:
    """Gives connections their slots, or refuses them, and counts failed logins.

    ``end(epoch, session)`` ends a session, unless that has logged in. Times are seconds
    of a monotonic clock. ``call_later(seconds, function)`` is a loop's: it logs refusals that have
    to wait for their line. Without it the next refusal logs them. ``catch_up`` is called before a
    connection or login is refused because no slot is free.
    """

    def __init__(
        self,
        ledger: Ledger,
        rules: BanRules | None,
        end: Callable[[int, int], None],
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
        catch_up: Callable[[], None] = lambda: None,
        *,
        arrivals: ArrivalRules | None = None,
    ) -> None:
        self._ledger = ledger
        self.catch_up = catch_up
        """Reads messages that have come, but were not read yet, and that may free slots."""
        self._end = end
        self._call_later = call_later
        self._bans = Bans(rules)
        self._arrivals = Arrivals(arrivals or ArrivalRules())
        self._tries = LoginTries()
        self.counts = counting(rules)
        """Whether failed logins of an address count."""
        self.refused: Counter[Refusal] = Counter()
        """Connections that were turned away."""
        self.banned: Counter[bool] = Counter()
        """Bans that were made, for failed logins and (True) by hand."""
        self.on_bans_changed: Callable[[], None] = lambda: None
        """Called when a ban was made or lifted."""
        self._untold: dict[Refusal, _Untold] = {}

    def set_rules(self, rules: BanRules | None, arrivals: ArrivalRules, now: float) -> None:
        """Use other rules from now on. Counts and bans stay. Sessions of addresses that are denied
        now go on.
        """
        self._bans.rules = rules
        self._arrivals.set_rules(arrivals, now)
        self.counts = counting(rules)
        for bits in self._tries.sites():
            self._admit_tries(bits, now)

    def admit(self, epoch: int, session: int, address: str | None, now: float) -> Refusal | None:
        """Take the slots of a new connection. Behind a proxy, ``address`` is None: not known yet.

        Raises ValueError where ``address`` is no address.
        """
        refusal = None if address is None else self._why_kept_out(address, now)
        if refusal is None and (refusal := self._ledger.admit(epoch, session, address)) is not None:
            self.catch_up()
            refusal = self._ledger.admit(epoch, session, address)
        if refusal is None and address is not None:
            self._arrivals.count(address, now)
        return self._tell(refusal, address, now)

    def identify(self, epoch: int, session: int, address: str, now: float) -> Refusal | None:
        """Take the slot of the address that a session behind a proxy comes from.

        Raises ValueError where ``address`` is no address, KeyError where there is no such session.
        """
        refusal = self._why_kept_out(address, now)
        if refusal is None:
            refusal = self._ledger.identify(epoch, session, address)
            if refusal is not None:
                self.catch_up()
                refusal = self._ledger.identify(epoch, session, address)
        if refusal is None:
            self._arrivals.count(address, now)
        return self._tell(refusal, address, now)

    def login(self, epoch: int, session: int, login: str, limit: int | None) -> Refusal | None:
        """Take a user's slot, see ``Ledger.login``."""
        refusal = self._ledger.login(epoch, session, login, limit)
        if refusal is None:
            return None
        self.catch_up()
        return self._ledger.login(epoch, session, login, limit)

    def _why_kept_out(self, address: str, now: float) -> Refusal | None:
        return self._find_ban(address, now) or self._arrivals.find(address, now)

    def _find_ban(self, address: str, now: float) -> Refusal | None:
        return None if self._bans.find(address, now) is None else Refusal.BANNED

    def _tell(self, refusal: Refusal | None, address: str | None, now: float) -> Refusal | None:
        if refusal is None:
            return None
        self.refused[refusal] += 1
        untold = self._untold.setdefault(refusal, _Untold(now))
        untold.count += 1
        untold.last = address or "a proxy"
        if untold.is_awaited:
            return refusal
        if now >= untold.due:
            untold.due = now + _COMPLAINT_INTERVAL
            self._tell_count(refusal)
        elif self._call_later is not None:
            untold.is_awaited = True
            self._call_later(untold.due - now, functools.partial(self._on_due, refusal))
        return refusal

    def _on_due(self, refusal: Refusal) -> None:
        untold = self._untold[refusal]
        untold.is_awaited = False
        untold.due += _COMPLAINT_INTERVAL
        self._tell_count(refusal)

    def _tell_count(self, refusal: Refusal) -> None:
        untold = self._untold[refusal]
        if untold.count:
            log.info(
                "refused %d connection%s (%s), the last one of %s",
                untold.count, "s" * (untold.count > 1), refusal.value, untold.last,
            )  # fmt: skip
            untold.count = 0

    def tell_rest(self) -> None:
        """Log the refusals that still wait for their line, at the end of the server."""
        for refusal in self._untold:
            self._tell_count(refusal)

    def login_failed(self, epoch: int, session: int, login: str, now: float) -> float:
        """Count a failed login; returns the seconds before its reply.

        Raises KeyError where the session, or its address, is not known.
        """
        address = self._address_of(epoch, session)
        bits = self._tries.end((epoch, session))
        verdict = self._bans.failed(address, login, now)
        ban = verdict.ban
        if ban is not None and verdict.is_new:
            duration = 0 if ban.until is None else ban.until - now
            log.warning(
                "%s is banned for %.0f s: %s; addresses in [ban] allow never are",
                *(ban.network, duration, ban.reason),
            )
            self.banned[False] += 1
            self.on_bans_changed()
            for each in self.sessions_of(ban):
                self._end(*each)
        elif ban is not None:
            self._end(epoch, session)
        if bits is not None:
            self._admit_tries(bits, now)
        return verdict.delay

    # ------------------------------------------------------------------ tries

    def begin_try(self, epoch: int, session: int, answer: Answer, now: float) -> None:
        """Ask whether a password may be checked: ``answer`` is called when it may, or is refused.

        Its try ends with ``login_failed``, ``end_try``, or ``end_tries``. Raises KeyError as
        ``login_failed`` does.
        """
        address = self._address_of(epoch, session)
        if self._find_ban(address, now) is not None:
            answer(Refusal.BANNED)
        elif not self.counts(address):
            answer(None)
        else:
            bits = site(address)
            self._tries.wait((epoch, session), bits, answer)
            self._admit_tries(bits, now)

    @property
    def has_tries(self) -> bool:
        """Whether any session has a try, or waits for one."""
        return len(self._tries) > 0

    def end_try(self, epoch: int, session: int, now: float) -> None:
        """A password was right, or will not be checked. Harmless where there is no try."""
        bits = self._tries.end((epoch, session))
        if bits is not None:
            self._admit_tries(bits, now)

    def end_tries(self, epoch: int, now: float) -> None:
        """A worker is gone, and with it its tries."""
        for bits in self._tries.end_all(epoch):
            self._admit_tries(bits, now)

    def _admit_tries(self, bits: Bits, now: float) -> None:
        if self._bans.has_banned(bits, now):
            self._tries.refuse(bits, Refusal.BANNED)
        else:
            most = sys.maxsize if self._bans.rules is None else self._bans.room(bits, now)
            self._tries.admit(bits, most)

    def _address_of(self, epoch: int, session: int) -> str:
        address = self._ledger.address_of(epoch, session)
        if address is None:
            raise KeyError(session)
        return address

    def ban(self, network: str, seconds: float | None, reason: str, now: float) -> Ban:
        """Ban a network or an address by hand, for ever where ``seconds`` is None.

        Raises ValueError, see ``Bans.ban``.
        """
        ban = self._bans.ban(network, seconds, reason, now)
        how_long = "" if seconds is None else f" for {seconds:.0f} s"
        log.warning("%s is banned%s by hand: %s", ban.network, how_long, reason)
        self.banned[True] += 1
        self.on_bans_changed()
        return ban

    def unban(self, network: str, now: float) -> list[Ban]:
        """Lift bans; returns those that held. Raises ValueError, see ``Bans.unban``."""
        lifted = self._bans.unban(network, now)
        for ban in lifted:
            log.warning("%s is no longer banned", ban.network)
        if lifted:
            self.on_bans_changed()
        return lifted

    def restore(self, bans: Iterable[tuple[Bits, Ban]], now: float) -> None:
        """Have bans of an earlier server hold, see ``Bans.restore``."""
        self._bans.restore(bans, now)

    def bans(self, now: float) -> list[Ban]:
        """All bans that hold."""
        return self._bans.list(now)

    def covering(self, address: str, now: float) -> Ban | None:
        """The ban that holds for an address. Raises ValueError where ``address`` is no address."""
        return self._bans.find(address, now)

    def denied(self, address: str) -> str | None:
        """The network of ``deny`` that keeps an address out. ValueError for what is none."""
        return self._arrivals.denied(address)

    def sessions_of(self, ban: Ban) -> list[tuple[int, int]]:
        """The sessions of addresses that are banned, each with the epoch that holds it."""
        return self._ledger.sessions_of(self._bans.addresses_of(ban, self._ledger.addresses))
