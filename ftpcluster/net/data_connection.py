"""Waiting for a passive data connection from the client's address, or through its proxy."""

from __future__ import annotations

import asyncio
import logging

from ftpcluster.descriptors import close_quietly
from ftpcluster.expiry import expire
from ftpcluster.net.passive import PassiveListener
from ftpcluster.net.poller import READ, Poller
from ftpcluster.net.proxy_header import Introduction
from ftpcluster.protocol.address import plain
from ftpcluster.protocol.proxy import BadProxyHeader, HealthCheck, Origin

log = logging.getLogger(__name__)


class _Arrival:
    """Waits at a listener for the right peer."""

    __slots__ = ("_listener", "_peer", "fd", "waiter")

    def __init__(self, listener: PassiveListener, peer: str, waiter: asyncio.Future[None]) -> None:
        self._listener = listener
        self._peer = peer
        self.waiter = waiter
        self.fd: int | None = None

    def on_ready(self, _: int) -> None:
        if self.fd is not None or self.waiter.done():
            return
        try:
            self.fd = self._accept()
        except OSError as error:  # no descriptor is left
            self.waiter.set_exception(error)
            return
        if self.fd is not None:
            self.waiter.set_result(None)

    def _accept(self) -> int | None:
        return self._listener.accept(self._peer)

    def end(self) -> None:
        """Close what else has come."""


class _ProxiedArrival(_Arrival):
    """Waits for the right peer, straight or through its proxy.

    Others may connect through the proxy, too. So each connection's header is read independently,
    and none delays the right one. The first header that names the peer ends the wait.
    """

    __slots__ = ("_came", "_introductions", "_loop", "_poller", "_proxy")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        listener: PassiveListener,
        peer: str,
        proxy: str,
    ) -> None:
        super().__init__(listener, peer, loop.create_future())
        self._loop = loop
        self._poller = poller
        self._proxy = proxy
        self._introductions: set[Introduction] = set()
        self._came: int | None = None  # straight from the client

    def _accept(self) -> int | None:
        self._listener.accept(self._peer, self._on_connection)
        came, self._came = self._came, None
        return came

    def _on_connection(self, fd: int, address: str) -> None:
        source = plain(address)
        # a client on the proxy's machine may come through it, and then a header is in front
        if source == self._proxy:
            try:
                introduction = Introduction(self._loop, self._poller, fd, self._on_origin)
            except OSError:
                close_quietly(fd)
                raise
            self._introductions.add(introduction)
        elif self._came is None and (source == self._peer or self._listener.takes_any):
            self._came = fd
        else:
            close_quietly(fd)
            if source != self._peer:
                self._listener.refuse(source, self._peer)

    def _on_origin(
        self, introduction: Introduction, origin: Origin | BadProxyHeader | None
    ) -> None:
        self._introductions.discard(introduction)
        if isinstance(origin, BadProxyHeader):
            level = logging.DEBUG if isinstance(origin, HealthCheck) else logging.WARNING
            text = "a data connection from the proxy %s was closed: %s"
            log.log(level, text, self._proxy, origin)
        else:
            source = self._proxy if origin is None else origin.address
            is_right = source == self._peer or self._listener.takes_any
            if is_right and not self.waiter.done():
                self.fd = introduction.fd
                self.waiter.set_result(None)
                return
            if not is_right:
                self._listener.refuse(source, self._peer)
        close_quietly(introduction.fd)

    def end(self) -> None:
        for introduction in self._introductions:
            introduction.end()
            close_quietly(introduction.fd)
        self._introductions.clear()


async def await_data_connection(
    loop: asyncio.AbstractEventLoop,
    poller: Poller,
    listener: PassiveListener,
    peer: str,
    timeout: float | None,
    proxy: str | None = None,
) -> int:
    """Wait for the connection from ``peer``: its descriptor. An intruder does not end the wait.

    It may come through ``proxy``: a connection from that address begins with a PROXY header, which
    is read here. Raises NoDataConnection after ``timeout`` seconds; with None the caller bounds the
    wait.
    """
    if proxy is None:
        arrival = _Arrival(listener, peer, loop.create_future())
    else:
        arrival = _ProxiedArrival(loop, poller, listener, peer, proxy)
    timer = None
    if timeout is not None:
        timer = expire(loop, arrival.waiter, timeout, TimeoutError())
    try:
        listener.watch(poller, arrival)
        if listener.kept:  # accepted early: the poller would never report them
            arrival.on_ready(READ)
        await arrival.waiter
    except TimeoutError:
        raise listener.nobody_came() from None
    except BaseException:
        if arrival.fd is not None:
            close_quietly(arrival.fd)
        raise
    finally:
        if timer is not None:
            timer.cancel()
        listener.unwatch()
        arrival.end()
    assert arrival.fd is not None
    return arrival.fd
