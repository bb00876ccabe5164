"""Waiting for a stream: a future that takes no turn of the loop.

A future of asyncio calls back in the loop's next turn. By then the poller has looked at the same
descriptor again, and has stopped watching it, since nobody seemed to wait. Here the coroutine that
waits goes on within the poller's call. A coroutine with or without a task awaits a Readiness like
any future.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftpcluster.native import NATIVE

if TYPE_CHECKING or not NATIVE:
    from ftpcluster.net.watching import Readiness
else:
    from ftpcluster._native.watching import Readiness

__all__ = ("Readiness",)
