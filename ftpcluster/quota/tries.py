"""Passwords that are being judged: of one site no more at once than may still be wrong.

Else whoever sends two hundred at a time would have all of them judged before the first that is
wrong has counted. Who comes when that many are being judged waits until one of them has turned
out right, or wrong, or has come to nothing; so a site with many honest users waits, and is not
turned away. Pure bookkeeping, keyed by who can die: the worker's epoch and the session. One
session has one try, so memory is bounded by the sessions.
"""

from __future__ import annotations

from collections.abc import Callable

from ftpcluster.protocol.address import Bits
from ftpcluster.quota.ledger import Refusal

Holder = tuple[int, int]
"""The epoch and the session."""
Answer = Callable[[Refusal | None], None]


class _Site:
    __slots__ = ("judged", "waiting")

    def __init__(self) -> None:
        self.judged: set[Holder] = set()
        self.waiting: dict[Holder, Answer] = {}  # who came first stands first


class Tries:
    """Tries of sites, as bans count them."""

    def __init__(self) -> None:
        self._sites: dict[Bits, _Site] = {}
        self._held: dict[Holder, Bits] = {}

    def __len__(self) -> int:
        """Sessions that have a try, or wait for one."""
        return len(self._held)

    def wait(self, holder: Holder, site: Bits, answer: Answer) -> None:
        """A session asks for a try; ``answer`` is called when it has one, or is refused."""
        if holder in self._held:
            return  # it has asked already, and is answered once
        self._held[holder] = site
        self._sites.setdefault(site, _Site()).waiting[holder] = answer

    def end(self, holder: Holder) -> Bits | None:
        """A session's try is over: the site, where it had one, or waited for one."""
        site = self._held.pop(holder, None)
        if site is not None:
            entry = self._sites[site]
            entry.judged.discard(holder)
            entry.waiting.pop(holder, None)
            if not entry.judged and not entry.waiting:
                del self._sites[site]
        return site

    def end_all(self, epoch: int) -> set[Bits]:
        """The tries of a worker are over; the sites that they were of."""
        ended = [holder for holder in self._held if holder[0] == epoch]
        return {site for site in map(self.end, ended) if site is not None}

    def sites(self) -> list[Bits]:
        return list(self._sites)

    def admit(self, site: Bits, most: int) -> None:
        """Let those who wait have their tries, as far as ``most`` passwords are judged at once.

        One is, whatever ``most`` is: rules may have become stricter than what has been counted.
        """
        entry = self._sites.get(site)
        while entry is not None and entry.waiting and len(entry.judged) < max(most, 1):
            holder = next(iter(entry.waiting))
            answer = entry.waiting.pop(holder)
            entry.judged.add(holder)
            answer(None)

    def refuse(self, site: Bits, refusal: Refusal) -> None:
        """Nobody else of a site has a password judged."""
        entry = self._sites.get(site)
        while entry is not None and entry.waiting:
            holder = next(iter(entry.waiting))
            answer = entry.waiting[holder]
            self.end(holder)
            answer(refusal)
