"""The keepalive timer of the other end of a connection on this machine, from /proc."""

from __future__ import annotations

import os
import socket

from tests.support.cluster import until
from tests.support.proc_net import other_end

_KEEPALIVE = 2  # the number of that timer in /proc/net/tcp
_SETTLED = (0, _KEEPALIVE)
_TICKS = os.sysconf("SC_CLK_TCK")


def keepalive_of(sock: socket.socket) -> int | None:
    """Seconds until the other end of ``sock`` probes it, rounded up; None where it does not."""
    # unacknowledged data have another timer; while that runs the kernel shows no other
    timer, when = until(lambda: found if (found := _timer_of(sock))[0] in _SETTLED else None)
    return -(-when // _TICKS) if timer == _KEEPALIVE else None


def _timer_of(sock: socket.socket) -> tuple[int, int]:
    """The number of the running timer, and the clock ticks that it has left."""
    fields = other_end(sock)
    assert fields is not None, "the other end is gone"
    timer, when = (int(part, 16) for part in fields[5].split(":"))
    return timer, when
