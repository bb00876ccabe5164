"""The entries of an open directory, read in batches."""

from __future__ import annotations

import math
import os
import stat
import time
from collections.abc import Iterator

from ftpcluster.storage.base import Entry


def entries_in(fd: int, most: int, seconds: float | None = None) -> Iterator[list[Entry]]:
    """Batches of ``most`` entries, each read in about ``seconds`` at the most. ``fd`` stays open.

    Raises OSError.
    """
    due = math.inf if seconds is None else time.monotonic() + seconds
    with os.scandir(fd) as entries:
        batch: list[Entry] = []
        for entry in entries:
            try:
                # which takes less than entry.stat() does of a scanned descriptor
                status = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
                is_link = stat.S_ISLNK(status.st_mode)
                target = os.readlink(entry.name, dir_fd=fd) if is_link else None
            except (FileNotFoundError, PermissionError):
                # removed meanwhile, or not for this server, as somebody's FUSE may be. Any
                # other error fails the listing: mirrors take what it lacks for removed
                continue
            batch.append((entry.name, status, target))
            if len(batch) == most or (seconds is not None and time.monotonic() > due):
                yield batch
                batch = []
                due = math.inf if seconds is None else time.monotonic() + seconds
        if batch:
            yield batch
