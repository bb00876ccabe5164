"""What clients see of TLS beyond that it works: whom they trust, sessions, and its price."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import socket
import ssl
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.clients import PASSWORD, USER, Client, Site, Way
from tests.e2e.clients.libraries import DEADLINE, Ftplib, ProtectedFTP, ResumingFTP
from tests.e2e.clients.programs import Curl, Lftp, Rclone, Wget
from tests.e2e.clients.scripts import BasicFtp, NetFTP
from tests.e2e.clients.site import running_site
from tests.support.tree import digests

CLIENTS = (Lftp, Curl, Wget, Rclone, Ftplib, NetFTP, BasicFtp)
EXPLICIT = Way("explicit TLS", tls="explicit")
IMPLICIT = Way("implicit TLS", tls="implicit")
WAYS = (
    EXPLICIT,
    IMPLICIT,
    Way("active explicit TLS", tls="explicit", active=True),
    Way("active implicit TLS", tls="implicit", active=True),
)
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@contextlib.contextmanager
def logged_in(
    kind: type[ProtectedFTP], site: Site, way: Way, version: ssl.TLSVersion
) -> Iterator[ProtectedFTP]:
    context = ssl.create_default_context(cafile=str(site.authority))
    context.minimum_version = context.maximum_version = version
    with kind(context, implicit=way.tls == "implicit") as client:
        client.connect(way.host, site.implicit_port if way.tls == "implicit" else site.port)
        client.login(USER, PASSWORD)
        client.prot_p()
        client.set_pasv(not way.active)
        yield client


@pytest.mark.parametrize("way", [EXPLICIT, IMPLICIT], ids=lambda way: way.name)
@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name)
def test_a_client_refuses_a_certificate_of_an_authority_that_it_does_not_know(
    kind: type[Client], way: Way, site: Site, tmp_path: Path
) -> None:
    """Else what the other tests say of protection would be worth little."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "another.pem"))
    (tmp_path / "home").mkdir()
    (site.served / "file").write_bytes(b"content")
    suspicious = dataclasses.replace(site, authority=tmp_path / "another.pem")
    client = kind(suspicious, way, tmp_path / "home", ".")
    with pytest.raises((AssertionError, ssl.SSLError), match=r"(?i)certificate"):
        client.download("file", "copy")
    copy = tmp_path / "home" / "copy"
    assert not copy.exists() or copy.read_bytes() == b""
    trusting = kind(site, way, tmp_path / "home", ".")
    trusting.download("file", "copy")
    assert copy.read_bytes() == b"content"


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_ftplib_resumes_the_session_on_every_data_connection(
    way: Way, version: ssl.TLSVersion, site: Site
) -> None:
    content = os.urandom(300_000)
    with logged_in(ResumingFTP, site, way, version) as client:
        assert isinstance(client, ResumingFTP)
        for number in range(5):
            name = f"{number}"
            client.storbinary(f"STOR {name}", io.BytesIO(content))
            assert (site.served / name).read_bytes() == content
            received = io.BytesIO()
            client.retrbinary(f"RETR {name}", received.write)
            assert received.getvalue() == content
            assert name in client.nlst()
        assert client.reused == [True] * 15


@pytest.mark.parametrize(
    ("kind", "says"),
    [(Curl, "SSL re-?using session"), (Wget, "Resuming SSL session in data connection")],
    ids=lambda case: getattr(case, "name", ""),
)
def test_a_program_resumes_the_session_on_its_data_connection(
    kind: type[Client], says: str, site: Site, tmp_path: Path
) -> None:
    (site.served / "file").write_bytes(b"content")
    client = kind(site, EXPLICIT, tmp_path, ".")
    client.download("file", "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert re.search(says, client.trace), client.trace


class ImpatientFTP(ProtectedFTP):
    """Sends every segment at once, without waiting until the one before was acknowledged."""

    def ntransfercmd(
        self, cmd: str, rest: int | str | None = None
    ) -> tuple[socket.socket, int | None]:
        conn, size = super().ntransfercmd(cmd, rest)
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return conn, size


def test_an_upload_of_a_small_file_does_not_wait_for_a_delayed_acknowledgement(
    site: Site,
) -> None:
    """A delayed one takes 40 ms; of the two clients only ftplib's own waits for it."""
    times: dict[type[ProtectedFTP], list[float]] = {ProtectedFTP: [], ImpatientFTP: []}
    with (
        logged_in(ProtectedFTP, site, EXPLICIT, VERSIONS[1]) as usual,
        logged_in(ImpatientFTP, site, EXPLICIT, VERSIONS[1]) as impatient,
    ):
        for _ in range(25):
            for client in (usual, impatient):
                start = time.monotonic()
                client.storbinary("STOR small", io.BytesIO(b"content"))
                times[type(client)].append(time.monotonic() - start)
    usual_time, impatient_time = (statistics.median(taken) for taken in times.values())
    assert usual_time < 4 * impatient_time, (usual_time, impatient_time)


@pytest.mark.parametrize("way", [EXPLICIT, IMPLICIT], ids=lambda way: way.name)
def test_basic_ftp_uploads_empty_files(way: Way, site: Site, tmp_path: Path) -> None:
    """It takes a session that it resumes for one that is established already.

    So a 150 that it gets in the middle of the handshake lets it end an empty upload right there.
    """
    (tmp_path / "empty").mkdir()
    for number in range(100):
        (tmp_path / "empty" / f"{number}").touch()
    client = BasicFtp(site, way, tmp_path, ".")
    client.mirror_up("empty", way.tls)
    assert digests(site.served / way.tls) == digests(tmp_path / "empty")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_an_upload_that_ends_without_close_notify_is_stored_whole_and_no_alert_comes_back(
    version: ssl.TLSVersion, site: Site
) -> None:
    """Many clients end a data connection with a FIN alone; by default that is no error.

    OpenSSL 3 answers it with a fatal alert where it isn't told otherwise.
    """
    content = os.urandom(1_000_000)
    with logged_in(ProtectedFTP, site, EXPLICIT, version) as client:
        client.voidcmd("TYPE I")
        conn = client.transfercmd("STOR unclosed")
        with conn:
            conn.settimeout(DEADLINE)
            conn.sendall(content)
            socket.socket.shutdown(conn, socket.SHUT_WR)  # SSLSocket's own would forget TLS
            assert conn.recv(1) == b""
        assert client.voidresp().startswith("226")
    assert (site.served / "unclosed").read_bytes() == content
