"""Data connections of sessions behind a proxy: through it, with a header, or straight."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ftpcluster.net import proxy_header
from ftpcluster.session import accepting
from tests.session.conftest import Maker
from tests.session.proxied import (
    CLIENT,
    CONTENT,
    LOCAL,
    OTHER_HOST,
    PROXY,
    UNKNOWN,
    Front,
    ProtectedSocket,
    comes_from,
    through,
    v1,
    v2,
    versions,
)
from tests.support.cluster import until
from tests.support.dialogue import DEADLINE, Dialogue, reset, rest_of

whens = pytest.mark.parametrize("when", ["before the command", "after the command"])
REFUSED = [
    pytest.param(PROXY, v1(OTHER_HOST), id="for another host"),
    pytest.param(PROXY, v2(OTHER_HOST), id="for another host, version 2"),
    pytest.param(PROXY, LOCAL, id="for the proxy"),
    pytest.param(PROXY, UNKNOWN, id="for nobody knows whom"),
    pytest.param(PROXY, b"GET / HTTP/1.1\r\n\r\n", id="no header"),
    pytest.param(OTHER_HOST, b"", id="another host"),
    pytest.param(OTHER_HOST, v1(CLIENT), id="another host that speaks as a proxy does"),
]


@pytest.fixture
def client(front: Front) -> Iterator[Dialogue]:
    """Somebody behind the proxy who has logged in, in TYPE I."""
    with through(front.port, v1(CLIENT)) as client:
        client.logs_in()
        yield client


def brought(port: int, header: bytes, *, host: str = PROXY) -> socket.socket:
    """A data connection that the proxy makes."""
    sock = socket.create_connection((host, port), DEADLINE, (host, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(header)
    return sock


def is_served(client: Dialogue, data: socket.socket) -> None:
    """The transfer that has begun is this connection's."""
    with data:
        assert rest_of(data) == CONTENT
    client.expects(226)


# ---------------------------------------------------------------------- who is served


@versions
@whens
@pytest.mark.parametrize("verb", ["PASV", "EPSV"])
def test_the_proxy_brings_the_data_connection(
    client: Dialogue, version: Any, when: str, verb: str
) -> None:
    port = client.epsv() if verb == "EPSV" else client.pasv()[1]
    if when == "after the command":
        client.says("RETR file", 150)
        is_served(client, brought(port, version(CLIENT)))
    else:
        data = brought(port, version(CLIENT))
        client.says("RETR file", 150)
        is_served(client, data)


@versions
@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", f"::ffff:{CLIENT}"])
def test_the_client_may_have_any_address(front: Front, version: Any, address: str) -> None:
    with through(front.port, version(address)) as client:
        client.logs_in()
        data = brought(client.epsv(), version(address, 50_000))
        client.says("RETR file", 150)
        is_served(client, data)


@versions
def test_every_byte_behind_the_header_is_data(front: Front, client: Dialogue, version: Any) -> None:
    content = v1(CLIENT) + v2(CLIENT) + CONTENT  # whatever it looks like
    with brought(client.epsv(), version(CLIENT) + content):
        client.send("STOR new")
        client.expects(150)
    client.expects(226)
    assert (front.root / "new").read_bytes() == content
    (front.root / "new").unlink()


@versions
def test_the_header_may_come_byte_by_byte(client: Dialogue, version: Any) -> None:
    port = client.epsv()
    client.says("RETR file", 150)
    data = brought(port, b"")
    for byte in version(CLIENT):
        data.sendall(bytes([byte]))
    is_served(client, data)


def test_transfers_of_both_kinds_take_turns(client: Dialogue) -> None:
    """Their ports are used again."""
    for number in range(20):
        port = client.epsv()
        data = brought(port, v2(CLIENT)) if number % 2 else comes_from(CLIENT, port)
        client.says("RETR file", 150)
        is_served(client, data)


def test_the_proxy_may_come_over_ipv6(serve: Maker) -> None:
    port = serve(host="::1", proxy_protocol=["::1"])
    (serve.directory / "file").write_bytes(CONTENT)
    with through(port, v1("192.0.2.1"), host="::1") as client:
        client.logs_in()
        data = brought(client.epsv(), v1("192.0.2.1"), host="::1")
        client.says("RETR file", 150)
        is_served(client, data)


