"""Directories: CWD, CDUP, PWD, MKD, RMD (RFC 959 sections 4.1.1 and 4.1.3)."""

from __future__ import annotations

import os
import stat

from ftpcluster.answers import Answer, Steps, stepwise, then
from ftpcluster.protocol.errors import FileUnavailable
from ftpcluster.protocol.reply import Code, Reply, quoted
from ftpcluster.session.commands.write_only import HidingNames, forget, is_write_only, remember
from ftpcluster.session.state import Session
from ftpcluster.storage.uploads import check_new_name

_CHANGED = Reply(Code.FILE_ACTION_COMPLETED, "Directory changed.")
_REMOVED = Reply(Code.FILE_ACTION_COMPLETED, "Directory removed.")


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


@stepwise
def mkd(session: Session, argument: str) -> Steps[Reply]:
    path: str = yield session.writable(argument)
    check_new_name(path)
    yield from _check_missing_parents(session, path)
    if "/~/" in path:  # MKD makes no missing parent "~"
        yield session.storage.lstat(path[: path.index("/~/") + 2])
    write_only: bool = yield is_write_only(session, path)
    with HidingNames(write_only=write_only):
        try:
            yield session.storage.mkdir(path)
        except OSError:
            if not (write_only and (yield from is_directory(session, path))):
                raise
        else:
            if write_only:
                remember(session, path)
    return Reply(Code.PATHNAME, f"{quoted(path)} created.")


def is_directory(session: Session, path: str) -> Steps[bool]:
    """Whether a path is a directory, or a link to one."""
    try:
        status: os.stat_result = yield session.storage.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode)


def _check_missing_parents(session: Session, path: str) -> Steps[None]:
    """MKD makes missing parents, too: the user must be allowed to write each of them.

    If the nearest parent that the user may not write exists, so do all above it. Their names are
    parts of ``path``, whose names were checked already.
    """
    directory: str | None = yield session.account.rights.unwritable_above(path)
    if directory not in (None, "/"):
        try:
            yield session.storage.lstat(directory)
        except FileNotFoundError:
            raise FileUnavailable("Permission denied.") from None


@stepwise
def rmd(session: Session, argument: str) -> Steps[Reply]:
    path: str = yield session.writable(argument)
    if path == "/":
        raise FileUnavailable('"/" cannot be removed.')
    write_only: bool = yield is_write_only(session, path)
    with HidingNames(write_only=write_only):
        yield session.storage.rmdir(path)
    forget(session, path)
    return _REMOVED
