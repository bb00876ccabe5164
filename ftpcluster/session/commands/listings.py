"""What is in directories: LIST, NLST, MLSD, MLST, STAT path (RFC 959 section 4.1.3, RFC 3659).

A small directory is listed at once. A larger one is read and sent in batches, between which other
sessions have their turn.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence

from ftpcluster.answers import Answer, Steps, iterated, settled, stepwise
from ftpcluster.native import NATIVE
from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.errors import ArgumentProblem, FTPError
from ftpcluster.protocol.list_options import ListOptions, sort_entries, split_options
from ftpcluster.protocol.listing import FACTS, fact_line, permission_fact, printable
from ftpcluster.protocol.pattern import LONGEST, Pattern, is_pattern
from ftpcluster.protocol.reply import Code, Opening, Reply, ReplyLines, on_wire
from ftpcluster.session.command_run import give_way
from ftpcluster.session.commands.directories import is_directory
from ftpcluster.session.commands.files import is_there
from ftpcluster.session.commands.long_lines import LongLines
from ftpcluster.session.commands.sorting import (
    MANY,
    Form,
    between_batches,
    lines_as_read,
    lines_in_order,
)
from ftpcluster.session.download import Listing
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Batches as Scan
from ftpcluster.storage.base import Entry
from ftpcluster.users import Permission

if NATIVE:
    from ftpcluster._native.entries import fact_lines, name_lines
else:
    from ftpcluster.protocol.listing import fact_lines, name_lines

_SENT = Reply(Code.TRANSFER_COMPLETE, "Directory send OK.")
_SLOWLY = 16
"""Names that are matched with a slow pattern in one turn: less than a millisecond."""
_OPENING = "Here comes the directory listing."

Batches = AsyncGenerator[str, None]
Lines = str | Batches
"""All lines, where they are ready at once; else a generator of batches of lines."""


def mlst_feature(chosen: tuple[str, ...] = FACTS) -> str:
    """FEAT's line, with a star at each fact that MLSD and MLST give."""
    return "MLST " + "".join(f"{fact}{'*' * (fact in chosen)};" for fact in FACTS)


@stepwise
def list_(session: Session, argument: str) -> Steps[Reply]:
    """LIST: a directory's entries, the one line of a file, or what a pattern matches."""
    session.take_restart()
    lines = yield from _listed(session, argument, LongLines(session))
    return (yield from _send(session, lines))


@stepwise
def nlst(session: Session, argument: str) -> Steps[Reply]:
    """NLST: the same, with nothing but names."""
    session.take_restart()
    lines = yield from _listed(session, argument, _names)
    return (yield from _send(session, lines))


@stepwise
def mlsd(session: Session, argument: str) -> Steps[Reply]:
    """MLSD: the facts of a directory's entries, in no order."""
    session.take_restart()
    path: str = yield session.readable(argument)
    status: os.stat_result = yield session.storage.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise ArgumentProblem("Not a directory; MLST is for files.")
    lines = yield from _entries(session, path, _facts, None)
    return (yield from _send(session, lines))


@stepwise
def mlst(session: Session, argument: str) -> Steps[Reply]:
    """MLST: the facts of one entry."""
    path: str = yield session.readable(argument)
    status: os.stat_result = yield _status(session, argument, path)
    perm = _perm(status.st_mode, (yield session.account.rights.at(path)))
    if stat.S_ISLNK(status.st_mode):
        status = yield from _with_size_sent(session, path, status)
    line = fact_line(path, status, perm, session.parameters.facts)
    return Reply(Code.FILE_ACTION_COMPLETED, f"Listing {printable(path)}", (line,))


@stepwise
def stat_path(session: Session, argument: str) -> Steps[Reply]:
    """STAT path: what LIST sends, over the control connection (RFC 959 section 4.1.3)."""
    lines = yield from _listed(session, argument, LongLines(session))
    title = f"Status of {printable(argument)}:"
    if not lines:
        session.announce(Opening(Code.FILE_STATUS, title))
        return Reply(Code.FILE_STATUS, "End of status.")
    if isinstance(lines, str):
        return Reply(Code.FILE_STATUS, title, lines.split("\r\n")[:-1], "End of status.")
    reply: Reply = yield _say(session, title, lines)
    return reply


