"""A storage of somebody's own, with all that clients do to files, over real sockets.

The storage is in ``tests/support/object_storage.py``; nothing in ``session/`` knows of it.
"""

from __future__ import annotations

import asyncio
import ftplib
import functools
import io
import os
from collections.abc import Callable

import pytest

from ftpcluster import User
from tests.conftest import InProcess
from tests.library.loops import on_both_loops
from tests.support.cluster import Cluster
from tests.support.core import serving
from tests.support.object_storage import Bucket, BucketServer, hooks_over

CONTENT = os.urandom(300_000)
TIMEOUT = 30.0


def connect(port: int) -> ftplib.FTP:
    client = ftplib.FTP(timeout=TIMEOUT)
    client.connect("127.0.0.1", port)
    client.login("user", "12345")
    return client


def store(client: ftplib.FTP, command: str, data: bytes, rest: int | None = None) -> None:
    client.storbinary(command, io.BytesIO(data), rest=rest)


def fetch(client: ftplib.FTP, command: str, rest: int | None = None) -> bytes:
    found: list[bytes] = []
    client.retrbinary(command, found.append, rest=rest)
    return b"".join(found)


def lines(client: ftplib.FTP, command: str) -> list[str]:
    found: list[str] = []
    client.retrlines(command, found.append)
    return found


def uploads_and_downloads(client: ftplib.FTP) -> None:
    store(client, "STOR file", CONTENT)
    assert fetch(client, "RETR file") == CONTENT
    assert fetch(client, "RETR file", rest=100_000) == CONTENT[100_000:]
    store(client, "STOR file", b"instead", rest=len(CONTENT) - 7)
    assert fetch(client, "RETR file") == CONTENT[:-7] + b"instead"
    store(client, "APPE file", b" and more")
    assert fetch(client, "RETR file") == CONTENT[:-7] + b"instead and more"
    store(client, "STOR file", b"short")  # replaces, and leaves nothing of what was longer
    assert fetch(client, "RETR file") == b"short"
    store(client, "STOR empty", b"")
    assert fetch(client, "RETR empty") == b""
    answer = client.storbinary("STOU", io.BytesIO(b"unique"))
    assert fetch(client, f"RETR {answer.rpartition(' ')[2]}") == b"unique"


def text_is_converted(client: ftplib.FTP) -> None:
    client.storlines("STOR text", io.BytesIO(b"one\ntwo\n"))
    assert lines(client, "RETR text") == ["one", "two"]
    assert fetch(client, "RETR text") == b"one\ntwo\n"


def listings(client: ftplib.FTP) -> None:
    client.mkd("listed")
    for number in range(5):
        store(client, f"STOR listed/f{number}", b"x" * number)
    client.mkd("listed/sub")
    names = [f"f{number}" for number in range(5)]
    assert sorted(client.nlst("listed")) == [f"listed/{each}" for each in [*names, "sub"]]
    shown = {line.split()[-1]: line for line in lines(client, "LIST listed")}
    assert sorted(shown) == [*names, "sub"]
    assert shown["sub"].startswith("d")
    assert shown["f4"].split()[4] == "4"
    facts = {name: each for name, each in client.mlsd("listed") if each["type"] in ("file", "dir")}
    assert sorted(facts) == [*names, "sub"]
    assert (facts["f3"]["type"], facts["f3"]["size"]) == ("file", "3")
    assert facts["sub"]["type"] == "dir"
    assert sorted(client.nlst("listed/f[12]")) == ["listed/f1", "listed/f2"]
    assert "size=4;" in client.sendcmd("MLST listed/f4").lower()


def names_and_directories(client: ftplib.FTP) -> None:
    client.mkd("a/b")
    assert client.cwd("a/b").startswith("250")
    store(client, "STOR here", b"content")
    assert client.size("here") == 7
    assert client.sendcmd("MDTM here")[:6] == "213 20"
    client.cwd("/")
    client.rename("a/b/here", "moved")
    assert fetch(client, "RETR moved") == b"content"
    with pytest.raises(ftplib.error_perm, match="550"):
        client.size("a/b/here")
    client.rename("a", "z")
    assert sorted(client.nlst("z")) == ["z/b"]
    with pytest.raises(ftplib.error_perm):
        client.rmd("z")  # it is not empty
    client.rmd("z/b")
    client.rmd("z")
    client.delete("moved")
    for command in ("SIZE moved", "CWD z", "DELE moved", "RMD z", "RNFR moved"):
        with pytest.raises(ftplib.error_perm, match="550"):
            client.sendcmd(command)
    with pytest.raises(ftplib.error_perm, match="550"):
        fetch(client, "RETR moved")
    assert client.sendcmd("AVBL") == f"213 {1 << 40}"
    with pytest.raises(ftplib.error_perm):
        client.sendcmd("SITE CHMOD 600 /")  # what a storage does not have is refused


EVERYTHING = (uploads_and_downloads, text_is_converted, listings, names_and_directories)


def does_everything(port: int) -> None:
    for part in EVERYTHING:
        with connect(port) as client:
            part(client)


@pytest.mark.parametrize("part", EVERYTHING, ids=lambda part: part.__name__)
@on_both_loops
async def test_over_the_core(part: Callable[[ftplib.FTP], None]) -> None:
    bucket = Bucket()
    async with serving(User(), hooks_for=functools.partial(hooks_over, bucket)) as port:

        def dialogue() -> None:
            with connect(port) as client:
                part(client)

        await asyncio.to_thread(dialogue)
    assert bucket.open_files == 0


@on_both_loops
async def test_an_upload_that_breaks_off_puts_nothing() -> None:
    bucket = Bucket()
    bucket.put("/file", b"old")
    async with serving(User(), hooks_for=functools.partial(hooks_over, bucket)) as port:

        def dialogue() -> None:
            with connect(port) as client:
                data = client.transfercmd("STOR file")
                data.sendall(b"begun")
                client.putcmd("ABOR")
                assert client.getmultiline()[:3] == "426"
                assert client.getmultiline()[:3] == "226"
                data.close()
                assert fetch(client, "RETR file") == b"old"

        await asyncio.to_thread(dialogue)
    assert bucket.open_files == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_through_the_library(loop: str) -> None:
    serving = InProcess(loop, BucketServer)
    try:
        does_everything(serving.port)
    finally:
        serving.stop()


def test_in_a_cluster() -> None:
    """Each worker has a bucket of its own here, so each part is one session's."""
    arguments = ("--workers", "2", "--user", "user:12345", "--writable")
    named = ("--server", "tests.support.object_storage:BucketServer")
    with Cluster(*arguments, *named) as cluster:
        does_everything(cluster.port)
