"""What a process of ours sets for itself: its standard streams, its garbage collector, and which
thread hears signals."""

from __future__ import annotations

import gc
import os
import signal
import sys

_COLLECTOR = (10_000, 20, 20)
"""Thresholds of the garbage collector: sessions leave few cycles behind."""


def open_missing() -> None:
    """Whichever was closed becomes /dev/null.

    Else the next socket or log would have its number, and get what is meant for it.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # lower ones are open by now: it is the first number that is free
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003
            setattr(sys, name, os.fdopen(fd, mode, errors="backslashreplace", closefd=False))


def settle_collector() -> None:
    """What was imported stays: the collector need not look at it for every new session."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR)


def leave_aborts_to_the_main_thread() -> None:
    """For the calling thread, and those that it starts: SIGABRT asks the main one where it stands.

    A thread that was answering for it would look at its frames while it runs, and crash.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGABRT,))
