"""A peer that resets its connection while that is made one of TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

import pytest

from ftpcluster.net import tls
from ftpcluster.net.poller import Poller
from tests.support.dialogue import reset


class Unaware(socket.socket):
    """A socket that has not heard of the reset, as if that came a moment later."""

    def getpeername(self) -> None:
        return None


async def test_its_descriptor_is_closed_and_not_left_to_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    poller = Poller(loop)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        reset(client)
        fd = accepted.detach()
    monkeypatch.setattr(tls.socket, "socket", Unaware)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # the error holds what was begun, so that no collector closes it meanwhile
    with pytest.raises(ConnectionAbortedError, match="the peer is gone") as error:
        tls.TLSStream(loop, poller, fd, context, 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert error.value.__cause__ is not None
    poller.close()
