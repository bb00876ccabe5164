"""The server that ``run`` starts: a supervisor, the signals that steer it, and reloads."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import operator
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ftpcluster.admin import default_socket
from ftpcluster.cli.account_changes import accounts_alone, refuse_to_lose_all, with_user
from ftpcluster.cli.binding import Binder
from ftpcluster.cli.loading import certificates_of
from ftpcluster.cli.logfiles import LogFiles
from ftpcluster.cli.open_files import check_open_files, open_more_files
from ftpcluster.cli.plans import connection_limits, make_plan
from ftpcluster.cli.standard_streams import say
from ftpcluster.cli.state_directory import ban_file, give_to
from ftpcluster.cli.worker_start import WorkerStarter, loop_factory
from ftpcluster.config import Config, ConfigError
from ftpcluster.config.tls_doubts import tls_doubts
from ftpcluster.daemon_calls import call_in_daemon
from ftpcluster.native import DESCRIPTION
from ftpcluster.net.certificate_dates import validity
from ftpcluster.net.listeners import CannotListen, Listener
from ftpcluster.prctl import no_new_privs
from ftpcluster.privileges import check_python, drop, parse_run_as
from ftpcluster.protocol.protection import Protection
from ftpcluster.runtime import settle_collector
from ftpcluster.safe_paths import UnsafePath, acting_for
from ftpcluster.supervisor.admin_server import AdminServer, CannotBind, ReloadRefused, bind
from ftpcluster.supervisor.forking import ForkServer
from ftpcluster.supervisor.kept_bans import KeptBans
from ftpcluster.supervisor.supervisor import Supervisor
from ftpcluster.supervisor.systemd import Notifier, inherited_sockets
from ftpcluster.supervisor.worker_lives import STOPPING, BootFailure
from ftpcluster.worker.config_in_memory import Packed
from ftpcluster.worker.speed_limits import speed_limits

if TYPE_CHECKING:
    from ftpcluster.cli.metrics import Metrics

log = logging.getLogger(__name__)

_FIXED = ("run_as", "admin", "metrics", "log.file", "log.transfers", "ban.file")
"""Keys that a reload cannot change."""
_CAP_NET_BIND_SERVICE = 10
_FIRST_UNPRIVILEGED_PORT = 1024
_INTERRUPTED = 130
_PATIENCE = 10.0
"""Seconds that the files of a changed user have to answer."""
_REPORT = 5.0
"""Seconds between two reports to the service manager, at the most."""


class Cluster:
    """One ``ftpcluster run``, from bound sockets to its exit code."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Awaitable[Config]],
        load_user: Callable[[str], tuple[Config, list[str]]],
        logs: LogFiles,
        forks: ForkServer | None,
    ) -> None:
        """Binds. ``load`` reads the configuration again, ``load_user`` what one user's login needs
        of it, in a thread. Raises CannotListen, ConfigError."""
        check_open_files(config.workers)
        self._config = self._begun_with = self._started_with = config
        self._unchanged: list[str] = []
        self._load = load
        self._load_user = load_user
        self._changing = asyncio.Lock()
        self._logs = logs
        self._forks = forks
        self._ban_file = ban_file(config)
        self._notifier = Notifier()
        self._binder = Binder(inherited=inherited_sockets())
        self._certificates = certificates_of(config)
        self._plan = make_plan(config, self._certificates, self._binder, logs, forks)
        self._operator = os.geteuid()  # before root is given up: not the workers' user
        self._admin = self._bind_admin()
        self._metrics = _metrics(config)
        self._described = self._describe()
        self._interrupted: bool | None = None
        self._reload: asyncio.Task[None] | None = None
        self._is_outdated = False
        self._wrong: str | None = None

    def _bind_admin(self) -> socket.socket | None:
        """Raises CannotBind where a socket that is configured cannot be made."""
        admin = self._config.admin
        path = admin.socket or default_socket()
        if not admin.enabled or path is None:
            return None
        try:
            with acting_for(path, None):
                return bind(path)
        except (CannotBind, UnsafePath) as error:
            if admin.socket is not None:
                raise CannotBind(str(error)) from error
            log.warning("`ftpcluster who` and its like cannot reach this server: %s", error)
            return None

    def run(self) -> int:
        """Serve until a signal or order; returns the exit code. Raises BootFailure, CannotRunAs."""
        open_more_files()
        if self._config.run_as is not None:
            identity = parse_run_as(self._config.run_as)
            self._logs.give_to(identity)
            if self._ban_file is not None:
                give_to(self._ban_file, identity)
            kept = _kept(self._config)
            if self._forks is not None:
                self._forks.give_up_root(identity, kept)
            drop(identity, kept)
            no_new_privs()
            check_python(identity)
        with asyncio.Runner(loop_factory=loop_factory(self._config.loop)) as runner:
            return runner.run(self._serve())

    async def _serve(self) -> int:
        loop = asyncio.get_running_loop()
        if self._forks is not None:
            self._forks.watch()
        bans = KeptBans(loop, self._ban_file)
        await bans.load()
        self._supervisor = Supervisor(self._plan)
        bans.attach(self._supervisor.guard)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(signal.SIGUSR1, self._logs.reopen, self._supervisor)
        self._supervisor.serving.add_done_callback(self._on_serving)
        self._supervisor.stopping.add_done_callback(lambda _: self._notifier.stopping())
        admin = None
        if self._admin is not None:
            admin = AdminServer(
                self._admin, self._supervisor, self.reload_now, self.change_user, self._operator
            )
            await admin.start()
        if self._metrics is not None:
            self._metrics.start(self._supervisor, self._certificate_end)
            log.info("metrics on http://%s/metrics", self._metrics.where)
        try:
            await self._supervisor.run()
        finally:
            if self._metrics is not None:
                self._metrics.close()
            if admin is not None:
                admin.close()
            await bans.close()
        log.info("stopped")
        return _INTERRUPTED if self._interrupted else 0

    def _certificate_end(self) -> float | None:
        """When the certificate that is used now expires."""
        found = None if self._certificates is None else validity(self._certificates[0])
        return None if found is None else found.end

    def _on_serving(self, serving: asyncio.Future[None]) -> None:
        if not serving.cancelled() and serving.exception() is None:
            settle_collector()
            log.info("Python %s %s", sys.version.split()[0], DESCRIPTION)
            if self._logs.log is not None:
                log.info("ready on %s", self._described)
            say(f"ready on {self._described}")
            self._notifier.ready(f"ready on {self._described}")
            if self._notifier.is_heard:
                self._report()

    def _report(self) -> None:
        """Tell the service manager, again and again, that we are alive, and how busy."""
        self._notifier.watchdog()
        if self._reload is None:
            count = self._supervisor.ledger.connections
            self._notifier.status(f"{count} sessions; ready on {self._described}")
        interval = min(self._notifier.watchdog_interval or _REPORT, _REPORT)
        asyncio.get_running_loop().call_later(interval, self._report)

    def _describe(self) -> str:
        where = ", ".join(map(_described, self._plan.listeners))
        count = self._config.workers
        return f"{where} ({count} worker{'s' * (count > 1)})"

    def _on_stop(self, number: int) -> None:
        if self._interrupted is None:
            self._interrupted = number == signal.SIGINT
            if self._interrupted and self._logs.log is not None:
                # at a terminal, where the log is not seen, it would look as if nothing happened
                grace = self._config.timeouts.shutdown
                say(f"stopping: transfers have {grace} s to finish; Ctrl-C again cuts them")
        self._supervisor.stop()

    # ------------------------------------------------------------------ reload

    def reload(self) -> None:
        """Read everything again, and use it. If anything is wrong, go on as before."""
        if self._supervisor.stopping.done():
            self._wrong = STOPPING
            log.info("not reloaded: %s", STOPPING)
            return
        if self._reload is not None:
            self._is_outdated = True  # what it has read may have changed since
            return
        log.info("reloading")
        self._notifier.reloading()
        self._reload = asyncio.get_running_loop().create_task(self._reload_all())
        self._reload.add_done_callback(self._on_reloaded)

    async def reload_now(self) -> str:
        """Reload; returns a description of what is served then. Raises ReloadRefused."""
        self.reload()
        while self._reload is not None:
            await asyncio.wait((self._reload,))
            await asyncio.sleep(0)  # for its callback, which may begin another one
        if self._wrong is not None:
            raise ReloadRefused(self._wrong)
        return "; ".join((self._described, *self._unchanged))

    async def _reload_all(self) -> None:
        binder = Binder(self._binder)
        try:
            config = await self._load()
            if self._supervisor.stopping.done():  # another program may have its ports by now
                raise BootFailure("", STOPPING)
            refuse_to_lose_all(self._config, config)
            certificates = certificates_of(config)
            if certificates == self._certificates and self._change_accounts(config):
                binder.close()
                return
            plan = make_plan(config, certificates, binder, self._logs, self._forks)
            await self._supervisor.reload(plan)
        # no descriptor or no memory is left, say
        except (ConfigError, CannotListen, BootFailure, OSError) as error:
            binder.close()
            self._wrong = "; ".join(str(error).splitlines())
            level = logging.INFO if self._supervisor.stopping.done() else logging.ERROR
            log.log(level, "not reloaded: %s", self._wrong)
            return
        except BaseException:
            binder.close()
            raise
        self._unchanged = []
        for name in _FIXED:
            value = operator.attrgetter(name)
            if value(config) != value(self._begun_with):
                line = f"{name} cannot change while the server runs: restart it for that"
                self._unchanged.append(line)
                log.warning("%s", line)
        for doubt in tls_doubts(config, certificates):
            log.warning("%s", doubt)
        self._config, self._plan, self._binder = config, plan, binder
        self._started_with = config
        self._certificates = certificates
        self._logs.log_as(config.log)
        self._described = self._describe()
        self._wrong = None
        log.info("reloaded: %s", self._described)

    async def change_user(self, login: str) -> str:
        """Use a user's file as it is now; returns what has changed. Raises ReloadRefused."""
        async with self._changing:
            try:
                loaded, doubts = await self._loaded_user(login)
            except ConfigError as error:
                raise ReloadRefused("; ".join(error.lines)) from error
            for doubt in doubts:
                log.warning("%s", doubt)
            config = with_user(self._config, loaded, login)
            if config == self._config:
                return "; ".join((f"{login}: nothing has changed", *doubts))
            if config is None or not self._change_accounts(config):
                return await self.reload_now()
            return "; ".join((f"{login}: the change is in force; no worker was replaced", *doubts))

    async def _loaded_user(self, login: str) -> tuple[Config, list[str]]:
        """Raises ConfigError."""
        while True:
            while self._reload is not None:
                await asyncio.wait((self._reload,))
                await asyncio.sleep(0)  # for its callback, which may begin another one
            load = functools.partial(self._load_user, login)
            try:
                async with asyncio.timeout(_PATIENCE):
                    found = await call_in_daemon(asyncio.get_running_loop(), "user", load)
            except TimeoutError:
                raise ConfigError("the storage of the configuration does not answer") from None
            if self._reload is None:  # else it may have read something newer
                return found

    def _change_accounts(self, config: Config) -> bool:
        """Use a configuration that differs in its accounts only; False where that is not so."""
        if not self._supervisor.serving.done():
            return False
        change = accounts_alone(self._config, config, self._started_with)
        if change is None:
            return False
        try:
            contents = change.packed()
        except ValueError:
            return False
        self._plan = dataclasses.replace(
            self._plan,
            start_process=WorkerStarter(
                config, Packed(config, self._certificates), self._logs, self._forks
            ),
            limits=connection_limits(config),
            speeds=speed_limits(config),
        )
        are_limited = any(each.connections is not None for each in (*config.groups, *change.users))
        self._supervisor.change_accounts(self._plan, contents, counts_logins=are_limited)
        self._config = config
        self._unchanged = []
        self._wrong = None
        log.info("reloaded: %s; no worker was replaced", change)
        return True

    def _on_reloaded(self, task: asyncio.Task[None]) -> None:
        self._reload = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._wrong = f"{type(error).__name__}: {error}"
            # this is a bug, and no fault of the file: its traceback is needed
            log.error("not reloaded: %s", self._wrong, exc_info=error)
        if self._supervisor.serving.done() and not self._supervisor.stopping.done():
            self._notifier.ready(f"ready on {self._described}")
        if self._is_outdated:
            self._is_outdated = False
            self.reload()


def _metrics(config: Config) -> Metrics | None:
    if config.metrics.listen is None:
        return None
    from ftpcluster.cli.metrics import Metrics  # an HTTP server, which few start

    return Metrics(*config.metrics.listen)


def _kept(config: Config) -> tuple[int, ...]:
    """The capabilities that workers need, even if they do not run as root."""
    port = config.data.active_port
    return () if port is None or port >= _FIRST_UNPRIVILEGED_PORT else (_CAP_NET_BIND_SERVICE,)


def _described(listener: Listener) -> str:
    return listener.where + " implicit TLS" * (listener.tls is Protection.IMPLICIT)
