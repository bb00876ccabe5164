"""Segments with data that a socket has received, and what a client reads that waits for data."""

from __future__ import annotations

import select
import socket
import struct

from tests.support.dialogue import DEADLINE, Dialogue, rest_of

_DATA_SEGMENTS_IN = 152
"""Where tcpi_data_segs_in stands in Linux's struct tcp_info."""


def data_segments(sock: socket.socket) -> int:
    """Segments with data that have arrived, also where one was sent again."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _DATA_SEGMENTS_IN + 4)
    return int(struct.unpack_from("I", info, _DATA_SEGMENTS_IN)[0])


def replies_behind(client: Dialogue, lines: bytes, data: socket.socket) -> tuple[bytes, int]:
    """What can be read on the control connection as soon as there are data, or their end; and in
    how many segments all replies have come when the transfer is over."""
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
