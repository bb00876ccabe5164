"""Descriptors that are given up, whatever their close says."""

from __future__ import annotations

import os


def close_quietly(fd: int) -> None:
    """Close what nothing was written to, as a socket or a directory.

    Linux frees the descriptor even where close(2) fails, so nothing can be done; and an exception
    would keep its caller from giving back the rest. What was written to is another matter: there
    close may be the first to say that the disk has refused it.
    """
    try:
        os.close(fd)
    except OSError:
        pass
