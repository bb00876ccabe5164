"""A worker ends with its supervisor, also where its loop hangs."""

from __future__ import annotations

import os
import select
import threading
import time

from ftpcluster.runtime import leave_aborts_to_the_main_thread

ORPHAN_GRACE = 8.0
"""Seconds for running transfers after the supervisor's death."""


def handle_of(supervisor: int) -> int:
    """A descriptor of the supervisor's process. Raises SystemExit where that is gone."""
    handle = os.pidfd_open(supervisor) if os.getppid() == supervisor else None
    if handle is None:
        raise SystemExit("the supervisor is gone")
    return handle


def end_with(handle: int) -> None:
    """See to it that this process does not outlive the supervisor by more than the grace.

    The channel's end says that the supervisor is gone, but only to a loop that runs: a thread ends
    one that hangs.
    """
    threading.Thread(target=_outlive, args=(handle,), name="orphan", daemon=True).start()


def _outlive(supervisor: int) -> None:
    leave_aborts_to_the_main_thread()
    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    poll.poll()
    time.sleep(ORPHAN_GRACE + 1)
    os._exit(1)
