"""AUTH, PBSZ and PROT (RFC 4217): what they answer, and when."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from ftpcluster import Connection, ConnectionConditions, Server, User
from ftpcluster.net.certificates import make_context
from tests.conftest import InProcess
from tests.support.dialogue import Dialogue, rest_of
from tests.tls.conftest import Files, Shared
from tests.tls.support import V12, V13, Client, Running, plain, reads, says_close_notify

Serve = Callable[..., Running]


@pytest.mark.parametrize("mechanism", ["TLS", "SSL", "TLS-C", "tls"])
def test_auth_begins_tls_by_each_of_its_names(
    shared: Shared, trusting: ssl.SSLContext, mechanism: str
) -> None:
    (shared.root / "file").write_bytes(b"content")
    with Client(shared.port, trusting) as client:
        client.secures(mechanism, protected=True)
        assert client.fetches("RETR file") == b"content"


def test_auth_by_an_unknown_mechanism_is_504_and_leaves_the_session_as_it_was(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    with Client(shared.port, trusting) as client:
        client.logs_in()
        client.says("AUTH GSSAPI", 504)
        client.says("PWD", 257)
        client.secures()


def test_nothing_that_was_said_in_the_clear_holds_behind_auth(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    """Somebody in between may have said it: downloads would begin in the middle, and be 226."""
    (shared.root / "file").write_bytes(b"0123456789")
    with Client(shared.port, trusting) as client:
        client.logs_in()
        client.says("EPSV ALL", 200)
        client.says("OPTS MLST type;", 200)
        client.says("OPTS HASH CRC32", 200)
        client.says("RANG 2 3", 350)
        client.says("RNFR file", 350)
        client.says("REST 5", 350)
        client.secures(protected=True)
        client.says("RNTO other", 503)
        assert "SHA-256 0-9 " in client.says("HASH file", 213)
        assert "size=10;" in client.says("MLST file", 250)
        client.says("PASV", 227)
        assert client.fetches("RETR file") == b"0123456789"


def test_auth_within_tls_is_503(shared: Shared, trusting: ssl.SSLContext) -> None:
    with Client(shared.port, trusting) as client:
        client.secures()
        client.says("AUTH TLS", 503)
        client.says("AUTH KERBEROS_V4", 503)
        client.says("NOOP", 200)


def test_auth_within_implicit_tls_is_503(serve: Serve, trusting: ssl.SSLContext) -> None:
    with Client(serve(implicit=True).port, trusting, implicit=True) as client:
        client.says("AUTH TLS", 503)


def test_pbsz_and_prot_after_auth_are_200_and_other_levels_504(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    with Client(shared.port, trusting) as client:
        client.says("PBSZ 0", 503)
        client.says("PROT P", 503)
        client.says("PROT C", 503)
        client.secures()
        assert client.says("PBSZ 4096", 200) == "200 PBSZ=0"
        client.says("PROT P", 200)
        client.says("PROT c", 200)
        for level in ("S", "E", "X"):
            client.says(f"PROT {level}", 504)


def test_data_are_plain_after_auth_and_after_prot_c(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    (shared.root / "file").write_bytes(b"content")
    with Client(shared.port, trusting) as client:
        client.secures()
        client.logs_in()
        assert client.downloads("RETR file") == b"content"
        client.protects()
        assert client.fetches("RETR file") == b"content"
        client.says("PROT C", 200)
        assert client.downloads("RETR file") == b"content"


def test_implicit_tls_begins_with_prot_p(
    serve: Serve, trusting: ssl.SSLContext, root: Path
) -> None:
    (root / "file").write_bytes(b"content")
    with Client(serve(implicit=True).port, trusting, implicit=True) as client:
        client.logs_in()
        assert client.fetches("RETR file") == b"content"
        client.stores("STOR copy", b"content")
        assert (root / "copy").read_bytes() == b"content"
        client.says("PROT C", 200)
        assert client.downloads("RETR file") == b"content"


def test_prot_p_holds_for_a_data_port_that_was_opened_before_it(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    """EPSV, PROT P, RETR: whoever said PROT P may not be sent the file in the clear."""
    (shared.root / "secret").write_bytes(b"this is secret")
    with Client(shared.port, trusting) as client:
        client.secures()
        client.logs_in()
        with client.passive() as data:
            client.protects()
            client.send("RETR secret")
            code, _ = client.reply()
            if code != 150:  # the port may as well have been given up
                assert 400 <= code < 600
                return
            with client.wraps(data) as protected:
                assert protected.recv(100) == b"this is secret"
        client.expects(226)


def test_require_tls_data_holds_for_a_data_port_that_was_opened_before_prot_p(
    serve: Serve, trusting: ssl.SSLContext, root: Path
) -> None:
    (root / "secret").write_bytes(b"this is secret")
    with Client(serve(require_tls_data=True).port, trusting) as client:
        client.secures()
        client.logs_in()
        with client.passive() as data:
            client.protects()
            client.send("RETR secret")
            client.reply()
            data.shutdown(socket.SHUT_WR)
            assert b"secret" not in rest_of(data)


def test_without_tls_auth_is_502_and_prot_p_does_no_harm(serve: Serve, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    with Dialogue(serve(None).port) as client:
        client.says("AUTH TLS", 502)
        client.says("AUTH SSL", 502)
        client.says("AUTH KERBEROS_V4", 502)
        client.says("PBSZ 0", 200)
        client.says("PROT P", 200)
        for level in ("C", "S", "E", "X"):
            client.says(f"PROT {level}", 502)
        features = client.says("FEAT", 211)
        assert not {" AUTH TLS", " AUTH SSL", " PBSZ", " PROT"} & set(features.splitlines())
        client.logs_in()
        assert client.downloads("RETR file") == b"content"  # in the clear all the same


def test_require_tls_data_refuses_prot_c_and_transfers_in_the_clear(
    serve: Serve, trusting: ssl.SSLContext, root: Path
) -> None:
    (root / "file").write_bytes(b"content")
    with Client(serve(require_tls_data=True).port, trusting) as client:
        client.secures()
        client.logs_in()
        client.says("PROT C", 534)
        for command in ("RETR file", "LIST", "NLST", "MLSD", "STOR new", "APPE file", "STOU"):
            client.epsv()
            client.says(command, 522)
        client.protects()
        client.says("PROT C", 534)  # which leaves PROT P
        assert client.fetches("RETR file") == b"content"
        client.stores("STOR new", b"new")
    assert (root / "file").read_bytes() == b"content"


def test_an_upload_that_is_refused_for_want_of_prot_p_makes_no_file(
    serve: Serve, trusting: ssl.SSLContext, root: Path
) -> None:
    with Client(serve(require_tls_data=True).port, trusting) as client:
        client.secures()
        client.logs_in()
        for command in ("STOR new", "APPE new", "STOU"):
            client.epsv()
            client.says(command, 522)
    assert list(root.iterdir()) == []


def test_require_tls_data_refuses_transfers_without_any_tls(serve: Serve, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    with Dialogue(serve(require_tls_data=True).port) as client:
        client.logs_in()
        client.epsv()
        client.says("RETR file", 522)
        client.says("SIZE file", 213)


class WithOwnVerb(Server):
    """Sends data by a command of its own."""

    @ConnectionConditions(ConnectionConditions.data_connection_made, wait=True)
    async def xsecret(self, connection: Connection, rest: str) -> bool:
        connection.response("150", "here it comes")
        async with connection.data_connection as data:
            await data.write(b"this is secret")
        connection.response("226", "done")
        return True


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_require_tls_data_holds_for_commands_of_ones_own(
    loop: str, root: Path, files: Files, trusting: ssl.SSLContext
) -> None:
    def make() -> Server:
        context = make_context(str(files.server), str(files.server))
        users = [User("user", "12345", base_path=root)]
        return WithOwnVerb(users, tls=context, require_tls_data=True)

    server = InProcess(loop, make)
    try:
        with Client(server.port, trusting) as client:
            client.secures()
            client.logs_in()
            with client.passive() as data:
                client.send("XSECRET")
                code, _ = client.reply()
                assert b"secret" not in rest_of(data)
                assert code >= 500
        with Client(server.port, trusting) as client:
            client.secures(protected=True)
            with client.wraps(client.passive()) as data:
                client.says("XSECRET", 150)
                assert reads(data) == b"this is secret"
            client.expects(226)
    finally:
        server.stop()


def test_require_tls_refuses_logins_in_the_clear(serve: Serve, trusting: ssl.SSLContext) -> None:
    with Client(serve(require_tls=True).port, trusting) as client:
        client.says("USER user", 530)
        client.says("PASS 12345", 503)
        client.says("FEAT", 211)
        client.secures()
        client.logs_in()


def test_auth_behind_many_commands_still_ends_the_session_where_a_byte_follows(
    shared: Shared,
) -> None:
    """What follows AUTH is still in the kernel when AUTH is obeyed, in no buffer of the server."""
    with Dialogue(shared.port) as client:
        before = b"NOOP\r\n" * 681  # with AUTH, the 4096 bytes that are read at once
        client.sock.sendall(before + b"AUTH TLS\r\n" + b"NOOP\r\n")
        received = rest_of(client.sock)
    assert b"234" not in received
    assert received.count(b"\r\n") <= 681


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_nothing_is_obeyed_after_close_notify(
    shared: Shared, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """Neither what comes in the clear behind it, which an attacker could add."""
    trusting.maximum_version = version
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        says_close_notify(client.tls)
        client.sock = plain(client.tls)
        client.sock.sendall(b"MKD injected\r\n")
        rest_of(client.sock)
    assert not (shared.root / "injected").exists()
    with Dialogue(shared.port) as other:
        other.says("NOOP", 200)
