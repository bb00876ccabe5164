"""Command lines: verb and argument (RFC 959 section 5.3), as they come over a Telnet connection.

``CommandLines`` splits what was received into lines. Its bounds protect the server's memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ftpcluster.native import NATIVE
from ftpcluster.protocol.errors import ArgumentProblem

if NATIVE:
    from ftpcluster._native.single_line import one_line
else:
    from ftpcluster.protocol.single_line import one_line

MAX_LINE = 4096
"""Bytes of a command line at most. A longer line is discarded, and its reply is 500."""
MAX_RUBBISH = 64 * 1024
"""Bytes without a newline at most. More of them end the session."""

_IAC = 0xFF
# Telnet (RFC 854): IAC IAC is one 0xFF; IAC with WILL/WONT/DO/DONT takes an option byte;
# every other IAC x (IP, Synch's DM, …) is two bytes. Clients put IP and Synch before ABOR.
_TELNET = re.compile(rb"\xff(?:\xff|[\xfb-\xfe].?|.?)", re.DOTALL)
_EMPTY = re.compile(rb"(?:\r*\n)+")
_FORBIDDEN = re.compile(r"[\0\r\n]")


def strip_telnet(line: bytes) -> bytes:
    """Remove Telnet commands from a line. A doubled 0xFF becomes one."""
    return _TELNET.sub(lambda m: b"\xff" if m[0] == b"\xff\xff" else b"", line)


def split_line(line: bytes) -> tuple[bytes, bytes]:
    """Split a line without its newline: the verb in upper case, and the argument, if any."""
    if _IAC in line:
        line = strip_telnet(line)
    verb, _, argument = line.partition(b" ")
    return verb.upper(), argument


def to_text(argument: bytes, encoding: str = "utf-8") -> str:
    """Decode an argument. Bytes that are invalid in ``encoding`` become surrogate escapes."""
    return argument.decode(encoding, "surrogateescape")


def check_argument(argument: str) -> str:
    """Return ``argument``. Raises ArgumentProblem (501) if NUL, CR or LF is in it."""
    if not argument.isprintable() and _FORBIDDEN.search(argument):
        raise ArgumentProblem("NUL, CR and LF are not allowed in an argument.")
    return argument


class TooMuchRubbish(Exception):
    """More than MAX_RUBBISH bytes came without a newline."""


TOO_LONG = b"\n"
"""Takes the place of the verb where a line was longer than MAX_LINE. No client can send it."""


class CommandLines:
    """The command lines of a client that have not been obeyed yet.

    The next one is the head: it is split into verb and argument. Those behind it stay bytes: as
    objects, lines of one byte would take a hundred times the memory. The caller bounds their number
    by ``len``. However often ``has`` is called, it looks at each line once.
    """

    __slots__ = (
        "_buffer",
        "_complete",
        "_discarded",
        "_found",
        "_head",
        "_head_line",
        "_looked",
        "_start",
    )

    def __init__(self, sought: Iterable[bytes] = ()) -> None:
        """``sought``: the verbs that ``has`` can look for, in upper case, of four letters each."""
        self._head: tuple[bytes, bytes] | None = None
        self._head_line = b""
        self._buffer = b""
        self._start = 0  # where the lines behind the head begin in the buffer
        self._complete = 0  # where the last complete line ends
        self._looked = 0  # where the lines end that ``has`` has looked at
        self._found = dict.fromkeys(sought, 0)
        self._discarded = 0  # bytes of a line that is too long, beyond MAX_LINE + 1

    def __len__(self) -> int:
        """Bytes that are held behind the head."""
        return len(self._buffer) - self._start

    def __bool__(self) -> bool:
        """Whether a command waits."""
        return self.head() is not None

    @property
    def holds_anything(self) -> bool:
        """Whether anything is held at all, even a part of a line, or an empty one."""
        return self._head is not None or self._start < len(self._buffer)

    def split_single(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Split ``data`` at once if it is just one line and no line is held, the common case.

        Returns verb and argument; nothing is held afterwards. Returns None in all other cases: then
        the caller has to ``feed`` the data.
        """
        if self._buffer or self._head is not None or len(data) > MAX_LINE:
            return None
        return one_line(data)

    def feed(self, data: bytes) -> None:
        """Add bytes that were received. Raises TooMuchRubbish."""
        if self._start:
            self._buffer = self._buffer[self._start :]
            self._complete -= self._start
            self._looked = max(0, self._looked - self._start)
            self._start = 0
        if len(self._buffer) - self._complete + len(data) <= MAX_LINE:
            self._buffer += data
            self._complete = self._buffer.rfind(b"\n", self._complete) + 1 or self._complete
        else:
            self._feed_line_by_line(data)

    def _feed_line_by_line(self, data: bytes) -> None:
        line, newline, rest = data.partition(b"\n")
        self._append(line)
        while newline:
            self._discarded = 0
            # lines that cannot be too long need not be looked at one by one
            end = rest.rfind(b"\n", 0, MAX_LINE + 1) + 1
            self._buffer += b"\n" + rest[:end]
            self._complete = len(self._buffer)
            line, newline, rest = rest[end:].partition(b"\n")
            self._append(line)

    def _append(self, piece: bytes) -> None:
        """Add to the last line. Of a line that is too long, MAX_LINE + 1 bytes are kept."""
        room = MAX_LINE + 1 - (len(self._buffer) - self._complete)
        self._buffer += piece[:room]
        self._discarded += max(0, len(piece) - room)
        if self._discarded > MAX_RUBBISH - MAX_LINE - 1:
            raise TooMuchRubbish

    def head(self) -> tuple[bytes, bytes] | None:
        """Verb and argument of the next command; the same one until ``take`` is called.

        None where no whole line is held. Empty lines are skipped. All CRs before a newline belong
        to it.
        """
        while self._head is None and self._start < self._complete:
            end = self._buffer.find(b"\n", self._start)
            line = self._buffer[self._start : end]
            if self._looked > end and (verb := self._sought_verb(line)) is not None:
                self._found[verb] -= 1
            self._start = end + 1
            self._head_line = line
            if len(line) > MAX_LINE:
                self._head = TOO_LONG, b""
            elif line := line.rstrip(b"\r"):
                self._head = split_line(line)
            elif (empty := _EMPTY.match(self._buffer, self._start, self._complete)) is not None:
                # one by one, thousands of empty lines would keep the loop for milliseconds
                self._start = empty.end()
            if self._start == len(self._buffer):
                self._buffer = b""
                self._start = self._complete = self._looked = 0
        return self._head

    def take(self) -> None:
        """Remove the head."""
        self._head = None

    def take_all(self) -> bytes:
        """Remove and return all bytes that are held. A line that was too long lacks its end."""
        head = b"" if self._head is None else self._head_line + b"\n"
        held = head + self._buffer[self._start :]
        self.clear()
        return held

    def push_back(self, data: bytes) -> None:
        """Put bytes in front of those that are held. Raises TooMuchRubbish."""
        if data:
            self.feed(data + self.take_all())

    def has(self, verb: bytes) -> bool:
        """Whether a command with this verb is held. ``verb`` must be one of ``sought``."""
        head = self.head()
        new = max(self._start, self._looked)
        if new < self._complete:
            for line in self._buffer[new : self._complete].split(b"\n"):
                if (found := self._sought_verb(line)) is not None:
                    self._found[found] += 1
            self._looked = self._complete
        return self._found[verb] > 0 or (head is not None and head[0] == verb)

    def _sought_verb(self, line: bytes) -> bytes | None:
        if len(line) > MAX_LINE:
            return None
        command = line.rstrip(b"\r")
        verb, _ = split_line(command if _IAC in command else command[:5])
        return verb if verb in self._found else None

    def clear(self) -> None:
        """Discard all lines."""
        self._head = None
        self._buffer = b""
        self._start = self._complete = self._looked = self._discarded = 0
        self._found = dict.fromkeys(self._found, 0)


def integer(argument: str, most: int = 2**63 - 1) -> int:
    """Parse a number of REST or ALLO: ASCII digits, up to ``most``. Else ArgumentProblem (501)."""
    if not (argument.isascii() and argument.isdigit()) or len(argument) > 19:
        raise ArgumentProblem("Expected a decimal number.")
    number = int(argument)
    if number > most:
        raise ArgumentProblem("The number is too large.")
    return number
