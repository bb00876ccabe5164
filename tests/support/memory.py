"""What memory a process has, by the kernel's account (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path


def resident(pid: int) -> int:
    """Resident bytes, those of mapped files included."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def anonymous(pid: int) -> int:
    """Resident bytes that are not a file's: they do not depend on other processes.

    (PSS does: it falls when another process maps the same libraries.)
    """
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (size,) = (line.split()[1] for line in rollup if line.startswith("Anonymous:"))
    return int(size) * 1024
