"""The dates of certificates in a file; the ``ssl`` module gives those of a peer's only."""

from __future__ import annotations

import binascii
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

_SOON = 14 * 24 * 3600
"""Seconds before the end in which we warn: automatic renewal has happened by then."""
_PEM = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.*?)-----END (?:X509 |TRUSTED )?CERTIFICATE",
    re.DOTALL,
)
_SEQUENCE = 0x30
_VERSION = 0xA0
_UTC_TIME = 0x17
_LONG = 0x80


class Validity(NamedTuple):
    """Seconds since 1970."""

    begin: float
    end: float

    def doubt(self, now: float) -> str | None:
        """Why clients refuse the certificate, or soon will."""
        if now < self.begin:
            return f"is not valid before {_shown(self.begin)}, so clients refuse it"
        if now > self.end:
            return f"has expired on {_shown(self.end)}, so clients refuse it; renew it, and reload"
        if now > self.end - _SOON:
            return f"expires on {_shown(self.end)}; renew it, and reload"
        return None


def validity(pem: bytes) -> Validity | None:
    """The dates of the first certificate in a file, the server's; None where there is none."""
    found = _PEM.search(pem)
    return None if found is None else _validity_of(found)


def doubts_about(file: str, pem: bytes) -> Iterator[str]:
    """What is wrong, by now, with the dates of a file's certificates: the server's and its
    issuers'. Clients may know other certificates of the issuers."""
    now = time.time()
    for number, each in enumerate(_PEM.finditer(pem), 1):
        found = _validity_of(each)
        doubt = None if found is None else found.doubt(now)
        if doubt is None:
            continue
        if number == 1:
            yield f"{file}: the certificate {doubt}"
        else:
            doubt = doubt.replace("clients refuse it", "clients may refuse the server's")
            yield f"{file}: certificate {number} in it, an issuer's, {doubt}"


def _validity_of(found: re.Match[bytes]) -> Validity | None:
    try:
        return _validity(binascii.a2b_base64(found[1]))
    except (ValueError, IndexError):
        return None


def _validity(der: bytes) -> Validity:
    """RFC 5280 section 4.1: version, serial number, signature, issuer, validity."""
    signed = _inside(_inside(der, 0), 0)
    at = 0
    if signed[0] == _VERSION:
        at = _ends(signed, at)
    for _ in ("serial number", "signature", "issuer"):
        at = _ends(signed, at)
    dates = _inside(signed, at)
    return Validity(_time(dates, 0), _time(dates, _ends(dates, 0)))


def _time(data: bytes, at: int) -> float:
    begin, end = _bounds(data, at)
    text = data[begin:end].decode("ascii")
    if data[at] == _UTC_TIME:
        text = ("19" if text >= "5" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _inside(data: bytes, at: int) -> bytes:
    if data[at] != _SEQUENCE:
        raise ValueError("no certificate")
    begin, end = _bounds(data, at)
    return data[begin:end]


def _ends(data: bytes, at: int) -> int:
    return _bounds(data, at)[1]


def _bounds(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of an element of DER begins and ends."""
    size, begin = data[at + 1], at + 2
    if size >= _LONG:
        count = size - _LONG
        size, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    if begin + size > len(data):
        raise ValueError("cut off")
    return begin, begin + size


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
