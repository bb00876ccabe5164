"""``require_session_reuse``: data connections resume their own control connection's session."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from ftpcluster import Server
from ftpcluster.net.certificates import make_context
from tests.tls.conftest import Files, Shared
from tests.tls.support import V12, V13, Client, Running, plain, reads

Serve = Callable[..., Running]
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
SETTINGS = {"require_session_reuse": True}
Join = Callable[[ssl.TLSVersion], Client]


@pytest.fixture
def join(shared: Shared, trusting: ssl.SSLContext) -> Iterator[Join]:
    """Makes clients of a server that requires session reuse."""
    clients = []

    def make(version: ssl.TLSVersion) -> Client:
        trusting.minimum_version = trusting.maximum_version = version
        client = Client(shared.port, trusting)
        clients.append(client)
        client.secures(protected=True)
        return client

    yield make
    for client in clients:
        client.sock.close()


@VERSIONS
def test_a_data_connection_that_resumes_the_session_is_served(
    join: Join, shared: Shared, version: ssl.TLSVersion
) -> None:
    content = os.urandom(500_000)
    client = join(version)
    client.stores("STOR file", content, client.tls.session)
    assert (shared.root / "file").read_bytes() == content
    for _ in range(2):  # the same ticket again
        assert client.fetches("RETR file", client.tls.session) == content


def test_sessions_are_required_with_implicit_tls_too(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    port = serve(implicit=True, **SETTINGS).port
    for version in (V12, V13):
        trusting.maximum_version = version
        with (
            Client(port, trusting, implicit=True) as client,
            Client(port, trusting, implicit=True) as other,
        ):
            client.logs_in()
            other.logs_in()
            client.fetches("NLST", client.tls.session)
            refused(client, other.tls.session, "NLST")
            refused(client, None, "NLST")


def refused(client: Client, session: ssl.SSLSession | None, command: str = "RETR file") -> None:
    """A data connection that resumes ``session``, or none, is 522 and carries nothing."""
    with client.passive() as beneath:
        with client.wraps(beneath, session) as data:
            client.send(command)
            received = b""
            try:
                received = data.recv(100)
            except (ssl.SSLError, ConnectionError):
                pass  # it was cut off
            assert received == b""
    assert client.final() == 522


@VERSIONS
def test_a_data_connection_with_a_session_of_its_own_is_522(
    join: Join, shared: Shared, version: ssl.TLSVersion
) -> None:
    (shared.root / "file").write_bytes(b"content")
    client = join(version)
    refused(client, None)
    refused(client, None, "MLSD")
    assert client.fetches("RETR file", client.tls.session) == b"content"


@VERSIONS
def test_a_data_connection_that_resumes_another_clients_session_is_522(
    join: Join, shared: Shared, version: ssl.TLSVersion
) -> None:
    """Who has a session of his own may not take part in somebody else's transfer with it."""
    (shared.root / "file").write_bytes(b"content")
    clients = [join(version) for _ in range(4)]  # on both workers of a cluster
    first = clients[0]
    for other in clients[1:]:
        assert other.tls.session is not None
        refused(first, other.tls.session)
        refused(other, first.tls.session)
    for client in clients:
        assert client.fetches("RETR file", client.tls.session) == b"content"


@VERSIONS
def test_an_upload_without_the_session_changes_no_file(
    join: Join, shared: Shared, version: ssl.TLSVersion
) -> None:
    (shared.root / "file").write_bytes(b"content")
    client = join(version)
    refused(client, None, "STOR file")
    refused(client, None, "APPE file")
    assert (shared.root / "file").read_bytes() == b"content"


def test_sessions_are_required_in_active_mode_too(join: Join, shared: Shared) -> None:
    (shared.root / "file").write_bytes(b"content")
    client = join(V13)
    for session, code in ((None, 522), (client.tls.session, 226)):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(20)
            client.says(f"EPRT |1|127.0.0.1|{listener.getsockname()[1]}|", 200)
            client.says("RETR file", 150)
            with client.wraps(listener.accept()[0], session) as data:
                if session is not None:
                    assert reads(data) == b"content"
                client.expects(code)


def test_prot_c_needs_no_session(join: Join, shared: Shared) -> None:
    (shared.root / "file").write_bytes(b"content")
    client = join(V13)
    client.says("PROT C", 200)
    assert client.downloads("RETR file") == b"content"


def test_the_session_of_before_ccc_is_not_that_of_a_new_auth(join: Join) -> None:
    client = join(V13)
    old = client.tls.session
    client.says("CCC", 200)
    client.tls.unwrap()
    client.sock = plain(client.tls)
    client.fetches("NLST", old)
    client.secures(protected=True)
    refused(client, old, "NLST")
    client.fetches("NLST", client.tls.session)


def test_without_the_requirement_any_session_or_none_is_served(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    port = serve().port
    with Client(port, trusting) as client, Client(port, trusting) as other:
        client.secures(protected=True)
        other.secures(protected=True)
        for session in (None, client.tls.session, other.tls.session):
            client.fetches("NLST", session)


@pytest.mark.parametrize("keyword", ["ssl", "tls"])
def test_one_context_for_all_connections_cannot_require_session_reuse(
    files: Files, keyword: str
) -> None:
    context = make_context(str(files.server), str(files.server))
    with pytest.raises(ValueError, match="require_session_reuse"):
        Server(require_session_reuse=True, **{keyword: context})  # type: ignore[arg-type]
    Server(require_session_reuse=True, **{keyword: lambda: context})  # type: ignore[arg-type]
