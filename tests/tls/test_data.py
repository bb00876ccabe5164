"""Protected data connections: when TLS begins there, and how it ends."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import until
from tests.support.dialogue import reset, rest_of
from tests.support.segments import replies_behind
from tests.tls.conftest import Files, Shared
from tests.tls.support import (
    V12,
    V13,
    Client,
    Running,
    plain,
    reads,
    says_close_notify,
    serving,
)

Serve = Callable[..., Running]
CONTENT = os.urandom(6_000_000)


@pytest.fixture(params=[V12, V13], ids=["1.2", "1.3"])
def client(
    request: pytest.FixtureRequest, shared: Shared, trusting: ssl.SSLContext
) -> Iterator[Client]:
    """Logged in, with PROT P."""
    trusting.minimum_version = trusting.maximum_version = request.param
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        yield client


# ---------------------------------------------------------------------- the handshake


@pytest.mark.parametrize("command", ["RETR 100", "RETR 50000", "RETR 2000000", "LIST", "NLST d"])
def test_150_leaves_by_itself_before_the_first_byte_of_data(
    client: Client, shared: Shared, command: str
) -> None:
    """“150 leaves by itself, before the first byte of data and before the final reply”."""
    (shared.root / "d").mkdir(exist_ok=True)
    for size in (100, 50_000, 2_000_000):
        (shared.root / str(size)).write_bytes(bytes(size))
    for _ in range(3):
        with client.wraps(client.passive()) as data:
            early, segments = replies_behind(client, f"{command}\r\n".encode(), data)
        assert early.startswith(b"150 ")
        assert segments >= 2  # or one came twice


@pytest.mark.parametrize("when", ["before the command", "after 150"])
def test_the_handshake_may_come_before_the_command_or_after_150(
    client: Client, shared: Shared, when: str
) -> None:
    for command, content in (("STOR early", CONTENT[:100_000]), ("RETR early", None)):
        data = client.passive()
        if when == "before the command":
            data = client.wraps(data)
            data.settimeout(20)
        client.says(command, 150)
        if when == "after 150":
            data = client.wraps(data)
        assert isinstance(data, ssl.SSLSocket)
        with data:
            if content is None:
                assert reads(data) == CONTENT[:100_000]
            else:
                data.sendall(content)
                data.unwrap()
        client.expects(226)


def test_the_handshake_is_finished_while_no_command_has_come(client: Client) -> None:
    """Not only begun: with TLS 1.2 the client could not finish it alone."""
    with client.wraps(client.passive()) as data:
        assert data.version() is not None
        client.says("NOOP", 200)
        client.says("NLST", 150)
        reads(data)
    client.expects(226)


def test_the_server_is_the_server_of_tls_in_active_mode_too(client: Client, shared: Shared) -> None:
    """RFC 4217 section 7: whoever connects, the FTP client begins the handshake."""
    (shared.root / "active").write_bytes(CONTENT)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        client.says(f"EPRT |1|127.0.0.1|{listener.getsockname()[1]}|", 200)
        client.says("RETR active", 150)
        with client.wraps(listener.accept()[0]) as data:
            assert reads(data) == CONTENT
    client.expects(226)


@pytest.mark.parametrize("serve", ["asyncio", "uvloop"], indirect=True)
def test_a_data_connection_that_was_made_and_dropped_leaves_its_port_to_others(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    """The port was given back with the accept: by now another session may have it."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        only = found.getsockname()[1]
    running = serve(data_ports=[only])
    with Client(running.port, trusting) as client, Client(running.port, trusting) as other:
        client.secures(protected=True)
        other.secures(protected=True)
        with client.wraps(client.passive()):  # accepted: the port is free again
            port = other.epsv()
            client.says("ABOR", 225, 226)
            with socket.create_connection(("127.0.0.1", port), 20) as plain_data:
                other.says("NLST", 150)
                with other.wraps(plain_data) as data:
                    reads(data)
            other.expects(226)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_server_may_end_while_a_protected_data_connection_is_awaited(
    loop: str, root: Path, files: Files, tmp_path: Path, trusting: ssl.SSLContext
) -> None:
    """``InProcess`` makes sure that no task is left when its server has ended."""
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(serving(loop, root, files.server, tmp_path))
        with Client(running.port, trusting) as client:
            client.secures(protected=True)
            client.epsv()
            stack.close()
            assert rest_of(client.sock) == b""


