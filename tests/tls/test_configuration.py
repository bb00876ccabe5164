"""What ``[tls]`` and the listeners' ``tls`` in the configuration file do."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.cluster import Cluster
from tests.support.configured import configured, ports
from tests.support.dialogue import Dialogue
from tests.tls.conftest import AUTHORITY, Files
from tests.tls.support import V12, Client, Running, plain, reads

USER = "[[user]]\nlogin = 'user'\npassword = 'plain:12345'\nroot = 'root'\n"

Serve = Callable[..., Cluster]


@pytest.fixture
def directory(root: Path, files: Files) -> Path:
    """Where the file is, with certificate and key in files of their own beside it."""
    pem = files.server.read_text()
    first = pem.index("-----BEGIN CERTIFICATE")
    (root.parent / "key.pem").write_text(pem[:first])
    (root.parent / "chain.pem").write_text(pem[first:])
    (root / "file").write_bytes(b"content")
    return root.parent


@pytest.fixture
def serve(directory: Path) -> Iterator[Serve]:
    """Start a cluster with these lines in ``[tls]``, and others before that."""
    with contextlib.ExitStack() as stack:

        def start(tls: str = "", before: str = "") -> Cluster:
            keys = "certificate = 'chain.pem'\nkey = 'key.pem'\n"
            text = f"{before}{USER}[tls]\n{keys}{tls}"
            return stack.enter_context(configured(directory, text, hosts=("127.0.0.1",)))

        yield start


def test_each_listener_has_the_tls_that_it_says(serve: Serve, trusting: ssl.SSLContext) -> None:
    cluster = serve(
        before="".join(
            f"[[listen]]\naddress = '127.0.0.1'\nport = 0\n{tls}"
            for tls in ("", "tls = 'off'\n", "tls = 'implicit'\n", "tls = 'explicit'\n")
        )
    )
    by_default, off, implicit, explicit = ports(cluster)
    for port in (by_default, explicit):
        with Client(port, trusting) as client:
            assert " AUTH TLS" in client.says("FEAT", 211).splitlines()
            client.secures(protected=True)
            assert client.fetches("RETR file") == b"content"
    with Client(implicit, trusting, implicit=True) as client:
        client.logs_in()
        assert client.fetches("RETR file") == b"content"
    with Dialogue(off) as client_of_old:
        features = client_of_old.says("FEAT", 211).splitlines()
        assert not {" AUTH TLS", " AUTH SSL", " PBSZ", " PROT", " CCC"} & set(features)
        client_of_old.says("AUTH TLS", 502)
        client_of_old.says("AUTH SSL", 502)
        client_of_old.says("PBSZ 0", 200)
        client_of_old.logs_in()
        assert client_of_old.downloads("RETR file") == b"content"


def test_the_minimum_version_is_that_of_the_file(serve: Serve, trusting: ssl.SSLContext) -> None:
    cluster = serve("minimum_version = '1.3'\n")
    with Client(cluster.port, trusting) as client:
        client.secures()
        assert client.tls.version() == "TLSv1.3"
    trusting.maximum_version = V12
    with Client(cluster.port, trusting) as client:
        client.says("AUTH TLS", 234)
        with pytest.raises(ssl.SSLError):
            client.handshakes()


def test_logins_and_data_need_tls_where_the_file_says_so(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    cluster = serve("required = true\nrequired_data = true\n")
    with Client(cluster.port, trusting) as client:
        client.says("USER user", 530)
        client.secures()
        client.logs_in()
        client.says("EPSV", 229)
        client.says("RETR file", 522)
        client.protects()
        client.says("PROT C", 534)
        assert client.fetches("RETR file") == b"content"


def test_session_reuse_is_required_where_the_file_says_so(
    serve: Serve, trusting: ssl.SSLContext
) -> None:
    cluster = serve("require_session_reuse = true\n")
    trusting.maximum_version = V12
    with Client(cluster.port, trusting) as client:
        client.secures(protected=True)
        assert client.fetches("RETR file", client.tls.session) == b"content"
        with client.begins("RETR file") as data, contextlib.suppress(OSError):
            with client.wraps(data) as protected:
                assert protected.recv(1) == b""
        assert client.reply()[0] == 522


@pytest.mark.parametrize(("strict", "final"), [("true", 426), ("false", 226)])
def test_an_upload_has_to_end_with_close_notify_where_the_file_says_so(
    serve: Serve, trusting: ssl.SSLContext, strict: str, final: int
) -> None:
    cluster = serve(f"strict_eof = {strict}\n")
    with Client(cluster.port, trusting) as client:
        client.secures(protected=True)
        with client.protected("STOR new") as data:
            data.sendall(b"content")
            with plain(data) as beneath:
                beneath.shutdown(socket.SHUT_WR)
                client.expects(final)


def test_certificates_of_clients_have_to_be_of_the_authority_of_the_file(
    serve: Serve, directory: Path, files: Files, trusting: ssl.SSLContext
) -> None:
    ours, other = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(str(directory / "clients.pem"))
    cluster = serve("client_ca = 'clients.pem'\n")
    for authority, is_let_in in ((ours, True), (other, False)):
        context = ssl.create_default_context(cafile=str(files.authority))
        authority.issue_cert("client").configure_cert(context)
        context.maximum_version = V12  # where the client hears of it within the handshake
        with Client(cluster.port, context) as client:
            client.says("AUTH TLS", 234)
            with contextlib.nullcontext() if is_let_in else pytest.raises((ssl.SSLError, OSError)):
                client.handshakes()
                client.logs_in()
    with Client(cluster.port, trusting) as client:
        client.secures(protected=True)
        with client.protected("RETR file") as data:
            assert reads(data) == b"content"


def test_a_certificate_that_is_replaced_is_read_again_on_sighup(
    serve: Serve, directory: Path, trusting: ssl.SSLContext
) -> None:
    running = Running(0, serve(), None)
    assert running.cluster is not None
    issued = AUTHORITY.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    assert "not reloaded" in running.hang_up()  # it is that of another certificate
    issued.cert_chain_pems[0].write_to_path(str(directory / "chain.pem"))
    assert " reloaded: " in running.hang_up()
    with Client(running.cluster.port, trusting) as client:
        client.secures()
        der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
        assert client.certificate == der
