"""Folders: CWD, CDUP, PWD, MKD, RMD, and the listings LIST, NLST, MLSD, MLST."""

from __future__ import annotations

import functools
import grp
import pwd
import stat
import time
from collections.abc import Callable, Coroutine, Iterable

from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import ArgumentProblem, FileUnavailable
from ftpcluster.protocol.listing import FACTS, fact_line, list_line, permission_fact, printable
from ftpcluster.protocol.reply import Code, Reply, quoted
from ftpcluster.session.server_dtp import Download
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Entry
from ftpcluster.users import Permission

MLST_FEATURE = "MLST " + "".join(f"{fact}*;" for fact in FACTS)

_CHANGED = Reply(Code.FILE_ACTION_COMPLETED, "Directory changed.")
_REMOVED = Reply(Code.FILE_ACTION_COMPLETED, "Directory removed.")
_SENT = Reply(Code.TRANSFER_COMPLETE, "Directory send OK.")
_OPENING = "Here comes the directory listing."

Formatter = Callable[[Session, str, Iterable[Entry]], Coroutine[None, None, str]]


async def cwd(session: Session, argument: str) -> Reply:
    path = session.readable(argument or "/")
    if not stat.S_ISDIR((await session.storage.stat(path)).st_mode):
        raise FileUnavailable("Not a directory.")
    session.current_folder = path
    return _CHANGED


async def cdup(session: Session, _: str) -> Reply:
    return await cwd(session, "..")


def pwd_(session: Session, _: str) -> Reply:
    return Reply(Code.PATHNAME, f"{quoted(session.current_folder)} is the current directory.")


async def mkd(session: Session, argument: str) -> Reply:
    path = session.writable(argument)
    await _check_missing_parents(session, path)
    await session.storage.mkdir(path)
    return Reply(Code.PATHNAME, f"{quoted(path)} created.")


async def _check_missing_parents(session: Session, path: str) -> None:
    """MKD makes the folders above, too: the user must be allowed to make them."""
    while (path := virtual.parent(path)) != "/":
        try:
            await session.storage.lstat(path)
        except FileNotFoundError:
            session.writable(path)
        else:
            return


async def rmd(session: Session, argument: str) -> Reply:
    path = session.writable(argument)
    if path == "/":
        raise FileUnavailable('"/" cannot be removed.')
    await session.storage.rmdir(path)
    return _REMOVED


async def list_(session: Session, argument: str) -> Reply:
    return await _list(session, argument, _long_lines)


async def nlst(session: Session, argument: str) -> Reply:
    return await _list(session, argument, _names)


async def _list(session: Session, argument: str, form: Formatter) -> Reply:
    """LIST and NLST: a folder's entries, or the one line of a file."""
    session.take_restart()
    hidden, argument = _options(argument)
    path = session.readable(argument)
    status = await session.storage.stat(path)
    if stat.S_ISDIR(status.st_mode):
        return await _send_folder(session, path, form, hidden=hidden)
    async with Download(session, _OPENING) as data:
        await _send_lines(
            session,
            data,
            await form(session, session.current_folder, [(argument, status, None)]),
        )
    return _SENT


async def mlsd(session: Session, argument: str) -> Reply:
    session.take_restart()
    path = session.readable(argument)
    if not stat.S_ISDIR((await session.storage.stat(path)).st_mode):
        raise ArgumentProblem("Not a directory; MLST is for files.")
    return await _send_folder(session, path, _facts, hidden=True)


async def mlst(session: Session, argument: str) -> Reply:
    path = session.readable(argument)
    status = await session.storage.stat(path)
    permission = session.account.user.permission(path)
    perm = _perm(status.st_mode, permission)
    line = fact_line(path, status, perm, session.facts)
    return Reply(Code.FILE_ACTION_COMPLETED, f"Listing {printable(path)}", (line,))


async def _send_folder(session: Session, path: str, form: Formatter, *, hidden: bool) -> Reply:
    batches = session.storage.scan(path, follow=form is _facts)
    try:
        first: list[Entry] = await anext(
            batches, []
        )  # a folder that cannot be read is refused before 150
        async with Download(session, _OPENING) as data:
            while first:
                lines = await form(session, path, _shown(first, hidden=hidden))
                await _send_lines(session, data, lines)
                first = await anext(batches, [])
    finally:
        await batches.aclose()
    return _SENT


def _shown(batch: list[Entry], *, hidden: bool) -> Iterable[Entry]:
    return batch if hidden else [entry for entry in batch if not entry[0].startswith(".")]


async def _send_lines(session: Session, data: Download, lines: str) -> None:
    await data.send(lines.encode(session.settings.encoding, "surrogateescape"))


async def _long_lines(session: Session, folder: str, entries: Iterable[Entry]) -> str:
    if (theirs := await _their_lines(session, folder, entries)) is not None:
        return theirs
    now = time.time()
    return "".join(
        [list_line(name, status, now, _owner, _group, target) for name, status, target in entries]
    )


async def _their_lines(session: Session, folder: str, entries: Iterable[Entry]) -> str | None:
    """The lines of a ``build_list_string`` that isn't ours."""
    lines = []
    for entry in entries:
        line = await session.services.long_line(session, virtual.resolve(folder, entry[0]))
        if line is None:
            return None
        lines.append(f"{line}\r\n")
    return "".join(lines)


async def _names(_: Session, __: str, entries: Iterable[Entry]) -> str:
    return "".join([f"{printable(entry[0])}\r\n" for entry in entries])


async def _facts(session: Session, path: str, entries: Iterable[Entry]) -> str:
    user, facts = session.account.user, session.facts
    everywhere = user.permission_everywhere
    lines = []
    for name, status, _ in entries:
        permission = everywhere or user.permission(virtual.join(path, name))
        perm = _perm(status[0], permission)
        lines.append(fact_line(name, status, perm, facts) + "\r\n")
    return "".join(lines)


def _perm(mode: int, permission: Permission) -> str:
    return permission_fact(mode, readable=permission.readable, writable=permission.writable)


def _options(argument: str) -> tuple[bool, str]:
    """Take the options that clients send ("-la") off the front; whether hidden names are shown."""
    hidden = False
    while argument.startswith("-"):
        options, _, argument = argument.partition(" ")
        hidden = hidden or "a" in options
        argument = argument.lstrip(" ")
    return hidden, argument


@functools.lru_cache(maxsize=1024)
def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.lru_cache(maxsize=1024)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
