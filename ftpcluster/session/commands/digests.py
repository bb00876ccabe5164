"""Digests of files: HASH and RANG (draft-bryan-ftpext-hash), XCRC, XMD5, XSHA1, XSHA256.

They are computed by threads of their own, a piece at a time. Other sessions do not notice, ABOR
ends a digest, and no file is closed while a thread still reads it.
"""

from __future__ import annotations

import functools
import hashlib
import re
import zlib
from collections.abc import Callable
from typing import Protocol, cast

from ftpcluster.answers import settled
from ftpcluster.protocol.command import integer
from ftpcluster.protocol.errors import ArgumentProblem, FileUnavailable
from ftpcluster.protocol.listing import printable
from ftpcluster.protocol.quoting import QUOTED, unquoted
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.in_use import close_read, when_free
from ftpcluster.session.state import Session
from ftpcluster.storage.base import File

_PIECE = 4 << 20
"""Bytes that a thread reads and digests before it may go to another digest."""
_XRANGE = re.compile(r"(.*?)(?: (\d{1,19}))?(?: (\d{1,19}))?", re.ASCII | re.DOTALL)
_QUOTED = re.compile(QUOTED + r"(?: (\d{1,19}))?(?: (\d{1,19}))?", re.ASCII | re.DOTALL)


class Digest(Protocol):
    """The interface of hashlib's objects."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class _CRC32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


ALGORITHMS: dict[str, Callable[[], Digest]] = {
    "SHA-256": hashlib.sha256,
    "SHA-1": functools.partial(hashlib.sha1, usedforsecurity=False),
    "MD5": functools.partial(hashlib.md5, usedforsecurity=False),
    "CRC32": _CRC32,
}
DEFAULT = "SHA-256"


def hash_feature(chosen: str = DEFAULT) -> str:
    """FEAT's line, with a star at the algorithm that HASH uses."""
    return "HASH " + ";".join(name + "*" * (name == chosen) for name in ALGORITHMS)


def options(session: Session, value: str) -> Reply:
    """OPTS HASH: name the algorithm that HASH uses, or set it."""
    if value:
        if value.upper() not in ALGORITHMS:
            raise ArgumentProblem(f"The algorithms are {', '.join(ALGORITHMS)}.")
        session.parameters.hash_algorithm = value.upper()
    return Reply(Code.OK, session.parameters.hash_algorithm)


def rang(session: Session, argument: str) -> Reply:
    """RANG: the first and the last byte of the next HASH; ``1 0`` means the whole file again."""
    first, _, last = argument.partition(" ")
    start, end = integer(first), integer(last.lstrip(" ")) + 1
    if (start, end) == (1, 1):
        session.pending.hash_range = None
        return Reply(Code.PENDING_FURTHER_INFORMATION, "HASH looks at whole files.")
    if start >= end:
        raise ArgumentProblem("The last byte lies before the first.")
    session.pending.hash_range = (start, end)
    return Reply(Code.PENDING_FURTHER_INFORMATION, f"HASH looks at bytes {start} to {end - 1}.")


async def hash_(session: Session, argument: str) -> Reply:
    """HASH: algorithm, range, digest and name."""
    wanted, session.pending.hash_range = session.pending.hash_range, None
    start, end = wanted or (0, None)
    path = await settled(session.readable(argument))
    name = session.parameters.hash_algorithm
    digest, stop = await _digest(session, path, name, start, end)
    # an empty file has no last byte
    text = f"{name} {start}-{max(stop - 1, start)} {digest} {printable(argument)}"
    return Reply(Code.FILE_STATUS, text)


async def xcrc(session: Session, argument: str) -> Reply:
    return await _x(session, argument, "CRC32")


async def xmd5(session: Session, argument: str) -> Reply:
    return await _x(session, argument, "MD5")


async def xsha1(session: Session, argument: str) -> Reply:
    return await _x(session, argument, "SHA-1")


async def xsha256(session: Session, argument: str) -> Reply:
    return await _x(session, argument, "SHA-256")


async def _x(session: Session, argument: str, algorithm: str) -> Reply:
    """``XMD5 path``, ``XMD5 "path" start``, ``XMD5 "path" start end``: ``end`` is exclusive.

    Without quotes, numbers at the end are a range only where no file has the whole argument as its
    name.
    """
    match = _QUOTED.fullmatch(argument)
    if match is not None:
        path = await settled(session.readable(unquoted(match[1])))
    else:
        path = await settled(session.readable(argument))
        match = _XRANGE.fullmatch(argument)
        assert match is not None
        if match[2] and not await _exists(session, path):
            path = await settled(session.readable(match[1]))
        else:
            match = None
    start, end = (int(match[2] or 0), match[3]) if match else (0, None)
    digest, _ = await _digest(session, path, algorithm, start, None if end is None else int(end))
    return Reply(Code.FILE_ACTION_COMPLETED, digest.upper())


async def _exists(session: Session, path: str) -> bool:
    try:
        await settled(session.storage.stat(path))
    except FileNotFoundError:
        return False
    return True


async def _digest(
    session: Session, path: str, algorithm: str, start: int, end: int | None
) -> tuple[str, int]:
    """The digest of a file's bytes from ``start`` to before ``end``, and where it ended."""
    file = await settled(when_free(session, session.storage.open_reader, path))
    try:
        stop = file.size if end is None else min(end, file.size)
        if start > stop:
            raise FileUnavailable("The file is not that long.")
        most = session.settings.max_digest
        if most is not None and stop - start > most:
            raise FileUnavailable(f"At most {most} bytes are looked at; use a range.")
        await settled(file.seek(start))
        digest = ALGORITHMS[algorithm]()
        rest = stop - start
        while rest:
            count = await _digest_piece(session, file, digest, min(rest, _PIECE))
            if not count:
                raise FileUnavailable("The file became shorter meanwhile.")
            rest -= count
            session.progress += count
    finally:
        await settled(close_read(session, file))
    return digest.hexdigest(), stop


async def _digest_piece(session: Session, file: File, digest: Digest, count: int) -> int:
    threads, user = session.services.digests, session.account.user.login or ""
    if file.is_synchronous:
        return await threads.run(user, _read_and_digest, file, digest, count)
    data = await settled(file.read(count))
    await threads.run(user, digest.update, data)
    return len(data)


def _read_and_digest(file: File, digest: Digest, count: int) -> int:
    data = cast(bytes, file.read(count))  # a file of plain functions
    digest.update(data)
    return len(data)
