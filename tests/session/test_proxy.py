"""The PROXY protocol in front of sessions: who the client is, for whatever asks that."""

from __future__ import annotations

import contextlib
import logging
import re
import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.net import proxy_header, refused
from ftpcluster.quota.ledger import ConnectionLimits
from ftpcluster.session.process_sessions import AcceptedConnection
from tests.conftest import InProcess
from tests.session.conftest import Maker
from tests.session.proxied import (
    CLIENT,
    CONTENT,
    KINDS,
    LOCAL,
    OTHER_HOST,
    PROXY,
    UNKNOWN,
    Front,
    ProtectedSocket,
    binary,
    comes_from,
    make_front,
    through,
    v1,
    v2,
    versions,
)
from tests.support.cluster import Cluster, until
from tests.support.dialogue import DEADLINE, Dialogue, reset, rest_of


def connected_from(client: Dialogue) -> str:
    """The client's address as STAT tells it."""
    match = re.search(r"Connected from (\S+)", client.says("STAT", 211))
    assert match is not None
    return match[1]


# ---------------------------------------------------------------------- the header


@versions
@pytest.mark.parametrize("address", [CLIENT, "192.0.2.1", "2001:db8::1"])
def test_the_session_is_the_client_s(front: Front, version: Any, address: str) -> None:
    with through(front.port, version(address)) as client:
        assert connected_from(client) == address
        client.logs_in()
        client.says("NOOP", 200)


def test_an_ipv4_client_in_ipv6_s_clothes_is_an_ipv4_client(front: Front) -> None:
    with through(front.port, v2(f"::ffff:{CLIENT}")) as client:
        assert connected_from(client) == CLIENT
        client.logs_in()
        with comes_from(CLIENT, client.epsv()) as data:
            client.says("RETR file", 150)
            assert rest_of(data) == CONTENT
        client.expects(226)


def test_the_proxy_may_come_over_ipv6(front: Front, serve: Maker) -> None:
    port = front.port
    if front.cluster is None:
        port = serve(host="::1", proxy_protocol=["::1"])
    with through(port, v1("2001:db8::1"), host="::1") as client:
        assert connected_from(client) == "2001:db8::1"


def test_passive_mode_is_of_the_family_over_which_the_client_came_to_the_proxy(
    front: Front, serve: Maker
) -> None:
    with through(front.port, v1("2001:db8::1")) as client:
        client.logs_in()
        client.says("EPSV 1", 522)
        client.says("EPSV 2", 229)
        client.says("PASV", 503)
    port = front.port
    if front.cluster is None:
        port = serve(host="::1", proxy_protocol=["::1"])
    with through(port, v1(CLIENT), host="::1") as client:
        client.logs_in()
        client.says("EPSV 2", 522)
        client.says("EPSV 1", 229)
        assert client.pasv()[0] == PROXY  # what the client has reached


@versions
def test_passive_mode_names_the_address_that_the_client_has_reached(
    front: Front, version: Any
) -> None:
    for reached in ("192.0.2.1", "192.0.2.2"):
        with through(front.port, version(CLIENT, reached=reached)) as client:
            client.logs_in()
            assert client.pasv()[0] == reached
            port = client.epsv()
            client.says("RETR file", 150)
            with comes_from(CLIENT, port) as data:
                assert rest_of(data) == CONTENT
            client.expects(226)


@versions
def test_a_masquerade_address_is_named_instead(serve: Maker, version: Any) -> None:
    networks = {"198.51.100.0/24": "203.0.113.2"}
    port = serve(proxy_protocol=[PROXY], masquerade_for=networks)
    for address, named in (("198.51.100.1", "203.0.113.2"), (CLIENT, "192.0.2.1")):
        with through(port, version(address, reached="192.0.2.1")) as client:
            client.logs_in()
            assert client.pasv()[0] == named


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN], ids=["LOCAL", "UNKNOWN"])
def test_passive_mode_of_a_proxy_that_speaks_for_itself_names_the_server(
    front: Front, header: bytes
) -> None:
    with through(front.port, header) as client:
        client.logs_in()
        assert client.pasv()[0] == PROXY


