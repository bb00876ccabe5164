"""Login tries: a site's passwords checked at once are no more than may fail before a ban.

Without this bound two hundred passwords sent at once would all be checked before the first wrong
one counts. When the bound is reached, the next login waits until an earlier one has succeeded,
failed or ended. So honest users of a crowded site wait, and are not turned away.

Pure bookkeeping, keyed by the worker's epoch and the session, since both can die. A session has one
try, so the number of sessions bounds the memory.
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
        self.waiting: dict[Holder, Answer] = {}  # in the order of arrival


class LoginTries:
    """The tries of each site; a site is what bans count by."""

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
        """End a session's try, or its wait for one. Returns the site; None: it had neither."""
        site = self._held.pop(holder, None)
        if site is not None:
            entry = self._sites[site]
            entry.judged.discard(holder)
            entry.waiting.pop(holder, None)
            if not entry.judged and not entry.waiting:
                del self._sites[site]
        return site

    def end_all(self, epoch: int) -> set[Bits]:
        """End all tries of a worker. Returns their sites."""
        ended = [holder for holder in self._held if holder[0] == epoch]
        return {site for site in map(self.end, ended) if site is not None}

    def sites(self) -> list[Bits]:
        return list(self._sites)

    def admit(self, site: Bits, most: int) -> None:
        """Grant tries to waiting sessions until ``most`` passwords are being checked.

        One is always granted: after a reload with stricter rules ``most`` may be 0 or less.
        """
        entry = self._sites.get(site)
        while entry is not None and entry.waiting and len(entry.judged) < max(most, 1):
            holder = next(iter(entry.waiting))
            answer = entry.waiting.pop(holder)
            entry.judged.add(holder)
            answer(None)

    def refuse(self, site: Bits, refusal: Refusal) -> None:
        """Refuse all waiting sessions of a site."""
        entry = self._sites.get(site)
        while entry is not None and entry.waiting:
            holder = next(iter(entry.waiting))
            answer = entry.waiting[holder]
            self.end(holder)
            answer(refusal)
