"""Files over the data connection: RETR, STOR, STOU, APPE, REST, ABOR (RFC 959 section 4.1.3).

Also ALLO and AVBL (draft-peterson-streamlined-ftp-command-extensions), which ask for room.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable

from ftpcluster.answers import Answer, settled, then
from ftpcluster.protocol.command import integer
from ftpcluster.protocol.errors import (
    AllocationExceeded,
    ArgumentProblem,
    BadSequence,
    FileUnavailable,
    InsufficientStorage,
    InvalidRest,
    NoDataConnection,
)
from ftpcluster.protocol.listing import printable
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.commands.write_only import HidingNames, hidden, is_write_only, remember
from ftpcluster.session.download import Download
from ftpcluster.session.in_use import close_read, when_free
from ftpcluster.session.small_download import accept_for_small, send_small
from ftpcluster.session.small_upload import receive_new
from ftpcluster.session.state import Session
from ftpcluster.session.upload import Upload, finish
from ftpcluster.storage.base import File, WriteMode
from ftpcluster.storage.uploads import check_new_name

_COMPLETE = Reply(Code.TRANSFER_COMPLETE, "Transfer complete.")
_ALLOCATED = Reply(Code.OK, "There is room.")
_NO_NEED_TO_ALLOCATE = Reply(Code.OK, "No storage allocation is necessary.")
_ALLO = re.compile(r"(\d+)(?: +R +\d+)?", re.ASCII | re.IGNORECASE)
_LARGEST = 2**63 - 1
"""Bytes that a file can have at most, whatever the file system."""
_UNIQUE_ATTEMPTS = 16
_NOTHING_TO_ABORT = Reply(Code.TRANSFER_COMPLETE, "ABOR successful; no transfer in progress.")


def retr(session: Session, argument: str) -> Answer[Reply]:
    """RETR: download a regular file, from where REST said."""
    pending = session.pending
    offset, pending.restart = pending.restart, 0
    path = session.readable(argument)
    if type(path) is str:  # as ``then`` does, without its cost
        return _retrieve(path, session, offset)
    return then(path, _retrieve, session, offset)


def _retrieve(path: str, session: Session, offset: int) -> Answer[Reply]:
    file = when_free(session, session.account.storage.now().open_reader, path)
    if not hasattr(file, "__await__"):  # as ``then`` does, without its cost
        return _send(file, session, path, offset)
    return then(file, _send, session, path, offset)


def _send(file: File, session: Session, path: str, offset: int) -> Answer[Reply]:
    text = _opening(session, path, file.size)
    try:
        fd = None if offset else accept_for_small(session, file)
        if fd is None:
            rest = _send_at_once(file, session, text, path, offset)
        else:
            rest = send_small(session, fd, file, text, path)
    except BaseException:
        close_read(session, file)
        raise
    if rest is not None:
        return _send_in_time(file, session, rest, offset)
    close_read(session, file)
    return _COMPLETE


def _send_at_once(
    file: File, session: Session, text: str, path: str, offset: int
) -> Download | None:
    """Send a file, where nothing has to wait; else the Download that has to go on."""
    download = Download(session, text, file.size - offset, path)
    if not file.is_synchronous or offset > file.size:
        return download
    return None if download.send_file_at_once(file, offset) else download


async def _send_in_time(file: File, session: Session, download: Download, offset: int) -> Reply:
    """Send a file that could not be sent at once, or the rest of it."""
    try:
        if offset > file.size:
            raise InvalidRest
        if offset and not download.has_begun:  # a begun one reads at offsets
            await settled(file.seek(offset))
        async with download:
            await download.send_file(file, offset)
    finally:
        await settled(close_read(session, file))
    return _COMPLETE


def stor(session: Session, argument: str) -> Answer[Reply]:
    """STOR: upload; with REST into a file that exists, from that offset on."""
    pending = session.pending
    offset, pending.restart = pending.restart, 0
    mode = WriteMode.RESUME if offset else WriteMode.TRUNCATE
    path = session.writable(argument)
    if type(path) is str:
        return _store(path, session, mode, offset)
    return then(path, _store, session, mode, offset)


def appe(session: Session, argument: str) -> Answer[Reply]:
    """APPE: upload to the end of a file; after REST it writes where STOR would."""
    offset = session.take_restart()
    mode = WriteMode.RESUME if offset else WriteMode.APPEND
    return then(session.writable(argument), _store, session, mode, offset)


def _store(path: str, session: Session, mode: WriteMode, offset: int) -> Answer[Reply]:
    check_new_name(path)
    write_only = is_write_only(session, path)
    if type(write_only) is bool:  # as ``then`` does, without its cost
        return _open_and_receive(write_only, session, path, mode, offset)
    return then(write_only, _open_and_receive, session, path, mode, offset)


def _open_and_receive(
    write_only: bool,  # noqa: FBT001 (an answer)
    session: Session,
    path: str,
    mode: WriteMode,
    offset: int,
) -> Answer[Reply]:
    if offset and write_only:
        raise FileUnavailable("Permission denied: only a readable file can be resumed.")
    if session.data is None:  # as ``_check_data``, without its call
        _check_data(session)
    try:
        file = _open(session, path, mode)
    except OSError as error:
        raise hidden(error, write_only=write_only) from None
    text = _opening(session, path)
    if not hasattr(file, "__await__"):
        if mode is WriteMode.TRUNCATE:
            receiving = receive_new(session, file, text, path)
            return _remembered(receiving, session, path) if write_only else receiving
        upload = Upload(session, text, path=path)
        return _receive(file, session, upload, mode, offset, write_only=write_only)
    upload = Upload(session, text, path=path)
    return _receive_when_open(file, session, upload, mode, offset, write_only=write_only)


async def _receive_when_open(
    opening: Awaitable[File],
    session: Session,
    upload: Upload,
    mode: WriteMode,
    offset: int,
    *,
    write_only: bool,
) -> Reply:
    try:
        file = await opening
    except OSError as error:
        raise hidden(error, write_only=write_only) from None
    return await _receive(file, session, upload, mode, offset, write_only=write_only)


async def _remembered(receiving: Awaitable[Reply], session: Session, path: str) -> Reply:
    reply = await receiving
    remember(session, path)
    return reply


async def _receive(
    file: File, session: Session, upload: Upload, mode: WriteMode, offset: int, *, write_only: bool
) -> Reply:
    """A coroutine in any case: clients send nothing before they have read 150."""
    try:
        if offset > file.size:
            raise InvalidRest
        if offset:
            await settled(file.seek(offset))
        await upload.receive_all(file, truncates=mode is WriteMode.TRUNCATE)
        # a storage may say only here that it cannot keep the file: 226 after it
        if (finishing := finish(session, file)) is not None:
            await finishing
    finally:
        if (closing := file.close()) is not None:
            await closing
    if write_only:
        remember(session, upload.path)
    return _COMPLETE


async def stou(session: Session, argument: str) -> Reply:
    """STOU: upload to an unused name, which 150 contains (RFC 1123 section 4.1.2.9)."""
    if session.take_restart():
        raise BadSequence("STOU begins at the beginning; REST is not for it.")
    check_new_name(argument)
    _check_data(session)
    for _ in range(_UNIQUE_ATTEMPTS):
        name = f"{argument or 'file'}.{secrets.token_hex(4)}"
        path = await settled(session.writable(name))
        write_only = await settled(is_write_only(session, path))
        with HidingNames(write_only=write_only):
            try:
                file = await settled(_open(session, path, WriteMode.CREATE))
                break
            except FileExistsError:
                continue
    else:
        raise FileUnavailable("No unique name was found.")
    name, came = printable(name), False
    try:
        async with Upload(session, f"FILE: {name}", path=path) as upload:
            came = True
            await upload.receive_file(file, truncates=False)
        await settled(finish(session, file))
    finally:
        await settled(file.close())
        # no data connection came, or the client left before: the empty file goes
        if not came and not session.settings.atomic_uploads:
            await settled(session.storage.unlink(path))
    if write_only:
        remember(session, path)
    return Reply(Code.TRANSFER_COMPLETE, f"Transfer complete; unique file name: {name}")


def _open(session: Session, path: str, mode: WriteMode) -> Answer[File]:
    settings = session.settings
    return when_free(
        session,
        session.account.storage.now().open_writer,
        path,
        mode,
        atomic=settings.atomic_uploads,
        durable=settings.durable_uploads,
    )


async def allo(session: Session, argument: str) -> Reply:
    """ALLO sets nothing aside, but refuses more than there is room for before the upload."""
    match = _ALLO.fullmatch(argument)
    if match is None:
        raise ArgumentProblem("Expected a number of bytes.")
    count = int(match[1])
    if count > _LARGEST:
        raise AllocationExceeded
    path = await settled(session.readable(""))
    available = await settled(session.storage.available(path))
    if available is None:
        return _NO_NEED_TO_ALLOCATE
    if count > available:
        raise InsufficientStorage
    return _ALLOCATED


async def avbl(session: Session, argument: str) -> Reply:
    """AVBL: bytes that may be written in a directory."""
    path = await settled(session.readable(argument))
    available = await settled(session.storage.available(path))
    if available is None:
        raise FileUnavailable("Nobody knows how much room there is.")
    return Reply(Code.FILE_STATUS, str(available))


def _check_data(session: Session) -> None:
    """Refuse an upload without a data connection before opening the file creates it."""
    if session.data is None:
        raise NoDataConnection("Use PASV or EPSV first.")


def _opening(session: Session, path: str, size: int | None = None) -> str:
    kind = "BINARY" if session.parameters.binary else "ASCII"
    name = path.rpartition("/")[2]
    if not name.isprintable():
        name = printable(name)
    count = f" ({size} bytes)" if size is not None else ""
    return f"Opening {kind} mode data connection for {name}{count}."


def rest(session: Session, argument: str) -> Reply:
    """REST: the offset of the next transfer (RFC 3659 section 5)."""
    offset = integer(argument)
    if offset and not session.parameters.binary:  # 0 is the beginning in any type
        raise ArgumentProblem("REST needs TYPE I.")
    session.pending.restart = offset
    return Reply(Code.PENDING_FURTHER_INFORMATION, f"Restarting at {offset}.")


def abor(session: Session, _: str) -> Reply:
    """ABOR when no transfer runs (any more): drop a data connection that was prepared."""
    session.drop_data()
    return _NOTHING_TO_ABORT
