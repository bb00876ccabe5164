"""Files by name: DELE, RNFR, RNTO, SIZE, MDTM, MFMT (RFC 959 section 4.1.3, RFC 3659,
draft-somers-ftp-mfxx)."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import AsyncGenerator

from ftpcluster.answers import Answer, Steps, iterated, settled, stepwise, then
from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import ArgumentProblem, FileUnavailable, NotImplementedVerb
from ftpcluster.protocol.listing import parse_timestamp, printable, timestamp
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.command_run import give_way
from ftpcluster.session.commands.renaming import rename
from ftpcluster.session.commands.write_only import (
    HidingNames,
    check_own,
    forget,
    is_write_only,
    remember,
)
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Entry
from ftpcluster.storage.uploads import check_new_name

_TIME_AND_NAME = re.compile(r"(\d{14}(?:\.\d{1,9})?) +(.+)", re.ASCII | re.DOTALL)
_MISSING = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG))
_MOST_MOVED = 100_000
"""Entries of a directory that are checked before it is moved; a larger one is refused."""
_DELETED = Reply(Code.FILE_ACTION_COMPLETED, "File deleted.")
_RENAMED = Reply(Code.FILE_ACTION_COMPLETED, "Renamed.")
_TIME_SET = Reply(Code.FILE_STATUS, "Modification time set.")
_READY_FOR_RNTO = Reply(Code.PENDING_FURTHER_INFORMATION, "Ready for RNTO.")


@stepwise
def dele(session: Session, argument: str) -> Steps[Reply]:
    if argument.rpartition("/")[2] in ("", "."):  # as in POSIX, that means a directory
        raise FileUnavailable("It is not the name of a file.")
    path: str = yield session.writable(argument)
    write_only: bool = yield is_write_only(session, path)
    with HidingNames(write_only=write_only):
        yield session.storage.unlink(path)
    forget(session, path)
    return _DELETED


async def rnfr(session: Session, argument: str) -> Reply:
    """RNFR: its path is remembered until RNTO or another RNFR.

    In between, clients send NOOP, or look whether the new name is free.
    """
    session.pending.rename_from = None
    path = await settled(session.writable(argument))
    if path == "/":
        raise FileUnavailable('"/" cannot be renamed.')
    _check_undivided(session, path)
    write_only = await check_own(session, path)
    with HidingNames(write_only=write_only):
        await settled(session.storage.lstat(path))
    session.pending.rename_from = path
    return _READY_FOR_RNTO


def _check_undivided(session: Session, path: str) -> None:
    """Permissions go by names: under another directory name, the entries would get others."""
    if session.account.rights.is_divided(path):
        raise FileUnavailable("Permission denied: something in it has permissions of its own.")


async def _check_move(session: Session, source: str, target: str) -> None:
    """Raises FileUnavailable where only the new name is readable, or either is not writable."""
    rights = session.account.rights
    old, new = await settled(rights.at(source)), await settled(rights.at(target))
    if new.readable and not old.readable:
        raise FileUnavailable("Permission denied: there it could be read.")
    if not (old.writable and new.writable):
        raise FileUnavailable("Permission denied.")


async def _check_tree(session: Session, source: str, target: str) -> None:
    """Check the entries of a directory that is moved, where there are several permissions.

    Each entry is checked where only the user's own code knows the permissions. A link that could
    lead elsewhere from another directory is not moved there: the user may not be allowed to read
    the file that it would then lead to. Raises FileUnavailable.
    """
    rights = session.account.rights
    is_asked = rights.is_divided(source) is None
    moves_links = virtual.parent(source) != virtual.parent(target)
    if rights.everywhere is not None or not (is_asked or moves_links):
        return
    mode = (await settled(session.storage.lstat(source))).st_mode
    if moves_links and stat.S_ISLNK(mode):
        raise FileUnavailable("Permission denied: it is a link, which leads elsewhere from there.")
    pending = [(source, target)] if stat.S_ISDIR(mode) else []
    seen = 0
    while pending:
        old, new = pending.pop()
        async for name, status, says in _entries_of(session, old):
            pair = virtual.join(old, name), virtual.join(new, name)
            seen += 1
            if seen > _MOST_MOVED or (moves_links and _leads_up(status, says)):
                raise FileUnavailable("Permission denied: there are links in it, or too much.")
            if is_asked:
                await _check_move(session, *pair)
            if stat.S_ISDIR(status.st_mode):
                pending.append(pair)


async def _entries_of(session: Session, directory: str) -> AsyncGenerator[Entry, None]:
    async with contextlib.aclosing(iterated(session.storage.scan(directory))) as batches:
        async for batch in batches:
            for entry in batch:
                yield entry
            await give_way()


def _leads_up(status: os.stat_result, says: str | None) -> bool:
    """Whether it is a link that may lead out of the directory that is moved."""
    return stat.S_ISLNK(status.st_mode) and (says is None or ".." in says.split("/"))


def after_rnfr(session: Session) -> str | None:
    return None if session.pending.rename_from else "Say what to rename with RNFR first."


def what_rnfr_named(session: Session) -> str | None:
    return session.pending.rename_from


async def rnto(session: Session, argument: str) -> Reply:
    source = session.take_rename_from()
    target = await settled(session.writable(argument))
    if target == "/":
        raise FileUnavailable('"/" cannot be replaced.')
    check_new_name(target)
    _check_undivided(session, target)
    await _check_move(session, source, target)
    await check_own(session, source)  # since RNFR another user may have replaced it
    write_only = await settled(is_write_only(session, target))
    with HidingNames(write_only=write_only):
        await _check_tree(session, source, target)
        await rename(session, source, target)
    forget(session, source)
    if write_only:
        remember(session, target)
    return _RENAMED


def size(session: Session, argument: str) -> Answer[Reply]:
    """SIZE: the bytes that RETR would send. In TYPE A only reading the file would tell."""
    return then(session.readable(argument), _size, session)


def _size(path: str, session: Session) -> Answer[Reply]:
    if not session.parameters.binary:
        raise FileUnavailable("SIZE needs TYPE I.")
    return then(session.storage.stat(path), _size_reply)


def _size_reply(status: os.stat_result) -> Reply:
    return Reply(Code.FILE_STATUS, str(_of_regular(status).st_size))


def mdtm(session: Session, argument: str) -> Answer[Reply]:
    if (match := _TIME_AND_NAME.fullmatch(argument)) is not None:
        seconds = parse_timestamp(match[1])
        if seconds is not None:
            return _look_or_set(session, argument, match[2], seconds)
    return then(session.readable(argument), _mdtm, session)


async def _look_or_set(session: Session, argument: str, name: str, seconds: float) -> Reply:
    """MDTM with a time sets it, as clients of vsftpd expect, unless a file has the whole argument
    as its name."""
    try:
        return await settled(then(session.readable(argument), _mdtm, session))
    except FileUnavailable:
        if await is_there(session, argument):
            raise
    except OSError as error:
        if error.errno not in _MISSING:
            raise
    await set_modified_as_mfmt(session, name, seconds)
    return _TIME_SET


async def is_there(session: Session, argument: str) -> bool:
    """Whether an argument names something that the user may know of."""
    try:
        await settled(session.storage.lstat(await settled(session.readable(argument))))
    except (OSError, FileUnavailable):
        return False
    return True


def _mdtm(path: str, session: Session) -> Answer[Reply]:
    return then(session.storage.stat(path), _mdtm_reply)


def _mdtm_reply(status: os.stat_result) -> Reply:
    return Reply(Code.FILE_STATUS, timestamp(int(_of_regular(status).st_mtime)))


def _of_regular(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise FileUnavailable("Not a regular file.")
    return status


async def mfmt(session: Session, argument: str) -> Reply:
    """MFMT: set the modification time, in UTC."""
    text, _, name = argument.lstrip(" ").partition(" ")
    seconds = parse_timestamp(text)
    if seconds is None or not name:
        raise ArgumentProblem("Expected YYYYMMDDHHMMSS, in UTC, and a path.")
    path = await settled(session.writable(name))
    await _set_modified(session, path, seconds)
    return Reply(Code.FILE_STATUS, f"Modify={timestamp(int(seconds))}; {printable(path)}")


async def set_modified_as_mfmt(session: Session, name: str, seconds: float) -> None:
    """Set the time of a file for another command than MFMT, which may not pass an override by.

    Raises NotImplementedVerb where a program has overridden or removed MFMT.
    """
    find_command = session.services.find_command
    if find_command is not None:
        row = find_command(b"MFMT")
        if row is None or row.handler is not mfmt:
            raise NotImplementedVerb
    await _set_modified(session, await settled(session.writable(name)), seconds)


async def _set_modified(session: Session, path: str, seconds: float) -> None:
    write_only = await check_own(session, path)
    with HidingNames(write_only=write_only):
        await settled(session.storage.set_modified(path, seconds))
