"""Protected data connections whose download is complete, until the client has closed, too.

A client answers our close_notify with its own. If we had closed by then, it would meet a reset,
which some clients (rclone) take for a failed download. If a FIN follows close_notify at once,
clients on uvloop silently lose the data that they have not read yet. So both directions stay open
until the client sends something, or closes, or the wait is over. 226 does not wait for this.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter

from ftpcluster.net.tls import TLSStream
from ftpcluster.protocol.address import site
from ftpcluster.session.services import Services

_PATIENCE = 2.0
"""Seconds without a sign of the client after which its connection is closed. A sign is that its
side acknowledges more data, or that it closes."""
_MOST = 256
"""Such connections of a process at most. They hold descriptors, but no session's slot. Beyond so
many, the oldest connection of the site that has most is closed. Otherwise a client that fetches
small files all the time, and never closes, would have everybody's closed too early."""

_site = functools.lru_cache(_MOST)(site)


class Lingering:
    """One such connection; ``services.lingering`` holds it."""

    __slots__ = ("_has_ended", "_left", "_services", "_slot", "_stream", "host")

    def __init__(self, services: Services, stream: TLSStream, host: str) -> None:
        """Takes over ``stream``, which has said close_notify; the client comes from ``host``."""
        self._services = services
        self.host = host
        self._stream = stream.leave_tls()
        self._left = sys.maxsize
        self._has_ended = False  # our side has sent FIN
        services.lingering[self] = None
        self._arm()
        try:
            self._stream.watch(self._on_readable)
        except OSError:
            self.close()
            return
        if len(services.lingering) > _MOST:
            self._make_room()

    def _make_room(self) -> None:
        held = [(_site(each.host), each) for each in self._services.lingering]
        [(most, _)] = Counter(who for who, _ in held).most_common(1)
        next(each for who, each in held if who == most).close()

    def _arm(self) -> None:
        wheel, now = self._services.wheel, self._services.loop.time()
        self._slot = wheel.add(now + _PATIENCE, self._on_time)

    def _on_time(self) -> None:
        left = self._stream.unacknowledged()
        if not left or left >= self._left:
            self.close()
        else:
            self._left = left
            self._arm()

    def _on_readable(self) -> None:
        """The client has sent close_notify, or FIN."""
        try:
            is_over = not self._stream.recv(4096)
            if not is_over and not self._has_ended:
                self._has_ended = True
                self._stream.end_output()
        except BlockingIOError:
            return
        except OSError:
            is_over = True
        if is_over:
            self.close()

    def close(self) -> None:
        self._services.lingering.pop(self, None)
        self._services.wheel.discard(self._slot, self._on_time)
        self._stream.close()