# ---------------------------------------------------------------------- sending


def _send(session: Session, lines: Lines) -> Steps[Reply]:
    """Send lines over the data connection."""
    listing = Listing(session, _OPENING)
    if not isinstance(lines, str):
        yield _send_batches(session, listing, lines)
        return _SENT
    data = on_wire(lines, session.settings.encoding)
    if not listing.send_at_once(data):
        yield _send_rest(listing, data)
    return _SENT


async def _send_rest(listing: Listing, data: bytes) -> None:
    """Send what has to wait, behind what was sent at once."""
    async with listing:
        await listing.send_rest(data)


async def _send_batches(session: Session, listing: Listing, batches: Batches) -> None:
    encoding = session.settings.encoding
    try:
        lines = await anext(batches, "")  # a directory that cannot be read is refused before 150
        async with listing:
            while lines:
                await listing.send(on_wire(lines, encoding))
                lines = await anext(batches, "")
    finally:
        await batches.aclose()


async def _say(session: Session, title: str, batches: Batches) -> Reply:
    """Send lines as the lines of a reply, a batch at a time."""
    async with contextlib.aclosing(batches):
        lines = await anext(batches, "")
        session.announce(Opening(Code.FILE_STATUS, title))
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


# ---------------------------------------------------------------------- what is listed


