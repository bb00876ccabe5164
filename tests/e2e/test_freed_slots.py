"""A client that has seen the end of its connection finds its slot free, whatever worker had it."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.session.proxied import AUTHORITY, v1
from tests.support.configured import configured, ports
from tests.support.dialogue import DEADLINE

TIMES = 200
LIMITS = {
    "of the address": "[limits]\nconnections_per_address = 1\n",
    "of the server": "[limits]\nconnections = 1\n",
    "of those who have not logged in": "[limits]\nconnections_not_logged_in = 1\n",
    "of the user": "",
}
USER = '[[user]]\nlogin = "user"\npassword = "plain:12345"\nroot = "."\nconnections = 1\n'


def quits(sock: socket.socket, header: bytes = b"") -> set[str]:
    """Log in, quit, and see the end: the codes of all replies."""
    sock.settimeout(DEADLINE)
    sock.sendall(header)
    said = sock.recv(1 << 16)
    for line in (b"USER user", b"PASS 12345", b"QUIT"):
        sock.sendall(line + b"\r\n")
        said += sock.recv(1 << 16)
    while block := sock.recv(1 << 16):
        said += block
    sock.close()
    return set(re.findall(r"^(\d{3}) ", said.decode(), re.MULTILINE))


def reconnects(port: int, quit_: Callable[[socket.socket], set[str]], times: int) -> None:
    seen: dict[frozenset[str], int] = {}
    for _ in range(times):
        sock = socket.create_connection(("127.0.0.1", port), DEADLINE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        codes = frozenset(quit_(sock))
        seen[codes] = seen.get(codes, 0) + 1
    assert seen == {frozenset({"220", "331", "230", "221"}): times}


@pytest.mark.parametrize("limit", LIMITS)
def test_nobody_is_refused_who_has_seen_the_end(tmp_path: Path, limit: str) -> None:
    with configured(tmp_path, LIMITS[limit] + USER) as cluster:
        reconnects(cluster.port, quits, TIMES)


def test_nor_with_tls(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    AUTHORITY.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    text = f"[tls]\ncertificate = {json.dumps(str(pem))}\n[limits]\nconnections_per_address = 1\n"
    plain = '[[listen]]\naddress = "127.0.0.1"\nport = 0\n'
    listen = f'{plain}{plain}tls = "implicit"\n'

    def protected(sock: socket.socket) -> set[str]:
        return quits(context.wrap_socket(sock, server_hostname="localhost"))

    with configured(tmp_path, listen + text + USER) as cluster:
        reconnects(ports(cluster)[-1], protected, TIMES // 2)


def test_nor_behind_a_proxy(tmp_path: Path) -> None:
    listen = '[[listen]]\naddress = "127.0.0.1"\nport = 0\nproxy_protocol = ["127.0.0.1"]\n'
    text = listen + LIMITS["of the address"] + USER
    header = v1("192.0.2.1")
    with configured(tmp_path, text) as cluster:
        reconnects(cluster.port, lambda sock: quits(sock, header), TIMES)
