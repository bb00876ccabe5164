"""Certificates are read again without a restart: ``reload_certificates()``, and SIGHUP."""

from __future__ import annotations

import logging
import os
import re
import signal
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from ftpcluster.net.certificates import BadCertificate, make_context
from tests.support.cluster import until
from tests.support.dialogue import Dialogue, rest_of
from tests.tls.conftest import AUTHORITY
from tests.tls.support import V12, V13, Client, Running, reads

Serve = Callable[..., Running]
HOW = pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
LOOPS = pytest.mark.parametrize("serve", ["asyncio", "uvloop"], indirect=True)
CLUSTER = pytest.mark.parametrize("serve", ["cluster"], indirect=True)


def renew(path: Path) -> None:
    """Write another certificate, and its key, as programs do that know how: all at once."""
    new = path.with_suffix(".new")
    AUTHORITY.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(new))
    new.replace(path)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "server.pem"
    renew(path)
    return path


def shown(port: int, trusting: ssl.SSLContext, *, implicit: bool = False) -> set[bytes]:
    """The certificates that new control and data connections get, from every worker."""
    found = set()
    clients = [Client(port, trusting, implicit=implicit) for _ in range(4)]
    for client in clients:
        with client:
            if implicit:
                client.logs_in()
            else:
                client.secures(protected=True)
            found.add(client.certificate)
            with client.protected("NLST") as data:
                reads(data)
                found.add(data.getpeercert(binary_form=True) or b"")
            client.expects(226)
    return found


@HOW
def test_new_sessions_get_the_new_certificate_and_running_ones_go_on(
    serve: Serve, certificate: Path, trusting: ssl.SSLContext, implicit: bool
) -> None:
    running = serve(certificate, implicit=implicit)
    for version in (V12, V13):
        trusting.maximum_version = version
        (old,) = shown(running.port, trusting, implicit=implicit)
        with Client(running.port, trusting, implicit=implicit) as client:
            if implicit:
                client.logs_in()
            else:
                client.secures(protected=True)
            renew(certificate)
            assert shown(running.port, trusting, implicit=implicit) == {old}  # not yet
            running.reload()

            (new,) = shown(running.port, trusting, implicit=implicit)
            assert new != old
            client.stores("STOR file", b"content", client.tls.session)
            assert client.fetches("RETR file") == b"content"


def test_a_transfer_runs_on_while_certificates_are_reloaded(
    serve: Serve, certificate: Path, trusting: ssl.SSLContext, root: Path
) -> None:
    content = os.urandom(16 << 20)
    (root / "file").write_bytes(content)
    running = serve(certificate)
    with Client(running.port, trusting) as client:
        client.secures(protected=True)
        with client.wraps(client.begins("RETR file", window=65536)) as data:
            begin = data.recv(1000)
            renew(certificate)
            running.reload()  # to new workers, in a cluster
            assert begin + reads(data) == content
        client.expects(226)
        client.fetches("NLST", client.tls.session)  # resumed with the keys of before


@LOOPS
def test_a_session_that_began_in_the_clear_gets_the_new_certificate(
    serve: Serve, certificate: Path, trusting: ssl.SSLContext
) -> None:
    """In a cluster it goes on in its old worker, which has the old one."""
    running = serve(certificate)
    (old,) = shown(running.port, trusting)
    with Client(running.port, trusting) as client:
        renew(certificate)
        running.reload()
        assert old not in shown(running.port, trusting)
        client.secures()
        assert client.certificate != old


BROKEN = {
    "empty": b"",
    "text": b"this is no certificate\n",
    "half": None,
    "missing": None,
    "another key": None,
}


