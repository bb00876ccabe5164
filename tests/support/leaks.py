"""Whether calls leave objects, references or descriptors behind."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable


def open_descriptors() -> set[int]:
    """Those of this process, without the one that looks."""
    names = os.listdir("/proc/self/fd")
    return {int(name) for name in names if os.path.exists(f"/proc/self/fd/{name}")}


def assert_leaves_nothing(call: Callable[[], object], times: int = 2000, *kept: object) -> None:
    """``call`` neither keeps memory nor descriptors, nor references to ``kept``."""
    for _ in range(20):
        call()
    gc.collect()
    descriptors, counts = open_descriptors(), [sys.getrefcount(each) for each in kept]
    blocks = sys.getallocatedblocks()
    for _ in range(times):
        call()
    gc.collect()
    assert sys.getallocatedblocks() - blocks < times / 10
    assert open_descriptors() == descriptors
    for each, count in zip(kept, counts, strict=True):
        assert abs(sys.getrefcount(each) - count) < times / 10, each
