"""Connections that are refused for one reason: a log line now and then says how many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_INTERVAL = 10.0
"""Seconds between two lines. A port scan must not fill the log."""


class RefusedConnections:
    """Logs the first one at once, and those of the following seconds together."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None, tell: Callable[[str, str], None]
    ) -> None:
        """``tell(number, last)``: what to log; ``number`` is "1 connection", "12 connections".

        Without a ``loop`` it is the running one.
        """
        self._loop = loop
        self._tell = tell
        self._count = 0
        self._last = ""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, last: str) -> None:
        """One more was refused; ``last`` says which."""
        self._count += 1
        self._last = last
        if self._timer is None:
            self._on_time()

    def _on_time(self) -> None:
        self._timer = None
        if self._count:
            self._tell_count()
            loop = self._loop or asyncio.get_running_loop()
            self._timer = loop.call_later(_INTERVAL, self._on_time)

    def _tell_count(self) -> None:
        count, self._count = self._count, 0
        self._tell(f"{count} connection{'s' * (count > 1)}", self._last)

    def close(self) -> None:
        """Log the rest; harmless when repeated."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._count:
            self._tell_count()


def tell_of_no_proxies(number: str, last: str) -> None:
    """Log connections to a port where only proxies may connect."""
    of = "are no proxy's" if number.endswith("s") else "is no proxy's"
    log.info("refused %s that %s, the last of %s", number, of, last)
