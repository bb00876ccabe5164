"""The little of TLS that the ssl module does not tell: which protocols a client offers (ALPN).

A browser that somebody lured to this server offers "h2" and "http/1.1"; an FTP client offers
"ftp", or nothing (RFC 7301; the attack is ALPACA's).
"""

from __future__ import annotations

_HANDSHAKE_RECORD = 0x16
_CLIENT_HELLO = 1
_ALPN = 16
_RECORD_HEADER = 5
_MOST = (1 << 14) + 256


def record_size(data: bytes) -> int:
    """Bytes of the first TLS record, with its header; 0 where that is no handshake's.

    Of less than a header, the header's.
    """
    if data and data[0] != _HANDSHAKE_RECORD:
        return 0
    if len(data) < _RECORD_HEADER:
        return _RECORD_HEADER
    length = int.from_bytes(data[3:5], "big")
    return _RECORD_HEADER + length if length <= _MOST else 0


def offered_protocols(record: bytes) -> tuple[bytes, ...]:
    """The names that a ClientHello offers by ALPN; none where it offers none, or cannot be read."""
    try:
        hello = _Reader(record[_RECORD_HEADER:])
        if hello.number(1) != _CLIENT_HELLO:
            return ()
        hello.number(3)
        hello.take(2 + 32)  # version, random
        for size in (1, 2, 1):  # session, cipher suites, compression
            hello.take(hello.number(size))
        extensions = _Reader(hello.take(hello.number(2)))
        while extensions.rest:
            kind = extensions.number(2)
            body = extensions.take(extensions.number(2))
            if kind == _ALPN:
                return _names(body)
    except EOFError:
        pass  # OpenSSL will say what is wrong with it
    return ()


def _names(body: bytes) -> tuple[bytes, ...]:
    names = _Reader(body)
    names = _Reader(names.take(names.number(2)))
    found = []
    while names.rest:
        found.append(names.take(names.number(1)))
    return tuple(found)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, count: int) -> bytes:
        if len(self.rest) < count:
            raise EOFError
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")
