"""Files by name: DELE, RNFR, RNTO, SIZE, MDTM, MFMT (RFC 959 section 4.1.3, RFC 3659,
draft-somers-ftp-mfxx)."""

from __future__ import annotations

import contextlib
import os
import stat

from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import ArgumentProblem, FileUnavailable
from ftpcluster.protocol.listing import parse_timestamp, printable, timestamp
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.state import Session

_MOST_MOVED = 10_000
"""Entries of a directory whose permissions are looked at, each by itself, before it is renamed."""
_DELETED = Reply(Code.FILE_ACTION_COMPLETED, "File deleted.")
_RENAMED = Reply(Code.FILE_ACTION_COMPLETED, "Renamed.")
_READY_FOR_RNTO = Reply(Code.PENDING_FURTHER_INFORMATION, "Ready for RNTO.")


async def dele(session: Session, argument: str) -> Reply:
    await session.storage.unlink(await session.writable(argument))
    return _DELETED


async def rnfr(session: Session, argument: str) -> Reply:
    path = await session.writable(argument)
    if path == "/":
        raise FileUnavailable('"/" cannot be renamed.')
    _check_undivided(session, path)
    await session.storage.lstat(path)
    session.rename_from = path
    return _READY_FOR_RNTO


def _check_undivided(session: Session, path: str) -> None:
    """Permissions go by names: with its folder's name, what lies beneath would get others."""
    if session.account.rights.is_divided(path):
        raise FileUnavailable("Permission denied: something in it has permissions of its own.")


async def _check_move(session: Session, source: str, target: str) -> None:
    """A new name must not permit more than the old one did, nor take away what had to stay."""
    rights = session.account.rights
    old, new = await rights.at(source), await rights.at(target)
    if new.readable and not old.readable:
        raise FileUnavailable("Permission denied: there it could be read.")
    if not (old.writable and new.writable):
        raise FileUnavailable("Permission denied.")


async def _check_tree(session: Session, source: str, target: str) -> None:
    """``_check_move`` for all that lies in a directory, where nobody knows what divides it."""
    pending = [(source, target)]
    seen = 0
    while pending:
        old, new = pending.pop()
        await _check_move(session, old, new)
        if not stat.S_ISDIR((await session.storage.lstat(old)).st_mode):
            continue
        async with contextlib.aclosing(session.storage.scan(old, follow=False)) as batches:
            async for batch in batches:
                names = [entry[0] for entry in batch]
                pending += [(virtual.join(old, name), virtual.join(new, name)) for name in names]
                seen += len(names)
                if seen > _MOST_MOVED:
                    raise FileUnavailable("Permission denied: too much lies in it to look at.")


def after_rnfr(session: Session) -> str | None:
    return None if session.rename_from else "Say what to rename with RNFR first."


async def rnto(session: Session, argument: str) -> Reply:
    source = session.take_rename_from()
    target = await session.writable(argument)
    if target == "/":
        raise FileUnavailable('"/" cannot be replaced.')
    _check_undivided(session, target)
    if session.account.rights.is_divided(source) is None:
        await _check_tree(session, source, target)
    else:
        await _check_move(session, source, target)
    await session.storage.rename(source, target, replace=session.settings.rename_replaces)
    return _RENAMED


async def size(session: Session, argument: str) -> Reply:
    """SIZE: bytes as they would be sent, which in TYPE A nobody knows without reading them."""
    path = await session.readable(argument)
    if not session.binary:
        raise FileUnavailable("SIZE needs TYPE I.")
    return Reply(Code.FILE_STATUS, str((await _regular(session, path)).st_size))


async def mdtm(session: Session, argument: str) -> Reply:
    status = await _regular(session, await session.readable(argument))
    return Reply(Code.FILE_STATUS, timestamp(int(status.st_mtime)))


async def mfmt(session: Session, argument: str) -> Reply:
    """MFMT: set the modification time, in UTC."""
    text, _, name = argument.partition(" ")
    seconds = parse_timestamp(text)
    if seconds is None or not name:
        raise ArgumentProblem("Expected YYYYMMDDHHMMSS, in UTC, and a path.")
    path = await session.writable(name)
    await session.storage.set_modified(path, seconds)
    return Reply(Code.FILE_STATUS, f"Modify={timestamp(int(seconds))}; {printable(path)}")


async def _regular(session: Session, path: str) -> os.stat_result:
    status = await session.storage.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise FileUnavailable("Not a regular file.")
    return status
