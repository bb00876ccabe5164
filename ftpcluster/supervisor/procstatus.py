"""Facts about a process that only /proc/PID shows, and no system call."""

from __future__ import annotations

import re
from pathlib import Path


def number_in_status(pid: int | str | None, field: str) -> int | None:
    """A number in /proc/PID/status; None: the process has ended, or the kernel is too old."""
    try:
        # bytes: as text a CR in the process's name would end its line
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return None
    found = re.search(rb"^%s:\s*(\d+)$" % field.encode(), status, re.MULTILINE)
    return None if found is None else int(found[1])


def stuck_thread(pid: int) -> int | None:
    """A thread of a process that is in a system call which no signal interrupts, or None."""
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            # after the name, which may contain any character
            if (task / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"D":
                return int(task.name)
    except OSError:
        pass  # it ends just now
    return None


def ended_children(name: bytes, apart_from: int) -> list[int]:
    """Children of this process with that name that have ended and were not reaped. Raises OSError
    where /proc does not say."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for child in map(int, (task / "children").read_bytes().split()):
            # the name in parentheses, which may contain any character, and then the state
            status = Path(f"/proc/{child}/stat").read_bytes()
            if b"(%s) Z " % name in status and child != apart_from:
                found.append(child)
    return found
