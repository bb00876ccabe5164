"""Reading the PROXY protocol's header off a connection that a proxy has made."""

from __future__ import annotations

import asyncio
import os

from ftpcluster.net.poller import Poller
from ftpcluster.net.stream import Stream
from ftpcluster.protocol.proxy import BadProxyHeader, Origin, missing, parse

_TIMEOUT = 5.0
"""Seconds: a proxy sends the header together with the connection."""


async def read_origin(loop: asyncio.AbstractEventLoop, poller: Poller, fd: int) -> Origin | None:
    """Who the client is, None where the proxy itself is; ``fd`` stays the caller's.

    Raises BadProxyHeader, also where none comes in time.
    """
    stream = Stream(loop, poller, fd)
    data = b""
    try:
        async with asyncio.timeout(_TIMEOUT):
            while count := missing(data):
                try:
                    piece = os.read(fd, count)
                except BlockingIOError:
                    await stream.readable()
                    continue
                if not piece:
                    raise BadProxyHeader("the connection ended before its header")
                data += piece
    except TimeoutError:
        raise BadProxyHeader("no header came") from None
    except ConnectionError as error:
        raise BadProxyHeader("the connection was reset") from error
    finally:
        stream.release()
    return parse(data)
