"""The single-process server: sessions in the caller's own event loop, with no other process.

The sessions are the very ones that workers run; only the accounting is in this process too.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace, TracebackType
from typing import Any, Self, TypedDict, Unpack

from ftpcluster import arguments
from ftpcluster.compat.keywords import Keywords
from ftpcluster.compat.overrides import VerbMap
from ftpcluster.compat.server_arguments import (
    ARGUMENTS,
    MADE,
    NEVER_CALLED,
    PARTS,
    complete,
    described,
    kept,
    make_settings,
    signature,
)
from ftpcluster.compat.server_hooks import ServerHooks
from ftpcluster.compat.server_paths import PathMethods
from ftpcluster.compat.server_status import LedgerConnections, Listening, ServerStatus
from ftpcluster.compat.verbs import BuiltinVerbs
from ftpcluster.net.acceptor import Acceptor, refuse
from ftpcluster.net.active import try_source_port
from ftpcluster.net.certificates import Contexts
from ftpcluster.net.listeners import BACKLOG, addresses, listen_on_all, set_keepalive
from ftpcluster.net.pipe import Pipe
from ftpcluster.net.poller import Poller
from ftpcluster.net.refused import RefusedConnections, tell_of_no_proxies
from ftpcluster.protocol.address import plain
from ftpcluster.protocol.protection import Protection
from ftpcluster.quota.ledger import Refusal
from ftpcluster.quota.quotas import LocalQuotas
from ftpcluster.session.process_sessions import AcceptedConnection, ProcessSessions
from ftpcluster.session.services import Services, Settings
from ftpcluster.users import (  # noqa: F401 (aioftp has them here)
    AbstractUserManager,
    MemoryUserManager,
    User,
    overrides,
    remember_methods,
)

_THREADS = 16
_END_OF_SESSIONS = 10.0
"""Seconds that ``close`` gives custom commands to end after their cancellation."""


log = logging.getLogger("ftpcluster.server")


class ListenOptions(TypedDict, total=False):
    """Keywords of ``start`` and ``run``. Addresses are reused whatever ``reuse_address`` says."""

    family: int
    backlog: int
    reuse_address: bool
    reuse_port: bool


class Server(ServerStatus, PathMethods, BuiltinVerbs):
    """FTP server.

    ``users`` are User objects or a user manager; none is one anonymous user who may read and write
    the current directory. Speeds are bytes per second, *read* what the server receives, *write*
    what it sends; times are seconds; None is no limit and no deadline.

    ``ssl`` makes it a server with implicit TLS, ``tls`` one with explicit TLS (AUTH TLS). Both may
    also be functions that make a context, which ``reload_certificates`` calls again;
    ``require_session_reuse`` takes such a function, which then makes one for each session. With
    ``proxy_protocol`` data connections may come from the same proxy, with a header each. An address
    from which ``ban_failures`` logins fail within ``ban_window`` is banned for ``ban_duration``,
    unless it is in a network of ``ban_allow``; without ``ban_failures`` nobody is. Networks of
    ``ban_deny`` are always turned away.

    A method ``async def verb(self, connection, rest) -> bool`` of a subclass overrides the built-in
    command of that name. ``@ftpcluster.command("XVERB")``, and the other decorators, make a method
    a new command; so does an entry in ``commands_mapping``.

    Arguments are attributes, too, and may be set until the server is started. Raises TypeError or
    ValueError for values that cannot be used.
    """

    def __init__(
        self,
        users: Iterable[User] | AbstractUserManager | None = None,
        **keywords: Unpack[Keywords],
    ) -> None:
        vars(self)["_arguments"] = {"users": users, **complete(keywords)}
        self._services: Services | None = None
        self._configure(_ARGUMENTS)
        self._verbs = VerbMap(self, Server, BuiltinVerbs)
        self._path_io_state: Any = None
        self._numbers = itertools.count(1)
        self._acceptor: Acceptor[Server] | None = None
        self._reception: ProcessSessions | None = None
        self._available: LedgerConnections | None = None
        self._listening: Listening | None = None
        self._closed: asyncio.Future[None] | None = None
        self._last_ended: asyncio.Future[None] | None = None
        self.server_host: str | None = None
        self.server_port = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in dir(cls):
            if name in NEVER_CALLED:
                raise TypeError(
                    f"{cls.__name__}.{name} would never be called: {NEVER_CALLED[name]}"
                )
            if name in _ARGUMENTS:
                raise TypeError(
                    f"{cls.__name__}.{name} would have no effect: {name} is an argument of "
                    "ftpcluster.Server, to be given to super().__init__"
                )
        for name in ("commands_mapping", *PARTS):
            found = getattr(cls, name, None)
            is_dead = name == "commands_mapping" or not isinstance(found, property)
            if is_dead and found is not getattr(Server, name, None):
                raise TypeError(
                    f"{cls.__name__}.{name} would have no effect: each server has its own, which "
                    "may be changed after super().__init__()"
                )

    def __getattr__(self, name: str) -> Any:
        """Arguments of the constructor, as attributes."""
        if name in _ARGUMENTS:
            return self._arguments[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Whatever is set takes effect, or is an error."""
        if name in NEVER_CALLED:
            raise AttributeError(f"{name} would never be called: {NEVER_CALLED[name]}")
        if name in _ARGUMENTS:
            if "_arguments" not in vars(self):
                raise AttributeError(f"{name} can be set after super().__init__(), or given to it")
            self._set_argument(name, value)
            return
        if name in _FOR_ALL_SESSIONS and vars(self).get("_services") is not None:
            raise AttributeError(f"{name} cannot be set while the server runs")
        if callable(value) and "_verbs" in vars(self):
            self._verbs.on_set(name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        value = vars(self).get(name)
        super().__delattr__(name)
        if callable(value):
            self._verbs.on_deleted(name, value)

    def _set_argument(self, name: str, value: Any) -> None:
        if self._services is not None:
            raise AttributeError(f"{name} cannot be set while the server runs")
        before = self._arguments[name]
        self._arguments[name] = kept(value)
        try:
            self._configure(frozenset((name,)))
        except BaseException:
            self._arguments[name] = before
            raise

    def _configure(self, changed: frozenset[str]) -> None:
        """Have the arguments take effect. Raises TypeError or ValueError, with nothing changed."""
        given = SimpleNamespace(**self._arguments)
        made: dict[str, Any] = {"settings": make_settings(given)}
        for names, attribute, make in MADE:
            if changed & names:
                made[attribute] = make(given)
        vars(self).update(made)

    # ------------------------------------------------------------------ life

    async def start(
        self,
        host: str | Sequence[str] | None = None,
        port: int = 0,
        **kwargs: Unpack[ListenOptions],
    ) -> None:
        """Listen and serve: on all addresses where ``host`` is None, on a free port where 0.

        ``host`` may also be several. ``kwargs`` are those of ``asyncio.start_server`` that
        ListenOptions names. Raises OSError, or ValueError for what is no port.
        """
        if unknown := kwargs.keys() - ListenOptions.__annotations__.keys():
            raise TypeError(f"start() got an unexpected keyword argument {min(unknown)!r}")
        if self._services is not None:
            raise RuntimeError("the server has been started already")
        loop = asyncio.get_running_loop()
        hosts = (host,) if isinstance(host, str) else tuple(host or (None,))
        sockets = _listen(hosts, port, kwargs, self.settings)
        _warn_of_tls(self.settings, self._contexts)
        self.server_host, self.server_port = hosts[0], sockets[0].getsockname()[1]
        self._listening = Listening(tuple(sockets))
        self._quotas = self._make_quotas(loop)
        self._ports.open()
        self._services = self.make_services(
            loop=loop,
            poller=Poller(loop),
            settings=self.settings,
            users=self.user_manager,
            quotas=self._quotas,
            ports=self._ports,
            pool=ThreadPoolExecutor(_THREADS, "ftpcluster-files"),
        )
        self._reception = ProcessSessions(self._services, self._on_empty)
        self._closed = loop.create_future()
        self._no_proxies = RefusedConnections(loop, tell_of_no_proxies)
        self._acceptor = Acceptor(loop, sockets, lambda: self, Server._on_connection)
        self._acceptor.resume()

    def _make_quotas(self, loop: asyncio.AbstractEventLoop) -> LocalQuotas:
        return LocalQuotas(
            self.ledger,
            self.throttle.rates,
            clock=loop.time,
            bans=self.bans,
            arrivals=self.arrivals,
            end_unauthenticated=self._end_unauthenticated,
            call_later=loop.call_later,
            promise=loop.create_future,
        )

    def make_services(self, **common: Any) -> Services:
        """What sessions share, with this server's commands and path layer (workers call it too)."""
        self._verbs.warn()
        return Services(
            find_command=self._verbs.find,
            hooks_for=functools.partial(ServerHooks, self),
            **{
                "tls": self._contexts,
                "rates_per_connection": self.throttle_per_connection.rates,
                **common,
            },
        )

    def _on_connection(self, _: socket.socket, fd: int, address: str, port: int) -> None:
        assert self._reception is not None
        number, peer = next(self._numbers), plain(address)
        if self._proxies is not None and peer not in self._proxies:
            os.close(fd)
            self._no_proxies.add(peer)
            return
        refused = self._quotas.admit(number, peer if self._proxies is None else None)
        if refused is not None:
            refuse(fd, refused.explanation)
            return
        self._reception.receive(
            AcceptedConnection(
                number,
                fd,
                peer,
                port,
                Protection.IMPLICIT if self.ssl is not None else Protection.EXPLICIT,
                is_proxied=self._proxies is not None,
            )
        )

    def _end_unauthenticated(self, session: int) -> None:
        """Soon: it may be the one whose command asks for it, which must not end in that."""
        if self._services is not None and self._reception is not None:
            reason = Refusal.BANNED.explanation
            end = functools.partial(self._reception.end, session, reason, only_unauthenticated=True)
            self._services.loop.call_soon(end)

    def _on_empty(self) -> None:
        if self._last_ended is not None and not self._last_ended.done():
            self._last_ended.set_result(None)

    def reload_certificates(self) -> None:
        """Read certificates again, where ``ssl`` or ``tls`` is a function: for new connections.

        Raises what that function raises; then nothing has changed.
        """
        if self._contexts is not None:
            self._contexts.reload()

    async def serve_forever(self) -> None:
        """Wait until the server is closed."""
        if self._closed is None:
            raise RuntimeError("the server has not been started")
        await asyncio.shield(self._closed)

    async def run(
        self,
        host: str | Sequence[str] | None = None,
        port: int = 0,
        **kwargs: Unpack[ListenOptions],
    ) -> None:
        """Start, serve until cancelled, and close."""
        await self.start(host, port, **kwargs)
        try:
            await self.serve_forever()
        finally:
            await self.close()

    async def close(self) -> None:
        """End all sessions and give everything back; harmless when repeated."""
        services, self._services = self._services, None
        if services is None or self._acceptor is None or self._closed is None:
            return
        self._acceptor.close()
        self._quotas.guard.tell_rest()
        self._no_proxies.close()
        reception, self._reception = self._reception, None
        assert reception is not None
        reception.end_all()
        if not reception.is_empty:
            self._last_ended = services.loop.create_future()
            await asyncio.wait((self._last_ended,), timeout=_END_OF_SESSIONS)
        if services.tasks:
            _, late = await asyncio.wait(services.tasks, timeout=_END_OF_SESSIONS)
            for task in late:  # a notify_logout that hangs, for instance
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_END_OF_SESSIONS)
        await services.masquerade.close()
        services.close()
        Pipe.close_idle()
        if not self._closed.done():
            self._closed.set_result(None)

    async def __aenter__(self) -> Self:
        if self._services is None:
            await self.start()
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()


_FOR_ALL_SESSIONS = frozenset({*PARTS, "get_paths"})
"""Sessions take these when they begin or log in. Set later, they would hold for some of them."""
_ARGUMENTS = frozenset({"users", *ARGUMENTS})
Server.__init__.__signature__ = signature()  # type: ignore[attr-defined]
Server.__init__.__doc__ = described()


def _warn_of_tls(settings: Settings, contexts: Contexts | None) -> None:
    if settings.require_tls and contexts is None:
        log.warning("nobody can log in: require_tls needs a context, as tls or ssl")


def _listen(
    hosts: tuple[str | None, ...], port: int, options: ListenOptions, settings: Settings
) -> list[socket.socket]:
    """Sockets for all addresses of these hosts, each address once. Raises OSError, ValueError."""
    arguments.check_port(port)
    if settings.active_port is not None:
        try_source_port(settings.active_port)
    family = options.get("family", socket.AF_UNSPEC)
    found = [address for each in hosts for address in addresses(each, family)]
    sockets = listen_on_all(
        tuple(dict.fromkeys(found)),
        port,
        options.get("backlog", BACKLOG),
        reuse_port=options.get("reuse_port", False),
    )
    for sock in sockets:
        set_keepalive(sock, settings.keepalive)
    return sockets
