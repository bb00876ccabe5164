"""What a process of ours sets for itself: its garbage collector, and which thread hears signals."""

from __future__ import annotations

import gc
import signal

_COLLECTOR = (10_000, 20, 20)
"""Thresholds of the garbage collector: sessions leave few cycles behind."""


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
