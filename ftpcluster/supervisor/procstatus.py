"""What /proc/PID tells of a process, and no system call does."""

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


def stuck_thread(pid: int) -> int | None:
    """The thread of a process that is in a system call which no signal interrupts, if one is."""
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            # behind the name, which may hold anything
            if (task / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"D":
                return int(task.name)
    except OSError:
        pass  # it ends just now
    return None
