"""Moving what cannot be renamed, since it goes to another file system: for RNTO."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

from ftpcluster.answers import Answer, settled
from ftpcluster.protocol.errors import FileUnavailable
from ftpcluster.session.command_run import wait_out
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Mover, OtherFileSystem

T = TypeVar("T")


async def rename(session: Session, source: str, target: str) -> None:
    """Give a file or directory another name; a file may go to another file system for that."""
    storage, replace = session.storage, session.settings.rename_replaces
    try:
        try:
            await settled(storage.rename(source, target, replace=replace))
        except OtherFileSystem:
            mover = storage.mover(source, target, replace=replace)
            if mover is None:
                raise
            await _move(session, mover)
    except OtherFileSystem:
        raise FileUnavailable("It would have to go to another file system.") from None


async def _move(session: Session, mover: Mover) -> None:
    """Move in steps, between which other sessions go on. ABOR ends the move before the copy is
    complete; nothing is lost then."""
    session.progress = 0
    try:
        await _step(session, mover, mover.begin)
        while count := await _step(session, mover, mover.copy):
            session.progress += count
        await _step(session, mover, mover.finish, is_last=True)
    finally:
        await _step(session, mover, mover.end, is_last=True)


async def _step(
    session: Session, mover: Mover, step: Callable[[], Answer[T]], *, is_last: bool = False
) -> T:
    """Take a step, in a thread if it blocks. ``is_last``: a cancellation comes too late."""
    services = session.services
    work: asyncio.Future[T]
    if mover.is_synchronous:
        plain = cast(Callable[[], T], step)
        work = services.loop.run_in_executor(services.pool, plain)
    else:
        work = asyncio.ensure_future(settled(step()))
    cancelled = await wait_out(work)
    if cancelled is not None and not is_last:
        raise cancelled
    return work.result()
