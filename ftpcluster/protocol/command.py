"""A command line: verb and argument (RFC 959 section 5.3), as it comes over a Telnet connection.

Also the splitting of what was received into lines, with the bounds that protect the server.
"""

from __future__ import annotations

import re

from ftpcluster.protocol.errors import ArgumentProblem

MAX_LINE = 4096
"""Bytes of a command line; a longer one is answered 500 and discarded up to its newline."""
MAX_RUBBISH = 64 * 1024
"""Bytes without a newline after which a session ends."""

_IAC = 0xFF
# Telnet (RFC 854): IAC IAC is one 0xFF; IAC with WILL/WONT/DO/DONT takes an option byte;
# every other IAC x (IP, Synch's DM, …) is two bytes. Clients put IP and Synch before ABOR.
_TELNET = re.compile(rb"\xff(?:\xff|[\xfb-\xfe].?|.?)", re.DOTALL)
_FORBIDDEN = re.compile(r"[\0\r\n]")


def strip_telnet(line: bytes) -> bytes:
    """The line without Telnet commands; a doubled 0xFF becomes one."""
    return _TELNET.sub(lambda m: b"\xff" if m[0] == b"\xff\xff" else b"", line)


def split_command(line: bytes, encoding: str = "utf-8") -> tuple[bytes, str]:
    """Verb (upper case) and argument ("" where there is none) of a line without its newline.

    The argument's bytes that are not text in ``encoding`` survive as surrogate escapes.
    """
    if _IAC in line:
        line = strip_telnet(line)
    verb, _, argument = line.partition(b" ")
    return verb.upper(), argument.decode(encoding, "surrogateescape")


def check_argument(argument: str) -> str:
    """The argument, where it may be one. NUL, CR and LF cannot be part of it (501)."""
    if not argument.isprintable() and _FORBIDDEN.search(argument):
        raise ArgumentProblem("Control characters are not allowed in an argument.")
    return argument


class TooMuchRubbish(Exception):
    """More than MAX_RUBBISH bytes came without a newline."""


class LineSplitter:
    """Splits what was received into lines, within bounds.

    ``feed`` returns the lines that are complete, without their newline (CRLF or bare LF); None
    stands for a line that was too long and has been thrown away.
    """

    __slots__ = ("_discarded", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._discarded = 0

    @property
    def pending(self) -> bool:
        """Whether a part of a line has been received."""
        return bool(self._rest or self._discarded)

    def feed(self, data: bytes) -> list[bytes | None]:
        *complete, rest = (self._rest + data if self._rest else data).split(b"\n")
        lines: list[bytes | None] = []
        for line in complete:
            if self._discarded + len(line) > MAX_RUBBISH:
                raise TooMuchRubbish
            if self._discarded or len(line) > MAX_LINE:
                self._discarded = 0
                lines.append(None)
            else:
                lines.append(line[:-1] if line.endswith(b"\r") else line)
        if self._discarded or len(rest) > MAX_LINE:
            self._discarded += len(rest)
            rest = b""
            if self._discarded > MAX_RUBBISH:
                raise TooMuchRubbish
        self._rest = rest
        return lines


def integer(argument: str, most: int = 2**63 - 1) -> int:
    """A decimal number as REST and ALLO take it: ASCII digits only, within bounds, else 501."""
    if not (argument.isascii() and argument.isdigit()) or len(argument) > 19:
        raise ArgumentProblem("Expected a decimal number.")
    number = int(argument)
    if number > most:
        raise ArgumentProblem("The number is too large.")
    return number
