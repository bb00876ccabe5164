"""A worker ends with its supervisor, even if its loop hangs."""

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
"""Seconds that running transfers have left after the supervisor's death."""


def handle_of(supervisor: int) -> int:
    """A pidfd of the supervisor's process. Raises SystemExit where that is gone."""
    handle = os.pidfd_open(supervisor) if os.getppid() == supervisor else None
    if handle is None:
        raise SystemExit("the supervisor is gone")
    return handle


def end_with(handle: int) -> None:
    """End this process at the latest when ORPHAN_GRACE is over after the supervisor's death.

    The end of the channel shows the supervisor's death, but only to a loop that runs. If the loop
    hangs, a thread ends the process.
    """
    threading.Thread(target=_outlive, args=(handle,), name="orphan", daemon=True).start()


@contextlib.contextmanager
def ending_with(handle: int) -> Iterator[None]:
    """End with the supervisor at once, without a thread: for code that runs before confinement."""
    _on_parents_death(signal.SIGKILL)
    if select.select((handle,), (), (), 0)[0]:
        os._exit(1)  # it was gone before the kernel was told
    try:
        yield
    finally:
        wake_at_parents_death()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process, which holds nothing, when its parent ends or has ended."""
    _on_parents_death(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def wake_at_parents_death() -> None:
    """Have SIGCONT sent then: a stopped process would not notice that its supervisor is gone."""
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
