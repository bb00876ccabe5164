"""What LIST, and STAT with a path, show of entries: lines as those of ``ls -l``."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ftpcluster.protocol import path as virtual
from ftpcluster.protocol.listing import list_line
from ftpcluster.session.owner_names import ListingNames
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Entry


class LongLines:
    """The lines of one listing. It waits for names of owners, for a while."""

    def __init__(self, session: Session) -> None:
        self._names = session.services.owner_names
        self._listing = ListingNames(self._names)

    async def __call__(self, session: Session, directory: str, entries: Iterable[Entry]) -> str:
        if (custom := await _custom_lines(session, directory, entries)) is not None:
            return custom
        lines = self._format(entries)
        if missing := self._names.take_missing():
            await self._listing.ask(missing)
            lines = self._format(entries)
            self._names.take_missing()  # the numbers that are left stay; nobody else waits for them
        return lines

    def _format(self, entries: Iterable[Entry]) -> str:
        now, owner, group = time.time(), self._names.owner, self._names.group
        return "".join(
            [list_line(name, status, now, owner, group, target) for name, status, target in entries]
        )


async def _custom_lines(session: Session, directory: str, entries: Iterable[Entry]) -> str | None:
    """The lines that the hook makes; None where it leaves them to us."""
    lines = []
    for entry in entries:
        line = session.hooks.list_line(virtual.resolve(directory, entry[0]))
        if line is None:
            return None
        lines.append(f"{await line}\r\n")
    return "".join(lines)
