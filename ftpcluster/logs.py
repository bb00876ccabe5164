"""The log of a process: lines of text or JSON objects, with its name, each written with one call.

Sessions log often. So ``tell`` bypasses most of ``logging``: a line takes 1 µs in place of 8. Lines
are not gathered to be written together: the callback that wrote them would take longer.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Literal

import msgspec

from ftpcluster.linewriter import LineWriter, Losses
from ftpcluster.protocol.text import visible

LogFormat = Literal["text", "json"]

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_MILLISECONDS = tuple(f",{number:03d} " for number in range(1000))
_sessions = logging.getLogger("ftpcluster.session")
is_told = _sessions.isEnabledFor
"""``is_told(level)``: whether the log takes events of sessions of that level."""


class Who(msgspec.Struct, frozen=True):
    """The session that an event is about, and its user once that has logged in."""

    session: int
    peer: str
    user: str = ""
    text: str = ""
    """It is printable."""

    @classmethod
    def of(cls, session: int, peer: str, user: str = "") -> Who:
        return cls(session, peer, user, visible(f"[{session}] {peer} {user or '-'}"))

    def __str__(self) -> str:
        return self.text


class _Lines(logging.Handler, Losses):
    """Formats lines of text, and writes each with one call."""

    def __init__(self, process: str, writer: LineWriter) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self._process = process
        self._writer = writer
        self._second = -1
        self._time = ""
        self._heads = {level: self._head(level) for level in _LEVELS}

    def _head(self, level: int) -> str:
        """What stands between the time and the text."""
        return f"{logging.getLevelName(level)} {self._process}: "

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(record.levelno, self.format(record))
        except Exception:
            self.handleError(record)

    def write(self, level: int, text: str, *, is_printable: bool = False) -> None:
        """Write a line. ``is_printable``: it is known that all of it is."""
        now = time.time()
        head = self._heads.get(level)
        is_printable = is_printable or text.isprintable()
        if int(now) == self._second and head is not None and is_printable:
            # as ``_encoded``, without its call
            line = f"{self._time}{_MILLISECONDS[int((now - self._second) * 1000)]}{head}{text}\n"
            self._writer.write(line.encode("utf-8", "backslashreplace"))
        else:
            self._writer.write(self._encoded(level, text))

    def line(self, count: int, why: str) -> bytes:
        return self._encoded(logging.WARNING, _of_losses(count, why))

    def _encoded(self, level: int, text: str) -> bytes:
        """A line. If the text has several, those behind the first are indented, so that none can
        be taken for a line of the log."""
        if not text.isprintable():
            text = "\n  ".join(_tabbed(line) for line in text.split("\n"))
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._time = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        head = self._heads.get(level) or self._head(level)
        line = f"{self._time}{_MILLISECONDS[int((now - second) * 1000)]}{head}{text}\n"
        return line.encode("utf-8", "backslashreplace")


class _Objects(_Lines):
    """Writes JSON objects in place of text, one a line."""

    _zone = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, object] = {}
            if record.exc_info:
                fields["traceback"] = logging.Formatter().formatException(record.exc_info)
            self.write_fields(record.levelno, record.getMessage(), fields)
        except Exception:
            self.handleError(record)

    def write_fields(self, level: int, message: str, more: Mapping[str, object]) -> None:
        self._writer.write(self._object(level, message, more))

    def line(self, count: int, why: str) -> bytes:
        return self._object(logging.WARNING, _of_losses(count, why), {"lost": count})

    def _object(self, level: int, message: str, more: Mapping[str, object]) -> bytes:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            local = time.localtime(second)
            self._time = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            zone = time.strftime("%z", local)
            self._zone = f"{zone[:3]}:{zone[3:]}"
        fields = {
            "time": f"{self._time}.{int((now - second) * 1000):03d}{self._zone}",
            "level": logging.getLevelName(level).lower(),
            "process": self._process,
            "message": message,
            **more,
        }
        try:
            line = msgspec.json.encode(fields)
        except UnicodeEncodeError:  # a name that is not UTF-8
            line = msgspec.json.encode({key: _sendable(value) for key, value in fields.items()})
        if not line.decode().isprintable():  # escaped: a terminal would obey control characters
            line = json.dumps(msgspec.json.decode(line), separators=(",", ":")).encode()
        return line + b"\n"

    def tell(self, level: int, who: Who, text: str, fields: Mapping[str, object]) -> None:
        about: dict[str, object] = {"session": who.session, "peer": who.peer}
        if who.user:
            about["user"] = who.user
        self.write_fields(level, text, {**about, **fields})


def _tabbed(line: str) -> str:
    return "\t".join(map(visible, line.split("\t")))


def _sendable(value: object) -> object:
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _of_losses(count: int, why: str) -> str:
    lines = "1 line" if count == 1 else f"{count} lines"
    return f"{lines} could not be written here: {why}"


_writer: LineWriter | None = None
_lines: _Lines | None = None
_objects: _Objects | None = None


def log_to(fd: int, process: str, level: str, form: LogFormat = "text") -> None:
    """Log from ``level`` on to a descriptor, with the name of this process in each line.

    A second call replaces the settings of the first one.
    """
    global _lines, _objects, _writer
    if _writer is None or _writer.fd != fd:
        _writer = LineWriter(fd, Losses())
    _objects = _Objects(process, _writer) if form == "json" else None
    _lines = _objects or _Lines(process, _writer)
    _writer.losses = _lines
    logging.basicConfig(level=level.upper(), handlers=[_lines], force=True)


def has_fields() -> bool:
    """Whether the log is JSON, so that ``tell`` uses its ``fields``."""
    return _objects is not None


def tell(
    level: int,
    who: Who,
    text: str,
    fields: Mapping[str, object] | None = None,
    *,
    is_printable: bool = False,
) -> None:
    """Log an event of a session; through ``logging`` where ``log_to`` was not called (the library).

    ``fields``: the facts of ``text``, for programs that read JSON. ``is_printable``: ``text`` is
    known to be; to look takes a tenth of the line's time.
    """
    if _lines is None:
        _sessions.log(level, "%s: %s", who.text, text)
    elif _objects is None:
        _lines.write(level, f"{who.text}: {text}", is_printable=is_printable)
    else:
        _objects.tell(level, who, text, fields or {})
