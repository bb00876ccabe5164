"""The table that the kernel keeps of TCP connections."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path


def other_end(sock: socket.socket) -> list[str] | None:
    """The fields of the line of the other end of ``sock``; None where it is gone.

    Both addresses are compared: two clients at different addresses may have the same port.
    """
    ours, theirs = (_shown(end) for end in (sock.getsockname(), sock.getpeername()))
    for fields in connections():
        # an IPv6 socket that serves IPv4 has the IPv4 address in its last word
        if fields[1].endswith(theirs) and fields[2].endswith(ours):
            return fields
    return None


def connections() -> Iterator[list[str]]:
    """The fields of all lines, also of listening sockets and of closed descriptors."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            yield line.split()


def _shown(address: tuple[str, int]) -> str:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    packed = socket.inet_pton(family, address[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
