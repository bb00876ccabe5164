"""SITE: what a server of this kind has beyond the RFCs (CHMOD, UTIME, SYMLINK, HELP)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ftpcluster.answers import Answer, settled
from ftpcluster.protocol.errors import (
    ArgumentProblem,
    FileUnavailable,
    NotImplementedVerb,
    NotLoggedIn,
    ParameterNotImplemented,
)
from ftpcluster.protocol.listing import parse_timestamp
from ftpcluster.protocol.quoting import two_paths
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.session.commands.files import set_modified_as_mfmt
from ftpcluster.session.commands.write_only import HidingNames, check_own
from ftpcluster.session.login import Account
from ftpcluster.session.state import Session
from ftpcluster.storage.uploads import check_new_name

_MODE = re.compile(r" *([0-7]{1,4}) (.+)", re.DOTALL)
_TIME_AND_PATH = re.compile(r"(\d{14}|\d{12}) (.+)", re.ASCII | re.DOTALL)
_PATH_AND_TIMES = re.compile(r"(.+) \d{14} (\d{14}) \d{14} UTC", re.ASCII | re.DOTALL)
_PERMISSION_BITS = 0o777
_CHMOD_DONE = Reply(Code.OK, "Permissions changed.")
_UTIME_DONE = Reply(Code.OK, "Times changed.")
_SYMLINK_DONE = Reply(Code.OK, "Link made.")

Handler = Callable[[Session, str], Answer[Reply]]


async def chmod(session: Session, argument: str) -> Reply:
    """SITE CHMOD: octal, and without set-user-ID and its like."""
    match = _MODE.fullmatch(argument)
    if match is None or int(match[1], 8) > _PERMISSION_BITS:
        raise ArgumentProblem("Expected an octal mode up to 777 and a path.")
    path = await settled(session.writable(match[2]))
    write_only = await check_own(session, path)
    with HidingNames(write_only=write_only):
        await settled(session.storage.chmod(path, int(match[1], 8)))
    return _CHMOD_DONE


async def utime(session: Session, argument: str) -> Reply:
    """SITE UTIME: ``time path``, or ``path atime mtime ctime UTC`` as some clients have it."""
    if match := _PATH_AND_TIMES.fullmatch(argument):
        path, text = match[1], match[2]
    elif match := _TIME_AND_PATH.fullmatch(argument):
        text, path = match[1].ljust(14, "0"), match[2]
    else:
        raise ArgumentProblem("Expected YYYYMMDDhhmm[ss] and a path.")
    seconds = parse_timestamp(text)
    if seconds is None:
        raise ArgumentProblem("There is no such time.")
    await set_modified_as_mfmt(session, path, seconds)
    return _UTIME_DONE


async def symlink(session: Session, argument: str) -> Reply:
    """SITE SYMLINK target link: within the user's files, where the server permits it at all."""
    if not session.settings.allow_symlinks:
        raise NotImplementedVerb("SITE SYMLINK is turned off.")
    paths = two_paths(argument)
    if paths is None:
        raise ArgumentProblem("Expected a target and a link, in quotes where they have spaces.")
    if session.account.rights.everywhere is None:
        # permissions go by names: a link would reach a file under another name's permission
        raise FileUnavailable("Links are for users with one permission for everything.")
    target = await settled(session.readable(paths[0]))
    link = await settled(session.writable(paths[1]))
    check_new_name(link)
    await settled(session.storage.symlink(target, link))
    return _SYMLINK_DONE


def help_(_: Session, __: str) -> Reply:
    lines = [row.help for row in ROWS]
    return Reply(Code.HELP_MESSAGE, "These SITE commands are recognized:", lines)


@dataclass(frozen=True, slots=True)
class SiteCommand:
    """One row: a word behind SITE."""

    name: str
    handler: Handler
    help: str
    login: bool = True
    takes_argument: bool = True


ROWS = (
    SiteCommand("CHMOD", chmod, "CHMOD mode path: set permission bits (octal)"),
    SiteCommand("UTIME", utime, "UTIME YYYYMMDDhhmm[ss] path: set the modification time (UTC)"),
    SiteCommand("SYMLINK", symlink, "SYMLINK target link: make a symbolic link, where permitted"),
    SiteCommand("HELP", help_, "HELP: this text", login=False, takes_argument=False),
)
_COMMANDS = {row.name: row for row in ROWS}


async def site(session: Session, argument: str) -> Reply:
    """SITE: find the command, and hold it to the gates of the table (504, 530, 501)."""
    name, _, rest = argument.lstrip(" ").partition(" ")
    row = _COMMANDS.get(name.upper())
    if type(session.login) is not Account and (row is None or row.login):
        raise NotLoggedIn
    if not name:
        raise ArgumentProblem("SITE needs an argument; SITE HELP tells which.")
    if row is None:
        raise ParameterNotImplemented("Unknown SITE command; SITE HELP tells which there are.")
    if row.takes_argument and not rest:
        raise ArgumentProblem(f"SITE {row.help}")
    return await settled(row.handler(session, rest))
