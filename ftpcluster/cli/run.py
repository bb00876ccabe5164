"""``ftpcluster run``: its flags, and a supervisor that runs."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ftpcluster.cli.flags import check_certificates, make_config
from ftpcluster.config import Config, ConfigError, Loop, WorkerConfig
from ftpcluster.net.listeners import Listener, listen_on_all
from ftpcluster.protocol.address import Networks, display
from ftpcluster.quota.leases import Rates
from ftpcluster.quota.ledger import ConnectionLimits
from ftpcluster.supervisor.process import WorkerProcess
from ftpcluster.supervisor.supervisor import BootFailure, Supervisor
from ftpcluster.worker.entry import initialize, run_worker

log = logging.getLogger(__name__)

_BOOT_FAILED = 1
_INTERRUPTED = 130


@click.command()
@click.option("--workers", type=int, metavar="N", help="Worker processes [default: the cores]")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="ADDR",
    help="Address to listen on, may be repeated [default: all]",
)
@click.option(
    "--port", type=int, metavar="P", help="Port; 0 for any free one [default: 2121, as root 21]"
)
@click.option(
    "--root",
    type=Path,
    default=Path("."),
    metavar="DIR",
    help="The folder to serve [default: the current one]",
)
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="NAME:PASSWORD",
    help="An account, may be repeated. NAME alone takes the password from "
    "FTPCLUSTER_USER_<NAME> in the environment",
)
@click.option("--anonymous", is_flag=True, help="Anonymous users may read, beside the accounts")
@click.option("--writable", is_flag=True, help="Accounts may write; anonymous users never")
@click.option(
    "--data-ports", metavar="A-B", help="Ports for passive data connections [default: any]"
)
@click.option(
    "--masquerade",
    "masquerades",
    multiple=True,
    metavar="[NET=]ADDR",
    help="IPv4 address or host name that PASV names, behind NAT; NET=ADDR for clients in NET",
)
@click.option(
    "--proxy-protocol",
    "proxies",
    multiple=True,
    metavar="NET",
    help="Connections come through a proxy in NET, with the PROXY protocol; may be repeated",
)
@click.option("--server", metavar="MODULE:CLASS", help="A subclass of ftpcluster.Server to run")
@click.option(
    "--user-manager", metavar="MODULE:FACTORY", help="What makes the user manager of a worker"
)
@click.option("--tls-cert", type=Path, metavar="FILE", help="Certificate chain (PEM): AUTH TLS")
@click.option("--tls-key", type=Path, metavar="FILE", help="Its key [default: in the same file]")
@click.option("--implicit-tls-port", type=int, metavar="P", help="A port that begins with TLS")
@click.option("--require-tls", is_flag=True, help="Logins only with TLS")
@click.option("--max-connections", type=int, metavar="N", help="Connections of the whole server")
@click.option("--max-connections-per-user", type=int, metavar="N", help="Sessions of each user")
@click.option(
    "--max-connections-per-address", type=int, metavar="N", help="Connections of each address"
)
@click.option(
    "--download-limit", metavar="SPEED", help='What the server sends, a second: "10MB", "1GiB"'
)
@click.option("--upload-limit", metavar="SPEED", help="What the server receives, a second")
@click.option("--download-limit-per-user", metavar="SPEED", help="All sessions of a user together")
@click.option("--upload-limit-per-user", metavar="SPEED", help="All sessions of a user together")
@click.option(
    "--loop",
    type=click.Choice(["uvloop", "asyncio"]),
    default="uvloop",
    show_default=True,
    help="Event loop",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What is logged on stderr",
)
def run(**flags: Any) -> int:
    """Serve a folder over FTP.

    With no --user everybody may read, as "anonymous". Ctrl-C stops the server, a second one at
    once.
    """
    config = make_config(**flags)
    if config.server or config.user_manager:
        sys.path.insert(0, os.getcwd())  # as python itself has it; workers inherit it
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s supervisor: %(message)s"
    )
    listeners = _listen(config)
    try:
        with asyncio.Runner(loop_factory=_loop_factory(config.loop)) as runner:
            return runner.run(_serve(config, listeners))
    except BootFailure as failure:
        if failure.reason is not None:
            raise ConfigError(failure.reason) from failure
        click.echo(f"ftpcluster: error: {failure}; the reason stands above", err=True)
        return _BOOT_FAILED


def _listen(config: Config) -> list[Listener]:
    proxies = None if config.proxy_protocol is None else Networks(config.proxy_protocol)
    found = [Listener(sock, proxies=proxies) for sock in listen_on_all(config.hosts, config.port)]
    if config.tls is not None and config.tls.implicit_port is not None:
        found += [
            Listener(sock, implicit_tls=True, proxies=proxies)
            for sock in listen_on_all(config.hosts, config.tls.implicit_port)
        ]
    return found


async def _serve(config: Config, listeners: list[Listener]) -> int:
    supervisor = Supervisor(
        listeners,
        config.workers,
        functools.partial(_start_process, config),
        ConnectionLimits(
            server=config.limits.connections,
            per_address=config.limits.connections_per_address,
            strangers=config.limits.connections_not_logged_in,
        ),
        config.timeouts.shutdown,
        Rates(config.limits.upload, config.limits.download),
    )
    signals: list[int] = []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_signal, number, signals, supervisor)
    loop.add_signal_handler(signal.SIGHUP, _reload_certificates, config, supervisor)
    where = ", ".join(map(_where, listeners))
    supervisor.serving.add_done_callback(
        lambda serving: _announce(serving, f"ready on {where} ({_count(config.workers)})")
    )
    await supervisor.run()
    return _INTERRUPTED if signals[:1] == [signal.SIGINT] else 0


def _where(listener: Listener) -> str:
    host, port = listener.sock.getsockname()[:2]
    return display(host, port) + " implicit TLS" * listener.implicit_tls


def _reload_certificates(config: Config, supervisor: Supervisor) -> None:
    """On SIGHUP. Certificates that cannot be used change nothing."""
    if config.tls is None:
        log.info("SIGHUP: there are no certificates to reload")
        return
    try:
        check_certificates(config.tls)
    except ConfigError as error:
        log.error("SIGHUP: certificates not reloaded: %s", error)
        return
    supervisor.reload_certificates()
    log.info("SIGHUP: certificates reloaded")


def _on_signal(number: int, signals: list[int], supervisor: Supervisor) -> None:
    signals.append(number)
    supervisor.stop()


def _announce(serving: asyncio.Future[None], line: str) -> None:
    if not serving.cancelled() and serving.exception() is None:
        click.echo(line, err=True)


def _count(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"


def _start_process(config: Config, index: int, epoch: int, sock: socket.socket) -> WorkerProcess:
    process = WorkerProcess(
        target=run_worker,
        args=(sock, WorkerConfig(index=index, config=config)),
        name=f"ftpcluster-worker-{index + 1}-{epoch}",
        loop_initializer=_loop_factory(config.loop),
        initializer=initialize,
        initargs=(os.getpid(), config.log_level),
    )
    process.start()
    return process


def _loop_factory(loop: Loop) -> Callable[[], asyncio.AbstractEventLoop]:
    if loop == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop
