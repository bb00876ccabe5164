"""Each address has one password checked at a time; all that failed just now share one turn.

Otherwise a client that guesses over many connections would have all passwords hashed at once, and
keep everybody else's logins waiting. So a storm costs one thread, and no more hashes once its
addresses are banned. A right password that needs no hash does not wait here.

A guesser with an IPv6 network has a fresh /64 for each guess. So all of a /56 share one turn, and
all of a /48 share two; those that wait get them round-robin, by /56 and then by /64. Some room is
kept for sites that have logged in before, so that no storm of unknown sites takes it all.
"""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address, IPv6Address

from ftpcluster.passwords import MOST_AT_ONCE, TooManyLogins
from ftpcluster.protocol.address import is_ipv6, plain, site, without_zone

_MOST_UNKNOWN_SITES = MOST_AT_ONCE * 3 // 4
"""Turns at once of unknown sites: those that have not logged in before."""
_SUSPICION = 60.0
"""Seconds after a failed login."""
_MOST_SUSPECTS = 1024
"""Addresses. A forgotten one gains no more than the turns of any other site."""
_MOST_TRUSTED = 4096
"""Sites that are known to have logged in; beyond that the oldest is unknown again."""

Key = str | tuple[int, int, int]
_SUSPECTS: tuple[Key, ...] = ("",)
_NETWORKS = (48, 56, 64)
_TURNS = {48: 2, 56: 1}
"""Turns at once of a network, by its prefix; a site has one."""
_MOST_WAITING = {48: 64}
"""Logins that may wait in a network, by its prefix. With more, the last would miss its deadline."""
_MOST_WAITING_ELSE = 32


class _QueuedLogin:
    """A network: how many turns run, how many logins wait, and when the last turn began."""

    __slots__ = ("running", "served", "waiting")

    def __init__(self) -> None:
        self.running = self.waiting = self.served = 0


class LoginTurn:
    """A turn, or a place in the queue for one. ``path``: its networks, the widest first."""

    __slots__ = ("is_unknown_site", "path", "waiter")

    def __init__(self, path: tuple[Key, ...], *, is_unknown_site: bool) -> None:
        self.path = path
        self.is_unknown_site = is_unknown_site
        self.waiter: asyncio.Future[None] | None = None


class LoginQueue:
    """The turns of all addresses; within a site first come, first served."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._places: dict[Key, _QueuedLogin] = {}
        self._waiting: dict[Key, list[LoginTurn]] = {}  # by the first of their path
        self._unknown_sites = 0
        self._count = 0
        self._suspects: dict[Key, float] = {}  # until when; the oldest first
        self._trusted: dict[Key, None] = {}

    def suspect(self, host: str) -> None:
        """A login from there has failed."""
        key = _key(host)
        self._suspects.pop(key, None)
        self._suspects[key] = self._loop.time() + _SUSPICION
        if len(self._suspects) > _MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def trust(self, host: str) -> None:
        """A login from there has succeeded."""
        key = _key(host)
        self._trusted.pop(key, None)
        self._trusted[key] = None
        if len(self._trusted) > _MOST_TRUSTED:
            del self._trusted[next(iter(self._trusted))]

    async def take(self, host: str) -> LoginTurn:
        """Wait for a turn, which lasts until ``give``. Raises TooManyLogins."""
        turn = self._turn_of(host)
        if self._is_free(turn):
            if turn.is_unknown_site and self._unknown_sites >= _MOST_UNKNOWN_SITES:
                raise TooManyLogins
            self._begin(turn)
            return turn
        self._check_room(turn)
        turn.waiter = self._loop.create_future()
        self._queue(turn)
        try:
            await turn.waiter
        except asyncio.CancelledError:
            if turn in self._waiting.get(turn.path[0], ()):
                self._unqueue(turn)
                self._tidy(turn)
            elif not turn.waiter.cancelled():
                self.give(turn)  # the turn came too late: pass it on
            raise
        return turn

    def give(self, turn: LoginTurn) -> None:
        """End a turn; the next login gets one."""
        for key in turn.path:
            self._places[key].running -= 1
        self._unknown_sites -= turn.is_unknown_site
        waiting = self._waiting.get(turn.path[0], ())
        following = min(filter(self._is_free, waiting), key=self._when_served, default=None)
        if following is not None:
            self._unqueue(following)
            self._begin(following)
            assert following.waiter is not None
            following.waiter.set_result(None)
        self._tidy(turn)

    def _turn_of(self, host: str) -> LoginTurn:
        key = _key(host)
        if key in self._trusted:
            # a key of its own: logins that still wait as unknown sites are in another queue
            return LoginTurn((f"known {key}",), is_unknown_site=False)
        if self._suspects.get(key, 0.0) > self._loop.time():
            return LoginTurn(_SUSPECTS, is_unknown_site=True)
        return LoginTurn(_path(host, key), is_unknown_site=True)

    def _is_free(self, turn: LoginTurn) -> bool:
        if turn.waiter is not None and turn.waiter.done():
            return False  # it was cancelled, and has not run since
        for key in turn.path:
            place = self._places.get(key)
            if place is not None and place.running >= _of(_TURNS, key, 1):
                return False
        return True

    def _check_room(self, turn: LoginTurn) -> None:
        for key in turn.path:
            place = self._places.get(key)
            most = _of(_MOST_WAITING, key, _MOST_WAITING_ELSE)
            if place is not None and place.waiting >= most:
                raise TooManyLogins

    def _when_served(self, turn: LoginTurn) -> tuple[int, ...]:
        """The network that was served longest ago is next; of equals, the login that came first."""
        return tuple(self._places[key].served for key in turn.path[1:])

    def _begin(self, turn: LoginTurn) -> None:
        self._count += 1
        self._unknown_sites += turn.is_unknown_site
        for key in turn.path:
            place = self._places.setdefault(key, _QueuedLogin())
            place.running += 1
            place.served = self._count

    def _queue(self, turn: LoginTurn) -> None:
        for key in turn.path:
            self._places.setdefault(key, _QueuedLogin()).waiting += 1
        self._waiting.setdefault(turn.path[0], []).append(turn)

    def _unqueue(self, turn: LoginTurn) -> None:
        for key in turn.path:
            self._places[key].waiting -= 1
        queue = self._waiting[turn.path[0]]
        queue.remove(turn)
        if not queue:
            del self._waiting[turn.path[0]]

    def _tidy(self, turn: LoginTurn) -> None:
        """Forget networks with no turns and no queue."""
        for key in turn.path:
            place = self._places.get(key)
            if place is not None and not place.running and not place.waiting:
                del self._places[key]


def _of(table: dict[int, int], key: Key, otherwise: int) -> int:
    return table.get(key[1], otherwise) if isinstance(key, tuple) else otherwise


def _key(host: str) -> Key:
    """The site of an address. IPv4 stays text: to parse it would cost each login time."""
    if not is_ipv6(host):
        return host
    counted = site(host)
    return str(IPv4Address(counted[2])) if counted[0] == 4 else counted


def _path(host: str, key: Key) -> tuple[Key, ...]:
    """The networks of an address, down to its site.

    Local addresses share turns by network, too: to wait harms them less than a ban would.
    """
    address = without_zone(plain(host)) if isinstance(key, tuple) else None
    if not isinstance(address, IPv6Address):
        return (key,)
    networks = tuple((6, prefix, int(address) >> 128 - prefix) for prefix in _NETWORKS)
    return networks if key in networks else (*networks, key)
