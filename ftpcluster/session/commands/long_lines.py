"""What LIST, and STAT with a path, show of entries: lines as those of ``ls -l``."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ftpcluster.answers import Answer, Steps, stepwise
from ftpcluster.native import NATIVE
from ftpcluster.protocol import path as virtual
from ftpcluster.session.hooks import NO_HOOKS
from ftpcluster.session.owner_names import Key, ListingNames
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Entry

if NATIVE:
    from ftpcluster._native.entries import list_lines
else:
    from ftpcluster.protocol.listing import list_lines


class LongLines:
    """The lines of one listing. It waits for names of owners, for a while."""

    __slots__ = ("_listing", "_names")

    def __init__(self, session: Session) -> None:
        self._names = session.services.owner_names
        self._listing = ListingNames(self._names)

    def __call__(self, session: Session, directory: str, entries: Sequence[Entry]) -> Answer[str]:
        if session.hooks is NO_HOOKS:
            return self._ours(entries)
        return self._by_hooks(session, directory, entries)

    def _ours(self, entries: Sequence[Entry]) -> Answer[str]:
        lines = self._format(entries)
        missing = self._names.take_missing()
        return self._with_names(entries, missing) if missing else lines

    async def _with_names(self, entries: Sequence[Entry], missing: set[Key]) -> str:
        await self._listing.ask(missing)
        lines = self._format(entries)
        self._names.take_missing()  # names that are still missing stay numbers
        return lines

    def _format(self, entries: Sequence[Entry]) -> str:
        return list_lines(entries, time.time(), self._names.owner, self._names.group)

    @stepwise
    def _by_hooks(self, session: Session, directory: str, entries: Sequence[Entry]) -> Steps[str]:
        """The lines that the hook makes, unless it leaves them to us."""
        lines = []
        for entry in entries:
            line = session.hooks.list_line(virtual.resolve(directory, entry[0]))
            if line is None:
                ours: str = yield self._ours(entries)
                return ours
            lines.append(f"{(yield line)}\r\n")
        return "".join(lines)
