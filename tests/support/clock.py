"""Another time of day for the processes that a test starts."""

from __future__ import annotations

import glob

from tests.support.programs import need


def shim() -> str:
    """The library that shows processes another clock, but not another monotonic one."""
    need("faketime")
    (found,) = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    return found
