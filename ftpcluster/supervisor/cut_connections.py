"""Ending the connections of a process that cannot end: its clients would wait for ever.

Its sockets stay open until it dies. Linux lends them to whoever may trace the process
(pidfd_getfd(2)), as a parent of the same user may, and shutdown(2) holds for all who have a socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket

from ftpcluster.ipc.closing import forget_linger

_PIDFD_GETFD = 438  # the same on every architecture
_PIDFD_THREAD = os.O_EXCL
_syscall = ctypes.CDLL(None, use_errno=True).syscall


def cut_connections(pid: int, thread: int) -> None:
    """Shut down the TCP sockets of a process, listening ones as well, as far as is permitted.

    ``thread``: one that lives; the others may be gone already, and their descriptors with them.
    """
    with contextlib.suppress(OSError):
        # before Linux 6.9 the first thread only
        handle = os.pidfd_open(thread, 0 if thread == pid else _PIDFD_THREAD)
        try:
            for name in os.listdir(f"/proc/{pid}/task/{thread}/fd"):
                if os.readlink(f"/proc/{pid}/task/{thread}/fd/{name}").startswith("socket:"):
                    _cut(handle, int(name))
        finally:
            os.close(handle)


def _cut(handle: int, number: int) -> None:
    fd = _syscall(_PIDFD_GETFD, handle, number, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    with socket.socket(fileno=fd) as sock:
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # its client has gone
                sock.shutdown(socket.SHUT_RDWR)
            forget_linger(fd)  # where the process dies now, this close is the last one
