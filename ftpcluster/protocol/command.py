"""A command line: verb and argument (RFC 959 section 5.3), as it comes over a Telnet connection.

Also the splitting of what was received into lines, with the bounds that protect the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ftpcluster.protocol.errors import ArgumentProblem

MAX_LINE = 4096
"""Bytes of a command line; a longer one is answered 500 and discarded up to its newline."""
MAX_RUBBISH = 64 * 1024
"""Bytes without a newline after which a session ends."""

_IAC = 0xFF
# Telnet (RFC 854): IAC IAC is one 0xFF; IAC with WILL/WONT/DO/DONT takes an option byte;
# every other IAC x (IP, Synch's DM, …) is two bytes. Clients put IP and Synch before ABOR.
_TELNET = re.compile(rb"\xff(?:\xff|[\xfb-\xfe].?|.?)", re.DOTALL)
_ONE_LINE = re.compile(rb"([^ \r\n\xff]+)(?: ([^\r\n\xff]*))?\r*\n")
_EMPTY = re.compile(rb"(?:\r*\n)+")
_FORBIDDEN = re.compile(r"[\0\r\n]")


def strip_telnet(line: bytes) -> bytes:
    """The line without Telnet commands; a doubled 0xFF becomes one."""
    return _TELNET.sub(lambda m: b"\xff" if m[0] == b"\xff\xff" else b"", line)


def split_line(line: bytes) -> tuple[bytes, bytes]:
    """Verb (upper case) and argument, which may be empty, of a line without its newline."""
    if _IAC in line:
        line = strip_telnet(line)
    verb, _, argument = line.partition(b" ")
    return verb.upper(), argument


def to_text(argument: bytes, encoding: str = "utf-8") -> str:
    """An argument as text; bytes that are invalid in ``encoding`` become surrogate escapes."""
    return argument.decode(encoding, "surrogateescape")


def check_argument(argument: str) -> str:
    """The argument, where it may be one. NUL, CR and LF cannot be part of it (501)."""
    if not argument.isprintable() and _FORBIDDEN.search(argument):
        raise ArgumentProblem("Control characters are not allowed in an argument.")
    return argument


class TooMuchRubbish(Exception):
    """More than MAX_RUBBISH bytes came without a newline."""


TOO_LONG = b"\n"
"""The verb of a line that was longer than MAX_LINE. A client cannot send it: it is a newline."""


class CommandLines:
    """The lines that a client has sent and that were not obeyed yet, within bounds.

    They stay bytes until it is their turn: as objects, lines of one byte would take a hundred times
    the room. Each line is looked at once, however many follow it, and however often ``has`` asks.
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
        """``sought``: the verbs that ``has`` can look for, of four letters each."""
        self._head: tuple[bytes, bytes] | None = None
        self._head_line = b""
        self._buffer = b""
        self._start = 0  # where the lines behind the head begin
        self._complete = 0  # where the complete ones of them end
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

    def only(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Verb and argument, where ``data`` is one whole line and nothing is held: as most come.

        Else None. The line is the caller's to obey, and is not held.
        """
        if self._buffer or self._head is not None or len(data) > MAX_LINE:
            return None
        match = _ONE_LINE.fullmatch(data)
        if match is None:
            return None
        verb, argument = match.groups(b"")
        return verb.upper(), argument

    def feed(self, data: bytes) -> None:
        """Add what was received. Raises TooMuchRubbish."""
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
        """Add to the last line. Of one that is too long MAX_LINE + 1 bytes are kept as a sign."""
        room = MAX_LINE + 1 - (len(self._buffer) - self._complete)
        self._buffer += piece[:room]
        self._discarded += max(0, len(piece) - room)
        if self._discarded > MAX_RUBBISH - MAX_LINE - 1:
            raise TooMuchRubbish

    def head(self) -> tuple[bytes, bytes] | None:
        """Verb and argument of the command whose turn it is, until it is taken.

        Empty lines are skipped, and CRs before the newline belong to it, however many there are.
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
                # one by one, thousands of them would take milliseconds of a turn
                self._start = empty.end()
            if self._start == len(self._buffer):
                self._buffer = b""
                self._start = self._complete = self._looked = 0
        return self._head

    def take(self) -> None:
        """Remove the head."""
        self._head = None

    def take_all(self) -> bytes:
        """Remove everything that is held, as it came but for a line that was too long."""
        head = b"" if self._head is None else self._head_line + b"\n"
        held = head + self._buffer[self._start :]
        self.clear()
        return held

    def push_back(self, data: bytes) -> None:
        """Put what was taken in front of what is held. Raises TooMuchRubbish."""
        if data:
            self.feed(data + self.take_all())

    def has(self, verb: bytes) -> bool:
        """Whether a command with this verb waits; it must be one of ``sought``."""
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
        """Throw all lines away."""
        self._head = None
        self._buffer = b""
        self._start = self._complete = self._looked = self._discarded = 0
        self._found = dict.fromkeys(self._found, 0)


def integer(argument: str, most: int = 2**63 - 1) -> int:
    """A decimal number as REST and ALLO take it: ASCII digits only, within bounds, else 501."""
    if not (argument.isascii() and argument.isdigit()) or len(argument) > 19:
        raise ArgumentProblem("Expected a decimal number.")
    number = int(argument)
    if number > most:
        raise ArgumentProblem("The number is too large.")
    return number
