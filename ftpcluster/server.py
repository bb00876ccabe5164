"""The single-process server: sessions in the caller's own event loop, with no other process.

The sessions are the very ones that workers run; only the accounting is in this process too.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from ftpcluster import arguments
from ftpcluster.net.acceptor import Acceptor, refuse
from ftpcluster.net.certificates import Contexts, Source
from ftpcluster.net.listeners import BACKLOG, addresses, listen_on_all
from ftpcluster.net.passive import PassivePorts
from ftpcluster.net.poller import Poller
from ftpcluster.protocol import path as virtual_path
from ftpcluster.protocol.address import Networks, plain
from ftpcluster.protocol.listing import list_time, mode_string, printable
from ftpcluster.protocol.protection import Protection
from ftpcluster.quota.bans import LOOPBACK, BanRules
from ftpcluster.quota.bucket import Throttle
from ftpcluster.quota.ledger import ConnectionLimits, Ledger, Refusal
from ftpcluster.quota.quotas import LocalQuotas
from ftpcluster.session.commands.table import COMMANDS, Command
from ftpcluster.session.connection import Connection, SessionConnection
from ftpcluster.session.extension import foreign_command, is_command, worker  # noqa: F401
from ftpcluster.session.reception import Arrived, Reception
from ftpcluster.session.run import in_task
from ftpcluster.session.server_dtp import close_idle_pipes
from ftpcluster.session.services import Services, Settings
from ftpcluster.session.state import Session
from ftpcluster.storage.base import Storage
from ftpcluster.storage.layered import LayeredStorage
from ftpcluster.storage.memory import MemoryPathIO
from ftpcluster.storage.pathio import AbstractPathIO, AsyncPathIO, PathIO
from ftpcluster.storage.pooled import PooledStorage
from ftpcluster.users import AbstractUserManager, MemoryUserManager, User
from ftpcluster.verbs import BuiltinVerbs

_THREADS = 16
_METHODS = {"pass": "pass_"}
_END_OF_SESSIONS = 10.0
"""Seconds that ``close`` gives commands which are not ours to end after their cancellation."""

Verb = Callable[[Any, str], Awaitable[bool]]


class ListenOptions(TypedDict, total=False):
    """Keywords of ``start`` and ``run``. Addresses are reused whatever ``reuse_address`` says."""

    family: int
    backlog: int
    reuse_address: bool
    reuse_port: bool


class Server(BuiltinVerbs):
    """FTP server.

    ``users`` are User objects or a user manager; none is one anonymous user who may read and write
    the current folder. Speeds are bytes per second, *read* what the server receives, *write* what
    it sends; times are seconds; None is no limit and no deadline.

    ``block_size`` are the bytes that custom path layers are asked for at once. ``socket_timeout``
    ends transfers and replies that make no progress, ``idle_timeout`` sessions that say nothing;
    ``wait_future_timeout`` bounds the wait of ConnectionConditions, ``path_timeout`` operations of
    path layers that can be bounded. ``data_ports`` are the ports for passive data connections,
    ``ipv4_pasv_forced_response_address`` what PASV names. ``encoding`` is that of names on the
    wire, ``ssl`` makes it a server with implicit TLS, on control and data connections.

    Beyond the reference: ``tls`` makes it a server with explicit TLS (AUTH TLS); both may also be
    functions that make a context, which ``reload_certificates`` calls again.
    ``require_tls`` refuses logins without TLS, ``require_tls_data`` transfers without PROT P,
    ``require_session_reuse`` data connections that don't resume the TLS session of their control
    connection (it takes a function that makes contexts, one each), ``strict_tls_eof`` uploads that
    end without close_notify. ``maximum_connections_per_address`` are those of a client's address.
    ``masquerade_for`` are other addresses for PASV to name, by the
    client's network; both may be host names. ``proxy_protocol`` are the networks of proxies: who
    comes from there has to send the PROXY protocol's header, all others are turned away; the
    same proxy may bring data connections, with a header each.
    ``welcome_message`` and ``system_type`` (SYST), ``data_timeout`` (the wait
    for a data connection), ``login_timeout``, ``login_delay`` (before a failed login is answered),
    ``rename_replaces`` (whether RNTO may replace a file). An address from which ``ban_failures``
    logins fail within ``ban_window`` is banned for ``ban_duration``, unless it is in a network of
    ``ban_allow``; without ``ban_failures`` nobody is.

    ``durable_uploads``: 226 says that the disk has the file and its name (fsync), so that a crash
    of the machine leaves it. ``atomic_uploads``: a file that is stored has its name, and replaces
    another of that name, when it is whole; REST and APPE go on with a file where it is.
    ``hide`` are patterns (``*``, ``?``, ``[…]``) of names that listings do not show, ``forbid`` of
    names that no command may use, in any place of a path; neither knows capitals.

    A method ``async def verb(self, connection, rest) -> bool`` of a subclass is a command, and
    overrides a built-in one of that name; so does what is put into ``commands_mapping``.

    Raises ValueError for arguments that cannot be what they are for.
    """

    def __init__(
        self,
        users: Iterable[User] | AbstractUserManager | None = None,
        *,
        block_size: int = 8192,
        socket_timeout: float | None = None,
        idle_timeout: float | None = None,
        wait_future_timeout: float | None = 1,
        path_timeout: float | None = None,
        path_io_factory: Callable[..., AbstractPathIO] = PathIO,
        maximum_connections: int | None = None,
        read_speed_limit: int | None = None,
        write_speed_limit: int | None = None,
        read_speed_limit_per_connection: int | None = None,
        write_speed_limit_per_connection: int | None = None,
        ipv4_pasv_forced_response_address: str | None = None,
        data_ports: Iterable[int] | None = None,
        encoding: str = "utf-8",
        ssl: Source | None = None,
        tls: Source | None = None,
        require_tls: bool = False,
        require_tls_data: bool = False,
        require_session_reuse: bool = False,
        strict_tls_eof: bool = False,
        maximum_connections_per_address: int | None = None,
        masquerade_for: Mapping[str, str] | None = None,
        proxy_protocol: Iterable[str] | None = None,
        welcome_message: str = "welcome",
        system_type: str = "UNIX Type: L8",
        data_timeout: float = 30.0,
        login_timeout: float | None = None,
        login_delay: float = 3.0,
        rename_replaces: bool = False,
        ban_failures: int | None = None,
        ban_window: float = 600.0,
        ban_duration: float = 1800.0,
        ban_allow: Iterable[str] = LOOPBACK,
        durable_uploads: bool = False,
        atomic_uploads: bool = False,
        hide: Iterable[str] = (),
        forbid: Iterable[str] = (),
    ) -> None:
        arguments.check_encoding(encoding)
        arguments.check_lines(welcome_message=welcome_message, system_type=system_type)
        arguments.check_numbers(
            block_size=block_size,
            socket_timeout=socket_timeout,
            idle_timeout=idle_timeout,
            wait_future_timeout=wait_future_timeout,
            path_timeout=path_timeout,
            data_timeout=data_timeout,
            login_timeout=login_timeout,
            login_delay=login_delay,
            maximum_connections=maximum_connections,
            maximum_connections_per_address=maximum_connections_per_address,
            read_speed_limit=read_speed_limit,
            write_speed_limit=write_speed_limit,
            read_speed_limit_per_connection=read_speed_limit_per_connection,
            write_speed_limit_per_connection=write_speed_limit_per_connection,
        )
        self.user_manager = (
            users if isinstance(users, AbstractUserManager) else MemoryUserManager(users)
        )
        self.settings = Settings(
            welcome_message=welcome_message,
            system_type=system_type,
            encoding=encoding,
            login_timeout=login_timeout,
            idle_timeout=idle_timeout,
            data_timeout=data_timeout,
            stalled_timeout=socket_timeout,
            login_delay=login_delay,
            masquerade=ipv4_pasv_forced_response_address,
            rename_replaces=rename_replaces,
            durable_uploads=durable_uploads,
            atomic_uploads=atomic_uploads,
            hide=arguments.patterns("hide", hide),
            forbid=arguments.patterns("forbid", forbid),
            masquerade_for=dict(masquerade_for or {}),
            require_tls=require_tls,
            require_tls_data=require_tls_data,
            require_session_reuse=require_session_reuse,
            strict_tls_eof=strict_tls_eof,
            wait_future_timeout=wait_future_timeout,
            path_timeout=path_timeout,
            block_size=block_size,
        )
        source = ssl or tls
        self.implicit_tls = ssl is not None
        self.tls = (
            None
            if source is None
            else Contexts(source, one_each=require_session_reuse, strict_eof=strict_tls_eof)
        )
        self.bans = (
            None
            if ban_failures is None
            else BanRules(
                failures=ban_failures,
                window=ban_window,
                duration=ban_duration,
                allow=Networks(ban_allow),
            )
        )
        self._proxies = None if proxy_protocol is None else Networks(proxy_protocol)
        self.path_io_factory = path_io_factory
        self.throttle = Throttle(read_speed_limit, write_speed_limit)
        self.throttle_per_connection = Throttle(
            read_speed_limit_per_connection, write_speed_limit_per_connection
        )
        self.ledger = Ledger(ConnectionLimits(maximum_connections, maximum_connections_per_address))
        self.commands_mapping: dict[str, Verb] = {}
        self._ours: dict[str, Verb] = {}
        self._theirs: dict[Verb, Command] = {}
        self._map_commands()
        self._data_ports = arguments.ports(data_ports)
        self._ports = PassivePorts(None, self._data_ports)
        self._path_io_state: Any = None
        self._numbers = itertools.count(1)
        self._acceptor: Acceptor[Server] | None = None
        self._services: _ServerServices | None = None
        self._reception: Reception | None = None
        self._closed: asyncio.Future[None] | None = None
        self._last_ended: asyncio.Future[None] | None = None
        self.server_host: str | None = None
        self.server_port = 0

    # ------------------------------------------------------------------ life

    @property
    def address(self) -> tuple[str | None, int]:
        """Host and port that the server listens on."""
        return self.server_host, self.server_port

    @property
    def available_data_ports(self) -> PassivePorts | None:
        """None without ``data_ports``; else ``qsize()`` is the number of free ones."""
        if self._data_ports is None:
            return None
        return self._ports

    async def start(
        self, host: str | None = None, port: int = 0, **kwargs: Unpack[ListenOptions]
    ) -> None:
        """Listen and serve: on all addresses where ``host`` is None, on a free port where 0.

        ``kwargs`` are those of ``asyncio.start_server`` that ListenOptions names. Raises OSError.
        """
        if unknown := kwargs.keys() - ListenOptions.__annotations__.keys():
            raise TypeError(f"start() got an unexpected keyword argument {min(unknown)!r}")
        if self._services is not None:
            raise RuntimeError("the server has been started already")
        loop = asyncio.get_running_loop()
        sockets = listen_on_all(
            addresses(host, kwargs.get("family", socket.AF_UNSPEC)),
            port,
            kwargs.get("backlog", BACKLOG),
            reuse_port=kwargs.get("reuse_port", False),
        )
        self.server_host, self.server_port = host, sockets[0].getsockname()[1]
        self._quotas = LocalQuotas(
            self.ledger,
            self.throttle,
            clock=loop.time,
            bans=self.bans,
            end_stranger=self._end_stranger,
            call_later=loop.call_later,
            promise=loop.create_future,
        )
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
        self._reception = Reception(self._services, self._on_empty)
        self._closed = loop.create_future()
        self._acceptor = Acceptor(loop, sockets, lambda: self, Server._on_connection)
        self._acceptor.resume()

    def make_services(self, **common: Any) -> _ServerServices:
        """What sessions share, with this server's commands and path layer (workers call it too)."""
        return _ServerServices(
            server=self,
            find_command=self._find_command,
            **{
                "tls": self.tls,
                "throttle_per_connection": self.throttle_per_connection,
                **common,
            },
        )

    def _on_connection(self, _: socket.socket, fd: int, address: str, port: int) -> None:
        assert self._reception is not None
        number, peer = next(self._numbers), plain(address)
        if self._proxies is not None and peer not in self._proxies:
            os.close(fd)
            return
        refused = self._quotas.admit(number, peer if self._proxies is None else None)
        if refused is not None:
            refuse(fd, refused.explanation)
            return
        self._reception.receive(
            Arrived(
                number,
                fd,
                peer,
                port,
                Protection.IMPLICIT if self.implicit_tls else Protection.EXPLICIT,
                is_proxied=self._proxies is not None,
            )
        )

    def _end_stranger(self, session: int) -> None:
        """Soon: it may be the one whose command asks for it, which must not end in that."""
        if self._services is not None and self._reception is not None:
            reason = Refusal.BANNED.explanation
            end = functools.partial(self._reception.end, session, reason, only_strangers=True)
            self._services.loop.call_soon(end)

    def _on_empty(self) -> None:
        if self._last_ended is not None and not self._last_ended.done():
            self._last_ended.set_result(None)

    def reload_certificates(self) -> None:
        """Read certificates again, where ``ssl`` or ``tls`` is a function: for new connections.

        Raises what that function raises; then nothing has changed.
        """
        if self.tls is not None:
            self.tls.reload()

    async def serve_forever(self) -> None:
        """Wait until the server is closed."""
        if self._closed is None:
            raise RuntimeError("the server has not been started")
        await asyncio.shield(self._closed)

    async def run(
        self, host: str | None = None, port: int = 0, **kwargs: Unpack[ListenOptions]
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
        reception, self._reception = self._reception, None
        assert reception is not None
        reception.end_all()
        if not reception.is_empty:
            self._last_ended = services.loop.create_future()
            await asyncio.wait((self._last_ended,), timeout=_END_OF_SESSIONS)
        if services.tasks:
            await asyncio.wait(services.tasks, timeout=_END_OF_SESSIONS)
        await services.masquerade.close()
        services.close()
        close_idle_pipes()
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

    # ------------------------------------------------------------------ commands

    def _map_commands(self) -> None:
        """Fill ``commands_mapping`` with the built-in verbs and those of a subclass."""
        for verb in (row.verb.lower() for row in COMMANDS.values()):
            method = _METHODS.get(verb, verb)
            self.commands_mapping[verb] = bound = getattr(self, method)
            if getattr(type(self), method) is getattr(Server, method):
                self._ours[verb] = bound
        for name in dir(type(self)):
            if not name.startswith("_") and not hasattr(Server, name):
                function = getattr(type(self), name)
                if callable(function) and is_command(function):
                    self.commands_mapping[name.rstrip("_")] = getattr(self, name)

    def _find_command(self, verb: bytes) -> Command | None:
        """The row of a verb: the table's, unless ``commands_mapping`` says otherwise."""
        name = verb.decode("latin-1").lower()
        function = self.commands_mapping.get(name)
        if function is None:
            return None
        if function is self._ours.get(name):
            return COMMANDS[verb]
        if function not in self._theirs:
            self._theirs[function] = foreign_command(name, function)
        return self._theirs[function]

    # ------------------------------------------------------------------ paths and listings

    @staticmethod
    def get_paths(connection: Connection, path: str | PurePosixPath) -> tuple[Any, PurePosixPath]:
        """The real and the virtual path that a client's ``path`` means, never outside base_path."""
        virtual = PurePosixPath(virtual_path.resolve(str(connection.current_directory), str(path)))
        base: PurePath = connection.user.base_path
        real = base / virtual.relative_to("/")
        if (
            not real.is_relative_to(base) or ".." in real.relative_to(base).parts
        ):  # "C:\\" within a path that was sent to Windows
            return base, PurePosixPath("/")
        return real, virtual

    @staticmethod
    def build_list_mtime(st_mtime: float, now: float | None = None) -> str:
        """A time as ``ls -l`` shows it, in local time: ``Jan  1 00:00`` or ``Jan  1  2001``."""
        if now is None:
            now = time.time()
        local = time.localtime(st_mtime).tm_gmtoff
        return list_time(st_mtime + local, now + local)

    async def build_list_string(self, connection: Connection, path: Any) -> str:
        """The line of LIST for a real ``path``, with no line ending. May be overridden."""
        layer: AbstractPathIO = connection.path_io
        status = await layer.stat(path)
        is_dir = await layer.is_dir(path)
        mode = getattr(status, "st_mode", 0o40755 if is_dir else 0o100644)
        links = getattr(status, "st_nlink", 1)
        when = self.build_list_mtime(status.st_mtime)
        size = status.st_size
        return f"{mode_string(mode)} {links} none none {size} {when} {printable(path.name)}"


@dataclass(kw_only=True)
class _ServerServices(Services):
    """What the sessions of a ``Server`` share, with what its user has replaced."""

    server: Server

    def open_storage(self, session: Session, user: User) -> Storage:
        factory = self.server.path_io_factory
        if factory is PathIO:
            return self.files.open(user.base_path)
        if factory is AsyncPathIO:
            return PooledStorage(
                self.files.open(user.base_path), self.pool, self.settings.path_timeout
            )
        layer = session.view.layer
        if isinstance(layer, MemoryPathIO):
            layer.make_base(user.base_path)
        return LayeredStorage(layer, Path(user.base_path), self.settings.block_size)

    def make_view(self, session: Session) -> SessionConnection:
        return SessionConnection(session, self._make_layer)

    def _make_layer(self, connection: SessionConnection) -> AbstractPathIO:
        """A path layer for one connection; what they share is made by the first of them."""
        server = self.server
        layer = server.path_io_factory(
            timeout=self.settings.path_timeout,
            connection=connection,
            state=server._path_io_state,
        )
        if server._path_io_state is None:
            server._path_io_state = layer.state
        return layer

    async def long_line(self, session: Session, path: str) -> str | None:
        """LIST's line where ``build_list_string`` has been overridden, else None."""
        server = self.server
        if (
            "build_list_string" not in vars(server)
            and type(server).build_list_string is Server.build_list_string
        ):
            return None
        real, _ = server.get_paths(session.view, path)
        return await in_task(server.build_list_string(session.view, real))
