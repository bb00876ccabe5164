"""Numbers from /proc/PID/status, which tells of a process what no system call does."""

from __future__ import annotations

import re
from pathlib import Path


def number_in_status(pid: int | str | None, field: str) -> int | None:
    """None where the process has ended, or the kernel is too old to tell."""
    try:
        # bytes: as text a CR in the process's name would end its line
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return None
    found = re.search(rb"^%s:\s*(\d+)$" % field.encode(), status, re.MULTILINE)
    return None if found is None else int(found[1])
