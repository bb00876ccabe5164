"""The PROXY protocol, versions 1 and 2: a proxy in front of the server names its client.

The header comes before the client's first byte. Not one byte beyond it may be read, since TLS may
follow; ``missing`` says how many bytes may be read next.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from ftpcluster.protocol.address import plain

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = len(_SIGNATURE) + 4  # version and command, family, length
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESSES = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH")}
_MOST = 4096
_LINE = 107
"""Bytes of a line of version 1 at most, with CRLF."""
_PORT = re.compile(r"0|[1-9]\d{0,4}", re.ASCII)


class BadProxyHeader(Exception):
    """The bytes are no header, or the header is too long."""


class HealthCheck(BadProxyHeader):
    """The connection ended before the first byte: the proxy has checked that the server runs."""


class Origin(NamedTuple):
    """The client's address and port, and the address of the proxy that it has connected to."""

    address: str
    port: int
    destination: str


def missing(data: bytes) -> int:
    """The least number of bytes that the header still lacks; 0 where it is complete.

    Raises BadProxyHeader.
    """
    if len(data) < len(_SIGNATURE):  # no header of either version is shorter
        if not (_SIGNATURE.startswith(data) or b"PROXY "[: len(data)] == data[:6]):
            raise BadProxyHeader("that is no PROXY header")
        return len(_SIGNATURE) - len(data)
    if data.startswith(_SIGNATURE):
        if len(data) < _FIXED:
            return _FIXED - len(data)
        length = int.from_bytes(data[_FIXED - 2 : _FIXED], "big")
        if length > _MOST:
            raise BadProxyHeader(f"a header of {length} bytes is too long")
        return _FIXED + length - len(data)
    if not data.startswith(b"PROXY "):
        raise BadProxyHeader("that is no PROXY header")
    if data.endswith(b"\r\n"):
        return 0
    rest = 1 if data.endswith(b"\r") else 2
    if len(data) + rest > _LINE:
        raise BadProxyHeader("the line does not end")
    return rest


def parse(data: bytes) -> Origin | None:
    """Parse a whole header; None where the proxy speaks for itself, or knows no client.

    Raises BadProxyHeader.
    """
    return _parse_binary(data) if data.startswith(_SIGNATURE) else _parse_line(data)


def _parse_binary(data: bytes) -> Origin | None:
    command, family = data[12], data[13]
    if command == _LOCAL:
        return None
    if command != _PROXY:
        raise BadProxyHeader(f"0x{command:02x} is no known version and command")
    layout = _ADDRESSES.get(family)
    if layout is None:
        return None
    if len(data) < _FIXED + layout.size:
        raise BadProxyHeader("the addresses are incomplete")
    source, destination, port, _ = layout.unpack_from(data, _FIXED)
    return Origin(plain(str(ip_address(source))), port, plain(str(ip_address(destination))))


def _parse_line(data: bytes) -> Origin | None:
    try:
        fields = data.decode("ascii").removesuffix("\r\n").split(" ")
        if fields[1] == "UNKNOWN":
            return None
        family, source, destination, port, other_port = fields[1:]
        address, reached = _address(family, source), _address(family, destination)
        number, _ = _number(port), _number(other_port)
        return Origin(plain(str(address)), number, plain(str(reached)))
    except ValueError:
        raise BadProxyHeader("the line is malformed") from None


def _address(family: str, text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    # a zone is any text: it would get into logs, and one address could count as many
    if family != f"TCP{address.version}" or "%" in text:
        raise ValueError(text)
    return address


def _number(text: str) -> int:
    """Parse a port. ``int`` alone would also take "+1", "1_0" and blanks."""
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ValueError(text)
    return int(text)
