"""Who speaks on the admin socket: no worker, and nothing that a worker has started.

Where root was not given up workers run as the user who may give orders. So whoever descends from
this process may not. Where workers are filtered (``worker/seccomp.py``) they can neither make such
a socket nor another process; this is for where they are not.
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
    """Why who calls may not give orders; None where it is root, or that user, and none of ours."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    if uid not in (0, operator):
        return "only root and the user who started the server may"
    if _is_descendant(sock, pid):
        return "a worker may not, nor what it has started"
    return None


def _is_descendant(sock: socket.socket, pid: int) -> bool:
    """Also where its end cannot be told: whoever waits for an answer lives."""
    if pid == 0:
        return False  # outside of this container, where none of ours can be
    with contextlib.ExitStack() as stack:
        try:
            handle = _handle_of_peer(sock, pid)
        except OSError:
            return True  # it has ended
        stack.callback(os.close, handle)
        is_found = os.getpid() in _ancestors(pid)
        # it lived all the while, so nobody else had its number
        return is_found or bool(select.select((handle,), (), (), 0)[0])


def _handle_of_peer(sock: socket.socket, pid: int) -> int:
    """A descriptor of the process that connected. Raises OSError where that has ended."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        return os.pidfd_open(pid)  # before Linux 6.5: of whoever has its number now


def _ancestors(pid: int) -> Iterator[int]:
    """A process, its parent, and so on. It breaks off where one has just ended: its children are
    init's."""
    while pid > 0:
        yield pid
        pid = number_in_status(pid, "PPid") or 0
