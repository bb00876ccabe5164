"""Directories that a user may write and not read: what is in them is not told.

The reply to a verb is the same there whether a name exists or not, as far as the verb does not
change anything: who may only store is not to find out what others have stored. So a session
renames there, and sets times and modes of, only what it has stored itself; some clients do that
behind each upload.
"""

from __future__ import annotations

import errno

from ftpcluster.protocol.errors import FileUnavailable
from ftpcluster.session.state import Session

_MOST = 1000
"""Names that a session remembers to have made; the oldest are forgotten."""
_TELLING = frozenset(
    (
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP,
        errno.EXDEV, errno.ENXIO, errno.ENODEV, errno.EACCES, errno.EPERM, errno.ETXTBSY,
    )
)  # fmt: skip
"""Errors that say what there is at a name."""


async def is_write_only(session: Session, path: str) -> bool:
    """Whether the user may not know what there is at a virtual path."""
    return not (await session.account.rights.at(path)).readable


def told(error: OSError, *, write_only: bool) -> OSError | FileUnavailable:
    """What a client is told of an error."""
    if write_only and error.errno in _TELLING:
        return FileUnavailable("Permission denied.")
    return error


def remember(session: Session, path: str) -> None:
    """The session has made what there is at a name in such a directory."""
    made = session.account.made
    made.pop(path, None)
    made[path] = None
    if len(made) > _MOST:
        del made[next(iter(made))]


def forget(session: Session, path: str) -> None:
    """The name is no longer this session's."""
    session.account.made.pop(path, None)


async def check_own(session: Session, path: str) -> bool:
    """Whether the directory of ``path`` is write-only; then the session must have made ``path``.

    Raises FileUnavailable.
    """
    if not await is_write_only(session, path):
        return False
    if path not in session.account.made:
        raise FileUnavailable("Permission denied: it was not stored by this session.")
    return True