def test_a_client_on_the_proxy_s_machine_comes_through_it(front: Front) -> None:
    with through(front.port, v1(PROXY)) as client:
        client.logs_in()
        port = client.epsv()
        with brought(port, b"that is no header") as first:
            client.says("RETR file", 150)
            assert rest_of(first) == b""
        is_served(client, brought(port, v1(PROXY)))


def test_without_a_proxy_nothing_is_taken_for_a_header(serve: Maker) -> None:
    with Dialogue(serve()) as client:
        client.logs_in()
        client.uploads("STOR new", v1(PROXY) + CONTENT)
    assert (serve.directory / "new").read_bytes() == v1(PROXY) + CONTENT


# ---------------------------------------------------------------------- who is not


@whens
@pytest.mark.parametrize(("source", "header"), REFUSED)
def test_who_is_not_the_client_is_dropped_and_listening_goes_on(
    client: Dialogue, source: str, header: bytes, when: str
) -> None:
    port = client.pasv()[1]
    if when == "after the command":
        client.says("RETR file", 150)
    with comes_from(source, port) as other:
        with contextlib.suppress(ConnectionError):
            other.sendall(header)
        if when == "before the command":
            client.says("RETR file", 150)
        assert rest_of(other) == b""
    is_served(client, brought(port, v1(CLIENT)))


def test_a_proxy_that_sends_no_header_is_told_of_in_the_log(
    client: Dialogue, logs: Callable[[str], None]
) -> None:
    """As where it was not configured to send one."""
    port = client.epsv()
    client.says("STOR new", 150)
    with brought(port, CONTENT) as data:
        logs(r"a data connection from the proxy 127\.0\.0\.1 was closed: that is no PROXY header")
        assert rest_of(data) == b""
    client.says("ABOR", 426)
    client.expects(226)


@pytest.mark.parametrize("part", [b"", b"PROXY TCP4 ", v2(CLIENT)[:-1]], ids=repr)
@pytest.mark.parametrize("straight", [False, True], ids=["through the proxy", "straight"])
def test_a_header_that_does_not_come_keeps_the_client_not_waiting(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, part: bytes, straight: bool
) -> None:
    monkeypatch.setattr(proxy_header, "_TIMEOUT", 600)
    (serve.directory / "file").write_bytes(CONTENT)
    with through(serve(proxy_protocol=[PROXY]), v1(CLIENT)) as client:
        client.logs_in()
        port = client.epsv()
        with brought(port, part) as first, brought(port, part) as second:
            client.says("RETR file", 150)
            is_served(client, comes_from(CLIENT, port) if straight else brought(port, v1(CLIENT)))
            # nobody waits for them any more
            assert rest_of(first) == rest_of(second) == b""


