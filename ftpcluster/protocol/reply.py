"""Replies of the server-PI (RFC 959 section 4.2; RFC 2228, 2428 and 3659 add to them).

No other module writes reply codes in digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum
from functools import lru_cache


class Code(IntEnum):
    """Reply codes, named in the words of RFC 959 section 4.2.1 where it has some."""

    FILE_STATUS_OK = 150
    OK = 200
    SUPERFLUOUS = 202
    SYSTEM_STATUS = 211
    HELP_MESSAGE = 214
    FILE_STATUS = 213
    SYSTEM_TYPE = 215
    SERVICE_READY = 220
    CLOSING_CONTROL_CONNECTION = 221
    NO_TRANSFER_IN_PROGRESS = 225
    TRANSFER_COMPLETE = 226
    ENTERING_PASSIVE_MODE = 227
    ENTERING_EXTENDED_PASSIVE_MODE = 229
    LOGGED_IN = 230
    FILE_ACTION_COMPLETED = 250
    PATHNAME = 257
    SECURITY_EXCHANGE = 234
    NEED_PASSWORD = 331
    PENDING_FURTHER_INFORMATION = 350
    SERVICE_NOT_AVAILABLE = 421
    CANNOT_OPEN_DATA_CONNECTION = 425
    TRANSFER_ABORTED = 426
    FILE_BUSY = 450
    LOCAL_ERROR = 451
    INSUFFICIENT_STORAGE = 452
    SYNTAX_ERROR = 500
    ARGUMENT_ERROR = 501
    NOT_IMPLEMENTED = 502
    BAD_SEQUENCE = 503
    PARAMETER_NOT_IMPLEMENTED = 504
    NETWORK_PROTOCOL_NOT_SUPPORTED = 522
    PROTECTION_REQUIRED = 522  # RFC 2428: an unknown address family; RFC 4217: this, too
    NOT_LOGGED_IN = 530
    COMMAND_PROTECTION_DENIED = 533
    REQUEST_DENIED = 534
    FILE_UNAVAILABLE = 550
    EXCEEDED_ALLOCATION = 552
    FILE_NAME_NOT_ALLOWED = 553
    INVALID_REST = 554


def on_wire(text: str, encoding: str) -> bytes:
    """Encode text for the wire. A character that ``encoding`` lacks becomes a question mark.

    Surrogate escapes, bytes of names that are not valid text, leave as the bytes that they were.
    """
    try:
        return text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return b"".join(_character(each, encoding) for each in text)


def _character(character: str, encoding: str) -> bytes:
    try:
        return character.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        return b"?"


class Then(Enum):
    """What the server does after a command's last reply."""

    GO_ON = "the next command is obeyed"
    START_TLS = "the control connection goes on as TLS"
    END_TLS = "the control connection goes on in the clear"
    CLOSE = "the session ends"


class Reply:
    """One reply: the line ``code text``, or several lines if there are ``lines``.

    These stand between ``code-text`` and ``code end``, each behind one space, as RFC 2389 (FEAT)
    and RFC 3659 (MLST) demand. ``then`` says what the server does afterwards.
    """

    __slots__ = ("_encoding", "_wire", "code", "end", "lines", "text", "then")
    _wire: bytes
    is_part = False
    """Whether this is only a part of a reply, which another object ends."""

    def __init__(
        self,
        code: int,
        text: str,
        lines: Iterable[str] = (),
        end: str = "End.",
        *,
        then: Then = Then.GO_ON,
    ) -> None:
        self.then = then
        self.code = code
        self.text = text
        self.lines = tuple(lines) if lines else ()
        self.end = end
        self._encoding = ""  # of what is kept in _wire

    def encode(self, encoding: str = "utf-8") -> bytes:
        """The reply as bytes for the wire."""
        if self._encoding != encoding:
            if type(self) is Reply and not self.lines:  # as ``_text``, without its call
                text = f"{int(self.code)} {self.text}\r\n"
            else:
                text = self._text()
            try:
                self._wire = text.encode(encoding, "surrogateescape")
            except UnicodeEncodeError:
                self._wire = on_wire(text, encoding)
            self._encoding = encoding
        return self._wire

    def _text(self) -> str:
        code = int(self.code)  # an IntEnum takes thrice as long to format
        if not self.lines:  # the common case
            return f"{code} {self.text}\r\n"
        middle = "".join(f" {line}\r\n" for line in self.lines)
        return f"{code}-{self.text}\r\n{middle}{code} {self.end}\r\n"

    def __repr__(self) -> str:
        return f"Reply({int(self.code)}, {self.text!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Reply):
            return NotImplemented
        return self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())


class Opening(Reply):
    """The first line of a reply that is sent in parts: ``213-text``."""

    __slots__ = ()
    is_part = True

    def _text(self) -> str:
        return f"{int(self.code)}-{self.text}\r\n"


class ReplyLines(Reply):
    """Lines in the middle of a reply that is sent in parts. A Reply with the same code ends it."""

    __slots__ = ()
    is_part = True

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__(0, "", lines)

    def _text(self) -> str:
        return "".join(f" {line}\r\n" for line in self.lines)


class Replied(Reply):
    """Returned in place of a reply by a command that has sent all its replies itself."""

    __slots__ = ()
    is_part = True

    def __init__(self, then: Then) -> None:
        super().__init__(0, "", then=then)

    def encode(self, _: str = "utf-8") -> bytes:
        return b""


class CustomReply(Reply):
    """A reply of a custom command, which gives its code and its lines as text.

    ``as_list``: the lines between the first and the last begin with a space, not with the code.
    """

    __slots__ = ("_as_list",)

    def __init__(self, code: str, lines: tuple[str, ...], *, as_list: bool) -> None:
        super().__init__(int(code), "", lines)
        self._as_list = as_list

    def _text(self) -> str:
        *body, last = self.lines or ("",)
        code = f"{int(self.code):03d}"
        if self._as_list and body:
            head = f"{code}-{body[0]}\r\n" + "".join(f" {line}\r\n" for line in body[1:])
        else:
            head = "".join(f"{code}-{line}\r\n" for line in body)
        return f"{head}{code} {last}\r\n"


def quoted(path: str) -> str:
    """A path as 257 has it: in quotes, each quote within it doubled (RFC 959 appendix II)."""
    return '"' + path.replace('"', '""') + '"'


@lru_cache(maxsize=512)
def passive_mode(host: str, port: int) -> Reply:
    """227 with an IPv4 address and a port (RFC 959 section 4.1.2, RFC 1123 section 4.1.2.6)."""
    numbers = f"{host.replace('.', ',')},{port >> 8},{port & 255}"
    return Reply(Code.ENTERING_PASSIVE_MODE, f"Entering Passive Mode ({numbers}).")


@lru_cache(maxsize=512)
def extended_passive_mode(port: int) -> Reply:
    """229 with a port (RFC 2428 section 3)."""
    text = f"Entering Extended Passive Mode (|||{port}|)."
    return Reply(Code.ENTERING_EXTENDED_PASSIVE_MODE, text)
