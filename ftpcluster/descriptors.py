"""Closing descriptors without regard to errors."""

from __future__ import annotations

import os


def close_quietly(fd: int) -> None:
    """Close a descriptor through which no file was written, such as a socket or a directory.

    Linux frees the descriptor even where close(2) fails, so nothing is left to do. An exception
    would only keep the caller from releasing other things. A file that was written needs
    ``os.close``: its error may be the first one to tell that the disk has refused the data.
    """
    try:
        os.close(fd)
    except OSError:
        pass
