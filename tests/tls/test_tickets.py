"""Sessions are resumed for as long as a control connection lasts, also by those who use each ticket
of TLS 1.3 once (RFC 8446 appendix C.4), as Java and curl do."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.net import certificates, tls_sessions
from ftpcluster.net.certificates import Contexts, make_context
from tests.support.clock import shim
from tests.support.configured import configured
from tests.tls.conftest import Files, Shared
from tests.tls.support import V12, V13, Client, plain, reads

SETTINGS = {"require_session_reuse": True}
WEEK = 7 * 24 * 3600


class OnceClient(Client):
    """Uses each ticket once, and fails where there is none left."""

    def __init__(self, port: int, trusting: ssl.SSLContext) -> None:
        super().__init__(port, trusting)
        self.used: list[ssl.SSLSession] = []

    def ticket(self) -> ssl.SSLSession:
        """The newest."""
        found = self.tls.session
        assert found is not None
        assert found not in self.used, f"no ticket is left behind {len(self.used)} connections"
        self.used.append(found)
        return found


@pytest.fixture
def client(shared: Shared, trusting: ssl.SSLContext) -> Iterator[OnceClient]:
    trusting.minimum_version = V13
    with OnceClient(shared.port, trusting) as client:
        client.secures(protected=True)
        yield client


def test_there_is_a_ticket_for_each_of_many_transfers(client: OnceClient, shared: Shared) -> None:
    content = os.urandom(100_000)
    for number in range(20):
        client.stores(f"STOR file{number}", content, client.ticket())
        assert (shared.root / f"file{number}").read_bytes() == content
        assert client.fetches(f"RETR file{number}", client.ticket()) == content
        assert f"file{number}" in client.fetches("NLST", client.ticket()).decode()


def test_there_is_a_ticket_for_each_active_connection(client: OnceClient, shared: Shared) -> None:
    (shared.root / "file").write_bytes(b"content")
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(20)
            client.says(f"EPRT |1|127.0.0.1|{listener.getsockname()[1]}|", 200)
            client.says("RETR file", 150)
            with client.wraps(listener.accept()[0], client.ticket()) as data:
                assert reads(data) == b"content"
        client.expects(226)


def test_a_transfer_that_fails_has_used_up_a_ticket_too(client: OnceClient, shared: Shared) -> None:
    (shared.root / "file").write_bytes(b"content")
    for _ in range(5):
        with client.passive() as beneath, client.wraps(beneath, client.ticket()):
            client.send("RETR missing")
            assert client.final() == 550
        with client.passive() as beneath:  # its handshake is never done
            client.ticket()
            client.send("NLST")
            beneath.shutdown(socket.SHUT_RDWR)
            assert client.final() in (425, 426)
    assert client.fetches("RETR file", client.ticket()) == b"content"


def test_uploads_that_close_without_reading_lose_nothing(
    client: OnceClient, shared: Shared
) -> None:
    """With tickets on data connections a reset would overtake what was sent."""
    content = os.urandom(300_000)
    for number in range(20):
        with client.protected(f"STOR at-once{number}", client.ticket()) as data:
            data.sendall(content)
        client.expects(226)
        assert (shared.root / f"at-once{number}").read_bytes() == content


def test_behind_ccc_transfers_go_on_with_the_tickets_that_are_left(
    client: OnceClient, shared: Shared
) -> None:
    (shared.root / "file").write_bytes(b"content")
    session = client.tls.session
    client.says("CCC", 200)
    client.tls.unwrap()
    client.sock = plain(client.tls)
    for _ in range(3):
        assert client.fetches("RETR file", session) == b"content"


def test_a_session_may_be_resumed_as_long_as_the_protocol_allows(
    shared: Shared, trusting: ssl.SSLContext
) -> None:
    """Two hours after the login all transfers would fail; with TLS 1.3 each brings a new ticket."""
    for version, least, most in ((V12, 10 * 365 * 24 * 3600, 2**31 - 1), (V13, WEEK, WEEK)):
        trusting.minimum_version = trusting.maximum_version = version
        with Client(shared.port, trusting) as client:
            client.secures(protected=True)
            assert client.tls.session is not None
            assert least <= client.tls.session.ticket_lifetime_hint <= most


_REUSE = """
[tls]
certificate = "{certificate}"
require_session_reuse = true

[timeouts]
idle = "20h"

[[user]]
login = "user"
password = "plain:12345"
root = "{root}"
permissions = [{{ path = "/", read = true, write = true }}]
"""


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_a_session_of_hours_goes_on(
    root: Path, tmp_path: Path, files: Files, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    (root / "file").write_bytes(b"content")
    clock = root / "clock"  # where confined workers can read it
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": shim(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    text = _REUSE.format(certificate=files.server, root=root)
    trusting.minimum_version = trusting.maximum_version = version
    with configured(tmp_path, text, env=environment) as cluster:
        with Client(cluster.port, trusting) as client:
            client.secures(protected=True)
            for hours in (0, 1.9, 2.1, 5, 100):
                clock.write_text(f"+{int(hours * 3600)}")
                assert client.fetches("RETR file", client.tls.session) == b"content"


@pytest.fixture
def without_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a Python whose OpenSSL is part of it, or older than 3.0."""
    monkeypatch.setattr(tls_sessions, "_openssl", lambda: None)
    monkeypatch.setattr(certificates, "can_renew", lambda: False)


@pytest.mark.usefixtures("without_the_calls")
def test_where_no_tickets_can_be_sent_tls_1_2_is_spoken(files: Files) -> None:
    def make(minimum_version: str = "1.2") -> ssl.SSLContext:
        return make_context(str(files.server), str(files.server), minimum_version=minimum_version)

    def make_newest() -> ssl.SSLContext:
        return make("1.3")

    assert Contexts(make, one_each=True).take().maximum_version is V12
    assert Contexts(make).take().maximum_version is not V12
    assert Contexts(make_newest, one_each=True).take().minimum_version is V13
    assert Contexts(make_newest, one_each=True).take().maximum_version is not V12