@pytest.mark.parametrize("header", [LOCAL, UNKNOWN], ids=["LOCAL", "UNKNOWN"])
def test_a_proxy_that_speaks_for_itself_is_served(front: Front, header: bytes) -> None:
    """As it does to see whether the server is well."""
    with through(front.port, header) as client:
        assert connected_from(client) == PROXY
        client.says("QUIT", 221)
        assert client.is_closed()


@versions
def test_the_header_may_come_in_pieces(front: Front, version: Any) -> None:
    header = version(CLIENT)
    with through(front.port, greeting=None) as client:
        for start, end in ((0, 1), (1, 5), (5, 15), (15, len(header) - 1)):
            client.sock.sendall(header[start:end])
            client.finds_silence(0.02)  # nobody is greeted before it is known who that is
        client.sock.sendall(header[-1:])
        client.expects(220)
        assert connected_from(client) == CLIENT


@versions
def test_the_header_may_come_byte_by_byte(front: Front, version: Any) -> None:
    with through(front.port, greeting=None) as client:
        for byte in version(CLIENT):
            client.sock.sendall(bytes([byte]))
        client.expects(220)
        assert connected_from(client) == CLIENT


@versions
def test_the_header_may_come_together_with_the_first_commands(front: Front, version: Any) -> None:
    commands = b"USER user\r\nPASS 12345\r\nPWD\r\n"
    with through(front.port, version(CLIENT) + commands) as client:
        for code in (331, 230, 257):
            client.expects(code)


def test_what_else_the_header_tells_is_skipped(front: Front) -> None:
    with through(front.port, v2(CLIENT, tlvs=b"\x04\x0f\x00" + bytes(3840))) as client:
        assert connected_from(client) == CLIENT


# ---------------------------------------------------------------------- the client's address


@versions
def test_a_failed_login_is_logged_with_the_client_s_address(
    front: Front, logs: Callable[[str], None], version: Any
) -> None:
    number = 10 + [v1, v2].index(version)
    with through(front.port, version(f"192.0.2.{number}")) as client:
        client.says("USER user", 331)
        client.send("PASS wrong")
        logs(rf"failed login of 'user' from 192\.0\.2\.{number}\b")


def test_the_client_uploads(front: Front) -> None:
    with through(front.port, v2(CLIENT)) as client:
        client.logs_in()
        with comes_from(CLIENT, client.epsv()) as data:
            client.says("STOR new", 150)
            data.sendall(CONTENT)
        client.expects(226)
    assert (front.root / "new").read_bytes() == CONTENT
    (front.root / "new").unlink()


@versions
def test_active_data_connections_go_to_the_client_and_nobody_else(
    front: Front, version: Any
) -> None:
    """“PORT/EPRT to another address than the peer's … 501”: the proxy's, too."""
    with socket.create_server((CLIENT, 0)) as listener, through(front.port, version(CLIENT)) as it:
        listener.settimeout(DEADLINE)
        port = listener.getsockname()[1]
        it.logs_in()
        for address in (PROXY, OTHER_HOST):
            it.says(f"PORT {address.replace('.', ',')},{port >> 8},{port & 255}", 501)
            it.says(f"EPRT |1|{address}|{port}|", 501)
        it.says("LIST", 425)
        it.says(f"PORT {CLIENT.replace('.', ',')},{port >> 8},{port & 255}", 200)
        it.says("RETR file", 150)
        with listener.accept()[0] as data:
            assert rest_of(data) == CONTENT
        it.expects(226)


