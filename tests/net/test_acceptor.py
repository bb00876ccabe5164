"""The acceptor's end, and what the kernel tells of an accepted connection."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator

import pytest

from ftpcluster.net.acceptor import Acceptor, is_untouched
from tests.support.dialogue import reset

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """An accepted connection, and its client's end."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        accepted, _ = listener.accept()
    with accepted, client:
        yield accepted, client


@pytest.mark.parametrize("ends", ["close", "listen_on"])
async def test_a_listener_whose_close_fails_keeps_no_other_open(ends: str) -> None:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    addresses = [listener.getsockname() for listener in listeners]
    acceptor = Acceptor(
        asyncio.get_running_loop(), listeners, lambda: None, lambda *_: pytest.fail("no target")
    )
    os.close(listeners[1].fileno())
    if ends == "listen_on":
        acceptor.listen_on(())
    acceptor.close()
    for address in addresses:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


async def test_a_listener_that_cannot_be_watched_now_is_watched_soon(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel may have no memory for it. A reload, whose workers serve already, must go on."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[int] = loop.create_future()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0)
    acceptor = Acceptor(
        loop, [listener], lambda: 1, lambda _, __, fd, *___: accepted.set_result(fd)
    )

    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(loop, "add_reader", fail)
    acceptor.resume()
    try:
        with socket.create_connection(listener.getsockname()):
            os.close(await asyncio.wait_for(accepted, 20))
    finally:
        acceptor.close()
    assert "cannot accept connections: No space left on device" in caplog.text


def test_a_new_connection_is_untouched(pair: Pair) -> None:
    assert is_untouched(pair[0].fileno())


@pytest.mark.parametrize("ends", [False, True])
def test_it_is_whatever_its_client_does(pair: Pair, ends: bool) -> None:
    accepted, client = pair
    client.sendall(b"USER somebody\r\n")
    if ends:
        client.shutdown(socket.SHUT_WR)
    accepted.recv(1, socket.MSG_PEEK)
    assert is_untouched(accepted.fileno())


def test_one_that_was_sent_something_is_not(pair: Pair) -> None:
    accepted, client = pair
    with accepted.dup() as elsewhere:
        elsewhere.sendall(b"220 hello\r\n")
    client.recv(100)
    assert not is_untouched(accepted.fileno())


def test_one_that_something_was_read_from_is_not(pair: Pair) -> None:
    accepted, client = pair
    client.sendall(b"PROXY TCP4 192.0.2.1")
    with accepted.dup() as elsewhere:
        elsewhere.recv(10)
    assert not is_untouched(accepted.fileno())


def test_one_whose_client_has_hung_up_harms_nobody(pair: Pair) -> None:
    accepted, client = pair
    reset(client)
    is_untouched(accepted.fileno())


def test_what_is_no_tcp_connection_is_not() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not is_untouched(ours.fileno())
