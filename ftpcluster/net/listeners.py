"""Listening sockets: the control port's, and what accepted sockets inherit from them."""

from __future__ import annotations

import errno
import math
import socket
from dataclasses import dataclass, field
from typing import Protocol

from ftpcluster.protocol.address import Networks, display, is_ipv6
from ftpcluster.protocol.protection import Protection

BACKLOG = 4096
_LONGEST_IDLE, _LONGEST_INTERVAL, _PROBES = 32767, 75, 5
"""TCP keepalive: the longest idle time that Linux takes, the longest time between two unanswered
probes (both in seconds), and how many unanswered probes end a connection."""
_IN_USE = errno.EADDRINUSE
_PORTS_TRIED = 16


class CannotListen(OSError):
    """An address, or a socket that was handed over, cannot be listened on.

    The message says which, why, and what to do.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A listening socket, and how the connections to it begin.

    ``proxies``: connections come from these networks only, and begin with a PROXY header.
    ``any_address``: whether their data connections may come from any address; None: as configured
    for all.
    """

    sock: socket.socket
    tls: Protection = Protection.EXPLICIT
    proxies: Networks | None = None
    any_address: bool | None = None
    where: str = field(init=False)
    """Its address, as people read it; asked for once, since the kernel may fail to tell it."""

    def __post_init__(self) -> None:
        """Raises OSError."""
        object.__setattr__(self, "where", display(*self.sock.getsockname()[:2]))


def addresses(host: str | None, family: int = socket.AF_UNSPEC) -> tuple[str, ...]:
    """The addresses that a host name or address stands for; none means all. Raises CannotListen."""
    if host is None or host == "":
        if family == socket.AF_INET:
            return ("0.0.0.0",)
        return ("::",) if family == socket.AF_INET6 else ()
    try:
        found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise CannotListen(_why(host, 0, error)) from error
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


def listen(
    host: str,
    port: int,
    backlog: int = BACKLOG,
    *,
    dual_stack: bool = False,
    reuse_port: bool = False,
) -> socket.socket:
    """A non-blocking listening socket for control connections. Raises CannotListen."""
    family = socket.AF_INET6 if is_ipv6(host) else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}: {error.strerror}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        set_inherited_options(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        # host and port alone would lose the interface of fe80::1%eth0
        sock.bind(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4])
        sock.listen(backlog)
        sock.settimeout(0)
    except OSError as error:
        sock.close()
        raise CannotListen(_why(host, port, error)) from error
    return sock


def may_bind(port: int) -> bool:
    """Whether this process has the right to bind a port, whoever has it now."""
    try:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", port))
    except OSError as error:
        return error.errno != errno.EACCES
    return True


class Bind(Protocol):
    """``listen``, or a function that does the same."""

    def __call__(
        self, host: str, port: int, backlog: int, *, dual_stack: bool, reuse_port: bool
    ) -> socket.socket: ...


def set_inherited_options(listener: socket.socket) -> None:
    """Set what accepted connections are to have.

    Linux hands TCP_NODELAY, SO_KEEPALIVE and SO_OOBINLINE down from a listener to what it
    accepts, which saves three calls for every connection: replies are not held back, dead peers
    are noticed (``set_keepalive`` says when), and ABOR as urgent data arrives in line (RFC 959,
    RFC 1123 section 4.1.3.2).
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def set_keepalive(sock: socket.socket, seconds: float | None) -> None:
    """Have TCP probe a peer that has been silent for so long; None, 0: never.

    Routers and load balancers forget a connection that is silent for minutes, as the control
    connection is during a transfer. The connections of a listener inherit its setting.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(seconds))
    if not seconds:
        return
    idle = min(math.ceil(seconds), _LONGEST_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, min(idle, _LONGEST_INTERVAL))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)


def listen_on_all(
    hosts: tuple[str, ...],
    port: int,
    backlog: int = BACKLOG,
    *,
    reuse_port: bool = False,
    bind: Bind = listen,
) -> list[socket.socket]:
    """Listeners on every host, or, with no host, on all addresses of both families.

    With port 0 all of them share the port that the first one got. Raises CannotListen.
    """
    for _ in range(_PORTS_TRIED if port == 0 else 0):
        try:
            return _listen_on_all(hosts, port, backlog, bind, reuse_port=reuse_port)
        except CannotListen as error:
            # the free port of one host may be taken on another one
            if not (isinstance(error.__cause__, OSError) and error.__cause__.errno == _IN_USE):
                raise
    return _listen_on_all(hosts, port, backlog, bind, reuse_port=reuse_port)


def _listen_on_all(
    hosts: tuple[str, ...], port: int, backlog: int, bind: Bind, *, reuse_port: bool
) -> list[socket.socket]:
    # A lone "::" serves IPv4 too, as its users expect; beside an IPv4 host it must not, since both
    # would bind the same IPv4 port.
    wanted = hosts or ("0.0.0.0", "::")
    alone = all(map(is_ipv6, wanted))
    sockets: list[socket.socket] = []
    try:
        for host in wanted:
            try:
                both = alone and host == "::"
                sock = bind(host, port, backlog, dual_stack=both, reuse_port=reuse_port)
            except CannotListen as error:
                if not hosts and host == "::" and _lacks_ipv6(error):
                    continue
                raise
            sockets.append(sock)
            port = port or sock.getsockname()[1]
    except CannotListen:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _lacks_ipv6(error: CannotListen) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (
        errno.EAFNOSUPPORT,
        errno.EADDRNOTAVAIL,
        errno.EPROTONOSUPPORT,
    )


def _why(host: str, port: int, error: OSError) -> str:
    where = f"{host} port {port}" if port else host  # 0: that is not about the port
    return f"cannot listen on {where}: {why_not(host, error)}"


def why_not(host: str, error: OSError, another: str = "another one") -> str:
    """Why a host and a port cannot be listened on, and what to do: choose ``another``."""
    if error.errno == errno.EADDRINUSE:
        return f"the port is taken; end what uses it, or choose {another}"
    if error.errno == errno.EACCES:
        return f"not permitted; ports below 1024 need root; choose {another}"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; see `ip address`"
    if error.errno == errno.EINVAL and is_ipv6(host) and "%" not in host:
        return f"it is an address of one interface: say which, as in {host}%eth0; see `ip address`"
    if isinstance(error, socket.gaierror):
        return "no such host; give an address of this machine"
    return error.strerror or str(error)
