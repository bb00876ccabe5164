"""File systems from or to which the kernel does not copy by itself: ZFS, GPFS, FUSE and others.

Reading and writing go on from the same byte (protocol.md, “Transfers”). The calls refuse by the
name of the file, see ``tests.support.disks``.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftpcluster.storage import local
from tests.support.dialogue import Dialogue
from tests.support.disks import go_bad
from tests.support.kinds import Running, running

CONTENT = os.urandom(3_000_000)
REFUSALS = ("EINVAL", "EOPNOTSUPP", "ENOSYS", "EXDEV")


@pytest.fixture(params=["cluster", "uvloop"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    """Knows of no device that refuses; in this process its calls are bad, too."""
    monkeypatch.setattr(local, "_cannot_copy", set())
    go_bad(monkeypatch.setattr)
    with running(request.param, tmp_path, server="tests.support.disks:Local") as made:
        yield made


def test_what_the_kernel_does_not_copy_is_read_and_written(server: Running) -> None:
    with Dialogue(server.port) as client:
        client.logs_in()
        for refusal in REFUSALS:
            local._cannot_copy.clear()  # of this process; a worker keeps in mind the first
            sent, stored = server.root / f"sendfile-{refusal}", server.root / f"splice-{refusal}"
            sent.write_bytes(CONTENT)
            assert client.downloads(f"RETR {sent.name}") == CONTENT
            client.says("REST 1000001", 350)
            assert client.downloads(f"RETR {sent.name}") == CONTENT[1000001:]
            client.uploads(f"STOR {stored.name}", CONTENT)
            assert stored.read_bytes() == CONTENT
            client.says("REST 2000000", 350)
            client.uploads(f"STOR {stored.name}", CONTENT[:500_000])
            assert (
                stored.read_bytes() == CONTENT[:2_000_000] + CONTENT[:500_000] + CONTENT[2_500_000:]
            )


class Calls:
    """Counts what a call is asked, and lets it fail from the first or a later one on."""

    def __init__(self, function: Any, code: int, good: int = 0) -> None:
        self.function, self.code, self.good, self.count = function, code, good, 0

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        if self.count > self.good:
            raise OSError(self.code, os.strerror(self.code))
        return self.function(*args)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(local, "_cannot_copy", set())
    with running("uvloop", tmp_path) as made:
        yield made


@pytest.mark.parametrize("good", [0, 1, 2])
def test_sendfile_that_is_refused_in_the_middle(
    library: Running, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    """And the next transfer from that device does not try it again."""
    (library.root / "file").write_bytes(CONTENT)
    calls = Calls(os.sendfile, errno.EINVAL, good)
    monkeypatch.setattr(os, "sendfile", calls)
    with Dialogue(library.port) as client:
        client.logs_in()
        assert client.downloads("RETR file") == CONTENT
        tried = calls.count
        assert client.downloads("RETR file") == CONTENT
        assert good < tried == calls.count


@pytest.mark.parametrize("good", [0, 1, 2, 5])
def test_splice_that_is_refused_in_the_middle(
    library: Running, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    """0, 2: nothing has been taken from the connection. 1, 5: the pipe holds what was."""
    calls = Calls(os.splice, errno.EINVAL, good)
    monkeypatch.setattr(os, "splice", calls)
    with Dialogue(library.port) as client:
        client.logs_in()
        client.uploads("STOR file", CONTENT)
        assert (library.root / "file").read_bytes() == CONTENT
        tried = calls.count
        client.uploads("STOR file", CONTENT)
        assert (library.root / "file").read_bytes() == CONTENT
        assert good < tried == calls.count


def test_a_file_that_says_eagain_is_not_asked_for_ever(
    library: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection takes something: whoever waits for that spins."""
    (library.root / "file").write_bytes(CONTENT)
    calls = Calls(os.sendfile, errno.EAGAIN)
    monkeypatch.setattr(os, "sendfile", calls)
    with Dialogue(library.port) as client:
        client.logs_in()
        assert client.downloads("RETR file") == CONTENT
        assert calls.count < 10


# ---------------------------------------------------------------------- files that change


def test_a_file_that_grows_is_sent_as_it_was_opened(server: Running) -> None:
    """As vsftpd and Pure-FTPd send it: its size was told in 150."""
    file = server.root / "file"
    file.write_bytes(CONTENT * 10)
    with Dialogue(server.port) as client:
        client.logs_in()
        with client.begins("RETR file", window=65536) as data:
            with file.open("ab") as growing:
                growing.write(b"more" * 100_000)
            received = b"".join(iter(lambda: data.recv(1 << 16), b""))
        client.expects(226)
        assert received == CONTENT * 10


@pytest.mark.parametrize("kind", ["in the kernel", "through memory"])
def test_a_file_that_shrinks_is_told(server: Running, kind: str) -> None:
    file = server.root / ("file" if kind == "in the kernel" else "sendfile-EINVAL")
    file.write_bytes(CONTENT * 10)
    with Dialogue(server.port) as client:
        client.logs_in()
        with client.begins(f"RETR {file.name}", window=65536) as data:
            os.truncate(file, 100_000)
            drained(data)
        client.expects(451)
        client.says("NOOP", 200)


def drained(data: socket.socket) -> None:
    while select.select((data,), (), (), 20)[0] and data.recv(1 << 20):
        pass


@pytest.mark.parametrize("file", ["/sys/kernel/mm/transparent_hugepage/enabled", "/proc/version"])
def test_files_whose_size_was_never_true(tmp_path: Path, file: str) -> None:
    """Of sysfs, with the size of a page: all of it is sent. Of proc, which say nothing: nothing."""
    if not os.access(file, os.R_OK):
        pytest.skip(f"there is no {file}")
    directory, name = os.path.split(file)
    text = f"[[user]]\nlogin = 'other'\npassword = 'plain:x'\nroot = '{directory}'\n"
    text += "permissions = [{ path = '/', write = false }]\n"
    with running("cluster", tmp_path, text=text) as server:
        with Dialogue(server.port) as client:
            client.logs_in("other", "x")
            received = client.downloads(f"RETR {name}")
            assert received == (Path(file).read_bytes() if directory != "/proc" else b"")
