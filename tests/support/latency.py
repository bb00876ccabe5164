"""How long commands take while another client does something, compared with before."""

from __future__ import annotations

import time
from collections.abc import Callable

_NOTICED = 3.0
_FLOOR = 0.01
"""Seconds. Shorter times depend more on what else the machine does."""
_LOOKS = 6


def felt_time(operation: Callable[[], object], seconds: float = 1.5) -> float:
    """Seconds that an operation takes if it begins at a random moment: the median over time.

    The median over operations would not do: a server that stands still for 50 ms, and then serves a
    hundred operations in 2 ms, is slow most of the time.
    """
    took = []
    now = begin = time.perf_counter()
    while now < begin + seconds:
        before = now
        operation()
        now = time.perf_counter()
        took.append(now - before)
    rest = (now - begin) / 2
    for each in sorted(took):
        rest -= each
        if rest <= 0:
            return each
    raise AssertionError


def assert_unnoticed(operation: Callable[[], object], quiet: float) -> None:
    """Assert that it takes at most three times ``quiet``, its time while nobody else did anything.

    It is measured several times, since the machine may be busy with other things.
    """
    bound = max(_NOTICED * quiet, _FLOOR)
    seen = []
    for _ in range(_LOOKS):
        seen.append(felt_time(operation))
        if seen[-1] < bound:
            break
    told = ", ".join(f"{each * 1e3:.2f}" for each in seen)
    print(f"{quiet * 1e3:.2f} ms, meanwhile {told} ms")
    assert seen[-1] < bound
