"""A protected data connection has as long as a plain one: from the command that uses it on."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tls.support import Client, Running

DEADLINE = 0.4


@pytest.fixture
def client(serve: Callable[..., Running], trusting: ssl.SSLContext) -> Client:
    running = serve(data_timeout=DEADLINE)
    return Client(running.port, trusting)


@pytest.mark.parametrize("when", ["before the command", "after 150"])
def test_the_deadline_does_not_begin_before_the_command(
    client: Client, root: Path, when: str
) -> None:
    (root / "file").write_bytes(b"content")
    with client:
        client.secures(protected=True)
        data = client.passive()
        if when == "before the command":
            data = client.wraps(data)
        client.finds_silence(3 * DEADLINE)
        client.says("RETR file", 150)
        if when == "after 150":
            data = client.wraps(data)
        with data:
            assert data.recv(100) == b"content"
            assert data.recv(1) == b""
        client.expects(226)


def test_nobody_comes_or_nobody_shakes_hands_425(client: Client, root: Path) -> None:
    (root / "file").write_bytes(b"content")
    with client:
        client.secures(protected=True)
        client.epsv()
        client.says("RETR file", 150)
        client.expects(425)
        with client.passive():
            client.says("RETR file", 150)
            client.expects(425)
        assert client.fetches("RETR file") == b"content"
