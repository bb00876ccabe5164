"""A download's data connection outlives our end of it, for the client to end its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Iterator
from ftplib import FTP_TLS
from pathlib import Path

import pytest
import uvloop

from ftpcluster.session import lingering
from tests.support.cluster import open_files, until
from tests.tls.conftest import Files, Shared
from tests.tls.support import Running, serving

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@contextlib.contextmanager
def protected(port: int, context: ssl.SSLContext, source: str | None = None) -> Iterator[FTP_TLS]:
    come_from = None if source is None else (source, 0)
    with FTP_TLS(context=context) as client:
        client.connect("localhost", port, timeout=20, source_address=come_from)
        client.login("user", "12345")
        client.prot_p()
        client.voidcmd("TYPE I")
        yield client


async def reads(client: FTP_TLS, command: str, context: ssl.SSLContext) -> bytes:
    """What a client of the loop's own TLS gets, as any program on asyncio has it."""
    host, port = client.makepasv()
    reader, writer = await asyncio.open_connection(
        host, port, ssl=context, server_hostname="localhost"
    )
    await asyncio.to_thread(client.sendcmd, command)
    received = bytearray()
    while block := await reader.read(1 << 16):
        received += block
    writer.close()
    await asyncio.to_thread(client.voidresp)
    return bytes(received)


@VERSIONS
def test_a_client_on_uvloop_gets_all_of_a_download(
    shared: Shared, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """At a FIN its transport throws away what it has not read yet, and reports no error."""
    content = os.urandom(1 << 20)
    (shared.root / "file").write_bytes(content)
    trusting.minimum_version = trusting.maximum_version = version
    with (
        protected(shared.port, trusting) as client,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        for _ in range(10):
            assert runner.run(reads(client, "RETR file", trusting)) == content


@pytest.mark.parametrize("command", ["LIST directory", "NLST directory", "MLSD directory"])
def test_a_client_on_uvloop_gets_all_of_a_listing(
    shared: Shared, trusting: ssl.SSLContext, command: str
) -> None:
    directory = shared.root / "directory"
    directory.mkdir(exist_ok=True)
    for number in range(4000):
        (directory / f"{number:04d}{'x' * 200}").touch()
    with (
        protected(shared.port, trusting) as client,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        for _ in range(5):
            assert runner.run(reads(client, command, trusting)).count(b"\r\n") == 4000


def sockets(pids: list[int]) -> int:
    return sum(name.startswith("socket:") for pid in pids for name in open_files(pid))


def pids(running: Running) -> list[int]:
    return [os.getpid()] if running.cluster is None else running.cluster.workers()


@pytest.mark.parametrize("does", ["unwraps", "closes", "waits for the end"])
def test_nothing_is_held_for_longer_than_the_client_takes(
    shared: Shared, trusting: ssl.SSLContext, does: str
) -> None:
    (shared.root / "small").write_bytes(b"content")
    with protected(shared.port, trusting) as client:
        for _ in range(33):  # as many listeners as stay open for what comes
            client.retrlines("NLST", [].append)
        before = until(lambda: sockets(pids(shared.running)))
        began = time.monotonic()
        for _ in range(1 if does == "waits for the end" else 30):
            with client.transfercmd("RETR small") as data:
                assert isinstance(data, ssl.SSLSocket)
                assert data.recv(100) == b"content"
                assert data.recv(1) == b""
                client.voidresp()
                if does == "unwraps":
                    plain = data.unwrap()
                    assert plain.recv(1) == b""  # its answer to ours
                    plain.close()
                elif does == "waits for the end":
                    beneath = socket.socket(fileno=os.dup(data.fileno()))
                    beneath.settimeout(20)
                    with beneath:
                        assert beneath.recv(1) == b""
        assert time.monotonic() - began < 20
        until(lambda: sockets(pids(shared.running)) <= before)


def test_only_so_many_are_held(
    root: Path,
    files: Files,
    trusting: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lingering, "_MOST", 3)
    monkeypatch.setattr(lingering, "_PATIENCE", 3600.0)
    (root / "small").write_bytes(b"content")
    with (
        serving("uvloop", root, files.server, tmp_path) as running,
        protected(running.port, trusting) as client,
        contextlib.ExitStack() as stack,
    ):
        held = []
        for _ in range(5):
            held.append(stack.enter_context(client.transfercmd("RETR small")))
            assert held[-1].recv(100) == b"content"
            client.voidresp()
        assert running.server is not None
        services = running.server.server._services
        assert services is not None
        assert len(services.lingering) == 3
        for data in held[:2]:
            assert data.recv(1) == b""
            beneath = socket.socket(fileno=os.dup(data.fileno()))
            beneath.settimeout(20)
            with beneath:
                assert beneath.recv(1) == b""


def test_who_holds_most_of_them_ends_nobody_else_s(
    root: Path,
    files: Files,
    trusting: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lingering, "_MOST", 4)
    monkeypatch.setattr(lingering, "_PATIENCE", 3600.0)
    (root / "small").write_bytes(b"content")
    with (
        serving("uvloop", root, files.server, tmp_path) as running,
        protected(running.port, trusting) as victim,
        protected(running.port, trusting, "127.0.0.7") as greedy,
        contextlib.ExitStack() as stack,
    ):

        def fetches(client: FTP_TLS) -> socket.socket:
            data = stack.enter_context(client.transfercmd("RETR small"))
            assert data.recv(100) == b"content"
            client.voidresp()
            return data

        slow = fetches(victim)
        for _ in range(12):
            fetches(greedy)
        assert slow.recv(1) == b""  # close_notify, which came before
        with socket.socket(fileno=os.dup(slow.fileno())) as beneath:
            beneath.settimeout(0)
            with pytest.raises(BlockingIOError):
                beneath.recv(1)


@VERSIONS
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
