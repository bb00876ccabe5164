"""How long a session may do nothing: before its login, between commands, within a transfer.

Also how long its client may leave replies unread, and how long a command may go on after the client
has closed the control connection or said QUIT.

To set a timer for every command would cost more than many commands do. So each session only checks
its clocks now and then.
"""

from __future__ import annotations

from collections.abc import Callable

from ftpcluster.session.ends import ending_session
from ftpcluster.session.login import Account
from ftpcluster.session.row import Command
from ftpcluster.session.state import Session

_STALL_CHECK = 2.0
"""Seconds between two looks at a transfer's progress."""
_HUNG_UP = 120.0
"""Seconds without progress that end a command after its client has closed the control connection,
even if ``stalled_timeout`` is switched off: the command could last for ever."""
_RESET = 15.0
"""The same after a reset of the control connection. Data on the way arrive within three or four
retransmissions (1, 2, 4 and 8 s), or never, since their sender is gone."""
_UNCONNECTED = 5.0
"""Seconds that the data connection of such a client has to come. The client makes none after its
control connection has ended. One made before waits to be accepted, or for its handshake."""
_QUIT = 5.0
"""Seconds in which a client that has said QUIT has to read or send data."""


class Deadlines:
    """The clocks of one session."""

    __slots__ = (
        "_command",
        "_in_transfer",
        "_last_progress",
        "_last_read",
        "_loop",
        "_most",
        "_on_idle",
        "_on_stalled",
        "_on_unread",
        "_progress",
        "_quits",
        "_session",
        "_slot",
        "_transfer_slot",
        "_unread_slot",
        "_wheel",
        "fail",
        "heard",
        "time",
    )

    def __init__(
        self,
        session: Session,
        on_idle: Callable[[], None],
        on_stalled: Callable[[], None],
        on_unread: Callable[[], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """``fail`` ends the session for an unexpected error: it would have no deadline any more."""
        self.fail = fail
        self._session = session
        self._loop = session.services.loop
        self.time = session.services.loop.time
        self._wheel = session.services.wheel
        self._on_idle = on_idle
        self._on_stalled = on_stalled
        self._on_unread = on_unread
        self.heard = self._loop.time()
        """When the client last sent something (set by the control connection), or a transfer
        ended."""
        self._in_transfer = False
        self._command: Command | None = None
        self._most: float | None = None  # seconds without progress, where the client is gone
        self._quits = False
        self._progress: tuple[object, ...] = ()
        self._last_progress = self._last_read = 0.0
        self._slot = self._transfer_slot = self._unread_slot = 0
        self._look_again()

    @property
    def idle(self) -> float:
        """Seconds since the client said something."""
        return 0.0 if self._in_transfer else self._loop.time() - self.heard

    def begin_transfer(self, command: Command) -> None:
        """From now on progress counts, and the idle clock stands."""
        self._in_transfer = True
        self._command = command
        if self._session.settings.stalled_timeout is not None or self._most is not None:
            self._progress = self._mark()  # as ``_begin_watching``, without its call
            self._last_progress = self.time()
            if not self._transfer_slot:
                self._look_at_progress_later(self._last_progress)

    def hang_up(self, command: Command | None) -> None:
        """The client has closed the control connection while ``command`` runs, if any does."""
        stalled = self._session.settings.stalled_timeout
        self._limit(_HUNG_UP if stalled is None else stalled, command)

    def lose(self, command: Command) -> None:
        """The control connection was reset, or was given up."""
        self._limit(_RESET, command)

    def quit(self, command: Command) -> None:
        """The client has said QUIT: its transfer may wait for it only a few seconds."""
        if command.transfers and not self._quits:
            self._quits = True
            self._limit(self._most, command)

    def _limit(self, seconds: float | None, command: Command | None) -> None:
        if seconds is not None:
            self._most = seconds if self._most is None else min(self._most, seconds)
        if command is not None:
            self._in_transfer = True
            self._command = command
            self._watch_progress()

    def _watch_progress(self) -> None:
        if self._transfer_slot:
            self._wheel.discard(self._transfer_slot, self._look_at_progress)
            self._transfer_slot = 0
        self._begin_watching()

    def _begin_watching(self) -> None:
        """From now on progress counts. A check that an earlier transfer has scheduled is kept."""
        self._progress = self._mark()
        self._last_progress = self.time()
        if not self._transfer_slot:
            self._look_at_progress_later(self._last_progress)

    def end_transfer(self) -> None:
        # the scheduled check stays: most transfers end long before it, and another one follows
        self._in_transfer = False
        self._command = None
        self.heard = self.time()

    def wait_for_reader(self, sent: int) -> None:
        """Replies wait for the client to read. If ``sent`` is not 0, it has just read on."""
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
        self.fail = _ignore

    def _due(self) -> float | None:
        """When the session ends if nothing happens until then."""
        settings = self._session.settings
        if type(self._session.login) is Account:
            start = self._loop.time() if self._in_transfer else self.heard
            timeout = settings.idle_timeout
        else:
            # commands do not extend this one: a client that does not log in has to leave
            start, timeout = self._session.unauthenticated.since, settings.login_timeout
            if timeout is None:
                start, timeout = self.heard, settings.idle_timeout
        return None if timeout is None else start + timeout

    def _look_again(self) -> None:
        """Check again when the session is due, or could be due after a login or logout."""
        patience = self._session.services.shortest_timeout
        if patience is not None:
            when = self._loop.time() + patience
            due = self._due()
            self._slot = self._wheel.add(when if due is None else min(due, when), self._on_time)

    @ending_session
    def _on_time(self) -> None:
        due = self._due()
        if due is not None and self._loop.time() >= due:
            self._on_idle()
        else:
            self._look_again()

    def _patience(self) -> float | None:
        """Seconds without progress after which the command that runs is given up."""
        command, session = self._command, self._session
        bounds = [session.settings.stalled_timeout, self._longest_wait()]
        if command is not None and command.transfers and session.last_transfer is None:
            bounds.append(None if self._most is None else _UNCONNECTED)
        if self._quits and self._waits_for_client():
            bounds.append(_QUIT)
        return min((bound for bound in bounds if bound is not None), default=None)

    def _longest_wait(self) -> float | None:
        """The same for a client that is gone; None while it is there.

        A path layer that still stores what has come gets more time: the client's end says nothing
        about how long that takes.
        """
        is_for_storage = self._session.last_transfer is not None and not self._waits_for_client()
        if self._most is None or not is_for_storage:
            return self._most
        return max(self._most, _HUNG_UP)

    def _waits_for_client(self) -> bool:
        """Whether a transfer waits for its client to send or to read."""
        transfer = self._session.transfer
        return transfer is not None and transfer.waits.is_for_client

    def _mark(self) -> tuple[object, ...]:
        """A value that changes while the command makes progress.

        For a download it includes the number of unacknowledged bytes. To a client that reads slowly
        nothing can be sent for minutes, but that number still falls.
        """
        session = self._session
        transfer, last = session.transfer, session.last_transfer
        sends = transfer is not None and transfer.direction != "upload"
        left = transfer.stream.unacknowledged() if transfer is not None and sends else 0
        return session.progress + session.entries_read, transfer, last, left

    @ending_session
    def _look_at_progress(self) -> None:
        self._transfer_slot = 0
        if not self._in_transfer:
            return
        now, mark = self._loop.time(), self._mark()
        if mark != self._progress:
            self._progress = mark
            self._last_progress = now
        patience = self._patience()
        if patience is not None and now - self._last_progress >= patience:
            self._on_stalled()
        else:
            self._look_at_progress_later(now)

    def _look_at_progress_later(self, now: float) -> None:
        if not self._transfer_slot:
            step = _STALL_CHECK if not self._quits else min(_STALL_CHECK, _QUIT / 5)
            self._transfer_slot = self._wheel.add(now + step, self._look_at_progress)

    @ending_session
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


def _ignore(_: Exception) -> None:
    """What becomes of an error when the session is over."""
