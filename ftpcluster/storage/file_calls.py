"""What an open file is asked again and again. The compiled twin is ``_native/file_calls.pyx``."""

from __future__ import annotations

import errno
import os

_one_byte = bytearray(1)


def count_links(fd: int) -> int:
    """The number of names that the file has."""
    return os.fstat(fd).st_nlink


def is_in_memory(fd: int, offset: int) -> bool | None:
    """Whether the page at ``offset`` is in memory; None where the file system cannot say."""
    try:
        os.preadv(fd, (_one_byte,), offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return None
    return True
