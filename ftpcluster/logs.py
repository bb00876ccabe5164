"""The log of a process: lines on stderr, which name it.

What sessions do is told often, so ``tell`` leaves out all of ``logging`` that nobody sees: a line
costs 1 µs instead of 8. It cannot be gathered for later either: planning that costs the loop more.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import time

_sessions = logging.getLogger("ftpcluster.session")


class _Lines(logging.Handler):
    """Writes lines to a descriptor, each with one call."""

    def __init__(self, process: str, fd: int) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._process = process
        self._fd = fd
        self._second = -1
        self._time = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(record.levelno, self.format(record))
        except Exception:
            self.handleError(record)

    def write(self, level: int, text: str) -> None:
        """A line of now."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._time = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        milliseconds = int((now - second) * 1000)
        name = logging.getLevelName(level)
        line = f"{self._time},{milliseconds:03d} {name} {self._process}: {text}\n"
        self._write(line.encode("utf-8", "backslashreplace"))

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody who shares it made it so
                select.select((), (self._fd,), ())
            except OSError:
                return  # whoever read the log is gone, or its disk is full: nobody can be told


_lines: _Lines | None = None


def log_to_stderr(process: str, level: str) -> None:
    """Log what is at least of ``level``, as lines that say which ``process`` they are of."""
    global _lines
    _lines = _Lines(process, sys.stderr.fileno())
    logging.basicConfig(level=level.upper(), handlers=[_lines])


def is_told(level: int) -> bool:
    """Whether anybody wants to know what sessions do, at that level."""
    return _sessions.isEnabledFor(level)


def tell(level: int, text: str) -> None:
    """An event of a session; to ``logging`` where the process's log is somebody else's."""
    if _lines is None:
        _sessions.log(level, "%s", text)
    else:
        _lines.write(level, text)
