"""Ending the connections of a process that cannot end: its clients would wait for ever.

Its sockets stay open until it dies. A process that may trace it, such as a parent of the same user,
can duplicate them with pidfd_getfd(2). And shutdown(2) on a duplicate ends the connection itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket

from ftpcluster.ipc.closing import forget_linger
from ftpcluster.supervisor.procstatus import stuck_thread

_PIDFD_GETFD = 438  # the same on every architecture
_PIDFD_THREAD = os.O_EXCL
_syscall = ctypes.CDLL(None, use_errno=True).syscall


def cut_connections(pid: int) -> None:
    """Shut down the TCP sockets of a process that is stuck, even listening ones, as far as that is
    permitted. Does nothing to one that is not stuck: it can be killed.
    """
    thread = stuck_thread(pid)  # it lives: a thread that has ended shows no descriptors
    if thread is None:
        return
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
            forget_linger(fd)  # if the process dies now, this close is the last one
