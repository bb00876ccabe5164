"""A worker ends with its supervisor, also where its loop hangs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import threading
import time
from collections.abc import Iterator

from ftpcluster.runtime import leave_aborts_to_the_main_thread

_PR_SET_PDEATHSIG = 1
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


@contextlib.contextmanager
def ending_with(handle: int) -> Iterator[None]:
    """The same at once, and without a thread, for what runs before the process is confined."""
    _on_parents_death(signal.SIGKILL)
    if select.select((handle,), (), (), 0)[0]:
        os._exit(1)  # it was gone before the kernel was told
    try:
        yield
    finally:
        wake_at_parents_death()


def die_with_parent(parent: int) -> None:
    """For a process that holds nothing: be killed when its parent ends, if it has not ended yet."""
    _on_parents_death(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def wake_at_parents_death() -> None:
    """A stopped process would not notice that its supervisor is gone."""
    _on_parents_death(signal.SIGCONT)


def _on_parents_death(number: signal.Signals) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def _outlive(supervisor: int) -> None:
    leave_aborts_to_the_main_thread()
    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    poll.poll()
    time.sleep(ORPHAN_GRACE + 1)
    os._exit(1)
