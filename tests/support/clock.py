"""Another time of day for the processes that a test starts."""

from __future__ import annotations

import glob

from tests.support.programs import need


def shim() -> str:
    """The path of libfaketime: it changes the time of day of a process, and no monotonic clock."""
    need("faketime")
    (found,) = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    return found