def test_an_ipv6_client_of_a_proxy_that_comes_over_ipv4_is_answered(front: Front) -> None:
    """“one final reply, always”: though there may be no way from this server to the client."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        with through(front.port, v1("::1")) as client:
            client.logs_in()
            client.says(f"EPRT |2|::1|{listener.getsockname()[1]}|", 200)
            client.says("NLST", 150)
            client.expects(226, 425)
            client.says("NOOP", 200)


# ---------------------------------------------------------------------- who is no proxy


@pytest.mark.parametrize("header", [b"", v1(CLIENT), v2(CLIENT), LOCAL], ids=repr)
def test_whoever_is_no_proxy_is_hung_up_on_without_a_byte(front: Front, header: bytes) -> None:
    with comes_from(OTHER_HOST, front.port) as sock:
        with contextlib.suppress(ConnectionError):  # it may have hung up already
            sock.sendall(header)
        assert rest_of(sock) == b""
    with through(front.port, v1(CLIENT)) as client:
        client.says("NOOP", 530, 200)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"USER anonymous\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"PROXY TCP4 192.0.2.300 192.0.2.1 1 21\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 21\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 21\r\n",
        b"PROXY TCP4 " + b"x" * 200,
        b"PROXY TCP4 \xff\xfe 192.0.2.2 1 21\r\n",
        binary(0x21, 0x11, bytes(11)),
        binary(0x31, 0x11, bytes(12)),
        binary(0x21, 0x11, bytes(5000)),
    ],
    ids=lambda rubbish: repr(rubbish[:30]),
)
def test_what_is_no_header_ends_the_connection_without_a_byte(
    front: Front, logs: Callable[[str], None], rubbish: bytes
) -> None:
    with through(front.port, greeting=None) as client:
        with contextlib.suppress(ConnectionError):
            client.sock.sendall(rubbish)
        assert rest_of(client.sock) == b""
    logs(r"a connection from the proxy 127\.0\.0\.1 was closed: ")
    if front.cluster is None:
        until(front.is_free_of_connections)


@pytest.mark.parametrize("part", [b"P", v1(CLIENT)[:20], v1(CLIENT)[:-1], v2(CLIENT)[:14]])
@pytest.mark.parametrize("end", ["closes", "half-closes", "resets"])
def test_a_connection_that_ends_within_its_header_is_forgotten(
    front: Front, logs: Callable[[str], None], part: bytes, end: str
) -> None:
    client = through(front.port, part, greeting=None)
    if end == "half-closes":
        client.sock.shutdown(socket.SHUT_WR)
        assert rest_of(client.sock) == b""
    elif end == "resets":
        reset(client.sock)
    client.sock.close()
    logs(r"the proxy 127\.0\.0\.1 was closed: the connection (ended|was reset)")
    if front.cluster is None:
        until(front.is_free_of_connections)
    with through(front.port, v1(CLIENT)) as another:
        another.logs_in()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["closes", "half-closes", "resets"])
def test_health_checks_are_no_warning(
    kind: str, end: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy connects and closes, some by RST, to see whether somebody is there."""
    caplog.set_level(logging.DEBUG)
    for front in make_front(kind, tmp_path, "--log-level", "debug"):
        for _ in range(10):
            sock = socket.create_connection((PROXY, front.port), DEADLINE)
            if end == "half-closes":
                sock.shutdown(socket.SHUT_WR)
                assert rest_of(sock) == b""
            elif end == "resets":
                reset(sock)
            sock.close()

        def told(text: str, front: Front = front) -> list[str]:
            lines = caplog.messages if front.cluster is None else front.cluster.log.splitlines()
            return [line for line in lines if text in line]

        until(lambda: len(told("a connection from the proxy 127.0.0.1 was closed: ")) == 10)
        if front.cluster is not None:
            assert not told("WARNING")
        else:
            levels = {each.levelno for each in caplog.records if "proxy" in each.message}
            assert levels == {logging.DEBUG}


