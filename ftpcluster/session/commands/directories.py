"""Directories: CWD, CDUP, PWD, MKD, RMD, and the listings LIST, NLST, MLSD, MLST, STAT path."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable

from ftpcluster.answers import Answer, iterated, settled, then
from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import ArgumentProblem, FileUnavailable, FTPError
from ftpcluster.protocol.list_options import ListOptions, split_options
from ftpcluster.protocol.listing import FACTS, fact_line, permission_fact, printable
from ftpcluster.protocol.pattern import LONGEST, Pattern, is_pattern
from ftpcluster.protocol.reply import Code, Opening, Reply, ReplyLines, on_wire, quoted
from ftpcluster.session.command_run import give_way
from ftpcluster.session.commands.files import is_there
from ftpcluster.session.commands.long_lines import LongLines
from ftpcluster.session.commands.sorting import between_batches, lines_as_read, lines_in_order
from ftpcluster.session.commands.write_only import HidingNames, forget, is_write_only, remember
from ftpcluster.session.download import Listing
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Entry
from ftpcluster.storage.uploads import check_new_name
from ftpcluster.users import Permission


def mlst_feature(chosen: tuple[str, ...] = FACTS) -> str:
    """FEAT's line, with a star at each fact that MLSD and MLST give."""
    return "MLST " + "".join(f"{fact}{'*' * (fact in chosen)};" for fact in FACTS)


_CHANGED = Reply(Code.FILE_ACTION_COMPLETED, "Directory changed.")
_REMOVED = Reply(Code.FILE_ACTION_COMPLETED, "Directory removed.")
_SENT = Reply(Code.TRANSFER_COMPLETE, "Directory send OK.")
_SLOWLY = 16
"""Names that are matched with a slow pattern in one turn: less than a millisecond."""
_OPENING = "Here comes the directory listing."

Batches = AsyncGenerator[str, None]
Formatter = Callable[[Session, str, Iterable[Entry]], Coroutine[None, None, str]]


def cwd(session: Session, argument: str) -> Answer[Reply]:
    return then(session.readable(argument or "/"), _enter, session)


def _enter(path: str, session: Session) -> Answer[Reply]:
    return then(session.storage.stat(path), _entered, session, path)


def _entered(status: os.stat_result, session: Session, path: str) -> Reply:
    if not stat.S_ISDIR(status.st_mode):
        raise FileUnavailable("Not a directory.")
    session.current_directory = path
    return _CHANGED


def cdup(session: Session, _: str) -> Answer[Reply]:
    return cwd(session, "..")


def pwd_(session: Session, _: str) -> Reply:
    return Reply(Code.PATHNAME, f"{quoted(session.current_directory)} is the current directory.")


async def mkd(session: Session, argument: str) -> Reply:
    path = await settled(session.writable(argument))
    check_new_name(path)
    await _check_missing_parents(session, path)
    if "/~/" in path:  # no entry of that name is made on the way
        await settled(session.storage.lstat(path[: path.index("/~/") + 2]))
    write_only = await settled(is_write_only(session, path))
    with HidingNames(write_only=write_only):
        try:
            await settled(session.storage.mkdir(path))
        except OSError:
            if not (write_only and await _is_directory(session, path)):
                raise
        else:
            if write_only:
                remember(session, path)
    return Reply(Code.PATHNAME, f"{quoted(path)} created.")


async def _is_directory(session: Session, path: str) -> bool:
    """Whether a path is a directory, or a link to one."""
    try:
        return stat.S_ISDIR((await settled(session.storage.stat(path))).st_mode)
    except OSError:
        return False


async def _check_missing_parents(session: Session, path: str) -> None:
    """MKD makes the directories above, too: the user must be allowed to make them.

    Where the nearest one that the user may not write is there, so are those above it. Each name is
    one of ``path``, which was looked at.
    """
    directory = await settled(session.account.rights.unwritable_above(path))
    if directory not in (None, "/"):
        try:
            await settled(session.storage.lstat(directory))
        except FileNotFoundError:
            raise FileUnavailable("Permission denied.") from None


async def rmd(session: Session, argument: str) -> Reply:
    path = await settled(session.writable(argument))
    if path == "/":
        raise FileUnavailable('"/" cannot be removed.')
    write_only = await settled(is_write_only(session, path))
    with HidingNames(write_only=write_only):
        await settled(session.storage.rmdir(path))
    forget(session, path)
    return _REMOVED


async def list_(session: Session, argument: str) -> Reply:
    return await _list(session, argument, LongLines(session))


async def nlst(session: Session, argument: str) -> Reply:
    return await _list(session, argument, _names)


