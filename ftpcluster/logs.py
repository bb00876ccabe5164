"""The log of a process: lines on stderr, which name it.

The lines of one turn of the loop are written with one call, those from WARNING on at once.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time


def log_to_stderr(process: str, level: str) -> None:
    """Log what is at least of ``level``, as lines that say which ``process`` they are of."""
    # nobody asks for these, and they cost more than all the rest of a record
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined,unused-ignore]
    logging._srcfile = None  # as the logging HOWTO has it
    handler = _Lines(sys.stderr)
    handler.setFormatter(_Formatter(f"%(asctime)s %(levelname)s {process}: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _Formatter(logging.Formatter):
    """The usual times, of which the part to the second is made once a second."""

    _second = -1
    _text = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._text},{int(record.msecs):03d}"


class _Lines(logging.StreamHandler):  # type: ignore[type-arg]
    """Gathers the lines of a turn."""

    def __init__(self, stream: object) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + self.terminator)
            if record.levelno < logging.WARNING and self._write_later():
                return
            self._write()
        except Exception:
            self.handleError(record)

    def _write_later(self) -> bool:
        if len(self._lines) > 1:
            return True  # it is planned already
        try:
            asyncio.get_running_loop().call_soon(self.flush)
        except RuntimeError:  # no loop runs (in this thread)
            return False
        return True

    def _write(self) -> None:
        lines, self._lines = "".join(self._lines), []
        if lines:
            self.stream.write(lines)
        super().flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        with self.lock:  # type: ignore[union-attr]
            self._write()
