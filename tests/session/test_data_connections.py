"""Passive data connections (protocol.md, “Data connections”)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.session.conftest import Maker, Serving, making
from tests.support.dialogue import DEADLINE, Dialogue, reset, rest_of

CONTENT = os.urandom(500_000)


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), DEADLINE, source_address=(source, 0))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def content(root: Path) -> bytes:
    """What “file” holds."""
    (root / "file").write_bytes(CONTENT)
    return CONTENT


def test_pasv_names_the_address_that_the_client_reached(client: Dialogue, content: bytes) -> None:
    """“Passive: a random free port”: at this very address."""
    host, port = client.pasv()
    assert host == "127.0.0.1"
    with connect(port) as data:
        client.says("RETR file", 150)
        assert rest_of(data) == content
    client.expects(226)


@pytest.mark.parametrize("command", ["EPSV", "EPSV 1"])
def test_epsv_names_a_port(client: Dialogue, command: str) -> None:
    """“Passive: a random free port”, in the form of RFC 2428."""
    text = client.says(command, 229)
    assert text.rpartition("(")[2].startswith("|||")


def test_ports_differ(port: int, root: Path) -> None:
    """“a random free port”: sessions do not share one."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Dialogue(port)) for _ in range(20)]
        for client in clients:
            client.logs_in()
        assert len({client.epsv() for client in clients}) == 20


@pytest.mark.parametrize("command", ["EPSV 2", "EPSV foo", "EPSV 3", "EPSV 1 1", "EPSV -1"])
def test_other_families_are_refused(client: Dialogue, content: bytes, command: str) -> None:
    """“`EPSV 1` or `2` of the other family 522, `EPSV foo` 522”"""
    client.says(command, 522)
    assert client.downloads("RETR file") == content


@pytest.fixture
def over_ipv6(serving: Serving, root: Path) -> Iterator[Dialogue]:
    """Somebody who has logged in over IPv6."""
    with contextlib.ExitStack() as stack:
        port = serving.port
        if serving.cluster is None:
            port = stack.enter_context(making(serving.kind, root))(host="::1")
        client = stack.enter_context(Dialogue(port, "::1"))
        client.logs_in()
        yield client


def test_pasv_is_not_for_ipv6(over_ipv6: Dialogue) -> None:
    """“PASV over IPv6 503”"""
    over_ipv6.says("PASV", 503)


@pytest.mark.parametrize("command", ["EPSV 1", "EPSV foo"])
def test_other_families_are_refused_over_ipv6(over_ipv6: Dialogue, command: str) -> None:
    """“`EPSV 1` or `2` of the other family 522”"""
    over_ipv6.says(command, 522)


def test_data_connections_over_ipv6(over_ipv6: Dialogue) -> None:
    """“Both modes … IPv4 and IPv6.”"""
    over_ipv6.says("EPSV 2", 229)
    over_ipv6.uploads("STOR new", CONTENT)
    assert over_ipv6.downloads("RETR new") == CONTENT


@pytest.mark.parametrize("again", ["PASV", "EPSV"])
def test_a_new_port_drops_the_old(client: Dialogue, content: bytes, again: str) -> None:
    """“A new PASV/EPSV/PORT drops the old.”"""
    old = client.epsv()
    _, new = client.pasv() if again == "PASV" else ("", client.epsv())
    assert new != old
    with pytest.raises(ConnectionRefusedError):
        connect(old)
    with connect(new) as data:
        client.says("RETR file", 150)
        assert rest_of(data) == content
    client.expects(226)


def test_a_new_port_drops_the_connection_to_the_old(client: Dialogue, content: bytes) -> None:
    """“A new PASV/EPSV/PORT drops the old.”: also where somebody had come already."""
    with client.passive() as old, client.passive() as new:
        client.says("RETR file", 150)
        assert rest_of(old) == b""
        assert rest_of(new) == content
    client.expects(226)


@pytest.mark.parametrize("when", ["before the command", "after the command"])
def test_an_intruder_gets_nothing_and_the_client_all(
    client: Dialogue, content: bytes, when: str
) -> None:
    """“one accept, the peer's address must be the control connection's: an intruder is dropped
    **and listening goes on**”"""
    port = client.epsv()
    with contextlib.ExitStack() as stack:
        if when == "before the command":
            intruders = [stack.enter_context(connect(port, f"127.0.0.{i}")) for i in (2, 3)]
            client.says("RETR file", 150)
        else:
            client.says("RETR file", 150)
            intruders = [stack.enter_context(connect(port, f"127.0.0.{i}")) for i in (2, 3)]
            for intruder in intruders:
                assert rest_of(intruder) == b""
        with connect(port) as data:
            assert rest_of(data) == content
        client.expects(226)
        for intruder in intruders:
            assert rest_of(intruder) == b""


def test_an_intruder_stores_nothing(client: Dialogue, root: Path) -> None:
    """“an intruder is dropped”: and what it sends with it."""
    port = client.epsv()
    with connect(port, "127.0.0.2") as intruder:
        intruder.sendall(b"forged")
        client.says("STOR file", 150)
        assert rest_of(intruder) == b""
    with connect(port) as data:
        data.sendall(b"content")
    client.expects(226)
    assert (root / "file").read_bytes() == b"content"


def test_nobody_can_have_connected_in_advance(serve: Maker) -> None:
    """“one accept”: design.md: “the backlog is drained when a listener is assigned”."""
    (serve.directory / "file").write_bytes(CONTENT)
    with Dialogue(serve(data_ports=[free_port()])) as client:
        client.logs_in()
        port = client.epsv()
        with connect(port) as data:
            client.says("RETR file", 150)
            early = connect(port)
            rest_of(data)
        client.expects(226)
        with early:
            assert client.epsv() == port
            with connect(port) as data:
                client.says("RETR file", 150)
                assert rest_of(data) == CONTENT
            client.expects(226)
            assert rest_of(early) == b""


