"""Reading the PROXY protocol's header off a connection that a proxy has made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ftpcluster.expiry import Expiry, time_limit
from ftpcluster.net.poller import READ, Poller
from ftpcluster.net.stream import Stream
from ftpcluster.protocol.proxy import BadProxyHeader, HealthCheck, Origin, missing, parse

_TIMEOUT = 5.0
"""Seconds: a proxy sends the header together with the connection."""
_NOTHING_CAME = "no header came"


class _Header:
    """A header, of which perhaps only a part has come."""

    __slots__ = ("_data", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = b""

    def read(self) -> Origin | None:
        """The client's address; None where the proxy itself is the client. Raises BlockingIOError
        where more has to come, BadProxyHeader.
        """
        try:
            while count := missing(self._data):
                piece = os.read(self._fd, count)
                if not piece:
                    raise self._cut("the connection ended before its header")
                self._data += piece
        except ConnectionError as error:
            raise self._cut("the connection was reset") from error
        return parse(self._data)

    def _cut(self, why: str) -> BadProxyHeader:
        return BadProxyHeader(why) if self._data else HealthCheck(why)


async def read_origin(loop: asyncio.AbstractEventLoop, poller: Poller, fd: int) -> Origin | None:
    """The client's address; None where the proxy is the client. ``fd`` stays the caller's.

    Raises BadProxyHeader, also where none comes in time.
    """
    os.set_blocking(fd, False)  # done here, since a stream would close it on failure
    stream, header = Stream(loop, poller, fd), _Header(fd)
    try:
        async with time_limit(_TIMEOUT):
            while True:
                try:
                    return header.read()
                except BlockingIOError:
                    await stream.readable()
    except TimeoutError:
        raise BadProxyHeader(_NOTHING_CAME) from None
    finally:
        stream.release()


class Introduction:
    """``read_origin`` without a task, for many connections of which the first right one is used.

    ``on_origin(introduction, origin)`` is called once, unless ``end`` came before; ``origin`` is a
    BadProxyHeader where no header could be read.
    """

    __slots__ = ("_header", "_on_origin", "_poller", "_timer", "fd")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        fd: int,
        on_origin: Callable[[Introduction, Origin | BadProxyHeader | None], None],
    ) -> None:
        """``fd`` stays the caller's. Raises OSError."""
        os.set_blocking(fd, False)
        self.fd = fd
        self._poller = poller
        self._header = _Header(fd)
        self._on_origin = on_origin
        poller.add(fd, READ, self)
        late = BadProxyHeader(_NOTHING_CAME)
        self._timer = Expiry.after(loop, _TIMEOUT, self._tell, late)

    def on_ready(self, _: int) -> None:
        """Called by the poller."""
        try:
            origin = self._header.read()
        except BlockingIOError:
            return
        except BadProxyHeader as error:
            self._tell(error)
        else:
            self._tell(origin)

    def _tell(self, origin: Origin | BadProxyHeader | None) -> None:
        self.end()
        self._on_origin(self, origin)

    def end(self) -> None:
        """Stop watching; to be called before ``fd`` is closed."""
        self._timer.cancel()
        self._poller.remove(self.fd)
