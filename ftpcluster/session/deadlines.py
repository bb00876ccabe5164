"""How long a session may do nothing: before its login, between commands, within a transfer.

And for how long its client may leave replies unread.

A deadline that was set anew for every command would cost more than many a command, so a session
looks now and then how far it has moved.
"""

from __future__ import annotations

from collections.abc import Callable

from ftpcluster.session.state import Account, Session

_STALL_CHECK = 2.0
"""Seconds between two looks at a transfer's progress."""


class Deadlines:
    """The clocks of one session."""

    __slots__ = (
        "_active",
        "_in_transfer",
        "_last_progress",
        "_last_read",
        "_loop",
        "_on_idle",
        "_on_stalled",
        "_on_unread",
        "_progress",
        "_session",
        "_slot",
        "_transfer_slot",
        "_unread_slot",
        "_wheel",
    )

    def __init__(
        self,
        session: Session,
        on_idle: Callable[[], None],
        on_stalled: Callable[[], None],
        on_unread: Callable[[], None],
    ) -> None:
        self._session = session
        self._loop = session.services.loop
        self._wheel = session.services.wheel
        self._on_idle = on_idle
        self._on_stalled = on_stalled
        self._on_unread = on_unread
        self._active = self._loop.time()
        self._in_transfer = False
        self._progress = 0
        self._last_progress = self._last_read = 0.0
        self._slot = self._transfer_slot = self._unread_slot = 0
        self._look_again()

    def touch(self) -> None:
        """The client said something, or a transfer has ended."""
        self._active = self._loop.time()

    @property
    def idle(self) -> float:
        """Seconds since the client said something."""
        return 0.0 if self._in_transfer else self._loop.time() - self._active

    def begin_transfer(self) -> None:
        """From now on progress counts, and the idle clock stands."""
        self._in_transfer = True
        if self._session.settings.stalled_timeout is not None:
            self._progress = self._session.progress
            self._last_progress = self._loop.time()
            self._look_at_progress_later(self._last_progress)

    def end_transfer(self) -> None:
        self._in_transfer = False
        if self._transfer_slot:
            self._wheel.discard(self._transfer_slot, self._look_at_progress)
            self._transfer_slot = 0
        self.touch()

    def wait_for_reader(self, sent: int) -> None:
        """Replies are left over; ``sent`` bytes of them have just gone, as the client reads on."""
        if self._session.settings.stalled_timeout is None:
            return
        if sent or not self._unread_slot:
            self._last_read = self._loop.time()
        if not self._unread_slot:
            self._look_at_unread()

    def end_wait_for_reader(self) -> None:
        """All is sent."""
        if self._unread_slot:
            self._wheel.discard(self._unread_slot, self._look_at_unread)
            self._unread_slot = 0

    def stop(self) -> None:
        self.end_wait_for_reader()
        if self._slot:
            self._wheel.discard(self._slot, self._on_time)
            self._slot = 0
        if self._transfer_slot:
            self._wheel.discard(self._transfer_slot, self._look_at_progress)
            self._transfer_slot = 0

    def forget(self) -> None:
        """The session is over: let go of it."""
        self.stop()
        self._on_idle = self._on_stalled = self._on_unread = _nothing

    def _due(self) -> float | None:
        """When the session ends if nothing happens until then."""
        settings = self._session.settings
        if type(self._session.login) is Account:
            start = self._loop.time() if self._in_transfer else self._active
            timeout = settings.idle_timeout
        else:
            # commands do not move this one: who does not log in has to go
            start, timeout = self._session.stranger_since, settings.login_timeout
            if timeout is None:
                start, timeout = self._active, settings.idle_timeout
        return None if timeout is None else start + timeout

    def _look_again(self) -> None:
        """Look again when the session is due, or could be after it has logged in or out."""
        patience = self._session.services.shortest_timeout
        if patience is not None:
            when = self._loop.time() + patience
            due = self._due()
            self._slot = self._wheel.add(when if due is None else min(due, when), self._on_time)

    def _on_time(self) -> None:
        due = self._due()
        if due is not None and self._loop.time() >= due:
            self._on_idle()
        else:
            self._look_again()

    def _look_at_progress(self) -> None:
        now = self._loop.time()
        if self._session.progress != self._progress:
            self._progress = self._session.progress
            self._last_progress = now
        timeout = self._session.settings.stalled_timeout
        if timeout is not None and now - self._last_progress >= timeout:
            self._on_stalled()
        else:
            self._look_at_progress_later(now)

    def _look_at_progress_later(self, now: float) -> None:
        self._transfer_slot = self._wheel.add(now + _STALL_CHECK, self._look_at_progress)

    def _look_at_unread(self) -> None:
        self._unread_slot = 0
        timeout = self._session.settings.stalled_timeout
        assert timeout is not None
        due = self._last_read + timeout
        if self._loop.time() >= due:
            self._on_unread()
        else:
            self._unread_slot = self._wheel.add(due, self._look_at_unread)


def _nothing() -> None:
    """What an ended session does at its deadline."""