def test_one_transfer_takes_one_connection(client: Dialogue, content: bytes) -> None:
    """“one accept”: who comes second gets nothing, and no transfer of its own."""
    port = client.epsv()
    with connect(port) as first, connect(port) as second:
        client.says("RETR file", 150)
        assert rest_of(first) == content
        client.expects(226)
        client.says("RETR file", 425)
        second.settimeout(0.1)
        with contextlib.suppress(TimeoutError):
            assert rest_of(second) == b""


def test_resets_harm_nobody(client: Dialogue, port: int, content: bytes) -> None:
    """“Closed or reset connections to control or data ports harm nobody.”"""
    for _ in range(50):
        connect(port).close()
        reset(connect(port))
    for _ in range(20):
        data_port = client.epsv()
        reset(connect(data_port))
        client.says("ABOR", 225, 226)
    data_port = client.epsv()
    for _ in range(10):
        reset(connect(data_port, "127.0.0.2"))
    client.says("RETR file", 150)
    with connect(data_port) as data:
        assert rest_of(data) == content
    client.expects(226)


@pytest.mark.parametrize("command", ["RETR file", "LIST", "STOR new"])
def test_a_connection_reset_before_its_use_is_answered(serve: Maker, command: str) -> None:
    """“Closed or reset connections to … data ports harm nobody”: there is one final reply."""
    (serve.directory / "file").write_bytes(CONTENT)
    with Dialogue(serve(data_timeout=1)) as client:
        client.logs_in()
        reset(connect(client.epsv()))
        client.says(command, 150)
        # the server has taken the dead connection, or dropped it and waited for a better one
        client.expects(425, 426)
        assert client.downloads("RETR file") == CONTENT


# ---------------------------------------------------------------------- a range of ports


def test_data_ports_come_from_the_range(serve: Maker) -> None:
    """“a random free port (in `data_ports` where given)”"""
    ports = {free_port(), free_port(), free_port()}
    port = serve(data_ports=ports)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Dialogue(port)) for _ in range(len(ports))]
        for client in clients:
            client.logs_in()
        assert {client.epsv() for client in clients} == ports


def test_when_other_sessions_hold_every_port_the_session_lives(serve: Maker) -> None:
    """“Every port of the range pending for other sessions: wait a moment for one, then 425, and
    the session lives”"""
    (serve.directory / "file").write_bytes(CONTENT)
    port = serve(data_ports=[free_port()])
    with Dialogue(port) as holder, Dialogue(port) as other:
        holder.logs_in()
        other.logs_in()
        with holder.passive() as data:
            other.says("EPSV", 425)
            other.says("NOOP", 200)
            holder.says("RETR file", 150)
            assert rest_of(data) == CONTENT
        holder.expects(226)
        assert other.downloads("RETR file") == CONTENT


def test_a_port_that_comes_back_in_time_is_taken(serve: Maker) -> None:
    """“wait a moment for one”"""
    port = serve(data_ports=[free_port()])
    with Dialogue(port) as holder, Dialogue(port) as other:
        holder.logs_in()
        other.logs_in()
        holder.epsv()
        other.send("NOOP\r\nEPSV")
        other.expects(200)
        holder.says("ABOR", 225, 226)
        other.expects(229)


@pytest.mark.parametrize("end", ["ABOR", "QUIT", "reset", "timeout", "transfer", "PASV"])
def test_a_port_comes_back(serve: Maker, end: str) -> None:
    """library.md: “a port returns when its listener is no longer needed (after the data
    connection was made, a new PASV, a timeout, the session's end)”."""
    port = serve(data_ports=[free_port()], data_timeout=0.1)
    with Dialogue(port) as holder, Dialogue(port) as other:
        holder.logs_in()
        other.logs_in()
        data_port = holder.epsv()
        if end == "reset":
            reset(holder.sock)
        elif end == "timeout":
            holder.says("LIST", 150)
            holder.expects(425)
        elif end == "transfer":
            with connect(data_port):
                holder.says("LIST", 150)
                holder.expects(226)
        elif end == "PASV":
            assert holder.epsv() == data_port
            holder.says("ABOR", 225, 226)
        else:
            holder.says(end, 221, 225, 226)
        assert other.downloads("NLST") == b""


def test_a_range_whose_ports_others_hold_ends_the_session(serve: Maker) -> None:
    """“an empty range, or one whose ports others hold: 421”"""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = serve(data_ports=[other.getsockname()[1]])
        with Dialogue(port) as client:
            client.logs_in()
            client.says("EPSV", 421)
            assert client.is_closed()


def test_a_port_that_others_hold_is_skipped(serve: Maker) -> None:
    """library.md: “A busy port is skipped”."""
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = serve(data_ports=[other.getsockname()[1], free])
        with Dialogue(port) as client:
            client.logs_in()
            assert client.epsv() == free


def test_an_empty_range_ends_the_session(serve: Maker) -> None:
    """“an empty range, or one whose ports others hold: 421”"""
    with Dialogue(serve(data_ports=[])) as client:
        client.logs_in()
        client.says("PASV", 421)
        assert client.is_closed()


def test_a_masqueraded_address_stands_in_pasv(serve: Maker) -> None:
    """“`masquerade address` for NAT”"""
    with Dialogue(serve(ipv4_pasv_forced_response_address="203.0.113.7")) as client:
        client.logs_in()
        host, port = client.pasv()
        assert host == "203.0.113.7"
        with connect(port):
            client.says("LIST", 150)
            client.expects(226)
