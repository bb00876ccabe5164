"""What lies outside of a served directory, and a race with links that lead there."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

SECRET = b"what nobody may see"


def picture(directory: Path) -> dict[str, object]:
    """The state of all files of a tree, without access times, for comparisons."""
    found: dict[str, object] = {}
    for path in (directory, *sorted(directory.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        found[str(path)] = (status.st_ino, status.st_mode, status.st_mtime_ns, content)
    return found


_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class Swapping:
    """Exchanges two names again and again, as long as the block lasts."""

    def __init__(self, one: Path, other: Path) -> None:
        names = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
        self._call = (*names, _RENAME_EXCHANGE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._swap)

    def _swap(self) -> None:
        while not self._stop.is_set():
            if _libc.renameat2(*self._call):
                raise OSError(ctypes.get_errno(), "renameat2")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
