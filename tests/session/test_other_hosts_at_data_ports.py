"""A data port cannot be filled by other hosts: they are dropped from 227 on, not from RETR on."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import until
from tests.support.dialogue import Dialogue

OTHER_HOST = "127.0.0.9"


class OtherHosts:
    """Connections to a data port from somebody else's address, which are never closed there."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._socks: list[socket.socket] = []
        self._thread = threading.Thread(target=self._go_on)

    def come(self, count: int) -> None:
        for _ in range(count):
            sock = socket.socket()
            sock.bind((OTHER_HOST, 0))
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self._port))
            self._socks.append(sock)

    def are_dropped(self) -> bool:
        """Whether all have been closed by the server that came to be accepted."""
        poll = select.poll()
        for sock in self._socks:
            poll.register(sock, select.POLLIN)
        return len(poll.poll(0)) == len(self._socks)

    def go_on(self) -> None:
        """Come again and again, until the end."""
        self._thread.start()

    def _go_on(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError), socket.socket() as sock:
                sock.bind((OTHER_HOST, 0))
                sock.settimeout(5)
                sock.connect(("127.0.0.1", self._port))

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for sock in self._socks:
            sock.close()


Come = Callable[[int], OtherHosts]


@pytest.fixture
def come() -> Iterator[Come]:
    with contextlib.ExitStack() as stack:

        def make(port: int) -> OtherHosts:
            others = OtherHosts(port)
            stack.callback(others.close)
            return others

        yield make


def connect(port: int) -> socket.socket:
    """The client's own connection, which must not have to wait for the command."""
    return socket.create_connection(("127.0.0.1", port), 20)


@pytest.mark.parametrize("command", ["RETR file", "NLST", "STOR new"])
@pytest.mark.parametrize("count", [70, 700])
def test_the_client_s_connection_is_made_though_others_came_first_and_go_on_coming(
    client: Dialogue, root: Path, come: Come, command: str, count: int
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    (root / "file").write_bytes(b"content")
    for _ in range(3):
        port = client.epsv()
        others = come(port)
        others.come(count)
        others.go_on()
        if count > 512:
            until(others.are_dropped)
        with connect(port) as data:
            client.says(command, 150)
            if command.startswith("STOR"):
                data.sendall(b"content")
                data.shutdown(socket.SHUT_WR)
            else:
                assert data.recv(100)
        client.expects(226)
        others.close()


@pytest.mark.parametrize("waits", [True, False])
def test_a_connection_that_comes_before_the_command_is_kept_and_the_next_one_is_another(
    client: Dialogue, root: Path, come: Come, waits: bool
) -> None:
    (root / "file").write_bytes(b"content")
    for _ in range(3):
        port = client.epsv()
        if waits:
            others = come(port)
            others.come(1)
            until(others.are_dropped)  # somebody looks at who comes
        with connect(port) as data:
            assert not select.select([data], [], [], 0)[0]
            client.says("RETR file", 150)
            assert data.recv(100) == b"content"
        client.expects(226)


def test_a_connection_that_was_kept_ends_with_what_it_was_for(
    client: Dialogue, root: Path, come: Come
) -> None:
    """Whoever asks for another port, or leaves, or wants TLS instead."""
    for line, code in (("EPSV", 229), ("REIN", 220)):
        port = client.epsv()
        others = come(port)
        others.come(1)
        until(others.are_dropped)
        with connect(port) as data:
            client.says(line, code)
            assert data.recv(1) == b""


def test_a_listener_that_others_have_filled_while_it_was_idle_serves_all_the_same(
    client: Dialogue, root: Path, come: Come
) -> None:
    (root / "file").write_bytes(b"content")
    ports = set()
    for _ in range(40):  # by then listeners are used again
        port = client.epsv()
        with connect(port) as data:
            client.says("RETR file", 150)
            assert data.recv(100) == b"content"
        client.expects(226)
        if port not in ports:
            ports.add(port)
            come(port).come(3 if len(ports) % 2 else 100)