def test_connections_that_are_no_proxy_s_are_counted_in_the_log(
    serve: Maker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(refused, "_INTERVAL", 0.5)
    port = serve(proxy_protocol=[PROXY])
    for number in range(1, 13):
        with comes_from(f"127.0.0.{1 + number}", port) as sock:
            assert rest_of(sock) == b""
    first = "refused 1 connection that is no proxy's, the last of 127.0.0.2"
    pattern = re.compile(
        r"refused (\d+) connections? that (?:is|are) no proxy's, the last of (\S+)"
    )
    until(lambda: sum(int(each) for each, _ in pattern.findall(caplog.text)) == 12)
    assert first in caplog.text
    assert pattern.findall(caplog.text)[-1][1] == "127.0.0.13"
    assert len(pattern.findall(caplog.text)) < 12


def test_the_rest_of_them_is_logged_at_the_end(tmp_path: Path) -> None:
    command = ("--root", str(tmp_path), "--user", "user:12345", "--proxy-protocol", PROXY)
    with Cluster("--workers", "2", *command) as cluster:
        for _ in range(13):
            with comes_from("127.0.0.9", cluster.port) as sock:
                assert rest_of(sock) == b""
        cluster.stop()
    for line in (
        "refused 1 connection that is no proxy's, the last of 127.0.0.9",
        "refused 12 connections that are no proxy's, the last of 127.0.0.9",
    ):
        assert cluster.log.count(line) == 1


@pytest.mark.parametrize("part", [b"", b"PROXY TCP4 ", v2(CLIENT)[:-1]], ids=repr)
def test_a_header_that_never_comes_is_not_waited_for(
    serve: Maker, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    monkeypatch.setattr(proxy_header, "_TIMEOUT", 0.2)
    port = serve(proxy_protocol=[PROXY])
    server = serve.made[-1]
    with through(port, part, greeting=None) as client:
        assert rest_of(client.sock) == b""
        until(lambda: server.call(lambda: server.server.ledger.connections == 0))


def test_a_header_that_dribbles_in_is_not_waited_for(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is that of the whole header, not of its bytes."""
    monkeypatch.setattr(proxy_header, "_TIMEOUT", 0.3)
    with through(serve(proxy_protocol=[PROXY]), b"PROXY UNKNOWN ", greeting=None) as client:
        for _ in range(90):  # the line could last for 4.5 s
            if select.select([client.sock], [], [], 0.05)[0]:
                break
            with contextlib.suppress(ConnectionError):
                client.sock.sendall(b"x")
        else:
            pytest.fail("it was waited for")
        assert rest_of(client.sock) == b""


def test_a_header_that_does_not_come_keeps_nobody_else_waiting(front: Front) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(through(front.port, b"PROXY ", greeting=None))
        with through(front.port, v1(CLIENT)) as client:
            client.logs_in()


# ---------------------------------------------------------------------- who counts


def limit(server: InProcess, limits: ConnectionLimits) -> None:
    def change() -> None:
        server.server.ledger.limits = limits

    server.call(change)


@versions
def test_the_client_s_address_is_what_counts(serve: Maker, version: Any) -> None:
    port = serve(proxy_protocol=[PROXY])
    limit(serve.made[-1], ConnectionLimits(per_address=1))
    with through(port, version("192.0.2.1")), through(port, version("2001:db8::1")):
        for address in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"):
            with through(port, version(address), greeting=421) as refused:
                assert refused.is_closed()
        with through(port, version("192.0.2.2")), through(port, LOCAL):
            with through(port, LOCAL, greeting=421) as refused:
                assert refused.is_closed()
    server = serve.made[-1]
    until(lambda: server.call(lambda: server.server.ledger.connections == 0))
    with through(port, version("192.0.2.1")) as client:
        client.logs_in()


def test_nothing_counts_for_an_address_before_it_is_known(serve: Maker) -> None:
    port = serve(proxy_protocol=[PROXY])
    limit(serve.made[-1], ConnectionLimits(per_address=1))
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(through(port, greeting=None)) for _ in range(5)]
        for number, client in enumerate(waiting):
            client.sock.sendall(v1(f"192.0.2.{number}"))
            client.expects(220)


def test_the_server_s_limit_is_exact(serve: Maker) -> None:
    is_exact(serve(proxy_protocol=[PROXY], maximum_connections=4))


def test_the_cluster_s_limit_is_exact(tmp_path: Path) -> None:
    arguments = ("--workers", "2", "--root", str(tmp_path), "--proxy-protocol", PROXY)
    with Cluster(*arguments, "--max-connections", "4", hosts=(PROXY,)) as cluster:
        is_exact(cluster.port)
    assert "Traceback" not in cluster.log


def is_exact(port: int) -> None:
    """Of a server that takes four: known clients count, others count, and all come back."""

    def one_more() -> Dialogue | None:
        client = through(port, v1(f"192.0.2.{len(held)}"), greeting=None)
        with contextlib.suppress(ConnectionError):
            code, text = client.reply()
            if code == 220:
                return client
            assert (code, client.is_closed()) == (421, True), text
        client.sock.close()
        return None

    def one_silent() -> Dialogue | None:
        client = through(port, greeting=None)
        if not select.select([client.sock], [], [], 0.1)[0]:
            return client
        client.sock.close()  # one that has ended still counted
        return None

    for _ in range(2):
        for _ in range(6):  # none of these may keep a slot
            with through(port, b"rubbish that is no header\r\n", greeting=None) as client:
                client.is_closed()
            through(port, b"PROXY TCP4", greeting=None).sock.close()
        with contextlib.ExitStack() as stack:
            held: list[Dialogue] = []
            while len(held) < 3:
                held.append(stack.enter_context(until(one_more)))
            silent = stack.enter_context(until(one_silent))  # counts as well
            for _ in range(3):
                assert one_more() is None
            silent.sock.sendall(v1("192.0.2.200"))
            silent.expects(220)
            assert one_more() is None
            held[0].says("QUIT", 221)
            stack.enter_context(until(one_more))
            assert one_more() is None


# ---------------------------------------------------------------------- the end


def test_a_server_that_closes_waits_for_no_header(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_header, "_TIMEOUT", 600)
    port = serve(proxy_protocol=[PROXY])
    with through(port, b"PROXY ", greeting=None) as client:
        until(lambda: serve.made[-1].call(lambda: serve.made[-1].server.ledger.connections))
        server = serve.made.pop()
        server.stop()
        assert rest_of(client.sock) == b""
        assert server.server.ledger.connections == 0


def test_a_server_that_drains_waits_for_no_header(
    serve: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has begun there that could be completed."""
    monkeypatch.setattr(proxy_header, "_TIMEOUT", 600)
    port = serve(proxy_protocol=[PROXY])
    server = serve.made[-1]
    with through(port, b"PROXY ", greeting=None) as client:
        until(lambda: server.call(lambda: server.server.ledger.connections))
        server.call(lambda: server.server._reception.drain())  # type: ignore[union-attr]
        assert rest_of(client.sock) == b""
        until(lambda: server.call(lambda: server.server.ledger.connections == 0))


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("header", [b"", UNKNOWN], ids=["no header yet", "a header"])
def test_a_connection_that_arrives_just_before_the_end_is_closed_and_counts_no_more(
    serve: Maker, header: bytes, turns: int
) -> None:
    """However few turns of the loop there are between the two."""
    serve(proxy_protocol=[PROXY])
    server = serve.made[-1]
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(DEADLINE)
        ours.sendall(header)
        arrived = AcceptedConnection(1_000_000, theirs.detach(), PROXY, 1, is_proxied=True)

        def end(turns: int) -> None:
            if turns:
                server.loop.call_soon(end, turns - 1)
            else:
                server.server._reception.end_all()  # type: ignore[union-attr]

        def receive() -> None:
            server.server._quotas.admit(arrived.session, None)
            server.server._reception.receive(arrived)  # type: ignore[union-attr]
            end(turns)

        server.call(receive)
        assert rest_of(ours) in ((b"", b"220 welcome\r\n") if header else (b"",))
        until(lambda: server.call(lambda: server.server.ledger.connections == 0))


# ---------------------------------------------------------------------- TLS


@versions
def test_no_byte_of_a_client_hello_behind_the_header_is_lost(
    proxied_tls_port: int, version: Any
) -> None:
    with through(proxied_tls_port, greeting=None) as client:
        client.sock = ProtectedSocket(client.sock, version(CLIENT))  # type: ignore[assignment]
        client.expects(220)
        assert connected_from(client) == CLIENT
        client.logs_in()
        client.says("QUIT", 221)


def test_a_client_hello_without_a_header_is_not_answered(proxied_tls_port: int) -> None:
    with (
        through(proxied_tls_port, greeting=None) as client,
        pytest.raises((AssertionError, OSError)),
    ):
        ProtectedSocket(client.sock, b"")


def test_a_handshake_may_begin_long_after_the_header(proxied_tls_port: int) -> None:
    with through(proxied_tls_port, v2(CLIENT), greeting=None) as client:
        client.finds_silence(0.1)
        client.sock = ProtectedSocket(client.sock, b"")  # type: ignore[assignment]
        client.expects(220)
        assert connected_from(client) == CLIENT