@pytest.mark.parametrize("part", [b"", b"PROXY TCP4 ", v2(CLIENT)[:-1]], ids=repr)
def test_a_header_that_never_comes_is_not_waited_for(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(proxy_header, "_TIMEOUT", 0.2)
    (serve.directory / "file").write_bytes(CONTENT)
    with through(serve(proxy_protocol=[PROXY]), v1(CLIENT)) as client:
        client.logs_in()
        port = client.epsv()
        client.says("RETR file", 150)
        with brought(port, part) as data:
            assert rest_of(data) == b""
        is_served(client, brought(port, v1(CLIENT)))


@pytest.mark.parametrize("end", ["ABOR", "reset", "timeout"])
@pytest.mark.parametrize("protected", [False, True], ids=["plain", "protected"])
def test_what_ends_the_wait_ends_that_for_headers(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, server_context: Any, end: str, protected: bool
) -> None:
    monkeypatch.setattr(proxy_header, "_TIMEOUT", 600)
    (serve.directory / "file").write_bytes(CONTENT)
    patience = 0.5 if end == "timeout" else DEADLINE
    options = {"data_timeout": patience, "ssl": server_context if protected else None}
    with through(serve(proxy_protocol=[PROXY], **options), v1(CLIENT), greeting=None) as client:
        raw = client.sock
        if protected:
            client.sock = ProtectedSocket(raw, b"")  # type: ignore[assignment]
        client.expects(220)
        client.logs_in()
        if protected:
            protects(client)
        port = client.epsv()
        with brought(port, v1(CLIENT)[:-1]) as data:
            client.says("RETR file", 150)
            if end == "ABOR":
                client.send("ABOR")
            elif end == "reset":
                reset(raw)
            else:
                client.expects(425)
            assert rest_of(data) == b""
    server = serve.made[-1]
    until(lambda: server.call(lambda: server.server.ledger.connections == 0))


# ---------------------------------------------------------------------- TLS


def protects(client: Dialogue) -> None:
    client.says("PBSZ 0", 200)
    client.says("PROT P", 200)


@pytest.fixture
def protected(proxied_tls_port: int) -> Iterator[Dialogue]:
    """Somebody behind the proxy who has logged in and said PROT P."""
    with through(proxied_tls_port, v2(CLIENT), greeting=None) as client:
        client.sock = ProtectedSocket(client.sock, b"")  # type: ignore[assignment]
        client.expects(220)
        client.logs_in()
        protects(client)
        yield client


def is_served_protected(client: Dialogue, data: ProtectedSocket) -> None:
    received = b""
    while len(received) < len(CONTENT):
        received += data.recv(1 << 16)
    assert received == CONTENT
    data.close()
    client.expects(226)


class Patient:
    """A socket from which nothing is read before it may be."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.has_sent, self.may_read = threading.Event(), threading.Event()

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data)
        self.has_sent.set()

    def recv(self, count: int) -> bytes:
        assert self.may_read.wait(DEADLINE)
        return self._sock.recv(count)


@pytest.mark.parametrize("header", [b"", v1(CLIENT), v2(CLIENT)], ids=["straight", "v1", "v2"])
def test_a_handshake_that_came_with_the_command_ends_before_150(
    serve: Maker, server_context: Any, monkeypatch: pytest.MonkeyPatch, header: bytes
) -> None:
    """Both wait for the server when it looks: basic-ftp would take 150 for the handshake's end."""
    monkeypatch.setattr(accepting, "_SETTLE", DEADLINE)
    port = serve(proxy_protocol=[PROXY], ssl=server_context)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(through(port, v1(CLIENT), greeting=None))
        raw = client.sock
        client.sock = ProtectedSocket(raw, b"")  # type: ignore[assignment]
        client.expects(220)
        client.logs_in()
        protects(client)
        data_port, go_on = client.epsv(), threading.Event()
        serve.made[-1].loop.call_soon_threadsafe(go_on.wait, DEADLINE)
        stack.callback(go_on.set)
        client.send("STOR new")
        sock = stack.enter_context(comes_from(PROXY if header else CLIENT, data_port))
        data = Patient(sock)
        with ThreadPoolExecutor(1) as pool:
            stack.callback(data.may_read.set)
            shaken = pool.submit(ProtectedSocket, data, header)  # type: ignore[arg-type]
            assert data.has_sent.wait(DEADLINE)
            go_on.set()
            assert select.select([sock], [], [], DEADLINE)[0]  # the server's hello
            assert not select.select([raw], [], [], 0.2)[0], client.line()
            data.may_read.set()
            protected = shaken.result(DEADLINE)
        client.expects(150)
        protected.sendall(CONTENT)
        sock.close()
        client.expects(226)
    assert (serve.directory / "new").read_bytes() == CONTENT


@versions
@whens
def test_no_byte_of_a_client_hello_behind_the_header_is_lost(
    protected: Dialogue, version: Any, when: str
) -> None:
    """Some clients shake hands before they send the command, which the server has to allow."""
    port = protected.epsv()
    if when == "after the command":
        protected.says("RETR file", 150)
        data = ProtectedSocket(brought(port, b""), version(CLIENT))
    else:
        data = ProtectedSocket(brought(port, b""), version(CLIENT))
        protected.says("RETR file", 150)
    is_served_protected(protected, data)


def test_a_protected_data_connection_may_come_straight(protected: Dialogue) -> None:
    port = protected.pasv()[1]
    data = ProtectedSocket(comes_from(CLIENT, port), b"")
    protected.says("RETR file", 150)
    is_served_protected(protected, data)


@whens
@pytest.mark.parametrize(("source", "header"), REFUSED)
def test_who_is_not_the_client_gets_no_handshake(
    protected: Dialogue, source: str, header: bytes, when: str
) -> None:
    port = protected.epsv()
    if when == "after the command":
        protected.says("RETR file", 150)
    with comes_from(source, port) as other:
        with contextlib.suppress(ConnectionError):
            other.sendall(header)
        assert rest_of(other) == b""
    data = ProtectedSocket(brought(port, b""), v1(CLIENT))
    if when == "before the command":
        protected.says("RETR file", 150)
    is_served_protected(protected, data)
