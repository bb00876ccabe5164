"""The protocols that a TLS client offers in its ClientHello (ALPN, RFC 7301).

The ssl module does not tell them. They reveal a browser that was lured to this server (the ALPACA
attack): it offers "h2" and "http/1.1". An FTP client offers "ftp", or nothing.
"""

from __future__ import annotations

_HANDSHAKE_RECORD = 0x16
_CLIENT_HELLO = 1
_ALPN = b"\0\x10"
_RECORD_HEADER = 5
_MOST = (1 << 14) + 256
_MOST_RECORDS = 16
_MESSAGE_HEADER = 4


class TooManyRecords(ValueError):
    """A ClientHello is spread over more records than any honest client makes."""


def record_size(data: bytes) -> int:
    """How many bytes to read until the ClientHello is whole, as far as ``data`` shows.

    ``data`` are the first bytes of a connection, none of them consumed. Call it again when there
    are as many as it says: they may show that another record follows. A ClientHello may be spread
    over several records (RFC 8446 section 5.1); the first alone may hide its ALPN extension. 0
    where it is no ClientHello. Raises TooManyRecords.
    """
    message, end = b"", 0
    for _ in range(_MOST_RECORDS):
        header = data[end : end + _RECORD_HEADER]
        if header and header[0] != _HANDSHAKE_RECORD:
            return end
        if len(header) < _RECORD_HEADER:
            return end + _RECORD_HEADER
        length = int.from_bytes(header[3:], "big")
        if not 0 < length <= _MOST:
            return end
        end += _RECORD_HEADER + length
        message += data[end - length : end]
        if len(data) < end or message[0] != _CLIENT_HELLO:
            return end
        size = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER], "big")
        if len(message) >= _MESSAGE_HEADER and size <= len(message):
            return end
    raise TooManyRecords


def _message(records: bytes) -> bytes:
    """The contents of handshake records, joined."""
    message, rest = b"", _Reader(records)
    while rest.rest and rest.number(1) == _HANDSHAKE_RECORD:
        rest.take(2)
        message += rest.take(rest.number(2))
    return message


def offered_protocols(records: bytes) -> tuple[bytes, ...]:
    """The protocols that a ClientHello offers by ALPN; none where it is malformed, either."""
    try:
        message = _message(records)
        if _ALPN not in message:
            return ()  # nearly all clients: no need to parse the message
        hello = _Reader(message)
        if hello.number(1) != _CLIENT_HELLO:
            return ()
        hello.number(3)
        hello.take(2 + 32)  # version, random
        for size in (1, 2, 1):  # session, cipher suites, compression
            hello.take(hello.number(size))
        extensions = _Reader(hello.take(hello.number(2)))
        while extensions.rest:
            kind = extensions.take(2)
            body = extensions.take(extensions.number(2))
            if kind == _ALPN:
                return _names(body)
    except EOFError:
        pass  # malformed: OpenSSL will refuse it
    return ()


def _names(body: bytes) -> tuple[bytes, ...]:
    names = _Reader(body)
    names = _Reader(names.take(names.number(2)))
    found = []
    while names.rest:
        found.append(names.take(names.number(1)))
    return tuple(found)


class _Reader:
    """Takes bytes and big-endian numbers off the front of ``data``. Raises EOFError at the end."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, count: int) -> bytes:
        if len(self.rest) < count:
            raise EOFError
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")
