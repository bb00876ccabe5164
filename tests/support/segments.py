"""TCP segments that a socket has received, and replies that come with a transfer."""

from __future__ import annotations

import select
import socket
import struct

from tests.support.dialogue import DEADLINE, Dialogue, rest_of

_DATA_SEGMENTS_IN = 152
"""Where tcpi_data_segs_in stands in Linux's struct tcp_info."""


def data_segments(sock: socket.socket) -> int:
    """How many segments with data have arrived, those that were sent twice included."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _DATA_SEGMENTS_IN + 4)
    return int(struct.unpack_from("I", info, _DATA_SEGMENTS_IN)[0])


def replies_behind(client: Dialogue, lines: bytes, data: socket.socket) -> tuple[bytes, int]:
    """Send ``lines``, and wait for the transfer's end. Returns what the control connection had
    brought when data, or their end, came; and in how many segments all replies have come."""
    before = data_segments(client.sock)
    client.sock.sendall(lines)
    assert select.select([data], [], [], DEADLINE)[0]
    client.sock.settimeout(0)
    early = replies = client.sock.recv(4096)
    client.sock.settimeout(DEADLINE)
    rest_of(data)
    while b"\n226 " not in replies:
        replies += client.sock.recv(4096)
    return early, data_segments(client.sock) - before
