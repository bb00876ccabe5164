"""Attempts on the ends of transfers, where a client and a server may not mean the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from pathlib import Path

import uvloop

from tests.peers.target import TAKEN, UNKNOWN, Broken, Client, Lacking, Target

OFTEN = 20


def uploads_in_haste(target: Target) -> None:
    """“reads 150, sends a small file, closes data and control connections at once”: it is whole"""
    path = target.root / "file"
    for size in (20_000, 1_000_000):
        for _ in range(OFTEN):
            content = os.urandom(size)
            path.write_bytes(b"what was there before")
            with target.session() as client, client.passive() as data:
                if client.asks("STOR file")[0] not in TAKEN:
                    raise Broken("STOR is refused")
                data.sendall(content)
                data.close()
            if not becomes(path, content, target.patience):
                raise Broken("a file is not whole, and what was there before is gone")


def becomes(path: Path, content: bytes, seconds: float) -> bool:
    """Whether a file has such a content within so long."""
    end = time.monotonic() + seconds
    while path.read_bytes() != content:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


DOWNLOADS = 20


def protected_downloads(target: Target) -> None:
    """“an asyncio client on uvloop loses the end of protected downloads”"""
    content = os.urandom(1 << 20)
    (target.root / "file").write_bytes(content)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with Client(target.port) as client:
        if client.asks("AUTH TLS")[0] in UNKNOWN:
            raise Lacking("has no AUTH TLS")
        client.sock = context.wrap_socket(client.sock)
        client.logs_in()
        client.says("PBSZ 0", 200)
        client.says("PROT P", 200)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for _ in range(DOWNLOADS):
                received = runner.run(downloads(client, context))
                if client.final() != 226:
                    raise Broken("a download fails")
                if received != content:
                    raise Broken("a download that is said to be complete ends too soon")


async def downloads(client: Client, context: ssl.SSLContext) -> bytes:
    """What a client of the loop's own TLS gets, as any program on asyncio has it."""
    port = client.epsv()
    begun = asyncio.create_task(asyncio.open_connection("127.0.0.1", port, ssl=context))
    code, _ = await asyncio.to_thread(client.asks, "RETR file")
    reader, writer = await begun
    if code not in TAKEN:
        raise Broken("RETR is refused")
    received = b""
    with contextlib.suppress(ConnectionError):  # which is an end, too
        while block := await reader.read(1 << 16):
            received += block
    writer.close()
    return received
