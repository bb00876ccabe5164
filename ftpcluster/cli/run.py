"""``ftpcluster run``: flags → Config → a supervisor that runs."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from ftpcluster.config import (
    Config,
    ConfigError,
    Limits,
    Loop,
    PermissionConfig,
    TLSConfig,
    UserConfig,
    WorkerConfig,
    available_cores,
    parse_size,
)
from ftpcluster.net.listeners import Listener, listen_on_all
from ftpcluster.net.tls import BadCertificate, make_context
from ftpcluster.protocol.address import Networks, display
from ftpcluster.quota.leases import Rates
from ftpcluster.quota.ledger import ConnectionLimits
from ftpcluster.supervisor.process import WorkerProcess
from ftpcluster.supervisor.supervisor import BootFailure, Supervisor
from ftpcluster.worker.entry import initialize, run_worker

log = logging.getLogger(__name__)

_READ_ONLY = (PermissionConfig("/", read=True, write=False),)
_ANONYMOUS = ("anonymous", "ftp")
_LOGIN = re.compile(r"[^:\s\x00-\x1f\x7f]+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_NUMBERS = re.compile(r"[0-9.]+")
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


def make_config(
    *,
    workers: int | None,
    hosts: tuple[str, ...],
    port: int | None,
    root: Path,
    users: tuple[str, ...],
    anonymous: bool,
    writable: bool,
    data_ports: str | None,
    masquerades: tuple[str, ...],
    proxies: tuple[str, ...],
    max_connections: int | None,
    max_connections_per_user: int | None,
    max_connections_per_address: int | None,
    download_limit: str | None,
    upload_limit: str | None,
    download_limit_per_user: str | None,
    upload_limit_per_user: str | None,
    server: str | None,
    user_manager: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    implicit_tls_port: int | None,
    require_tls: bool,
    loop: Loop,
    log_level: Any,
) -> Config:
    """The configuration that the flags stand for. Raises ConfigError."""
    count = available_cores() if workers is None else workers
    if count < 1:
        raise ConfigError(f"--workers {count}: at least one worker is needed")
    for flag, most in (
        ("--max-connections", max_connections),
        ("--max-connections-per-user", max_connections_per_user),
        ("--max-connections-per-address", max_connections_per_address),
    ):
        if most is not None and most < 1:
            raise ConfigError(f"{flag} {most}: at least 1 is needed")
    if port is None:
        port = 21 if os.geteuid() == 0 else 2121
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: expected a number from 0 to 65535")
    return Config(
        workers=count,
        users=tuple(
            msgspec.structs.replace(
                account,
                connections=max_connections_per_user,
                download=_speed("--download-limit-per-user", download_limit_per_user),
                upload=_speed("--upload-limit-per-user", upload_limit_per_user),
            )
            for account in _accounts(users, _folder(root), anonymous=anonymous, writable=writable)
        ),
        hosts=hosts,
        port=port,
        data_ports=None if data_ports is None else _port_range(data_ports, count),
        masquerade=_masquerade(masquerades),
        masquerade_for=_masquerades_for(masquerades),
        proxy_protocol=tuple(map(_network, proxies)) or None,
        limits=Limits(
            connections=max_connections,
            connections_per_address=max_connections_per_address,
            download=_speed("--download-limit", download_limit),
            upload=_speed("--upload-limit", upload_limit),
        ),
        tls=_tls(tls_cert, tls_key, implicit_tls_port, required=require_tls),
        server=server,
        user_manager=user_manager,
        loop=loop,
        log_level=log_level,
    )


def _tls(
    certificate: Path | None, key: Path | None, implicit_port: int | None, *, required: bool
) -> TLSConfig | None:
    if certificate is None:
        for flag, given in (
            ("--tls-key", key is not None),
            ("--implicit-tls-port", implicit_port is not None),
            ("--require-tls", required),
        ):
            if given:
                raise ConfigError(f"{flag} needs --tls-cert")
        return None
    if implicit_port is not None and not 0 <= implicit_port <= 65535:
        raise ConfigError(f"--implicit-tls-port {implicit_port}: expected 0 to 65535")
    config = TLSConfig(
        certificate=str(certificate.absolute()),
        key=str((key or certificate).absolute()),
        required=required,
        implicit_port=implicit_port,
    )
    _check_certificates(config)
    return config


def _check_certificates(config: TLSConfig) -> None:
    try:
        make_context(config.certificate, config.key, client_ca=config.client_ca)
    except BadCertificate as error:
        raise ConfigError(f"--tls-cert, --tls-key: {error}") from None


def _folder(root: Path) -> str:
    try:
        path = root.resolve(strict=True)
        if not path.is_dir():
            raise ConfigError(f"--root {root}: not a folder")
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
        (path / ".").stat()  # reading its names needs no more than the first; files need this
    except FileNotFoundError:
        raise ConfigError(f"--root {root}: there is no such folder") from None
    except PermissionError:
        raise ConfigError(
            f"--root {root}: not permitted; the server may not read this folder"
        ) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        why = error.strerror if isinstance(error, OSError) else "too many levels of links"
        raise ConfigError(f"--root {root}: {why}") from None
    return str(path)


def _accounts(
    texts: tuple[str, ...], root: str, *, anonymous: bool, writable: bool
) -> tuple[UserConfig, ...]:
    accounts = [_account(text, root, writable=writable) for text in texts]
    logins = [account.login for account in accounts]
    for login in logins:
        os.environ.pop(_variable(login), None)  # the workers need not inherit it
        if logins.count(login) > 1:
            raise ConfigError(f"--user {login}: given twice")
    if anonymous or not texts:
        accounts += [
            UserConfig(login=name, password=None, root=root, permissions=_READ_ONLY)
            for name in _ANONYMOUS
            if name not in logins
        ]
    return tuple(accounts)


def _account(text: str, root: str, *, writable: bool) -> UserConfig:
    login, colon, password = text.partition(":")
    if not _LOGIN.fullmatch(login):
        # a password could stand where the name should: it is not repeated
        raise ConfigError("--user: expected NAME:PASSWORD, with a name that has no space in it")
    if not colon:
        variable = _variable(login)
        if variable not in os.environ:
            raise ConfigError(
                f"--user {login}: no password; give {login}:PASSWORD or set {variable}"
            )
        password = os.environ[variable]
    if not password:
        raise ConfigError(f"--user {login}: the password is empty")
    permissions = (PermissionConfig("/"),) if writable else _READ_ONLY
    return UserConfig(login=login, password=password, root=root, permissions=permissions)


def _variable(login: str) -> str:
    """The environment variable that may hold a password."""
    return "FTPCLUSTER_USER_" + re.sub(r"\W", "_", login.upper())


def _speed(flag: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError:
        raise ConfigError(
            f'{flag} {text}: expected bytes per second such as "10MB" or "10MiB"'
        ) from None


def _port_range(text: str, workers: int) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    if match is None:
        raise ConfigError(f"--data-ports {text}: expected a range such as 50000-50999")
    first, last = int(match[1]), int(match[2])
    if not 0 < first <= last <= 65535:
        raise ConfigError(f"--data-ports {text}: expected ports from 1 to 65535, lower one first")
    if last - first + 1 < workers:
        raise ConfigError(
            f"--data-ports {text}: {last - first + 1} ports are too few for {workers} workers"
        )
    return first, last


def _masquerade(texts: tuple[str, ...]) -> str | None:
    """The address for all clients."""
    found = [_announced(text, text) for text in texts if "=" not in text]
    if len(found) > 1:
        raise ConfigError(f"--masquerade {found[1]}: the address for all clients is given already")
    return found[0] if found else None


def _masquerades_for(texts: tuple[str, ...]) -> dict[str, str]:
    """The addresses for clients in some networks."""
    found: dict[str, str] = {}
    for text in texts:
        network, equals, address = text.partition("=")
        if equals:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ConfigError(f"--masquerade {text}: {error}") from None
            found[network] = _announced(text, address)
    return found


def _announced(flag: str, text: str) -> str:
    if not _HOST.fullmatch(text) or (_NUMBERS.fullmatch(text) and not _is_ipv4(text)):
        raise ConfigError(
            f"--masquerade {flag}: expected an IPv4 address such as 203.0.113.7, or a host name"
        )
    return text


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ConfigError(f"--proxy-protocol {text}: {error}") from None


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
        _check_certificates(config.tls)
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
