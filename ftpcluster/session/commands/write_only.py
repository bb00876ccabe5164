"""Directories that a user may write and not read: replies do not reveal what is in them.

A user who may only store must not find out the names that others have stored. So a verb that
changes nothing gets the same reply there whether a name exists or not. A session may rename, and
set times and modes of, only files that it has stored itself. Some clients do that after each
upload.
"""

from __future__ import annotations

import errno
from types import TracebackType

from ftpcluster.answers import Answer, settled, then
from ftpcluster.protocol.errors import FileUnavailable, NotLoggedIn
from ftpcluster.session.login import Account
from ftpcluster.session.state import Session
from ftpcluster.users import Permission

_MOST = 1000
"""Names that a session remembers to have stored; the oldest are forgotten first."""
_TELLING = frozenset(
    (
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP,
        errno.EXDEV, errno.ENXIO, errno.ENODEV, errno.EACCES, errno.EPERM, errno.ETXTBSY,
    )
)  # fmt: skip
"""Errors that tell whether a name exists, or what it is."""


def is_write_only(session: Session, path: str) -> Answer[bool]:
    """Whether the user, who may not read a virtual path, must not learn whether it exists."""
    account = session.login
    if type(account) is not Account:
        raise NotLoggedIn
    permission = account.rights.at(path)
    if not isinstance(permission, Permission):
        return then(permission, _is_unreadable)
    return not permission.readable


def _is_unreadable(permission: Permission) -> bool:
    return not permission.readable


def hidden(error: OSError, *, write_only: bool) -> OSError | FileUnavailable:
    """The error itself, or "permission denied" where it would tell whether a name exists."""
    if write_only and error.errno in _TELLING:
        return FileUnavailable("Permission denied.")
    return error


class HidingNames:
    """An OSError within this block is raised as ``hidden`` returns it. STOR calls ``hidden``
    itself, since making this object costs 1 µs."""

    __slots__ = ("_write_only",)

    def __init__(self, *, write_only: bool) -> None:
        """``write_only``: whether there is anything to hide, as ``is_write_only`` says."""
        self._write_only = write_only

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise hidden(error, write_only=self._write_only) from None


def remember(session: Session, path: str) -> None:
    """The session has stored a file, or made a directory, of this name."""
    made = session.account.made
    made.pop(path, None)
    made[path] = None
    if len(made) > _MOST:
        del made[next(iter(made))]


def forget(session: Session, path: str) -> None:
    """The session has moved or removed it."""
    session.account.made.pop(path, None)


async def check_own(session: Session, path: str) -> bool:
    """Whether ``path`` is write-only.

    Raises FileUnavailable where it is, and this session has not stored it.
    """
    if not await settled(is_write_only(session, path)):
        return False
    if path not in session.account.made:
        raise FileUnavailable("Permission denied: it was not stored by this session.")
    return True
