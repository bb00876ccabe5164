"""Handshakes: versions, ALPN, certificates of clients and for names, and clients who never end."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from OpenSSL import SSL

from ftpcluster.net.certificates import make_context
from tests.support.dialogue import Dialogue, reset, rest_of
from tests.tls.conftest import AUTHORITY, Files, Shared
from tests.tls.support import (
    V12,
    V13,
    Client,
    Running,
    hello,
    says_close_notify,
    stays_silent,
)

Serve = Callable[..., Running]
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
REFUSED = "(?i)no.application.protocol"  # versions of OpenSSL differ
NO_APPLICATION_PROTOCOL = b"\x15\x03\x01\x00\x02\x02\x78"


# ---------------------------------------------------------------------- versions


@VERSIONS
def test_tls_1_2_and_1_3_work_on_control_and_data_connections(
    shared: Shared, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    content = os.urandom(1_500_000)
    trusting.minimum_version = trusting.maximum_version = version
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        names = {V12: "TLSv1.2", V13: "TLSv1.3"}
        assert client.tls.version() == names[version]
        client.stores("STOR file", content)
        assert (shared.root / "file").read_bytes() == content
        with client.protected("RETR file") as data:
            assert data.version() == names[version]
            assert b"".join(iter(lambda: data.recv(1 << 16), b"")) == content
        client.expects(226)


def test_tls_1_1_is_refused(shared: Shared, trusting: ssl.SSLContext) -> None:
    trusting.set_ciphers("ALL:@SECLEVEL=0")  # else this client would refuse it itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        trusting.minimum_version = ssl.TLSVersion.TLSv1
        trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    with Client(shared.port, trusting) as client:
        client.says("AUTH TLS", 234)
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            client.handshakes()


# ---------------------------------------------------------------------- ALPN


@pytest.mark.parametrize("protocols", [None, ["ftp"], ["x-other", "ftp"], ["ftp", "h2"]], ids=str)
def test_alpn_that_names_ftp_or_nothing_is_accepted(
    shared: Shared, trusting: ssl.SSLContext, protocols: list[str] | None
) -> None:
    if protocols is not None:
        trusting.set_alpn_protocols(protocols)
    with Client(shared.port, trusting) as client:
        client.secures()
        assert client.tls.selected_alpn_protocol() == (None if protocols is None else "ftp")
        client.says("NOOP", 200)


@VERSIONS
@pytest.mark.parametrize("protocols", [["h2"], ["http/1.1", "h2"], ["ftps"], ["FTP"]], ids=str)
def test_alpn_of_other_protocols_is_refused(
    shared: Shared, trusting: ssl.SSLContext, protocols: list[str], version: ssl.TLSVersion
) -> None:
    trusting.maximum_version = version
    trusting.set_alpn_protocols(protocols)
    with Client(shared.port, trusting) as client:
        client.says("AUTH TLS", 234)
        with pytest.raises(ssl.SSLError, match=REFUSED):
            client.handshakes()


def test_alpn_of_other_protocols_is_refused_with_implicit_tls(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    port = serve(implicit=True).port
    with Client(port, trusting, implicit=True) as client:
        client.says("NOOP", 200)
    trusting.set_alpn_protocols(["http/1.1"])
    with pytest.raises(ssl.SSLError, match=REFUSED):
        Client(port, trusting, implicit=True)


def test_alpn_of_other_protocols_is_refused_on_data_connections(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        trusting.set_alpn_protocols(["h2"])
        with client.begins("NLST") as data:
            with pytest.raises(ssl.SSLError, match=REFUSED):
                client.wraps(data)
        client.expects(425)
        trusting.set_alpn_protocols(["ftp-data"])
        client.fetches("NLST")


def in_records(message: bytes, size: int) -> bytes:
    """A handshake message, cut into records of ``size`` bytes (RFC 8446 section 5.1)."""
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


@pytest.mark.parametrize("size", [1, 50, 300])
def test_alpn_of_other_protocols_is_refused_in_a_client_hello_of_many_records(
    shared: Shared, trusting: ssl.SSLContext, size: int
) -> None:
    trusting.set_alpn_protocols(["h2"])
    message = hello(trusting)[5:]
    with Dialogue(shared.port) as client:
        client.says("AUTH TLS", 234)
        client.sock.sendall(in_records(message, size))
        with contextlib.suppress(OSError):  # it may have closed already
            client.sock.shutdown(socket.SHUT_WR)
        answer = rest_of(client.sock)
        assert answer[:1] != b"\x16", "the server said hello"


@pytest.mark.parametrize("size", [50, 300])
def test_a_client_hello_of_many_records_is_understood(
    shared: Shared, trusting: ssl.SSLContext, size: int
) -> None:
    trusting.set_alpn_protocols(["ftp"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with Dialogue(shared.port) as client:
        client.says("AUTH TLS", 234)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        client.sock.sendall(in_records(outgoing.read()[5:], size))
        while True:
            incoming.write(client.sock.recv(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
        assert tls.selected_alpn_protocol() == "ftp"


@pytest.mark.parametrize(("protocol", "accepted"), [("ftp", True), ("h2", False)])
def test_a_client_hello_may_come_byte_by_byte(
    shared: Shared, trusting: ssl.SSLContext, protocol: str, accepted: bool
) -> None:
    trusting.set_alpn_protocols([protocol])
    message = hello(trusting)
    with Dialogue(shared.port) as client:
        client.says("AUTH TLS", 234)
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(message) - 1):
            client.sock.sendall(message[at : at + 1])
        stays_silent(client.sock, 0.02)
        client.sock.sendall(message[-1:])
        answer = client.sock.recv(7)
        if accepted:
            assert answer[:1] == b"\x16"
        else:
            assert answer == NO_APPLICATION_PROTOCOL
            assert client.is_closed()


def test_a_server_that_waits_for_the_rest_of_a_client_hello_does_not_spin(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    message = hello(trusting)
    with contextlib.ExitStack() as stack:
        for part in (1, 4, 5, 6, 100, -1):
            client = stack.enter_context(Dialogue(shared.port))
            client.says("AUTH TLS", 234)
            client.sock.sendall(message[:part])
        stays_silent(client.sock, 0.05)
        before = shared.running.cpu()
        stays_silent(client.sock, 0.6)
        assert shared.running.cpu() - before < 0.2
        with Dialogue(shared.port) as other:
            other.says("NOOP", 200)


@pytest.mark.parametrize("how", ["close", "half", "reset"])
@pytest.mark.parametrize("part", [0, 3, 5, 100])
def test_a_client_that_leaves_in_the_middle_of_its_hello_is_forgotten(
    shared: Shared, trusting: ssl.SSLContext, part: int, how: str
) -> None:
    message = hello(trusting)
    with Dialogue(shared.port) as client:
        client.says("AUTH TLS", 234)
        client.sock.sendall(message[:part])
        if how == "half":
            client.sock.shutdown(socket.SHUT_WR)
            assert rest_of(client.sock)[:1] in (b"", b"\x15")  # nothing, or an alert
        elif how == "reset":
            reset(client.sock)
    with Dialogue(shared.port) as other:
        other.says("NOOP", 200)


@pytest.mark.parametrize("serve", ["asyncio", "uvloop"], indirect=True)
def test_a_client_that_is_gone_before_tls_begins_leaves_nothing_behind(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    """Its socket is closed at once, not by the garbage collector, which would warn."""
    running = serve(implicit=True)
    assert running.server is not None
    release = threading.Event()
    running.server.loop.call_soon_threadsafe(release.wait, 20)  # accept comes after the reset
    with Dialogue(running.port, greeting=None) as client:
        reset(client.sock)
    release.set()
    with Client(running.port, trusting, implicit=True) as other:
        other.logs_in()
    gc.collect()


def test_a_handshake_that_does_not_end_ends_with_the_login_deadline(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    running = serve(login_timeout=1.0)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Dialogue(running.port)) for _ in range(5)]
        for client, part in zip(clients, (0, 3, 5, 100, None), strict=True):
            client.says("AUTH TLS", 234)
            client.sock.sendall(hello(trusting)[:part])
        for client in clients[:-1]:
            assert rest_of(client.sock) == b""
        assert rest_of(clients[-1].sock)[:1] == b"\x16"  # the server's hello, and no more than TLS


def test_who_says_nothing_to_an_implicit_port_is_gone_after_the_login_deadline(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    running = serve(implicit=True, login_timeout=1.0)
    silent = [Dialogue(running.port, greeting=None) for _ in range(3)]
    silent[1].sock.sendall(hello(trusting)[:100])
    silent[2].sock.sendall(hello(trusting))
    for client in silent:
        with client:
            received = rest_of(client.sock)
            assert b"220" not in received
            assert b"421" not in received  # not in the clear
    with Client(running.port, trusting, implicit=True) as client:
        client.logs_in()


def test_who_shakes_hands_and_says_nothing_more_hears_421_within_tls(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    running = serve(implicit=True, login_timeout=1.0)
    with Client(running.port, trusting, implicit=True) as client:
        client.expects(421)
        assert client.sock.recv(1) == b""  # close_notify


GARBAGE = {
    "text": b"USER anonymous\r\n" * 20,
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(1000),
    "random": bytes((i * 197 + 13) % 251 for i in range(5000)),
    "empty record": b"\x16\x03\x01\x00\x00" * 40,
    "long record": b"\x16\x03\x01\xff\xff" + bytes(70000),
    "no hello": b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
    "broken hello": b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03" + b"\xff" * 58,
    "alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "application data": b"\x17\x03\x03\x00\x10" + bytes(16),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_instead_of_a_handshake_harms_nobody(
    shared: Shared, trusting: ssl.SSLContext, name: str
) -> None:
    with Client(shared.port, trusting) as bystander:
        bystander.secures(protected=True)
        with Dialogue(shared.port) as client:
            client.says("AUTH TLS", 234)
            with contextlib.suppress(OSError):  # it may have closed already
                client.sock.sendall(GARBAGE[name])
                client.sock.shutdown(socket.SHUT_WR)
            assert rest_of(client.sock)[:1] in (b"", b"\x15")
        with bystander.passive() as data:
            with contextlib.suppress(OSError):
                data.sendall(GARBAGE[name])
                data.shutdown(socket.SHUT_WR)
            bystander.send("NLST")
            assert bystander.final() == 425
        bystander.fetches("NLST")


def test_garbage_at_an_implicit_port_harms_nobody(serve: Serve, trusting: ssl.SSLContext) -> None:
    running = serve(implicit=True)
    with Client(running.port, trusting, implicit=True) as bystander:
        for garbage in GARBAGE.values():
            with Dialogue(running.port, greeting=None) as client:
                with contextlib.suppress(OSError):  # it may have closed already
                    client.sock.sendall(garbage)
                    client.sock.shutdown(socket.SHUT_WR)
                assert b"220" not in rest_of(client.sock)
        bystander.logs_in()
        bystander.fetches("NLST")


def test_garbage_after_the_handshake_ends_the_session_and_no_other(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    with Client(shared.port, trusting) as client, Client(shared.port, trusting) as other:
        other.secures()
        client.secures(protected=True)
        socket.socket.send(client.tls, b"NOOP\r\n" * 100)
        assert b"200" not in rest_of(client.tls)
        other.says("NOOP", 200)


# ---------------------------------------------------------------------- certificates


@pytest.fixture(scope="module")
def of_a_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client's certificate and key, in one file."""
    path = tmp_path_factory.mktemp("client") / "client.pem"
    AUTHORITY.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.fixture
