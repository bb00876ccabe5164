"""A download's data connection outlives our end of it, for the client to end its own."""

from __future__ import annotations

import socket
import ssl
from ftplib import FTP_TLS
from pathlib import Path

import pytest


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_answers_close_notify_late_meets_no_reset(
    explicit: int, root: Path, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    (root / "file").write_bytes(b"content")
    trusting.minimum_version = trusting.maximum_version = version
    with FTP_TLS(context=trusting) as client:
        client.connect("localhost", explicit, timeout=20)
        client.login("user", "12345")
        client.prot_p()
        client.voidcmd("TYPE I")
        with client.transfercmd("RETR file") as data:
            assert isinstance(data, ssl.SSLSocket)
            assert data.recv(100) == b"content"
            assert data.recv(1) == b""
            assert client.voidresp().startswith("226")  # which does not wait for the client
            plain = data.unwrap()
            # had the server closed, what unwrap has sent would have been answered by a reset
            assert socket.socket.send(plain, b"more") == 4
            socket.socket.shutdown(plain, socket.SHUT_WR)
            assert socket.socket.recv(plain, 1) == b""
