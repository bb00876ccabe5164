"""What the sessions of one process share: settings, users, quotas, ports, files, threads."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ftpcluster.descriptors import close_quietly
from ftpcluster.logfile import LogFile
from ftpcluster.net.certificates import Contexts
from ftpcluster.net.listeners import set_keepalive
from ftpcluster.net.masquerade import Masquerade
from ftpcluster.net.passive import PassivePorts
from ftpcluster.net.poller import Poller
from ftpcluster.net.stream import Stream
from ftpcluster.net.tls import CONTROL_TICKETS, TLSStream
from ftpcluster.protocol.pattern import Names
from ftpcluster.protocol.protection import Protection
from ftpcluster.protocol.reply import Code, Reply
from ftpcluster.quota.quotas import Quotas
from ftpcluster.quota.rates import Rates
from ftpcluster.session.command_run import contained
from ftpcluster.session.counts import Counts
from ftpcluster.session.digest_threads import DigestThreads
from ftpcluster.session.hooks import SessionHooks
from ftpcluster.session.login_queue import LoginQueue
from ftpcluster.session.owner_names import OwnerNames
from ftpcluster.session.row import Command
from ftpcluster.session.sending_threads import SendingThreads
from ftpcluster.session.timer_wheel import TimerWheel
from ftpcluster.storage.local_files import LocalFiles
from ftpcluster.storage.mounts import MountTable
from ftpcluster.storage.uploads import TEMPORARY
from ftpcluster.users import AbstractUserManager, User

T = TypeVar("T")


class Leftover(Protocol):
    """A connection to ``host`` that outlives its transfer, or even its session."""

    host: str

    def close(self) -> None: ...


_compiled = functools.lru_cache(256)(Names)
"""Many users have the same patterns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is the same for all sessions of a server. Times in seconds; None is no deadline.

    The default of a field without one stands in ``config``, where its key is declared.
    """

    welcome_message: str
    system_type: str = "UNIX Type: L8"
    encoding: str = "utf-8"
    login_timeout: float | None
    idle_timeout: float | None
    data_timeout: float
    stalled_timeout: float | None
    storage_timeout: float
    keepalive: float | None
    login_delay: float = 3.0
    login_attempts: int = 3
    masquerade: str | None
    masquerade_for: Mapping[str, str]
    active: bool
    active_port: int | None
    any_address: bool
    rename_replaces: bool
    durable_uploads: bool
    atomic_uploads: bool
    hide: tuple[str, ...]
    forbid: tuple[str, ...]
    require_tls: bool
    require_tls_data: bool
    require_session_reuse: bool
    strict_tls_eof: bool
    max_digest: int | None
    allow_symlinks: bool = False


@dataclass(kw_only=True)
class Services:
    """What the sessions of one process share."""

    loop: asyncio.AbstractEventLoop
    poller: Poller
    settings: Settings
    users: AbstractUserManager
    quotas: Quotas
    ports: PassivePorts
    pool: Executor
    file_threads: int = 16
    """Threads that may wait at once for a device that may not answer."""
    mounts: MountTable | None = None
    """The mounts, where this process is confined and could not read them any more."""
    rates_per_connection: Callable[[], Rates] = Rates
    """The server's speed limits for each connection."""
    counts: Counts = field(default_factory=Counts)
    tls: Contexts | None = None
    transfers: LogFile | None = None
    find_command: Callable[[bytes], Command | None] | None = None
    """The row of a verb, in place of the table's."""
    hooks_for: Callable[[Any], SessionHooks] | None = None
    """Makes the hooks of a Session."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    lingering: dict[Leftover, None] = field(default_factory=dict)
    sets_keepalive: bool = False
    """Whether control connections inherit another ``keepalive`` than that in ``settings``."""
    held_entries: int = 0
    """Entries of directories that listings hold to sort them."""

    def __post_init__(self) -> None:
        self.wheel = TimerWheel(self.loop)
        self.turns = LoginQueue(self.loop)
        self.digests = DigestThreads(self.loop)
        self.sending = SendingThreads(self.loop)
        settings = self.settings
        self.owner_names = OwnerNames(self.loop)
        self.files = LocalFiles(self.file_threads, settings.storage_timeout, self.loop, self.mounts)
        timeouts = (settings.login_timeout, settings.idle_timeout)
        self.shortest_timeout = min((each for each in timeouts if each is not None), default=None)
        self.masquerade = Masquerade(settings.masquerade, settings.masquerade_for)
        self._names = self._names_of(None, ())

    def names_for(self, user: User) -> tuple[Names, Names]:
        """The names that a user may not use, and those that listings do not show."""
        if user.hide is None and not user.forbid:  # as most
            return self._names
        return self._names_of(user.hide, user.forbid)

    def _names_of(
        self, hide: tuple[str, ...] | None, forbid: tuple[str, ...]
    ) -> tuple[Names, Names]:
        settings = self.settings
        forbidden = (*settings.forbid, *forbid)
        hidden = settings.hide if hide is None else hide
        unfinished = (TEMPORARY,) if settings.atomic_uploads else ()
        return _compiled(forbidden), _compiled((*hidden, *forbidden, *unfinished))

    @functools.cached_property
    def greeting(self) -> Reply:
        return Reply(Code.SERVICE_READY, self.settings.welcome_message)

    def control_stream(self, fd: int, tls: Protection) -> Stream:
        """A new control connection's stream; takes over ``fd``.

        Raises ConnectionError where the client of a TLS connection is gone already.
        """
        if self.sets_keepalive:
            self._set_keepalive(fd)
        if tls is Protection.IMPLICIT and self.tls is not None:
            try:
                context = self.tls.take()
            except ConnectionError:
                close_quietly(fd)
                raise
            return TLSStream(self.loop, self.poller, fd, context, CONTROL_TICKETS)
        return Stream(self.loop, self.poller, fd)

    def _set_keepalive(self, fd: int) -> None:
        sock = socket.socket(fileno=fd)
        try:
            set_keepalive(sock, self.settings.keepalive)
        except OSError:
            pass  # the client is gone already: the next read will show it
        finally:
            sock.detach()

    def notify_logout(self, user: User) -> None:
        """Tell the user manager; nobody waits for that."""
        if self.users.needs_task:
            self.ask(self.users.notify_logout(user))

    def close(self) -> None:
        """Give back what no session holds, when no session is left."""
        for connection in tuple(self.lingering):
            connection.close()
        self.wheel.close()
        self.ports.close()
        self.poller.close()
        self.digests.close()
        self.sending.close()
        self.files.close()
        self.owner_names.close()
        self.pool.shutdown(wait=False, cancel_futures=True)

    def ask(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine of a user manager; the server's end waits for it."""
        task = self.background(contained(coroutine))
        task.add_done_callback(lambda _: coroutine.close())  # cancelled before its first step
        return task

    def background(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine that the server's end waits for; ``tasks`` holds it until then."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def in_pool(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a function that may block in the pool of threads."""
        return await self.loop.run_in_executor(self.pool, functools.partial(function, *arguments))
