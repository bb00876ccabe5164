"""Files over the data connection: RETR, STOR, STOU, APPE, REST, ABOR (RFC 959 section 4.1.3).

And what asks for room before: ALLO, and AVBL (draft-peterson-streamlined-ftp-command-extensions).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Coroutine
from typing import Any

from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.command import integer
from ftpcluster.protocol.errors import (
    ArgumentProblem,
    BadSequence,
    FileUnavailable,
    InsufficientStorage,
    InvalidRest,
    NoDataConnection,
)
from ftpcluster.protocol.listing import printable
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.commands.writeonly import HidingNames, hidden, is_write_only, remember
from ftpcluster.session.run import wait_out
from ftpcluster.session.server_dtp import Download, Upload
from ftpcluster.session.state import Session
from ftpcluster.storage.base import File, WriteMode
from ftpcluster.storage.local import LocalFile
from ftpcluster.storage.uploads import check_new_name

_COMPLETE = Reply(Code.TRANSFER_COMPLETE, "Transfer complete.")
_ALLOCATED = Reply(Code.OK, "There is room.")
_NO_NEED_TO_ALLOCATE = Reply(Code.SUPERFLUOUS, "No storage allocation is necessary.")
_ALLO = re.compile(r"(\d+)(?: R \d+)?", re.ASCII | re.IGNORECASE)
_UNIQUE_ATTEMPTS = 16
_NOTHING_TO_ABORT = Reply(Code.TRANSFER_COMPLETE, "ABOR successful; no transfer in progress.")


async def retr(session: Session, argument: str) -> Reply:
    """RETR: download a regular file, from where REST said."""
    offset = session.take_restart()
    path = await session.readable(argument)
    file = await session.storage.open_reader(path)
    try:
        if offset > file.size:
            raise InvalidRest
        if offset:
            await file.seek(offset)
        opening = _opening(session, path, file.size)
        async with Download(session, opening, file.size - offset) as download:
            download.path = path
            await download.send_file(file)
    finally:
        await file.close()
    return _COMPLETE


async def stor(session: Session, argument: str) -> Reply:
    """STOR: upload; with REST into a file that exists, from that offset on."""
    offset = session.take_restart()
    mode = WriteMode.RESUME if offset else WriteMode.TRUNCATE
    return await _store(session, await session.writable(argument), mode, offset)


async def appe(session: Session, argument: str) -> Reply:
    """APPE: upload to the end of a file; after REST it writes where STOR would."""
    offset = session.take_restart()
    mode = WriteMode.RESUME if offset else WriteMode.APPEND
    return await _store(session, await session.writable(argument), mode, offset)


async def _store(session: Session, path: str, mode: WriteMode, offset: int) -> Reply:
    check_new_name(path)
    write_only = await is_write_only(session, path)
    if offset and write_only:
        raise FileUnavailable("Permission denied: only what may be read can be gone on with.")
    _check_data(session)
    try:
        file = await _open(session, path, mode)
    except OSError as error:
        raise hidden(error, write_only=write_only) from None
    try:
        if offset > file.size:
            raise InvalidRest
        if offset:
            await file.seek(offset)
        async with Upload(session, _opening(session, path)) as upload:
            upload.path = path
            if mode is WriteMode.TRUNCATE:
                await file.truncate()  # not before: where no data comes, nothing is lost
            await upload.receive_file(file)
        await _finish(session, file)  # what cannot be stored may be said only here: 226 after it
    finally:
        await file.close()
    if write_only:
        remember(session, path)
    return _COMPLETE


async def stou(session: Session, argument: str) -> Reply:
    """STOU: upload to a name that nothing has; 150 tells it (RFC 1123 section 4.1.2.9)."""
    if session.take_restart():
        raise BadSequence("STOU begins at the beginning; REST is not for it.")
    check_new_name(argument)
    _check_data(session)
    for _ in range(_UNIQUE_ATTEMPTS):
        name = f"{argument or 'file'}.{secrets.token_hex(4)}"
        path = await session.writable(name)
        write_only = await is_write_only(session, path)
        with HidingNames(write_only=write_only):
            try:
                file = await _open(session, path, WriteMode.CREATE)
                break
            except FileExistsError:
                continue
    else:
        raise FileUnavailable("No unique name was found.")
    name, came = printable(name), False
    try:
        async with Upload(session, f"FILE: {name}") as upload:
            came = True
            upload.path = path
            await upload.receive_file(file)
        await _finish(session, file)
    finally:
        await file.close()
        # whether it took too long, or the client did not wait
        if not came and not session.settings.atomic_uploads:
            await session.storage.unlink(path)
    if write_only:
        remember(session, path)
    return Reply(Code.TRANSFER_COMPLETE, f"Transfer complete; unique file name: {name}")


def _open(session: Session, path: str, mode: WriteMode) -> Coroutine[Any, Any, File]:
    settings = session.settings
    return session.storage.open_writer(
        path, mode, atomic=settings.atomic_uploads, durable=settings.durable_uploads
    )


def _finish(session: Session, file: File) -> Coroutine[Any, Any, None]:
    """All was received: what has to succeed before 226."""
    if session.settings.durable_uploads and isinstance(file, LocalFile):
        return _finish_in_pool(session, file)
    return file.finish()


async def _finish_in_pool(session: Session, file: LocalFile) -> None:
    """Nobody else waits for the disk. For ABOR it is too late: the file is stored, or it is not."""
    services = session.services
    work = services.loop.run_in_executor(services.pool, file.finish_now)
    await wait_out(work)
    work.result()


async def allo(session: Session, argument: str) -> Reply:
    """ALLO: nothing is set aside, but who wants more than there is hears it before the upload."""
    match = _ALLO.fullmatch(argument)
    if match is None:
        raise ArgumentProblem("Expected a number of bytes.")
    available = await session.storage.available(await session.readable(""))
    if available is None:
        return _NO_NEED_TO_ALLOCATE
    if integer(match[1]) > available:
        raise InsufficientStorage
    return _ALLOCATED


async def avbl(session: Session, argument: str) -> Reply:
    """AVBL: bytes that may be written in a folder."""
    available = await session.storage.available(await session.readable(argument))
    if available is None:
        raise FileUnavailable("Nobody knows how much room there is.")
    return Reply(Code.FILE_STATUS, str(available))


def _check_data(session: Session) -> None:
    """Before a file is opened, which creates it."""
    if session.data is None:
        raise NoDataConnection("Use PASV or EPSV first.")


def _opening(session: Session, path: str, size: int | None = None) -> str:
    kind = "BINARY" if session.parameters.binary else "ASCII"
    count = f" ({size} bytes)" if size is not None else ""
    return f"Opening {kind} mode data connection for {printable(virtual.name(path))}{count}."


def rest(session: Session, argument: str) -> Reply:
    """REST: the offset of the next transfer (RFC 3659 section 5)."""
    offset = integer(argument)
    if not session.parameters.binary:
        raise ArgumentProblem("REST needs TYPE I.")
    session.pending.restart = offset
    return Reply(Code.PENDING_FURTHER_INFORMATION, f"Restarting at {offset}.")


def abor(session: Session, _: str) -> Reply:
    """ABOR when no transfer runs (any more): a data connection that was prepared goes."""
    session.drop_data()
    return _NOTHING_TO_ABORT
