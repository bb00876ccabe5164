"""Files that another program has in use, and errors when a file that was read is closed.

Another program may hold a lease on a file (fcntl(2)). A Samba server, for one, is notified when
others open the file, and gives way within moments. Until then open(2) fails with EAGAIN, or would
wait, and the loop with it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from ftpcluster.answers import Answer, settled
from ftpcluster.net.stream import pause
from ftpcluster.session.state import Session
from ftpcluster.storage.base import File

P = ParamSpec("P")
T = TypeVar("T")

_IN_USE = frozenset((errno.EAGAIN, errno.ETXTBSY))
_PATIENCE = 5.0
"""Seconds for which the call is tried again."""
_PAUSE = 0.1


def when_free(
    session: Session, call: Callable[P, Answer[T]], /, *args: P.args, **kwargs: P.kwargs
) -> Answer[T]:
    """The result of a call that opens or reads a file, once nobody else has it in use.

    Raises the OSError of the last attempt, which is 450.
    """
    try:
        answer = call(*args, **kwargs)
    except OSError as error:
        if error.errno not in _IN_USE:
            raise
        return _again(session, call, *args, **kwargs)
    if hasattr(answer, "__await__"):  # as ``is_awaitable``, without its call
        return _awaited(answer, session, call, *args, **kwargs)
    return answer


async def _awaited(
    answer: Awaitable[T],
    session: Session,
    call: Callable[P, Answer[T]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    try:
        return await answer
    except OSError as error:
        if error.errno not in _IN_USE:
            raise
    return await _again(session, call, *args, **kwargs)


async def _again(
    session: Session, call: Callable[P, Answer[T]], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    loop = session.services.loop
    end = loop.time() + _PATIENCE
    while True:
        await pause(loop, _PAUSE)
        try:
            return await settled(call(*args, **kwargs))
        except OSError as error:
            if error.errno not in _IN_USE or loop.time() >= end:
                raise


def close_read(session: Session, file: File) -> Answer[None]:
    """Close a file that was read. All data were read by then, so errors are only logged.

    Network file systems and FUSE report some here, of a quota for instance.
    """
    try:
        closing = file.close()
    except OSError as error:
        _note(session, error)
        return None
    return closing if closing is None else _closed(session, closing)


async def _closed(session: Session, closing: Awaitable[None]) -> None:
    try:
        await closing
    except OSError as error:
        _note(session, error)


def _note(session: Session, error: OSError) -> None:
    session.note(logging.DEBUG, f"closing a file that was read: {error.strerror or error}")