def break_certificate(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    elif how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "another key":
        one, two = AUTHORITY.issue_cert("localhost"), AUTHORITY.issue_cert("localhost")
        path.write_bytes(one.private_key_pem.bytes() + two.cert_chain_pems[0].bytes())
    else:
        path.write_bytes(BROKEN[how] or b"")


@LOOPS
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_certificate_changes_nothing_in_the_library(
    serve: Serve, certificate: Path, trusting: ssl.SSLContext, how: str
) -> None:
    running = serve(certificate)
    before = shown(running.port, trusting)
    break_certificate(certificate, how)
    with pytest.raises(BadCertificate, match=re.escape(str(certificate))):
        running.reload()
    assert shown(running.port, trusting) == before


@CLUSTER
def test_a_broken_certificate_changes_nothing_in_a_cluster_and_is_logged_in_one_line(
    serve: Serve, certificate: Path, trusting: ssl.SSLContext
) -> None:
    running = serve(certificate)
    before = shown(running.port, trusting)
    good = certificate.read_bytes()
    for how in BROKEN:
        certificate.write_bytes(good)
        break_certificate(certificate, how)
        start = len(running.log)
        line = running.hang_up()
        assert "not reloaded" in line, line
        assert str(certificate) in line, line
        assert shown(running.port, trusting) == before
        told = [each for each in running.log[start:].splitlines() if " supervisor: " in each]
        assert (told[0][-9:], told[1:]) == ("reloading", [line])
    renew(certificate)
    assert "not reloaded" not in running.hang_up()
    assert not before & shown(running.port, trusting)


@CLUSTER
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_hanging_up_ends_no_session(
    serve: Serve, certificate: Path, trusting: ssl.SSLContext, tls: bool
) -> None:
    running = serve(certificate if tls else None)
    with Dialogue(running.port) as client:
        client.logs_in()
        for _ in range(3):
            assert "not reloaded" not in running.hang_up()
            client.says("PWD", 257)


@CLUSTER
def test_a_terminals_hang_up_which_reaches_every_process_ends_no_session(
    serve: Serve, certificate: Path
) -> None:
    """The whole process group gets the signal, as it gets Ctrl-C."""
    running = serve(certificate)
    cluster = running.cluster
    assert cluster is not None
    clients = [Dialogue(running.port) for _ in range(4)]
    start = len(cluster.log)
    os.killpg(cluster.pid, signal.SIGHUP)
    cluster.wait_for(re.compile(" reloaded: "), start)
    for client in clients:
        with client:
            client.says("NOOP", 200)


@CLUSTER
def test_a_worker_that_is_started_later_has_the_new_certificate(
    serve: Serve, certificate: Path, trusting: ssl.SSLContext
) -> None:
    running = serve(certificate)
    cluster = running.cluster
    assert cluster is not None
    (old,) = shown(running.port, trusting)
    renew(certificate)
    running.reload()
    assert old not in shown(running.port, trusting)
    victim = cluster.workers()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in cluster.workers() and len(cluster.workers()) == 2)
    assert old not in shown(running.port, trusting)


@LOOPS
def test_reload_certificates_without_tls_or_with_a_plain_context_does_nothing(
    serve: Serve, certificate: Path, trusting: ssl.SSLContext
) -> None:
    plain = serve(None)
    plain.reload()
    context = make_context(str(certificate), str(certificate))
    running = serve(make=lambda: context)
    before = shown(running.port, trusting)
    running.reload()
    assert shown(running.port, trusting) == before


@CLUSTER
def test_a_certificate_that_breaks_while_nobody_reloads_it_ends_no_new_session(
    serve: Serve, certificate: Path, trusting: ssl.SSLContext
) -> None:
    """Also where each control connection has a context of its own, made when it comes."""
    running = serve(certificate, require_session_reuse=True)
    break_certificate(certificate, "text")
    for _ in range(3):
        with Client(running.port, trusting) as client:
            client.secures(protected=True)
            client.fetches("NLST", client.tls.session)


@LOOPS
@HOW
def test_where_no_context_can_be_made_only_that_connection_ends(
    serve: Serve,
    certificate: Path,
    trusting: ssl.SSLContext,
    implicit: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The library calls somebody's function for each control connection: it may fail."""
    settings = {"require_session_reuse": True, "maximum_connections": 2}
    running = serve(certificate, implicit=implicit, **settings)
    good = certificate.read_bytes()

    def join() -> Client:
        client = Client(running.port, trusting, implicit=implicit)
        if not implicit:
            client.secures()
        client.logs_in()
        client.protects()
        return client

    with join() as client:
        break_certificate(certificate, "text")
        with caplog.at_level(logging.WARNING):
            for _ in range(4):
                with Dialogue(running.port, greeting=None if implicit else 220) as other:
                    other.sock.settimeout(5)
                    if not implicit:
                        other.send("AUTH TLS")
                        code, _ = other.reply()
                        assert code == 234 or 400 <= code < 500
                    if implicit or code == 234:
                        assert rest_of(other.sock) == b""
        assert caplog.records
        for record in caplog.records:
            assert str(certificate) in record.getMessage()
            assert record.exc_info is None
        client.fetches("NLST", client.tls.session)
        certificate.write_bytes(good)
        with until_let_in(join) as other_client:
            other_client.fetches("NLST", other_client.tls.session)


def until_let_in(join: Callable[[], Client]) -> Client:
    """The place of a client that has gone is free a moment later."""

    def attempt() -> Client | None:
        try:
            return join()
        except (AssertionError, OSError):
            return None  # 421

    return until(attempt)