# ---------------------------------------------------------------------- tickets

NEW_SESSION_TICKET = 4


def test_tickets_come_on_control_connections_and_none_on_data_connections(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    (shared.root / "file").write_bytes(b"content")
    tickets: list[object] = []

    def look(
        conn: object, direction: str, _: object, content: object, message: object, __: bytes
    ) -> None:
        if direction == "read" and content == 22 and message == NEW_SESSION_TICKET:
            tickets.append(conn)

    trusting.minimum_version = V13
    trusting._msg_callback = look  # type: ignore[attr-defined]
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        assert len(tickets) == 2
        for resumed in (True, False):
            session = client.tls.session if resumed else None
            assert client.fetches("RETR file", session) == b"content"
            client.stores("STOR copy", b"content", session)
        with client.wraps(client.passive()) as data:  # nor while it waits for a command
            client.says("RETR file", 150)
            assert reads(data) == b"content"
        client.expects(226)
        assert len(tickets) == 2
        # and a control connection made meanwhile has its own again
        with Client(shared.port, trusting) as other:
            other.secures(protected=True)
            assert len(tickets) == 4


def test_data_connections_resume_the_control_connections_session(client: Client) -> None:
    session = client.tls.session
    assert session is not None
    for _ in range(3):
        with client.protected("NLST", session) as data:
            reads(data)
            assert data.session_reused
        client.expects(226)


# ---------------------------------------------------------------------- the end


@pytest.mark.parametrize("how", ["close_notify", "nothing"])
def test_an_upload_of_a_client_that_closes_without_reading_loses_nothing(
    client: Client, shared: Shared, how: str
) -> None:
    for attempt in range(3):
        with client.protected("STOR file", client.tls.session if attempt else None) as data:
            data.sendall(CONTENT)
            if how == "close_notify":
                says_close_notify(data)
        client.expects(226)
        assert (shared.root / "file").read_bytes() == CONTENT


def test_close_notify_is_answered_after_an_upload(client: Client, shared: Shared) -> None:
    with client.protected("STOR file") as data:
        data.sendall(CONTENT[:100_000])
        data.unwrap()  # waits for the server's
        with plain(data) as beneath:
            assert beneath.recv(1) == b""
    client.expects(226)
    assert (shared.root / "file").read_bytes() == CONTENT[:100_000]


@pytest.mark.parametrize("command", ["RETR file", "RETR empty", "LIST", "NLST", "MLSD"])
def test_a_download_ends_with_close_notify(client: Client, shared: Shared, command: str) -> None:
    (shared.root / "file").write_bytes(CONTENT)
    (shared.root / "empty").touch()
    received = client.fetches(command)  # which raises without it
    if command == "RETR file":
        assert received == CONTENT


@pytest.mark.parametrize("serve", ["asyncio", "uvloop"], indirect=True)
def test_a_download_ends_with_close_notify_also_where_the_client_reads_late(
    serve: Serve, trusting: ssl.SSLContext, root: Path
) -> None:
    """Some of these sizes fill all that the kernel holds, which leaves no room for an alert."""
    server = serve().server
    assert server is not None

    def make_buffers_small() -> None:
        (listener,) = server.server._ports._assigned
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)

    with Client(server.port, trusting) as client:
        client.secures(protected=True)
        for size in (*range(2_000, 60_000, 2_000), *range(16_320, 16_384, 4)):
            (root / "file").write_bytes(CONTENT[:size])
            port = client.epsv()
            server.call(make_buffers_small)
            with socket.socket() as beneath:
                beneath.settimeout(20)
                beneath.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                beneath.connect(("127.0.0.1", port))
                with client.wraps(beneath) as data:
                    client.says("RETR file", 150)
                    select.select([client.sock], [], [], 0.02)  # the server may be done with it
                    assert reads(data) == CONTENT[:size], size
            client.expects(226)


