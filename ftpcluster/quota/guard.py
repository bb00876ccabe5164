"""Who keeps guessers out, in a supervisor and in a ``Server`` alike: bans, where they bite."""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import ip_network

from ftpcluster.protocol.address import without_zone
from ftpcluster.quota.bans import Ban, BanRules, Bans
from ftpcluster.quota.ledger import Ledger, Refusal

log = logging.getLogger(__name__)

_COMPLAINT_INTERVAL = 1.0
"""Seconds between two lines about banned addresses that were turned away."""


class Guard:
    """Turns banned addresses away, and counts the logins that failed.

    ``end(epoch, session)`` is told to end a session, unless that has logged in. Times are seconds
    of a monotonic clock.
    """

    def __init__(
        self, ledger: Ledger, rules: BanRules | None, end: Callable[[int, int], None]
    ) -> None:
        self._ledger = ledger
        self._end = end
        self._bans = Bans(rules)
        self._turned_away = 0
        self._next_complaint: float | None = None

    def set_rules(self, rules: BanRules | None) -> None:
        """Other rules from now on; what was counted, and the bans, stay."""
        self._bans.rules = rules

    def refuse(self, address: str, now: float) -> Refusal | None:
        """Whether a connection of this address is refused. Raises ValueError where it is none."""
        if self._bans.find(address, now) is None:
            return None
        self._turned_away += 1
        if self._next_complaint is None or now >= self._next_complaint:
            count, self._turned_away = self._turned_away, 0
            self._next_complaint = now + _COMPLAINT_INTERVAL
            log.info(
                "refused %d connection%s of banned addresses, the last one of %s",
                count, "s" * (count > 1), address,
            )  # fmt: skip
        return Refusal.BANNED

    def login_failed(self, epoch: int, session: int, login: str, now: float) -> float:
        """Count a failed login: the seconds before it is answered.

        Raises KeyError where nothing is known of the session, or of its address.
        """
        address = self._ledger.address_of(epoch, session)
        if address is None:
            raise KeyError(session)
        verdict = self._bans.failed(address, login, now)
        ban = verdict.ban
        if ban is not None and verdict.is_new:
            duration = 0 if ban.until is None else ban.until - now
            log.warning("%s is banned for %.0f s: %s", ban.network, duration, ban.reason)
            self._end_all(ban)
        elif ban is not None:
            self._end(epoch, session)
        return verdict.delay

    def ban(self, network: str, seconds: float | None, reason: str, now: float) -> Ban:
        """Ban a network or an address by hand, for ever where ``seconds`` is None.

        Its sessions that have not logged in end. Raises ValueError, see ``Bans.ban``.
        """
        ban = self._bans.ban(network, seconds, reason, now)
        how_long = "" if seconds is None else f" for {seconds:.0f} s"
        log.warning("%s is banned%s by hand: %s", ban.network, how_long, reason)
        self._end_all(ban)
        return ban

    def unban(self, network: str, now: float) -> list[Ban]:
        """Lift bans; those that held. Raises ValueError, see ``Bans.unban``."""
        lifted = self._bans.unban(network, now)
        for ban in lifted:
            log.warning("%s is no longer banned", ban.network)
        return lifted

    def bans(self, now: float) -> list[Ban]:
        """All that hold."""
        return self._bans.list(now)

    def _end_all(self, ban: Ban) -> None:
        network = ip_network(ban.network)
        if network.version == 4 and network.num_addresses == 1:
            banned = {ban.network}
        else:
            addresses = self._ledger.addresses
            banned = {each for each in addresses if without_zone(each) in network}
        for epoch, session in self._ledger.sessions_of(banned):
            self._end(epoch, session)
