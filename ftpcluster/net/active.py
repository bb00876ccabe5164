"""Active data connections: this server connects to the client (PORT, EPRT)."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from typing import NamedTuple

import msgspec

from ftpcluster.descriptors import close_quietly
from ftpcluster.expiry import expire
from ftpcluster.net.listeners import set_keepalive
from ftpcluster.net.poller import WRITE, Poller
from ftpcluster.protocol.address import display, interface_of, is_ipv6, socket_address
from ftpcluster.protocol.errors import NoDataConnection

log = logging.getLogger(__name__)

_BUSY = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


class ActiveTarget(msgspec.Struct, frozen=True):
    """Where the client waits for the data connection, which is made when a transfer begins."""

    host: str
    port: int


class ActiveSource(NamedTuple):
    """Where such a connection comes from; port 0: any. ``keepalive``: see ``set_keepalive``."""

    host: str
    port: int
    keepalive: float | None


class _Connecting:
    """Waits until a connection was made, or failed."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: asyncio.Future[None]) -> None:
        self.waiter = waiter

    def on_ready(self, _: int) -> None:
        if not self.waiter.done():
            self.waiter.set_result(None)


async def connect(
    loop: asyncio.AbstractEventLoop,
    poller: Poller,
    target: ActiveTarget,
    source: ActiveSource,
    timeout: float,
) -> int:
    """The descriptor of a connection to ``target``.

    Raises NoDataConnection where it fails, or takes longer than ``timeout`` seconds.
    """
    try:
        try:
            return await _connect(loop, poller, target, source, timeout)
        except OSError as error:
            if not source.port or error.errno not in _BUSY:
                raise
            # an earlier connection between the same two ports stays in TIME_WAIT for a minute. With
            # another port, a client whose firewall takes any port need not wait.
            log.debug(
                "port %d is busy for connections to %s; another one is taken",
                source.port, display(target.host, target.port),
            )  # fmt: skip
            return await _connect(loop, poller, target, source._replace(port=0), timeout)
    except OSError as error:
        raise NoDataConnection("Can't connect to your data port.") from error


async def _connect(
    loop: asyncio.AbstractEventLoop,
    poller: Poller,
    target: ActiveTarget,
    source: ActiveSource,
    timeout: float,
) -> int:
    """Raises OSError, NoDataConnection."""
    interface = interface_of(source.host)  # a link-local target is on that one, too
    sock = socket.socket(socket.AF_INET6 if is_ipv6(source.host) else socket.AF_INET)
    try:
        sock.settimeout(0)
        set_keepalive(sock, source.keepalive)
        if source.port:  # many connections come from it at once
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # the client's firewall expects the address that it talks to
        sock.bind(socket_address(source.host, source.port, interface))
        error = sock.connect_ex(socket_address(target.host, target.port, interface))
        if error == errno.EINPROGRESS:
            await _connected(loop, poller, sock.fileno(), timeout)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        sock.getpeername()
    except BaseException:
        close_quietly(sock.detach())
        raise
    return sock.detach()


def try_source_port(port: int) -> None:
    """Raises OSError where this process may not connect from ``port``."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("0.0.0.0", port))
        except OSError as error:
            if (
                error.errno != errno.EADDRINUSE
            ):  # another program listens on it, maybe on one address
                raise


def why_no_source_port(port: int) -> str | None:
    """Why this process may not connect from ``port``, and what to do; None where it may."""
    try:
        try_source_port(port)
    except OSError as error:
        return (
            f"port {port} cannot be used: {error.strerror}; start the server as root, or with "
            "CAP_NET_BIND_SERVICE (AmbientCapabilities= of systemd), or leave the key out"
        )
    return None


async def _connected(
    loop: asyncio.AbstractEventLoop, poller: Poller, fd: int, timeout: float
) -> None:
    connecting = _Connecting(loop.create_future())
    error = NoDataConnection("Can't connect to your data port: it does not answer.")
    timer = expire(loop, connecting.waiter, timeout, error)
    try:
        poller.add(fd, WRITE, connecting)
        await connecting.waiter
    finally:
        timer.cancel()
        poller.remove(fd)