def _listed(session: Session, argument: str, form: Form) -> Steps[Lines]:
    """The lines of what an argument of LIST names. Raises OSError where there is nothing."""
    options, argument = yield from _options(session, argument)
    path: str = yield session.readable(argument)
    try:
        status: os.stat_result = yield _status(session, argument, path)
    except FileNotFoundError:
        last = virtual.name(path)
        # no name is longer: a longer pattern matches nothing, and takes long to match
        if len(last) > LONGEST or not is_pattern(last):
            raise
        return _matching(session, argument, form, options)
    target: str | None = None
    lists_entries = stat.S_ISDIR(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        lists_entries = yield from is_directory(session, path)  # its entries are listed, as by ls
        if not lists_entries:
            target = yield session.storage.read_link(path)
    if lists_entries:
        form = _names_in(argument) if form is _names else form
        return (yield from _entries(session, path, form, options))
    line: str = yield form(session, session.current_directory, ((argument, status, target),))
    return line


def _status(session: Session, argument: str, path: str) -> Answer[os.stat_result]:
    """The status of what an argument names. "link" is the link itself, "link/" its target.

    So it is in POSIX. No argument means the current directory, never a link to it.
    """
    if argument.rpartition("/")[2] in ("", ".", ".."):
        return session.storage.stat(path)
    return session.storage.lstat(path)


def _entries(session: Session, path: str, form: Form, options: ListOptions | None) -> Steps[Lines]:
    """The lines of a directory's entries. ``options``: the order; None: all, as they are read.

    The lines of a small directory are made at once.
    """
    batches = session.storage.scan(path)
    hidden = options is None or options.hidden
    if isinstance(batches, Iterator):
        first = next(batches, [])
        second = next(batches, None) if len(first) < MANY else []
        if second is None:
            entries = _shown(session, first, hidden=hidden)
            if options is not None:
                sort_entries(entries, options)
            lines: str = yield form(session, path, entries)
            return lines
        batches = _rejoined(first, second, batches)
    return _many_entries(session, path, batches, form, options)


def _rejoined(
    first: list[Entry], second: list[Entry], rest: Iterator[list[Entry]]
) -> Iterator[list[Entry]]:
    """The batches that were read, then the rest. Closing this generator closes ``rest``."""
    try:
        yield from (first, second)
        yield from rest
    finally:
        if isinstance(rest, Generator):
            rest.close()


async def _many_entries(
    session: Session,
    path: str,
    batches: Scan,
    form: Form,
    options: ListOptions | None,
) -> Batches:
    shown = _shown_in(session, batches, hidden=options is None or options.hidden)
    make = functools.partial(form, session, path)
    async with contextlib.aclosing(shown):
        if options is not None:
            lines = lines_in_order(session.services, shown, options, make)
        else:
            lines = lines_as_read(shown, make)
        async with contextlib.aclosing(lines):
            async for text in lines:
                yield text


async def _shown_in(
    session: Session, batches: Scan, *, hidden: bool
) -> AsyncGenerator[list[Entry], None]:
    """The entries of a directory that a client sees."""
    async with contextlib.aclosing(iterated(batches)) as scanned:
        async for batch in scanned:
            yield _shown(session, batch, hidden=hidden)


async def _matching(session: Session, argument: str, form: Form, options: ListOptions) -> Batches:
    """The names that match a pattern in the last component, prefixed by the written directory."""
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
            fitting = await _fitting(pattern, shown)
            yield [(f"{written}{name}", status, target) for name, status, target in fitting]
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


# ---------------------------------------------------------------------- lines


def _shown(session: Session, batch: list[Entry], *, hidden: bool) -> list[Entry]:
    """What a client sees of a directory. ``hidden``: also names that begin with a dot."""
    session.entries_read += len(batch)
    if not hidden:
        batch = [entry for entry in batch if entry[0][0] != "."]
    if unlisted := session.account.unlisted:
        batch = [entry for entry in batch if entry[0] not in unlisted]
    return batch


def _names(_: Session, __: str, entries: Iterable[Entry]) -> str:
    return name_lines(entries)


def _names_in(argument: str) -> Form:
    """NLST of a directory: names that can be used as they are (RFC 1123 section 4.1.2.7).

    With a bare name a client would fetch, or delete, another file in the current directory.
    """
    if argument in ("", "."):
        return _names
    prefix = argument if argument.endswith("/") else f"{argument}/"
    return functools.partial(_names_behind, printable(prefix))


def _names_behind(prefix: str, _: Session, __: str, entries: Iterable[Entry]) -> str:
    return name_lines(entries, prefix)


@stepwise
def _facts(session: Session, path: str, entries: Sequence[Entry]) -> Steps[str]:
    if any(target is not None for _, _, target in entries):
        entries = yield from _with_sizes_sent(session, path, entries)
    rights, facts = session.account.rights, session.parameters.facts
    everywhere = rights.everywhere
    if everywhere is not None:
        return fact_lines(entries, functools.partial(_perm, permission=everywhere), facts)
    lines = []
    for name, status, _ in entries:
        perm = _perm(status.st_mode, (yield rights.at(virtual.join(path, name))))
        lines.append(fact_line(name, status, perm, facts) + "\r\n")
    return "".join(lines)


def _with_sizes_sent(
    session: Session, path: str, entries: Sequence[Entry]
) -> Steps[Sequence[Entry]]:
    """Entries whose links have the size of the file that RETR sends for them."""
    found = []
    for name, status, target in entries:
        if target is not None:
            status = yield from _with_size_sent(session, virtual.join(path, name), status)
        found.append((name, status, target))
    return found


def _with_size_sent(session: Session, path: str, status: os.stat_result) -> Steps[os.stat_result]:
    """The status of a link, with the size of the file that RETR sends for it.

    Clients which copy trees (rclone) take the link for a file, and compare.
    """
    try:
        target: os.stat_result = yield session.storage.stat(path)
    except OSError:
        return status  # it leads nowhere, or out
    if not stat.S_ISREG(target.st_mode):
        return status
    fields = list(status[:10])
    fields[stat.ST_SIZE] = target.st_size
    return os.stat_result(fields)


def _perm(mode: int, permission: Permission) -> str:
    return permission_fact(mode, readable=permission.readable, writable=permission.writable)


def _options(session: Session, argument: str) -> Steps[tuple[ListOptions, str]]:
    """The options that clients send ("-la") in front of a path, and the path.

    A last word that begins with a dash is the path where there is such an entry.
    """
    options, path = split_options(argument)
    if not path and argument:
        others, _, last = argument.rpartition(" ")
        if last.startswith("-") and (yield is_there(session, last)):
            return split_options(others)[0], last
    return options, path