def asking(files: Files) -> Callable[[], ssl.SSLContext]:
    """Makes contexts that ask clients for certificates of the authority."""

    def make() -> ssl.SSLContext:
        path = str(files.server)
        return make_context(path, path, client_ca=str(files.authority))

    return make


def turned_away(client: Client) -> bool:
    """Whether the handshake fails. With TLS 1.3 the client hears of it only with its next read."""
    client.says("AUTH TLS", 234)
    try:
        client.handshakes()
        client.says("NOOP", 200)
    except (ssl.SSLError, ConnectionError, EOFError):
        return True
    return False


LOOPS = pytest.mark.parametrize("serve", ["asyncio", "uvloop"], indirect=True)


@LOOPS
@VERSIONS
def test_a_clients_certificate_is_optional(
    serve: Serve,
    trusting: ssl.SSLContext,
    asking: Callable[[], ssl.SSLContext],
    of_a_client: Path,
    version: ssl.TLSVersion,
) -> None:
    assert asking().verify_mode is ssl.CERT_OPTIONAL
    port = serve(make=asking).port
    trusting.maximum_version = version
    for certificate in (None, of_a_client):
        if certificate is not None:
            trusting.load_cert_chain(certificate)
        with Client(port, trusting) as client:
            client.secures(protected=True)
            client.stores("STOR file", b"content", client.tls.session)
            assert client.fetches("RETR file") == b"content"


