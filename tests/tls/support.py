"""Servers with TLS of every kind and with any settings, and a client that looks closely."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftpcluster import Server, User
from ftpcluster.net.certificates import make_context
from tests.conftest import InProcess
from tests.support.cluster import Cluster, processor_time
from tests.support.dialogue import DEADLINE, Dialogue

KINDS = ("asyncio", "uvloop", "cluster")
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

_MODULE = """
import ftpcluster

class Mine(ftpcluster.Server):
    def __init__(self, users):
        super().__init__(users, **{settings!r})
"""


@dataclass
class Running:
    """A server to test against. ``port`` is that of implicit TLS where that was asked for."""

    port: int
    cluster: Cluster | None
    server: InProcess | None

    def reload(self) -> None:
        """Have it read its certificates again, and wait until it has."""
        if self.server is not None:
            self.server.call(self.server.server.reload_certificates)
        else:
            self.hang_up()

    def hang_up(self) -> str:
        """Send SIGHUP to a cluster; the line that says how that went."""
        assert self.cluster is not None
        return self.cluster.hang_up()

    def cpu(self) -> float:
        """Seconds of CPU that were spent by whoever serves clients."""
        if self.server is not None:
            spent: float = self.server.call(time.thread_time)
            return spent
        assert self.cluster is not None
        return sum(map(processor_time, self.cluster.workers()))

    @property
    def log(self) -> str:
        return "" if self.cluster is None else self.cluster.log


@contextlib.contextmanager
def serving(
    kind: str,
    root: Path,
    certificate: Path | None,
    directory: Path,
    *,
    implicit: bool = False,
    make: Callable[[], ssl.SSLContext] | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """A server of the given kind, with explicit or implicit TLS and a user who may write.

    ``make`` makes the contexts of a server in this process; a cluster has them from its flags.
    ``directory`` is for the module of a cluster whose settings have no flags.
    """
    if kind == "cluster":
        with _cluster(root, certificate, directory, implicit, settings) as running:
            yield running
        assert "Traceback" not in running.log, running.log
        return
    if make is None and certificate is not None:
        path = str(certificate)

        def make() -> ssl.SSLContext:
            return make_context(path, path)

    if make is not None:
        settings["ssl" if implicit else "tls"] = make
    users = [User("user", "12345", base_path=root)]
    server = InProcess(kind, lambda: Server(users, **settings))
    try:
        yield Running(server.port, None, server)
    finally:
        server.stop()


@contextlib.contextmanager
def _cluster(
    root: Path, certificate: Path | None, directory: Path, implicit: bool, settings: dict[str, Any]
) -> Iterator[Running]:
    arguments = ["--workers", "2", "--root", str(root), "--user", "user:12345", "--writable"]
    arguments += ["--host", "127.0.0.1"]
    if certificate is not None:
        arguments += ["--tls-cert", str(certificate)]
    if implicit:
        arguments += ["--implicit-tls-port", "0"]
    if settings.pop("require_tls", False):
        arguments += ["--require-tls"]
    env = {}
    if settings:
        (directory / "mine.py").write_text(_MODULE.format(settings=settings))
        arguments += ["--server", "mine:Mine"]
        env["PYTHONPATH"] = str(directory)
    with Cluster(*arguments, env=env) as cluster:
        match = re.search(r":(\d+) implicit TLS", cluster.log)
        assert (match is not None) is implicit
        yield Running(cluster.port if match is None else int(match[1]), cluster, None)


class Client(Dialogue):
    """A control connection, and what clients do with TLS."""

    def __init__(self, port: int, trusting: ssl.SSLContext, *, implicit: bool = False) -> None:
        super().__init__(port, greeting=None if implicit else 220)
        self.trusting = trusting
        if implicit:
            try:
                self.handshakes()
                self.expects(220)
            except BaseException:
                self.sock.close()
                raise

    def handshakes(self) -> None:
        """Begin TLS on the control connection."""
        self.sock = self.wraps(self.sock)

    def secures(self, mechanism: str = "TLS", *, protected: bool = False) -> None:
        """AUTH and the handshake; ``protected``: and log in, with protected data connections."""
        self.says(f"AUTH {mechanism}", 234)
        self.handshakes()
        if protected:
            self.logs_in()
            self.protects()

    def protects(self) -> None:
        self.says("PBSZ 0", 200)
        self.says("PROT P", 200)

    def wraps(self, plain: socket.socket, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """TLS as a client does it, on a connection of either kind."""
        return self.trusting.wrap_socket(
            plain, server_hostname="localhost", session=session, suppress_ragged_eofs=False
        )

    @property
    def tls(self) -> ssl.SSLSocket:
        """The control connection."""
        assert isinstance(self.sock, ssl.SSLSocket)
        return self.sock

    @property
    def certificate(self) -> bytes:
        """The one that the server has shown on the control connection."""
        found = self.tls.getpeercert(binary_form=True)
        assert found is not None
        return found

    def protected(self, command: str, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """Begin a transfer: its data connection, once 150 has come and TLS begun."""
        data = self.begins(command)
        try:
            return self.wraps(data, session)
        except BaseException:
            data.close()
            raise

    def fetches(self, command: str, session: ssl.SSLSession | None = None) -> bytes:
        """What RETR or a listing sends; its end must be said by close_notify, and 226."""
        with self.protected(command, session) as data:
            received = reads(data)
        self.expects(226)
        return received

    def stores(self, command: str, content: bytes, session: ssl.SSLSession | None = None) -> None:
        with self.protected(command, session) as data:
            data.sendall(content)
            data.unwrap().close()
        self.expects(226)

    def final(self) -> int:
        """The code of a command's final reply, whether 150 came before it or not."""
        code, _ = self.reply()
        return self.reply()[0] if code == 150 else code


def reads(data: ssl.SSLSocket) -> bytes:
    """All that comes before close_notify; SSLEOFError where none comes."""
    received = []
    with contextlib.suppress(ssl.SSLZeroReturnError):  # where this side has said its own before
        while block := data.recv(1 << 16):
            received.append(block)
    return b"".join(received)


def says_close_notify(sock: ssl.SSLSocket) -> None:
    """Send close_notify, and do not wait for the peer's."""
    sock.settimeout(0)
    with contextlib.suppress(ssl.SSLWantReadError):
        sock.unwrap()
    sock.settimeout(DEADLINE)


def plain(sock: ssl.SSLSocket) -> socket.socket:
    """The connection beneath TLS, which knows nothing of this."""
    found = socket.socket(sock.family, sock.type, fileno=sock.detach())
    found.settimeout(DEADLINE)
    return found


def hello(trusting: ssl.SSLContext) -> bytes:
    """The ClientHello that a client with this context sends."""
    outgoing = ssl.MemoryBIO()
    client = trusting.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def stays_silent(sock: socket.socket, seconds: float) -> None:
    """Nothing comes for so long, and not the end."""
    assert not select.select([sock], [], [], seconds)[0], sock.recv(4096)
