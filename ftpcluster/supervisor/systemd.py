"""Messages and sockets between a service manager and its service: sd_notify(3), sd_listen_fds(3).

The variables of both are removed from the environment, so that no worker sends messages for the
service or takes its sockets.
"""

from __future__ import annotations

import collections
import logging
import os
import socket
import time

from ftpcluster.net.listeners import CannotListen, set_inherited_options

log = logging.getLogger(__name__)

IMPLICIT_TLS = "implicit"
"""The name (FileDescriptorName=) of sockets whose connections begin with TLS."""
_FIRST = 3  # SD_LISTEN_FDS_START
_WITHOUT_NAME = "unknown"  # what sd_listen_fds_with_names(3) says
_UNSENT = 16
_KINDS = (socket.IPPROTO_TCP, socket.IPPROTO_MPTCP)
_WHAT_TO_DO = "give it a ListenStream= of an address and a port, without Accept=yes"


class Notifier:
    """Reports the service's state to the service manager. Does nothing where there is none.

    It never waits, and never fails: a manager that is gone for a moment, or busy, must not stop
    the service. A message for which the manager has no room is sent before the next one.
    """

    def __init__(self) -> None:
        """Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and removes them."""
        path = os.environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._unsent: collections.deque[bytes] = collections.deque(maxlen=_UNSENT)
        self._sock: socket.socket | None = None
        if path.startswith(("@", "/")):
            # opened now, and kept: it must work even when no descriptor is free
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sock.settimeout(0)
        elif path:
            log.warning("NOTIFY_SOCKET=%s is no UNIX socket; the manager gets no messages", path)
        interval = _watchdog_interval()
        self.watchdog_interval = None if self._sock is None else interval
        """Seconds between calls of ``watchdog``: half of the manager's timeout. None: the manager
        has no watchdog for us."""

    @property
    def is_heard(self) -> bool:
        """Whether there is a manager."""
        return self._sock is not None

    def ready(self, status: str) -> None:
        """The service is ready, for the first time or after ``reloading``."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def reloading(self) -> None:
        """The service reads its configuration again: Type=notify-reload expects this."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The service begins to shut down."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the text that ``systemctl status`` shows."""
        self._send(f"STATUS={_one_line(text)}")

    def watchdog(self) -> None:
        """The service is alive."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Send no more messages."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _send(self, message: str) -> None:
        if self._sock is None:
            return
        data = message.encode("utf-8", "replace")  # systemd takes nothing else
        if data not in self._unsent:
            self._unsent.append(data)
        try:
            while self._unsent:
                # not connected: a manager that starts anew has a new socket at the same path
                self._sock.sendto(self._unsent[0], self._address)
                self._unsent.popleft()
        except BlockingIOError:
            pass  # no room: sent before the next one
        except OSError as error:
            log.debug("the service manager cannot be reached: %s", error)
            self._unsent.clear()


def _one_line(text: str) -> str:
    # a further line would be a further assignment
    return " ".join(text.split())


def _watchdog_interval() -> float | None:
    patience = os.environ.pop("WATCHDOG_USEC", "")
    whose = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
    if whose != str(os.getpid()) or not patience.isdecimal() or int(patience) == 0:
        return None
    return int(patience) / 2e6


def inherited_sockets() -> list[tuple[socket.socket, str]]:
    """The listening TCP sockets that the service manager opened, and their names.

    They are non-blocking, not passed on to children, and have the options of ``listen``. Reads
    LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES, and removes them. Raises CannotListen where one of
    them is something else; then all of them are closed.
    """
    count, whose = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "")
    os.environ.pop("LISTEN_PIDFDID", None)  # newer versions set it beside LISTEN_PID
    if whose != str(os.getpid()):
        return []  # they are another process's
    if not count.isdecimal():
        raise CannotListen(f"LISTEN_FDS={count}: expected a number; let systemd set it")
    numbers = range(_FIRST, _FIRST + int(count))
    known = names.split(":") if names else [_WITHOUT_NAME] * len(numbers)
    if len(known) != len(numbers):
        raise CannotListen(
            f"LISTEN_FDNAMES={names}: expected {len(numbers)} names, as LISTEN_FDS says; "
            "let systemd set both"
        )
    found: list[tuple[socket.socket, str]] = []
    try:
        for number, name in zip(numbers, known, strict=True):
            found.append((_socket(number, name), name))
            _prepare(*found[-1])
    except CannotListen:
        for sock, _ in found:
            sock.close()
        raise
    return found


def _socket(number: int, name: str) -> socket.socket:
    try:
        return socket.socket(fileno=number)
    except OSError as error:
        raise CannotListen(f"{_which(number, name)} is no socket; {_WHAT_TO_DO}") from error


def _prepare(sock: socket.socket, name: str) -> None:
    listens = (
        sock.family in (socket.AF_INET, socket.AF_INET6)
        and sock.proto in _KINDS
        and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    )
    if not listens:
        which = _which(sock.fileno(), name)
        raise CannotListen(f"{which} is no listening TCP socket; {_WHAT_TO_DO}")
    set_inherited_options(sock)
    sock.set_inheritable(False)
    sock.settimeout(0)


def _which(number: int, name: str) -> str:
    return f'descriptor {number} ("{name}") from the service manager'
