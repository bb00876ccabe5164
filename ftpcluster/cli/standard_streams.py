"""stdin, stdout and stderr, which may be closed, full or gone."""

from __future__ import annotations

import errno
import os
import stat

import click

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def have_stderr_of_our_own() -> None:
    """Let no write to stderr wait for the reader of a pipe or a terminal.

    O_NONBLOCK would also hold for other processes that have inherited the same pipe. So stderr is
    opened anew, by its name in /proc; workers inherit the new descriptor. Where that is not
    permitted, a thread has to write.
    """
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(2).st_mode)
        if (is_pipe or os.isatty(2)) and os.get_blocking(2):
            ours = os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            os.dup2(ours, 2)
            os.close(ours)
    except OSError:
        pass


def say(line: str) -> None:
    """Write to stderr. Where that is full or gone, the line is lost and the server goes on."""
    try:
        click.echo(line, err=True)
    except OSError:
        pass


def is_full(error: OSError) -> bool:
    """Whether an error says that stdout is full. Errors of opening a file have its name."""
    return error.filename is None and error.errno in _FULL
