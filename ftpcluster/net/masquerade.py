"""What PASV names instead of the server's own address, for a server behind NAT."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_network

from ftpcluster.net.lookups import Addresses, NameService
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
        """Raises ValueError where a network is not valid."""
        self.look_up: Callable[[str], Awaitable[Addresses]] = NameService().addresses_of
        """Gives the addresses of a host name, or raises OSError."""
        self.is_empty = default is None and not networks
        """Whether PASV always names the server's own address."""
        self._default = default
        # the narrowest network decides
        self._networks = sorted(
            ((ip_network(network), name) for network, name in (networks or {}).items()),
            key=lambda each: -each[0].prefixlen,
        )
        self._known: dict[str, tuple[Addresses, float]] = {}
        self._looking: dict[str, asyncio.Task[Addresses]] = {}

    async def address_for(self, peer: str, reached: str = "") -> str | None:
        """The IPv4 address that PASV names to ``peer``; None where it is the server's own.

        Of a host name's addresses it is the one that the client has ``reached``, else the first.
        Raises NoDataConnection where a host name has no address.
        """
        name = self._name_for(peer)
        if name is None or is_ipv4(name):
            return name
        loop = asyncio.get_running_loop()
        addresses, until = self._known.get(name, (None, 0.0))
        if loop.time() >= until and name not in self._looking:
            self._looking[name] = task = loop.create_task(self._look_up(loop, name))
            task.add_done_callback(functools.partial(self._on_looked_up, name))
        if addresses is None:  # an old address serves until there is a new one
            addresses = await asyncio.shield(self._looking[name])
        return reached if reached in addresses else addresses[0]

    def _on_looked_up(self, name: str, task: asyncio.Task[Addresses]) -> None:
        del self._looking[name]
        if not task.cancelled():
            task.exception()  # else asyncio logs it where no caller waits any more

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

    async def _look_up(self, loop: asyncio.AbstractEventLoop, name: str) -> Addresses:
        try:
            addresses = await self.look_up(name)
        except OSError as error:
            log.error("the masquerade address %s cannot be looked up: %s", name, error)
            if name not in self._known:
                raise NoDataConnection("This server does not know its own address.") from error
            addresses = self._known[name][0]
        self._known[name] = addresses, loop.time() + _FRESH
        return addresses
