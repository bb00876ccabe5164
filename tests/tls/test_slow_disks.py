"""Uploads over TLS to a disk that is slower than the client (faults.md, “Data”, row 2): whatever
has not been read yet when the client ends is not lost. “never "226 and the file is short";
well-behaved clients always whole”.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.net.certificates import make_context
from tests.e2e.clients import Site, Way
from tests.e2e.clients.libraries import ProtectedFTP
from tests.e2e.clients.programs import Curl, Lftp
from tests.support.cluster import until
from tests.support.dialogue import reset
from tests.support.disks import go_bad
from tests.support.kinds import KINDS, Running, running
from tests.tls.conftest import Files
from tests.tls.support import V12, V13, Client, plain, says_close_notify

CONTENT = os.urandom(3_000_000)
SLOW = "slow-2"
"""2 ms for each record of TLS: the client is done long before the disk is."""
VERSIONS = {"1.2": V12, "1.3": V13}


@pytest.fixture(scope="module", params=KINDS)
def shared(
    request: pytest.FixtureRequest, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    directory, path = tmp_path_factory.mktemp("slow"), str(files.server)
    options: dict[str, Any] = {"tls": lambda: make_context(path, path)}
    if request.param == "cluster":
        text = f"[tls]\ncertificate = '{path}'\n"
        options = {"server": "tests.support.disks:Local", "text": text}
    with running(request.param, directory, **options) as server:
        yield server


@pytest.fixture(params=VERSIONS.values(), ids=VERSIONS)
def client(
    request: pytest.FixtureRequest,
    shared: Running,
    trusting: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Client]:
    """Logged in, with PROT P."""
    if shared.server is not None:
        go_bad(monkeypatch.setattr)
    shared.emptied()
    trusting.minimum_version = trusting.maximum_version = request.param
    with Client(shared.port, trusting) as client:
        client.secures(protected=True)
        yield client


def is_behind(file: Path) -> bool:
    """The client has sent everything, and the disk has some of it: so the rest is on its way."""
    return 0 < until(lambda: file.stat().st_size) < len(CONTENT)


@pytest.mark.parametrize("verb", ["STOR", "APPE"])
@pytest.mark.parametrize("end", ["close_notify", "close_notify and wait", "FIN", "both"])
def test_an_upload_that_ends_in_order_is_whole(
    client: Client, shared: Running, verb: str, end: str
) -> None:
    """FIN alone: without close_notify, as many clients end; by default that is no error."""
    with client.protected(f"{verb} {SLOW}", client.tls.session) as data:
        data.sendall(CONTENT)
        assert is_behind(shared.root / SLOW)
        if end == "close_notify and wait":
            data.unwrap()
        elif end != "FIN":
            says_close_notify(data)
        if end == "both":
            with plain(data) as beneath:
                beneath.shutdown(socket.SHUT_WR)
                while beneath.recv(1 << 16):
                    pass
        # else closed at once, with whatever the server still says unread
    client.expects(226)
    assert (shared.root / SLOW).read_bytes() == CONTENT
    client.fetches("NLST")


@pytest.mark.parametrize("verb", ["STOR", "APPE"])
def test_an_upload_that_ends_by_a_reset_is_no_success(
    client: Client, shared: Running, verb: str
) -> None:
    """RST: part of it may be lost, so it is 426 whatever has come."""
    data = client.protected(f"{verb} {SLOW}")
    data.sendall(CONTENT)
    assert is_behind(shared.root / SLOW)
    reset(plain(data))
    client.expects(426)
    assert len((shared.root / SLOW).read_bytes()) <= len(CONTENT)
    client.stores("STOR next", CONTENT)
    assert (shared.root / "next").read_bytes() == CONTENT


def test_a_reset_behind_close_notify_is_226_only_with_all_of_it(
    client: Client, shared: Running
) -> None:
    data = client.protected(f"STOR {SLOW}")
    data.sendall(CONTENT)
    assert is_behind(shared.root / SLOW)
    says_close_notify(data)
    reset(plain(data))
    if client.reply()[0] == 226:
        assert (shared.root / SLOW).read_bytes() == CONTENT
    client.fetches("NLST")


def test_a_reset_is_no_success_without_tls_either(client: Client, shared: Running) -> None:
    client.says("PROT C", 200)
    data = client.begins("STOR slow-20")
    data.sendall(CONTENT)
    reset(data)
    client.expects(426)
    client.uploads("STOR next", CONTENT)


# ---------------------------------------------------------------------- clients


@pytest.fixture(scope="module")
def site(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster on a slow disk."""
    text = f"[tls]\ncertificate = '{files.server}'\n"
    server, directory = "tests.support.disks:Local", tmp_path_factory.mktemp("site")
    with running("cluster", directory, server=server, text=text) as running_site:
        yield Site(running_site.port, 0, files.authority, running_site.root)


EXPLICIT = Way("explicit TLS", tls="explicit")


class OldCurl(Curl):
    """curl with TLS 1.2."""

    def curl(self, *arguments: str) -> str:
        return super().curl("--tls-max", "1.2", *arguments)


class NewCurl(Curl):
    """curl with TLS 1.3."""

    def curl(self, *arguments: str) -> str:
        return super().curl("--tlsv1.3", *arguments)


class OldLftp(Lftp):
    """lftp with TLS 1.2."""

    def commands(self, *commands: str) -> str:
        return super().commands('set ssl:priority "NORMAL:-VERS-TLS1.3"', *commands)


class NewLftp(Lftp):
    """lftp with TLS 1.3."""

    def commands(self, *commands: str) -> str:
        priority = 'set ssl:priority "NORMAL:-VERS-ALL:+VERS-TLS1.3"'
        return super().commands(priority, *commands)


@pytest.mark.parametrize("kind", [OldCurl, NewCurl, OldLftp, NewLftp])
def test_a_program_s_upload_is_whole(kind: type[Curl], site: Site, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(CONTENT)
    client = kind(site, EXPLICIT, tmp_path, ".")
    for number in range(2):
        client.upload("local", f"{SLOW}-{kind.__name__}-{number}")
        assert (site.served / f"{SLOW}-{kind.__name__}-{number}").read_bytes() == CONTENT
    client.went_its_way()


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_ftplib_s_upload_is_whole(version: ssl.TLSVersion, site: Site) -> None:
    context = ssl.create_default_context(cafile=str(site.authority))
    context.minimum_version = context.maximum_version = version
    with contextlib.closing(ProtectedFTP(context)) as client:
        client.connect("127.0.0.1", site.port)
        client.login("user", "12345")
        client.prot_p()
        for number in range(2):
            name = f"{SLOW}-{version.name}-{number}"
            client.storbinary(f"STOR {name}", io.BytesIO(CONTENT), blocksize=1 << 20)
            assert (site.served / name).read_bytes() == CONTENT
