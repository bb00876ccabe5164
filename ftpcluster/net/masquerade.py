"""What PASV names instead of the server's own address, for a server behind NAT."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_network

from ftpcluster.protocol.address import is_ipv4, without_zone
from ftpcluster.protocol.errors import NoDataConnection

log = logging.getLogger(__name__)

_FRESH = 60.0
"""Seconds for which the address of a host name is used before it is looked up again."""


class Masquerade:
    """An address for all clients, others for clients in some networks; each may be a host name."""

    def __init__(
        self, default: str | None = None, networks: Mapping[str, str] | None = None
    ) -> None:
        """Raises ValueError where a network is none."""
        self.is_empty = default is None and not networks
        """Whether PASV always names the server's own address."""
        self._default = default
        # the narrowest network decides
        self._networks = sorted(
            ((ip_network(network), name) for network, name in (networks or {}).items()),
            key=lambda each: -each[0].prefixlen,
        )
        self.before_look_up: Callable[[], None] | None = None
        """Called before each name is looked up."""
        self._known: dict[str, tuple[tuple[str, ...], float]] = {}
        self._looking: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def address_for(self, peer: str, reached: str = "") -> str | None:
        """The IPv4 address that PASV names to ``peer``; None where it is the server's own.

        Of a name with several it is the one that the client has ``reached``, or else the first.
        Raises NoDataConnection where a host name has no address.
        """
        name = self._name_for(peer)
        if name is None or is_ipv4(name):
            return name
        loop = asyncio.get_running_loop()
        addresses, until = self._known.get(name, (None, 0.0))
        if loop.time() >= until and name not in self._looking:
            if self.before_look_up is not None:
                self.before_look_up()
            self._looking[name] = task = loop.create_task(self._look_up(loop, name))
            task.add_done_callback(functools.partial(self._on_looked_up, name))
        if addresses is None:  # an old address serves until there is a new one
            addresses = await asyncio.shield(self._looking[name])
        return reached if reached in addresses else addresses[0]

    def _on_looked_up(self, name: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        del self._looking[name]
        if not task.cancelled():
            task.exception()  # who waited for it has it; nobody may have

    async def close(self) -> None:
        """End the lookups that run."""
        looking = tuple(self._looking.values())
        for task in looking:
            task.cancel()
        if looking:
            await asyncio.wait(looking)

    def _name_for(self, peer: str) -> str | None:
        if self._networks:
            address = without_zone(peer)
            for network, name in self._networks:
                if address in network:
                    return name
        return self._default

    async def _look_up(self, loop: asyncio.AbstractEventLoop, name: str) -> tuple[str, ...]:
        try:
            found = await loop.getaddrinfo(name, None, family=socket.AF_INET)
        except (OSError, UnicodeError) as error:  # UnicodeError: what cannot be a name at all
            log.error("the masquerade address %s cannot be looked up: %s", name, error)
            if name in self._known:
                addresses = self._known[name][0]
                self._known[name] = addresses, loop.time() + _FRESH
                return addresses
            raise NoDataConnection("This server does not know its own address.") from error
        addresses = tuple(dict.fromkeys(str(each[4][0]) for each in found))
        self._known[name] = addresses, loop.time() + _FRESH
        return addresses
