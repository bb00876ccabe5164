"""Protected data connections whose download is complete, until the client has closed, too.

A client answers our close_notify with its own. Had we closed by then, the answer would meet a
reset, which some clients (rclone) take for a failed download. 226 does not wait for this.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ftpcluster.net.poller import READ
from ftpcluster.net.tls import TLSStream

if TYPE_CHECKING:
    from ftpcluster.session.services import Services

_PATIENCE = 2.0
"""Seconds after which a client that does not close is closed."""


class Lingering:
    """One such connection; ``services.lingering`` holds it."""

    __slots__ = ("_fd", "_services", "_slot")

    def __init__(self, services: Services, stream: TLSStream) -> None:
        """Takes over ``stream``, which has said close_notify. Raises OSError where nobody is left
        to wait for."""
        self._services = services
        self._fd = stream.half_close()
        services.poller.add(self._fd, READ, self)
        self._slot = services.wheel.add(services.loop.time() + _PATIENCE, self.close)
        services.lingering.add(self)

    def on_ready(self, _: int) -> None:
        """Called by the poller: what comes is of no interest, but for its end."""
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()

    def close(self) -> None:
        self._services.lingering.discard(self)
        self._services.wheel.discard(self._slot, self.close)
        self._services.poller.remove(self._fd)
        os.close(self._fd)