def test_a_client_that_ends_its_side_first_still_gets_the_whole_file(
    client: Client, shared: Shared
) -> None:
    """Its close_notify lies unread; with that, close would send a reset and discard data."""
    (shared.root / "file").write_bytes(CONTENT)
    with client.wraps(client.passive(window=65536)) as data:
        says_close_notify(data)
        client.says("RETR file", 150)
        assert reads(data) == CONTENT
    client.expects(226)


def test_an_upload_that_ends_without_close_notify_is_226(client: Client, shared: Shared) -> None:
    with client.protected("STOR file") as data:
        data.sendall(b"content")
        with plain(data) as beneath:
            beneath.shutdown(socket.SHUT_WR)
            beneath.recv(100)
    client.expects(226)
    assert (shared.root / "file").read_bytes() == b"content"


def test_an_upload_that_is_reset_is_426(client: Client, shared: Shared) -> None:
    """Which ``ssl`` tells as an end, before Python 3.11.9."""
    data = client.wraps(client.begins("STOR cut"))
    data.sendall(b"x" * 50_000)
    until(lambda: (shared.root / "cut").stat().st_size == 50_000)
    reset(data)
    client.expects(426)


def test_under_strict_tls_eof_an_upload_that_ends_without_close_notify_is_426(
    serve: Serve, trusting: ssl.SSLContext, root: Path
) -> None:
    port = serve(strict_tls_eof=True).port
    for version in (V12, V13):
        trusting.maximum_version = version
        with Client(port, trusting) as client:
            client.secures(protected=True)
            for command in ("STOR file", "APPE file", "STOU"):
                is_cut_short(client, command)
            assert (root / "file").read_bytes() == b"contentcontent"  # what came stays
            for command in ("STOR file", "APPE file"):
                client.stores(command, b"content")
            client.says("TYPE A", 200)
            client.stores("STOR text", b"one\r\ntwo\r\n")
            is_cut_short(client, "STOR text")
            client.fetches("NLST")


def is_cut_short(client: Client, command: str) -> None:
    """An upload whose end is a FIN without close_notify, which must be 426."""
    with client.protected(command) as data:
        data.sendall(b"content")
        with plain(data) as beneath:
            beneath.shutdown(socket.SHUT_WR)
            client.expects(426)


def test_bytes_that_are_no_tls_end_an_upload_with_426(client: Client, shared: Shared) -> None:
    with client.protected("STOR file") as data:
        data.sendall(b"content")
        with plain(data) as beneath:
            beneath.sendall(b"this is no record of TLS, whatever it is")
            client.expects(426)
    client.says("NOOP", 200)


# ---------------------------------------------------------------------- files that change


def test_a_file_that_shrinks_while_it_is_sent_is_451(client: Client, shared: Shared) -> None:
    """Never 226 for less than was announced."""
    with (shared.root / "big").open("wb") as file:
        file.truncate(1 << 30)
    with client.protected("RETR big") as data:
        assert data.recv(1)
        os.truncate(shared.root / "big", 1000)
        with contextlib.suppress(ssl.SSLEOFError):  # where a record was under way there is no end
            reads(data)
    client.expects(451)


def test_of_a_file_that_grows_while_it_is_sent_what_was_announced_comes(
    client: Client, shared: Shared
) -> None:
    (shared.root / "log").write_bytes(CONTENT * 4)
    with client.protected("RETR log") as data:
        received = data.recv(1)
        with (shared.root / "log").open("ab") as file:
            file.write(b"more")
        received += reads(data)
    client.expects(226)
    assert received == CONTENT * 4
