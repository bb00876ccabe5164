"""What each process of the server sets: standard streams, garbage collector, signals of threads."""

from __future__ import annotations

import gc
import os
import signal
import sys

_COLLECTOR = (10_000, 20, 20)
"""Thresholds of the garbage collector, high since sessions leave few reference cycles."""


def open_standard_streams() -> None:
    """Open /dev/null for each standard stream that is closed.

    Else the next socket or log file would get its number, and what is written to the stream.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            # the lower numbers are in use by now, so open() returns this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003
            setattr(sys, name, os.fdopen(fd, mode, errors="backslashreplace", closefd=False))


def settle_collector() -> None:
    """Exempt all objects that exist now, those of modules, from garbage collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR)


def leave_aborts_to_the_main_thread() -> None:
    """Block SIGABRT in the calling thread, and in those that it starts.

    At SIGABRT, which the supervisor sends, faulthandler writes the stacks of all threads. In
    another thread it would read the main thread's frames while that runs, and crash.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGABRT,))
