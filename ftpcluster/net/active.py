"""Active data connections: this server connects to the client (PORT, EPRT)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

import msgspec

from ftpcluster.descriptors import close_quietly
from ftpcluster.net.listeners import set_keepalive
from ftpcluster.net.poller import WRITE, Poller
from ftpcluster.net.stream import expire
from ftpcluster.protocol.address import interface_of, is_ipv6, socket_address
from ftpcluster.protocol.errors import NoDataConnection


class ActiveTarget(msgspec.Struct, frozen=True):
    """Where the client waits for the data connection, which is made when a transfer begins."""

    host: str
    port: int


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
    source: str,
    timeout: float,
    keepalive: float | None,
) -> int:
    """The descriptor of a connection to ``target``, from the address ``source``.

    ``keepalive``: see ``set_keepalive``. Raises NoDataConnection where it fails, or takes longer
    than ``timeout`` seconds.
    """
    interface = interface_of(source)  # a link-local target is on that one, too
    sock = socket.socket(socket.AF_INET6 if is_ipv6(source) else socket.AF_INET)
    try:
        sock.settimeout(0)
        set_keepalive(sock, keepalive)
        # the client's firewall expects the address that it talks to
        sock.bind(socket_address(source, 0, interface))
        there = socket_address(target.host, target.port, interface)
        if sock.connect_ex(there) == errno.EINPROGRESS:
            await _connected(loop, poller, sock.fileno(), timeout)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        sock.getpeername()
    except OSError as error:
        close_quietly(sock.detach())
        raise NoDataConnection("Can't connect to your data port.") from error
    except BaseException:
        close_quietly(sock.detach())
        raise
    return sock.detach()


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