async def _list(session: Session, argument: str, form: Formatter) -> Reply:
    """LIST and NLST: a directory's entries, the one line of a file, or what a pattern matches."""
    session.take_restart()
    return await _send(session, await _listed(session, argument, form))


async def _send(session: Session, batches: Batches) -> Reply:
    """Send lines over the data connection."""
    encoding = session.settings.encoding
    try:
        lines = await anext(batches, "")  # a directory that cannot be read is refused before 150
        async with Listing(session, _OPENING) as data:
            while lines:
                await data.send(on_wire(lines, encoding))
                lines = await anext(batches, "")
    finally:
        await batches.aclose()
    return _SENT


async def _listed(session: Session, argument: str, form: Formatter) -> Batches:
    """The lines of what an argument of LIST names. Raises OSError where there is nothing."""
    options, argument = await _options(session, argument)
    path = await settled(session.readable(argument))
    try:
        status = await _status(session, argument, path)
    except FileNotFoundError:
        last = virtual.name(path)
        # no name is longer: such a pattern fits nothing, and would take long to look at
        if len(last) > LONGEST or not is_pattern(last):
            raise
        return _matching(session, argument, form, options)
    target = None
    is_directory = stat.S_ISDIR(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        is_directory = await _is_directory(session, path)  # then its entries are listed, as by ls
        target = None if is_directory else await settled(session.storage.read_link(path))
    if is_directory:
        form = _names_in(argument) if form is _names else form
        return _entries(session, path, form, options)
    return _one_entry(session, (argument, status, target), form)


async def _status(session: Session, argument: str, path: str) -> os.stat_result:
    """The status of what an argument names. "link" is the link itself, "link/" its target.

    So it is in POSIX. No argument means the current directory, never a link to it.
    """
    if argument.rpartition("/")[2] in ("", ".", ".."):
        return await settled(session.storage.stat(path))
    return await settled(session.storage.lstat(path))


async def _one_entry(session: Session, entry: Entry, form: Formatter) -> Batches:
    yield await form(session, session.current_directory, (entry,))


async def _entries(
    session: Session, path: str, form: Formatter, options: ListOptions | None
) -> Batches:
    """The lines of a directory's entries. ``options``: sorted by these; None: all, as they come."""
    batches = _shown_in(session, path, hidden=options is None or options.hidden)
    make = functools.partial(form, session, path)
    async with contextlib.aclosing(batches):
        if options is not None:
            lines = lines_in_order(session.services, batches, options, make)
        else:
            lines = lines_as_read(batches, make)
        async with contextlib.aclosing(lines):
            async for text in lines:
                yield text


async def _shown_in(
    session: Session, path: str, *, hidden: bool
) -> AsyncGenerator[list[Entry], None]:
    """The entries of a directory that a client sees."""
    async with contextlib.aclosing(iterated(session.storage.scan(path))) as batches:
        async for batch in batches:
            yield _shown(session, batch, hidden=hidden)


async def _matching(
    session: Session, argument: str, form: Formatter, options: ListOptions
) -> Batches:
    """The names that match a pattern in the last component, behind the directory as written."""
    written, slash, last = argument.rpartition("/")
    directory = await settled(session.readable(written + slash))
    batches = _fitting_in(session, directory, (written + slash, last), hidden=options.hidden)
    make = functools.partial(form, session, session.current_directory)
    async with contextlib.aclosing(batches):
        lines = lines_in_order(session.services, batches, options, make)
        async with contextlib.aclosing(lines):
            async for text in lines:
                yield text


async def _fitting_in(
    session: Session, directory: str, argument: tuple[str, str], *, hidden: bool
) -> AsyncGenerator[list[Entry], None]:
    """The entries of a directory that match a pattern, named as the client would name them."""
    written, last = argument
    pattern = None
    async with contextlib.aclosing(iterated(session.storage.scan(directory))) as batches:
        async for batch in batches:
            if pattern is None:  # not before the directory is known to exist
                pattern = Pattern(last)
                hidden = hidden or pattern.shows_hidden
            shown = _shown(session, batch, hidden=hidden)
            await between_batches(batch)  # to match many names can take as long as to read them
            yield [
                (f"{written}{name}", status, target)
                for name, status, target in await _fitting(pattern, shown)
            ]
            await between_batches(batch)


async def _fitting(pattern: Pattern, batch: list[Entry]) -> list[Entry]:
    """The entries whose names fit. Other sessions get turns while a slow pattern is matched."""
    matches = pattern.matches
    if not pattern.is_slow:
        return [entry for entry in batch if matches(entry[0])]
    found: list[Entry] = []
    for start in range(0, len(batch), _SLOWLY):
        found += [entry for entry in batch[start : start + _SLOWLY] if matches(entry[0])]
        await give_way()
    return found


async def stat_path(session: Session, argument: str) -> Reply:
    """STAT path: what LIST sends, over the control connection (RFC 959 section 4.1.3)."""
    async with contextlib.aclosing(await _listed(session, argument, LongLines(session))) as batches:
        lines = await anext(batches, "")
        session.announce(Opening(Code.FILE_STATUS, f"Status of {printable(argument)}:"))
        try:
            while lines:
                session.announce(ReplyLines(lines.removesuffix("\r\n").split("\r\n")))
                await session.room()
                lines = await anext(batches, "")
        except Exception as error:
            # the reply has begun with its code, and must end with it
            if not isinstance(error, OSError | FTPError):
                session.note_bug(error)
            return Reply(Code.FILE_STATUS, "The rest could not be read.")
    return Reply(Code.FILE_STATUS, "End of status.")


async def mlsd(session: Session, argument: str) -> Reply:
    session.take_restart()
    path = await settled(session.readable(argument))
    if not stat.S_ISDIR((await settled(session.storage.stat(path))).st_mode):
        raise ArgumentProblem("Not a directory; MLST is for files.")
    return await _send(session, _entries(session, path, _facts, None))


async def mlst(session: Session, argument: str) -> Reply:
    path = await settled(session.readable(argument))
    status = await _status(session, argument, path)
    perm = _perm(status.st_mode, await settled(session.account.rights.at(path)))
    if stat.S_ISLNK(status.st_mode):
        status = await _with_size_sent(session, path, status)
    line = fact_line(path, status, perm, session.parameters.facts)
    return Reply(Code.FILE_ACTION_COMPLETED, f"Listing {printable(path)}", (line,))


def _shown(session: Session, batch: list[Entry], *, hidden: bool) -> list[Entry]:
    """What a client sees of a directory. ``hidden``: also names that begin with a dot."""
    if not hidden:
        batch = [entry for entry in batch if not entry[0].startswith(".")]
    if unlisted := session.services.unlisted:
        batch = [entry for entry in batch if entry[0] not in unlisted]
    return batch


async def _names(_: Session, __: str, entries: Iterable[Entry]) -> str:
    return "".join([f"{printable(entry[0])}\r\n" for entry in entries])


def _names_in(argument: str) -> Formatter:
    """NLST of a directory: names that can be used as they are (RFC 1123 section 4.1.2.7).

    With a bare name a client would fetch, or delete, another file in the current directory.
    """
    if argument in ("", "."):
        return _names
    prefix = argument if argument.endswith("/") else f"{argument}/"
    return functools.partial(_names_behind, printable(prefix))


async def _names_behind(prefix: str, _: Session, __: str, entries: Iterable[Entry]) -> str:
    return "".join([f"{prefix}{printable(entry[0])}\r\n" for entry in entries])


async def _facts(session: Session, path: str, entries: Iterable[Entry]) -> str:
    rights, facts = session.account.rights, session.parameters.facts
    everywhere = rights.everywhere
    perms: dict[int, str] = {}  # by mode, where one permission decides for all
    lines = []
    for name, status, _ in entries:
        mode = status.st_mode
        if everywhere is None:
            perm = _perm(mode, await settled(rights.at(virtual.join(path, name))))
        elif (found := perms.get(mode)) is not None:
            perm = found
        else:
            perm = perms[mode] = _perm(mode, everywhere)
        if stat.S_ISLNK(mode):
            status = await _with_size_sent(session, virtual.join(path, name), status)
        lines.append(fact_line(name, status, perm, facts) + "\r\n")
    return "".join(lines)


async def _with_size_sent(session: Session, path: str, status: os.stat_result) -> os.stat_result:
    """The status of a link, with the size of the file that RETR sends for it.

    Clients which copy trees (rclone) take the link for a file, and compare.
    """
    try:
        target = await settled(session.storage.stat(path))
    except OSError:
        return status  # it leads nowhere, or out
    if not stat.S_ISREG(target.st_mode):
        return status
    fields = list(status[:10])
    fields[stat.ST_SIZE] = target.st_size
    return os.stat_result(fields)


def _perm(mode: int, permission: Permission) -> str:
    return permission_fact(mode, readable=permission.readable, writable=permission.writable)


async def _options(session: Session, argument: str) -> tuple[ListOptions, str]:
    """The options that clients send ("-la") in front of a path, and the path.

    A last word that begins with a dash is the path where there is such an entry.
    """
    options, path = split_options(argument)
    if not path and argument:
        others, _, last = argument.rpartition(" ")
        if last.startswith("-") and await is_there(session, last):
            return split_options(others)[0], last
    return options, path
