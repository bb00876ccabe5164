"""Servers behind a proxy, and what a proxy sends them."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from ftpcluster import Server, User
from tests.conftest import InProcess
from tests.support.cluster import Cluster
from tests.support.dialogue import DEADLINE, Dialogue

PROXY = "127.0.0.1"  # as which these tests connect
CLIENT = "127.0.0.2"  # whom the proxy speaks for
OTHER_HOST = "127.0.0.9"
CONTENT = b"content" * 10_000
AUTHORITY = trustme.CA()


@dataclass
class Front:
    """A server behind a proxy: only 127.0.0.1 and ::1 may connect, and say for whom."""

    port: int
    root: Path
    cluster: Cluster | None = None
    server: InProcess | None = None

    def is_free_of_connections(self) -> bool:
        """Whether nothing is counted any more; only in this process that can be seen."""
        assert self.server is not None
        return bool(self.server.call(lambda: self.server.server.ledger.connections == 0))  # type: ignore[union-attr]


def make_front(kind: str, root: Path, *arguments: str, **options: Any) -> Iterator[Front]:
    if kind == "cluster":
        command = ("--workers", "2", "--root", str(root), "--user", "user:12345", "--writable")
        proxies = ("--proxy-protocol", "127.0.0.1", "--proxy-protocol", "::1")
        with Cluster(*command, *proxies, *arguments) as cluster:
            yield Front(cluster.port, root, cluster=cluster)
        assert "Traceback" not in cluster.log, cluster.log
        return
    users = [User("user", "12345", base_path=root)]
    proxied = {"proxy_protocol": ["127.0.0.1", "::1"], "login_delay": 0.05}
    server = InProcess(kind, lambda: Server(users, **proxied, **options))  # type: ignore[arg-type]
    try:
        yield Front(server.port, root, server=server)
    finally:
        server.stop()


KINDS = ["asyncio", "uvloop", "cluster"]


def v1(client: str, port: int = 40000, *, reached: str = "") -> bytes:
    """``reached``: the proxy's address that the client went to."""
    family, usual = ("TCP6", "::1") if ":" in client else ("TCP4", "127.0.0.1")
    return f"PROXY {family} {client} {reached or usual} {port} 21\r\n".encode()


def v2(client: str, port: int = 40000, tlvs: bytes = b"", *, reached: str = "") -> bytes:
    is_ipv6 = ":" in client
    family, usual = (socket.AF_INET6, "::1") if is_ipv6 else (socket.AF_INET, "127.0.0.1")
    packed = b"".join(socket.inet_pton(family, each) for each in (client, reached or usual))
    payload = packed + struct.pack("!HH", port, 21) + tlvs
    return binary(0x21, 0x21 if is_ipv6 else 0x11, payload)


def binary(command: int, family: int, payload: bytes = b"") -> bytes:
    head = struct.pack("!BBH", command, family, len(payload))
    return b"\r\n\r\n\0\r\nQUIT\n" + head + payload


LOCAL = binary(0x20, 0)
UNKNOWN = b"PROXY UNKNOWN\r\n"
versions = pytest.mark.parametrize("version", [v1, v2])


def through(
    port: int, header: bytes = b"", greeting: int | None = 220, *, host: str = PROXY
) -> Dialogue:
    """A dialogue that a proxy has opened with this header."""
    client = Dialogue(port, host, greeting=None)
    try:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sock.sendall(header)
        if greeting is not None:
            client.expects(greeting)
    except BaseException:
        client.sock.close()
        raise
    return client


def comes_from(source: str, port: int) -> socket.socket:
    return socket.create_connection((PROXY, port), DEADLINE, source_address=(source, 0))


class ProtectedSocket:
    """TLS whose first bytes leave together with the header, as proxies send them."""

    def __init__(self, sock: socket.socket, header: bytes) -> None:
        context = ssl.create_default_context()
        AUTHORITY.configure_trust(context)
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._unsent = header
        self._until_done(self._tls.do_handshake)

    def _until_done(self, operation: Any, *arguments: Any) -> Any:
        while True:
            try:
                result = operation(*arguments)
            except ssl.SSLWantReadError:
                self._flush()
                data = self._sock.recv(1 << 16)
                assert data, "the server has closed within TLS"
                self._incoming.write(data)
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        data, self._unsent = self._unsent + self._outgoing.read(), b""
        if data:
            self._sock.sendall(data)

    def sendall(self, data: bytes) -> None:
        self._until_done(self._tls.write, data)

    def recv(self, count: int) -> bytes:
        received: bytes = self._until_done(self._tls.read, count)
        return received

    def close(self) -> None:
        self._sock.close()
