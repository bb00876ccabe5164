"""Files by name: DELE, RNFR, RNTO, SIZE, MDTM, MFMT (RFC 959 section 4.1.3, RFC 3659,
draft-somers-ftp-mfxx)."""

from __future__ import annotations

import os
import stat

from ftpcluster.protocol.errors import ArgumentProblem, FileUnavailable
from ftpcluster.protocol.listing import parse_timestamp, printable, timestamp
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.state import Session
from ftpcluster.storage.uploads import check_new_name

_DELETED = Reply(Code.FILE_ACTION_COMPLETED, "File deleted.")
_RENAMED = Reply(Code.FILE_ACTION_COMPLETED, "Renamed.")
_READY_FOR_RNTO = Reply(Code.PENDING_FURTHER_INFORMATION, "Ready for RNTO.")


async def dele(session: Session, argument: str) -> Reply:
    await session.storage.unlink(session.writable(argument))
    return _DELETED


async def rnfr(session: Session, argument: str) -> Reply:
    path = session.writable(argument)
    if path == "/":
        raise FileUnavailable('"/" cannot be renamed.')
    _check_undivided(session, path)
    await session.storage.lstat(path)
    session.rename_from = path
    return _READY_FOR_RNTO


def _check_undivided(session: Session, path: str) -> None:
    """Permissions go by names: with its folder's name, what lies beneath would get others."""
    if session.account.user.is_divided(path):
        raise FileUnavailable("Permission denied: something in it has permissions of its own.")


def after_rnfr(session: Session) -> str | None:
    return None if session.rename_from else "Say what to rename with RNFR first."


async def rnto(session: Session, argument: str) -> Reply:
    source = session.take_rename_from()
    target = session.writable(argument)
    if target == "/":
        raise FileUnavailable('"/" cannot be replaced.')
    check_new_name(target)
    _check_undivided(session, target)
    user = session.account.user
    if user.permission(target).readable and not user.permission(source).readable:
        raise FileUnavailable("Permission denied: there it could be read.")
    await session.storage.rename(source, target, replace=session.settings.rename_replaces)
    return _RENAMED


async def size(session: Session, argument: str) -> Reply:
    """SIZE: bytes as they would be sent, which in TYPE A nobody knows without reading them."""
    path = session.readable(argument)
    if not session.binary:
        raise FileUnavailable("SIZE needs TYPE I.")
    return Reply(Code.FILE_STATUS, str((await _regular(session, path)).st_size))


async def mdtm(session: Session, argument: str) -> Reply:
    status = await _regular(session, session.readable(argument))
    return Reply(Code.FILE_STATUS, timestamp(int(status.st_mtime)))


async def mfmt(session: Session, argument: str) -> Reply:
    """MFMT: set the modification time, in UTC."""
    text, _, name = argument.partition(" ")
    seconds = parse_timestamp(text)
    if seconds is None or not name:
        raise ArgumentProblem("Expected YYYYMMDDHHMMSS, in UTC, and a path.")
    path = session.writable(name)
    await session.storage.set_modified(path, seconds)
    return Reply(Code.FILE_STATUS, f"Modify={timestamp(int(seconds))}; {printable(path)}")


async def _regular(session: Session, path: str) -> os.stat_result:
    status = await session.storage.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise FileUnavailable("Not a regular file.")
    return status
