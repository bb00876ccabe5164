"""The listening sockets of a configuration, made anew or taken over from the previous one."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence

from ftpcluster.config import Config, Listen
from ftpcluster.net.listeners import BACKLOG, CannotListen, Listener, listen, listen_on_all
from ftpcluster.protocol.address import Networks, display
from ftpcluster.protocol.protection import Protection
from ftpcluster.supervisor.systemd import IMPLICIT_TLS

_PORTS = "--port, --implicit-tls-port, or port in [[listen]]"
"""The flags and the key that name ports."""


class Binder:
    """Binds the sockets of a configuration; those that the previous one has, too, are taken over.

    They are duplicated: whichever of the two configurations is given up closes only its own.
    """

    def __init__(
        self,
        before: Binder | None = None,
        inherited: Sequence[tuple[socket.socket, str]] = (),
    ) -> None:
        """``inherited``: the service manager's sockets, instead of whatever is configured."""
        made = [] if before is None else before.made
        # with port 0 a port may be free on one host and not on another: that socket was closed
        self._there = [each for each in made if each[1].fileno() >= 0]
        self.inherited: Sequence[tuple[socket.socket, str]]
        self.inherited = inherited if before is None else before.inherited
        self.made: list[tuple[tuple[str, int, bool] | None, socket.socket]] = []

    def listen(
        self,
        host: str,
        port: int,
        backlog: int = BACKLOG,
        *,
        dual_stack: bool = False,
        reuse_port: bool = False,
    ) -> socket.socket:
        """As ``net.listeners.listen``."""
        wanted = (host, port, dual_stack)
        for there in self._there:
            if there[0] == wanted:
                self._there.remove(there)
                sock = _duplicate(there[1])
                break
        else:
            sock = listen(host, port, backlog, dual_stack=dual_stack, reuse_port=reuse_port)
        self.made.append((wanted, sock))
        return sock

    def duplicate(self, sock: socket.socket) -> socket.socket:
        """A duplicate of a service manager's socket. Raises CannotListen."""
        ours = _duplicate(sock)
        self.made.append((None, ours))
        return ours

    def close(self) -> None:
        """Give the sockets up."""
        for _, sock in self.made:
            sock.close()


def _duplicate(sock: socket.socket) -> socket.socket:
    """Raises CannotListen."""
    try:
        return sock.dup()
    except OSError as error:
        where = display(*sock.getsockname()[:2])
        raise CannotListen(f"cannot listen on {where}: {error.strerror}") from error


def listeners_of(config: Config, binder: Binder) -> list[Listener]:
    """The listeners of ``config``, bound by ``binder``. Raises CannotListen."""
    try:
        return list(_listeners(config, binder))
    except CannotListen as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.EADDRINUSE, errno.EACCES):
            raise CannotListen(f"{error} ({_PORTS})") from cause
        raise
    except OSError as error:
        raise CannotListen(f"cannot listen: {error.strerror}") from error


def _listeners(config: Config, binder: Binder) -> Iterator[Listener]:
    for sock, name in binder.inherited:
        yield _inherited(config, binder.duplicate(sock), name)
    if not binder.inherited:
        for each in config.listen:
            for sock in listen_on_all(each.address, each.port, bind=binder.listen):
                yield Listener(sock, each.tls, _networks(each), each.any_address)


def _inherited(config: Config, sock: socket.socket, name: str) -> Listener:
    """A socket of the service manager, with the settings of the first listener of its kind."""
    is_implicit = name == IMPLICIT_TLS
    like = next(
        (each for each in config.listen if (each.tls is Protection.IMPLICIT) == is_implicit),
        config.listen[0],
    )
    protection = Protection.IMPLICIT if is_implicit else like.tls
    return Listener(sock, protection, _networks(like), like.any_address)


def _networks(listen: Listen) -> Networks | None:
    return None if listen.proxy_protocol is None else Networks(listen.proxy_protocol)
