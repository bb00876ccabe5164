"""Files over the data connection: RETR, STOR, APPE, REST, ABOR (RFC 959 section 4.1.3)."""

from __future__ import annotations

from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.command import integer
from ftpcluster.protocol.errors import ArgumentProblem, InvalidRest, NoDataConnection
from ftpcluster.protocol.listing import printable
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.server_dtp import Download, Upload
from ftpcluster.session.state import Session
from ftpcluster.storage.base import WriteMode

_COMPLETE = Reply(Code.TRANSFER_COMPLETE, "Transfer complete.")
_NOTHING_TO_ABORT = Reply(Code.TRANSFER_COMPLETE, "ABOR successful; no transfer in progress.")


async def retr(session: Session, argument: str) -> Reply:
    """RETR: download a regular file, from where REST said."""
    offset = session.take_restart()
    path = session.readable(argument)
    file = await session.storage.open_reader(path)
    try:
        if offset > file.size:
            raise InvalidRest
        if offset:
            await file.seek(offset)
        async with Download(session, _opening(session, path, file.size)) as download:
            await download.send_file(file)
    finally:
        await file.close()
    return _COMPLETE


async def stor(session: Session, argument: str) -> Reply:
    """STOR: upload; with REST into a file that exists, from that offset on."""
    offset = session.take_restart()
    mode = WriteMode.RESUME if offset else WriteMode.TRUNCATE
    return await _store(session, session.writable(argument), mode, offset)


async def appe(session: Session, argument: str) -> Reply:
    """APPE: upload to the end of a file; after REST it writes where STOR would."""
    offset = session.take_restart()
    mode = WriteMode.RESUME if offset else WriteMode.APPEND
    return await _store(session, session.writable(argument), mode, offset)


async def _store(session: Session, path: str, mode: WriteMode, offset: int) -> Reply:
    if session.data is None:
        raise NoDataConnection("Use PASV or EPSV first.")
    file = await session.storage.open_writer(path, mode)
    try:
        if offset > file.size:
            raise InvalidRest
        if offset:
            await file.seek(offset)
        async with Upload(session, _opening(session, path)) as upload:
            if mode is WriteMode.TRUNCATE:
                await file.truncate()  # not before: where no data comes, nothing is lost
            await upload.receive_file(file)
        await file.finish()  # what cannot be stored may be said only here: no 226 before it
    finally:
        await file.close()
    return _COMPLETE


def _opening(session: Session, path: str, size: int | None = None) -> str:
    kind = "BINARY" if session.binary else "ASCII"
    count = f" ({size} bytes)" if size is not None else ""
    return f"Opening {kind} mode data connection for {printable(virtual.name(path))}{count}."


def rest(session: Session, argument: str) -> Reply:
    """REST: the offset of the next transfer (RFC 3659 section 5)."""
    offset = integer(argument)
    if not session.binary:
        raise ArgumentProblem("REST needs TYPE I.")
    session.restart = offset
    return Reply(Code.PENDING_FURTHER_INFORMATION, f"Restarting at {offset}.")


def abor(session: Session, _: str) -> Reply:
    """ABOR when no transfer runs (any more): a data connection that was prepared goes."""
    session.drop_data()
    return _NOTHING_TO_ABORT
