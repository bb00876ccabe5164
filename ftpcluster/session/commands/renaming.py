"""Moving what cannot be renamed, since it goes to another file system: for RNTO."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ftpcluster.answers import settled
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
    """Others go on meanwhile. ABOR ends it, until it is whole; nothing is lost by that."""
    session.progress = 0
    try:
        await _step(session, mover.begin)
        while count := await _step(session, mover.copy):
            session.progress += count
        await _step(session, mover.finish, is_last=True)
    finally:
        await _step(session, mover.end, is_last=True)


async def _step(session: Session, step: Callable[[], T], *, is_last: bool = False) -> T:
    """Let a thread take a step. ``is_last``: it is too late to end what then is done."""
    services = session.services
    work = services.loop.run_in_executor(services.pool, step)
    cancelled = await wait_out(work)
    if cancelled is not None and not is_last:
        raise cancelled
    return work.result()
