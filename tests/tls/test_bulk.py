"""Large protected transfers: one buffer for all downloads, and uploads that gather records."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftpcluster.session import download
from ftpcluster.storage.local_file import LocalFile
from tests.support.dialogue import DEADLINE, reset
from tests.tls.conftest import Files
from tests.tls.support import V12, V13, Client, Running, reads, serving

CONTENT = os.urandom(6_000_000)
WINDOW = 16 * 1024


@pytest.fixture
def running(root: Path, files: Files, tmp_path: Path) -> Iterator[Running]:
    with serving("uvloop", root, files.server, tmp_path) as running:
        yield running


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_one_that_waits_keeps_nothing_in_the_buffer_of_all(
    running: Running, root: Path, trusting: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """What TLS wants again is read again: meanwhile the buffer is others'."""
    trusting.minimum_version = trusting.maximum_version = version
    other = os.urandom(1_000_000)
    (root / "file").write_bytes(CONTENT)
    (root / "other").write_bytes(other)
    with Client(running.port, trusting) as slow, Client(running.port, trusting) as quick:
        for client in (slow, quick):
            client.secures(protected=True)
        with slow.wraps(slow.passive(window=WINDOW)) as data:
            slow.says("RETR file", 150)
            for _ in range(3):
                with quick.wraps(quick.passive()) as its_own:
                    quick.says("RETR other", 150)
                    assert reads(its_own) == other
                quick.expects(226)
            assert reads(data) == CONTENT
        slow.expects(226)


def test_downloads_read_into_one_buffer(
    running: Running, root: Path, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that does not read costs its connection, and no block of the file."""
    (root / "file").write_bytes(CONTENT)
    buffers: list[memoryview] = []
    preadv = os.preadv

    def noted(fd: int, into: tuple[memoryview], offset: int, flags: int = 0) -> int:
        if flags == 0:
            buffers.append(into[0])
        return preadv(fd, into, offset, flags)

    def never(*_: object) -> bytes:
        raise AssertionError("read into memory of its own")

    monkeypatch.setattr(os, "preadv", noted)
    monkeypatch.setattr(LocalFile, "read", never)
    with Client(running.port, trusting) as client:
        client.secures(protected=True)
        with client.wraps(client.passive()) as data:
            client.says("RETR file", 150)
            assert reads(data) == CONTENT
        client.expects(226)
    assert buffers
    assert all(each.obj is download._buffer.obj for each in buffers)


def test_a_file_that_shrinks_while_its_client_is_waited_for_is_451(
    running: Running, root: Path, trusting: ssl.SSLContext
) -> None:
    (root / "file").write_bytes(CONTENT * 4)  # more than all buffers on the way take
    with Client(running.port, trusting) as client:
        client.secures(protected=True)
        with client.wraps(client.passive(window=WINDOW)) as data:
            client.says("RETR file", 150)
            os.truncate(root / "file", 100)
            with contextlib.suppress(OSError):  # it is cut
                while data.recv(1 << 16):
                    pass
        assert "became shorter" in client.expects(451)


def test_an_upload_writes_what_has_come_with_one_call(
    running: Running, root: Path, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = LocalFile.write

    def noted(self: LocalFile, data: bytes | memoryview) -> None:
        written.append(len(data))
        write(self, data)

    monkeypatch.setattr(LocalFile, "write", noted)
    with Client(running.port, trusting) as client:
        client.secures(protected=True)
        with client.wraps(client.passive()) as data:
            data.settimeout(DEADLINE)
            client.says("NOOP", 200)
            data.sendall(CONTENT[:100_000])  # seven records, before they are asked for
            client.says("STOR file", 150)
            data.unwrap()
        client.expects(226)
    assert (root / "file").read_bytes() == CONTENT[:100_000]
    assert len(written) <= 3, written


@pytest.mark.parametrize("end", ["close_notify", "FIN", "reset"])
def test_what_ends_an_upload_is_told_behind_what_has_come(
    running: Running, root: Path, trusting: ssl.SSLContext, end: str
) -> None:
    """Records and end are there at once, when the upload begins."""
    with Client(running.port, trusting) as client:
        client.secures(protected=True)
        with client.wraps(client.passive()) as data:
            data.sendall(CONTENT[:100_000])
            if end == "close_notify":
                with contextlib.suppress(OSError):
                    data.settimeout(0)
                    data.unwrap()
            elif end == "FIN":
                data.shutdown(socket.SHUT_WR)
            else:
                reset(data)
            client.says("STOR file", 150)
            client.expects(426 if end == "reset" else 226)
    if end != "reset":
        assert (root / "file").read_bytes() == CONTENT[:100_000]
