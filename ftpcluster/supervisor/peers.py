"""Peers on the admin socket: a worker, or a process that it has started, may give no orders.

Without ``run_as`` workers run as the user that may give orders, so descendants of this process are
refused. Workers with a filter (``worker/seccomp.py``) can make neither a UNIX socket nor a process.
This check is for workers without a filter.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Iterator

from ftpcluster.supervisor.procstatus import number_in_status

_SO_PEERPIDFD = 77
_CREDENTIALS = struct.Struct("3i")


def why_not(sock: socket.socket, operator: int) -> str | None:
    """Why the peer may not give orders; None where it may.

    It may if it is root or ``operator``, and does not descend from this process.
    """
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    if uid not in (0, operator):
        return "only root and the user who started the server may"
    if _is_descendant(sock, pid):
        return "a worker may not, nor what it has started"
    return None


def _is_descendant(sock: socket.socket, pid: int) -> bool:
    """Whether the peer descends from this process; True if it has ended: an honest one waits."""
    if pid == 0:
        return False  # outside of this container: no descendant
    with contextlib.ExitStack() as stack:
        try:
            handle = _handle_of_peer(sock, pid)
        except OSError:
            return True  # it has ended
        stack.callback(os.close, handle)
        is_found = os.getpid() in _ancestors(pid)
        # if it still lives, no other process had its number meanwhile
        return is_found or bool(select.select((handle,), (), (), 0)[0])


def _handle_of_peer(sock: socket.socket, pid: int) -> int:
    """A descriptor of the process that connected. Raises OSError where it has ended."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        return os.pidfd_open(pid)  # before Linux 6.5: of the process that has this number now


def _ancestors(pid: int) -> Iterator[int]:
    """A process, its parent, and so on. The chain ends at a process that has just ended, whose
    children are init's by now."""
    while pid > 0:
        yield pid
        pid = number_in_status(pid, "PPid") or 0
