"""``require_session_reuse`` where clients' certificates may be of any authority of the system's."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from ftpcluster.net.certificates import ContextMaker, Contexts, read_certificates
from tests.support.configured import configured
from tests.support.latency import assert_unnoticed, felt_time
from tests.tls.conftest import AUTHORITY, Files
from tests.tls.support import V12, V13, Client, serving
from tests.tls.test_session_reuse import refused
from tests.tls.test_tickets import OnceClient

SYSTEM = Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
pytestmark = pytest.mark.skipif(not SYSTEM.exists(), reason="no bundle of authorities here")
TEXT = """
[[user]]
login = 'user'
password = 'plain:12345'
root = 'root'
[tls]
certificate = '{server}'
client_ca = '{bundle}'
require_session_reuse = true
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The system's authorities, and ours."""
    path = tmp_path_factory.mktemp("bundle") / "bundle.pem"
    path.write_bytes(SYSTEM.read_bytes() + AUTHORITY.cert_pem.bytes())
    return path


def maker(files: Files, bundle: Path) -> ContextMaker:
    path = str(files.server)
    return ContextMaker(
        read_certificates(path, path, client_ca=str(bundle)), shares_authorities=True
    )


@pytest.fixture(params=["asyncio", "uvloop", "cluster"])
def port(request: pytest.FixtureRequest, root: Path, files: Files, bundle: Path) -> Iterator[int]:
    (root / "file").write_bytes(b"content")
    if request.param == "cluster":
        text = TEXT.format(server=files.server, bundle=bundle)
        with configured(root.parent, text, hosts=("127.0.0.1",)) as cluster:
            yield cluster.port
        return
    make = maker(files, bundle)
    with serving(
        request.param, root, files.server, root, make=make, require_session_reuse=True
    ) as running:
        yield running.port


@pytest.fixture
def showing(files: Files) -> Callable[[trustme.CA | None, ssl.TLSVersion], ssl.SSLContext]:
    """Makes clients' contexts, with a certificate of an authority."""

    def make(authority: trustme.CA | None, version: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(files.authority))
        context.maximum_version = version
        if authority is not None:
            authority.issue_cert("client").configure_cert(context)
        return context

    return make


Showing = Callable[[trustme.CA | None, ssl.TLSVersion], ssl.SSLContext]


@VERSIONS
@pytest.mark.parametrize("shows", [True, False])
def test_sessions_are_those_of_one_control_connection_as_without_authorities(
    port: int, showing: Showing, version: ssl.TLSVersion, shows: bool
) -> None:
    context = showing(AUTHORITY if shows else None, version)
    with Client(port, context) as client, Client(port, context) as other:
        client.secures(protected=True)
        other.secures(protected=True)
        assert client.fetches("RETR file", client.tls.session) == b"content"
        assert client.fetches("RETR file", client.tls.session) == b"content"
        refused(client, other.tls.session)
        refused(other, client.tls.session)
        refused(client, None)
        assert other.fetches("RETR file", other.tls.session) == b"content"


@pytest.mark.parametrize("shows", [True, False])
def test_there_is_a_ticket_for_each_data_connection(
    port: int, showing: Showing, shows: bool
) -> None:
    """Tickets stay those of the context that the connection began with."""
    with OnceClient(port, showing(AUTHORITY if shows else None, V13)) as client:
        client.secures(protected=True)
        for _ in range(6):
            assert client.fetches("RETR file", client.ticket()) == b"content"


@VERSIONS
@pytest.mark.parametrize("name", ["localhost", None])
def test_a_certificate_of_no_authority_is_refused_whether_a_server_is_named_or_not(
    port: int, showing: Showing, version: ssl.TLSVersion, name: str | None
) -> None:
    for authority, is_let_in in ((trustme.CA(), False), (AUTHORITY, True)):
        context = showing(authority, version)
        context.check_hostname = False
        with Client(port, context) as client:
            client.says("AUTH TLS", 234)
            with contextlib.nullcontext() if is_let_in else pytest.raises((OSError, EOFError)):
                client.sock = context.wrap_socket(client.sock, server_hostname=name)
                client.says("NOOP", 200)


def test_no_context_has_authorities_of_its_own(files: Files, bundle: Path) -> None:
    """Else each would take 25 ms of the loop, and 0.8 MB."""
    contexts = Contexts(maker(files, bundle), one_each=True)
    first, second = contexts.take(), contexts.take()
    assert first is not second
    for context in (first, second):
        assert context.verify_mode is ssl.CERT_OPTIONAL
        assert context.cert_store_stats()["x509_ca"] == 0
    path = str(files.server)
    shared = Contexts(ContextMaker(read_certificates(path, path, client_ca=str(bundle))))
    assert shared.take().cert_store_stats()["x509_ca"] > 50


@pytest.mark.alone
def test_who_says_auth_again_and_again_disturbs_nobody(port: int, showing: Showing) -> None:
    stop = threading.Event()

    def storm() -> None:
        context = showing(None, V13)
        while not stop.is_set():
            with Client(port, context) as client:
                client.says("AUTH TLS", 234)

    with Client(port, showing(None, V13)) as honest:
        honest.logs_in()
        quiet = felt_time(lambda: honest.says("NOOP", 200))
        threads = [threading.Thread(target=storm) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            assert_unnoticed(lambda: honest.says("NOOP", 200), quiet)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
