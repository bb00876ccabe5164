"""Keeps the bans in a file, in threads: its file system may hang, and nobody waits for it."""

from __future__ import annotations

import asyncio
import functools
import logging

from ftpcluster.daemon_calls import call_in_daemon
from ftpcluster.quota.admission import Admission
from ftpcluster.supervisor.ban_file import Kept, moment, read, write

log = logging.getLogger(__name__)

_PATIENCE = 3.0
"""Seconds that a start waits for the file."""
_LAST_WAIT = 0.5
"""Seconds that the end of the server waits until the last changes are written."""
_PAUSE = 0.3
"""Seconds from a change until it is written, so that a thousand bans are not a thousand files."""
_SHARE = 10
"""Writing takes no more than one part in so many of a core's time, however many bans there are."""
_RETRY = 30.0
"""Seconds until a file that could not be written is tried again."""
_SILENCE = 5.0
"""Seconds after which the log says that a file is not written."""


class KeptBans:
    """The file of the bans. Without a ``path`` they end with the server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str | None) -> None:
        self._loop = loop
        self._path = path
        self._guard: Admission | None = None
        self._kept: Kept | None = None  # as it was read, until they are in force
        self._is_read = False  # what was not read must not be overwritten
        self._is_dirty = False
        self._timer: asyncio.TimerHandle | None = None
        self._saving: asyncio.Future[float] | None = None
        self._failure: str | None = None
        self._pause = _PAUSE

    async def load(self) -> None:
        """Read the file. If it does not answer, its bans hold as soon as it does."""
        if self._path is None:
            return
        at = moment(self._loop.time())
        reading = call_in_daemon(self._loop, "bans", functools.partial(read, self._path, at))
        reading.add_done_callback(self._on_read)
        await asyncio.wait((reading,), timeout=_PATIENCE)
        if not reading.done():
            log.warning(
                "%s (ban.file) does not answer: the bans in it hold when it does", self._path
            )

    def _on_read(self, reading: asyncio.Future[Kept]) -> None:
        error = reading.exception()
        if error is not None:
            why = getattr(error, "strerror", None) or error
            log.error(
                "%s (ban.file) cannot be read, so it stays as it is, and bans end with the "
                "server: %s", self._path, why,
            )  # fmt: skip
            return
        self._kept, self._is_read = reading.result(), True
        if self._guard is not None:
            self._restore(self._guard)

    def attach(self, guard: Admission) -> None:
        """Have the bans of the file hold, and keep those that are made from now on."""
        self._guard = guard
        guard.on_bans_changed = self._on_changed
        self._restore(guard)

    def _restore(self, guard: Admission) -> None:
        kept, self._kept = self._kept, None
        if kept is None:
            return
        if kept.wrong:
            log.warning(
                "%s (ban.file) is damaged: %s; it is kept as %s, and what can be read of it holds",
                self._path, kept.wrong, kept.aside,
            )  # fmt: skip
        guard.restore(kept.bans, self._loop.time())
        if kept.bans:
            log.info("bans that hold from before the start: %d", len(kept.bans))
        if kept.wrong or self._is_dirty:
            self._on_changed()

    # ------------------------------------------------------------------ writing

    def _on_changed(self) -> None:
        if self._path is None and not self._is_dirty:
            log.info("bans will end with the server: [ban] file names no file that keeps them")
        self._is_dirty = True
        if self._is_read and self._timer is None and self._saving is None:
            self._timer = self._loop.call_later(self._pause, self._save)

    def _save(self) -> None:
        assert self._guard is not None
        assert self._path is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_dirty = False
        now = self._loop.time()
        call = functools.partial(write, self._path, self._guard.bans(now), moment(now))
        silence = self._loop.call_later(_SILENCE, self._tell_of_silence)
        self._saving = call_in_daemon(self._loop, "bans", call)
        self._saving.add_done_callback(functools.partial(self._on_saved, silence))

    def _tell_of_silence(self) -> None:
        log.warning("%s (ban.file) is not written yet: its file system does not answer", self._path)

    def _on_saved(self, silence: asyncio.TimerHandle, saving: asyncio.Future[float]) -> None:
        self._saving = None
        silence.cancel()
        error = saving.exception()
        if error is None:
            self._pause = max(_PAUSE, _SHARE * saving.result())
            if self._failure is not None:
                log.info("%s (ban.file) is written again", self._path)
            self._failure = None
        else:
            why = str(getattr(error, "strerror", None) or error)
            if why != self._failure:
                log.error(
                    "%s (ban.file) cannot be written, and is tried again: %s; it needs room, and "
                    "the server's user has to be able to write in its directory", self._path, why,
                )  # fmt: skip
            self._failure = why
            self._is_dirty, self._pause = True, _RETRY
        if self._is_dirty:
            self._on_changed()

    async def close(self) -> None:
        """Write what has changed; a file that does not answer is given up."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            async with asyncio.timeout(_LAST_WAIT):
                while self._is_read and (self._saving is not None or self._is_dirty):
                    if self._saving is None:
                        self._save()
                    assert self._saving is not None
                    await asyncio.wait((self._saving,))
                    await asyncio.sleep(0)  # for its callback
                    if self._failure is not None:
                        return
        except TimeoutError:
            log.warning("%s (ban.file) is not written: it does not answer", self._path)
        finally:
            if self._timer is not None:
                self._timer.cancel()