@LOOPS
@VERSIONS
def test_a_clients_certificate_of_an_unknown_authority_is_refused(
    serve: Serve,
    trusting: ssl.SSLContext,
    asking: Callable[[], ssl.SSLContext],
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    unknown = tmp_path / "unknown.pem"
    issued = trustme.CA().issue_cert("client.example")
    issued.private_key_and_cert_chain_pem.write_to_path(str(unknown))
    trusting.load_cert_chain(unknown)
    trusting.maximum_version = version
    with Client(serve(make=asking).port, trusting) as client:
        assert turned_away(client)


@LOOPS
@VERSIONS
def test_a_clients_certificate_can_be_required(
    serve: Serve,
    trusting: ssl.SSLContext,
    asking: Callable[[], ssl.SSLContext],
    of_a_client: Path,
    version: ssl.TLSVersion,
) -> None:
    def make() -> ssl.SSLContext:
        context = asking()
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    port = serve(make=make).port
    trusting.maximum_version = version
    with Client(port, trusting) as client:
        assert turned_away(client)
    trusting.load_cert_chain(of_a_client)
    with Client(port, trusting) as client:
        client.secures(protected=True)
        client.stores("STOR file", b"content")
        client.stores("STOR file", b"content", client.tls.session)  # resumed: shown before


@LOOPS
@VERSIONS
def test_each_name_can_have_a_certificate_of_its_own(
    serve: Serve, trusting: ssl.SSLContext, files: Files, version: ssl.TLSVersion
) -> None:
    def certified(name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert(name).configure_cert(context)
        return context

    contexts = {"one.example": certified("one.example"), "two.example": certified("two.example")}

    def choose(sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name in contexts:
            sock.context = contexts[name]

    def make() -> ssl.SSLContext:
        context = make_context(str(files.server), str(files.server))
        context.sni_callback = choose
        return context

    port = serve(make=make).port
    trusting.maximum_version = version
    for name in ("one.example", "two.example", "localhost"):
        with Client(port, trusting) as client:
            client.says("AUTH TLS", 234)
            client.sock = trusting.wrap_socket(client.sock, server_hostname=name)
            found = client.tls.getpeercert()
            assert found is not None
            assert found["subjectAltName"] == (("DNS", name),) or name == "localhost"
            client.logs_in()
            client.protects()
            with client.begins("NLST") as plain:
                # data connections are checked against the same name
                with trusting.wrap_socket(
                    plain, server_hostname=name, session=client.tls.session
                ) as data:
                    assert data.recv(10) == b""
                    assert data.session_reused
            client.expects(226)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_client_may_not_negotiate_again(
    serve: Serve, trusting: ssl.SSLContext, implicit: bool
) -> None:
    """A handshake costs the server more than the client, and TLS 1.2 would allow any number."""
    port = serve(implicit=implicit).port
    with Dialogue(port, greeting=None) as client:
        if not implicit:
            client.expects(220)
            client.says("AUTH TLS", 234)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        client.sock.settimeout(None)  # pyOpenSSL knows no timeouts
        tls = SSL.Connection(context, client.sock)
        tls.set_connect_state()
        tls.do_handshake()
        if implicit:
            assert tls.recv(4096).startswith(b"220 ")
        tls.send(b"NOOP\r\n")
        assert tls.recv(4096).startswith(b"200 ")
        assert tls.renegotiate()
        with pytest.raises(SSL.Error, match="no renegotiation"):
            tls.do_handshake()
    with Client(port, trusting, implicit=implicit) as other:
        if not implicit:
            other.secures()
        other.says("NOOP", 200)


def test_close_notify_in_the_middle_of_a_handshake_harms_nobody(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    with Client(shared.port, trusting) as client:
        client.secures()
        says_close_notify(client.tls)
        assert rest_of(client.tls) == b""
    with Dialogue(shared.port) as other:
        other.says("NOOP", 200)
