"""``ftpcluster check``: what is wrong in file and environment, or what they would serve."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import click

from ftpcluster.cli.flags import Flags
from ftpcluster.cli.loading import load_to_start
from ftpcluster.cli.paths import a_file
from ftpcluster.config import AccountConfig, Config, Limits, Listen, StorageConfig, Timeouts
from ftpcluster.config.accounts import SHARED
from ftpcluster.config.checks import accounts
from ftpcluster.config.environment import take_environment
from ftpcluster.config.naming import quoted
from ftpcluster.config.units import show_frequency, show_size
from ftpcluster.protocol.address import display
from ftpcluster.protocol.protection import Protection
from ftpcluster.worker import custom_classes

_USUAL = Path("ftpcluster.toml")
_SHOWN = 10


@click.command()
@click.option(
    "-c",
    "--config",
    "file",
    type=a_file,
    metavar="FILE",
    help=f"[default: {_USUAL}; where that is missing the environment alone, if it has keys]",
)
def check(file: Path | None) -> None:
    """Say what is wrong in a configuration file, or what it would serve."""
    environment = take_environment(os.environ)
    if file is None and (not environment.names or os.path.lexists(_USUAL)):
        file = _USUAL
    config = load_to_start(file, Flags(), environment)
    custom_classes.look(config)
    for line in describe(config):
        click.echo(line)
    if environment.names:
        alone = f" alone, as there is no {_USUAL}" if file is None else ""
        click.echo(f"from the environment{alone}: {', '.join(environment.names)}")


def describe(config: Config) -> Iterator[str]:
    """What a server would serve, line by line; no password."""
    for listen in config.listen:
        yield f"listen on {_where(listen)}: {_protection(listen, config)}"
    if config.tls is not None:
        yield f"certificate {config.tls.certificate}, TLS {config.tls.minimum_version} or later"
    yield f"workers: {config.workers} ({config.loop})"
    for name in ("run_as", "server", "user_manager"):
        value = getattr(config, name)
        if value is not None:
            yield f"{name} {value}"
    if not config.confine:
        yield "workers are not confined"
    for name in ("read", "write"):
        if places := getattr(config.confine_allow, name):
            yield f"custom code may {name}: {', '.join(places)}"
    if config.data.ports is not None:
        yield "data ports {}-{}".format(*config.data.ports)
    yield from _timeouts(config.timeouts)
    yield from _storage(config.storage)
    yield f"limits of the server: {_limits(config.limits)}"
    ban = config.ban
    yield (
        f"bans: an address with {ban.failures} failed logins in {ban.window} s, "
        f"for {ban.duration} s" + f"; never {', '.join(ban.allow)}" * bool(ban.allow)
    )
    if ban.deny:
        yield f"always turned away: {_some(ban.deny)}"
    for group in config.groups or ():
        yield f"group {group.name}, all its users together: {_limits(group, SHARED)}"
    if not accounts(config) and config.user_files:
        yield "no user yet: `ftpcluster user add NAME` adds one"
    for path, login, account in accounts(config):
        name = login if len(path) == 1 else f"user {login}"
        yield f"{name}: {_account(account)}"
    yield from _told(config)


def _some(networks: tuple[str, ...]) -> str:
    """The first networks, and how many there are besides: a list may have thousands."""
    rest = len(networks) - _SHOWN
    return ", ".join(networks[:_SHOWN]) + f" and {rest} more" * (rest > 0)


def _where(listen: Listen) -> str:
    return ", ".join(display(host, listen.port) for host in listen.address or ("0.0.0.0", "::"))


def _protection(listen: Listen, config: Config) -> str:
    if config.tls is None or listen.tls is Protection.OFF:
        text = "no TLS"
    else:
        text = f"{listen.tls.value} TLS"
        if config.tls.required:
            text += ", required"
        if config.tls.required_data:
            text += ", required for data"
    if listen.proxy_protocol is not None:
        text += f"; PROXY protocol from {', '.join(listen.proxy_protocol)}"
    return text


def _timeouts(timeouts: Timeouts) -> Iterator[str]:
    """The timeouts that are not the defaults."""
    usual = Timeouts()
    if changed := [
        f"{name} {getattr(timeouts, name)} s"
        for name in timeouts.__struct_fields__
        if getattr(timeouts, name) != getattr(usual, name)
    ]:
        yield f"timeouts: {', '.join(changed)}"


def _told(config: Config) -> Iterator[str]:
    """Where the server logs, and where it can be watched and steered."""
    log, admin = config.log, config.admin
    place = "stderr" if log.file is None else _log_place(log.file)
    yield f"log: {log.level}, {log.format}, on {place}"
    if log.transfers is not None:
        yield f"log of transfers: {_log_place(log.transfers)}"
    if config.metrics.listen is not None:
        yield f"metrics on {display(*config.metrics.listen)}"
    if not admin.enabled:
        yield "no admin socket"
    elif admin.socket is not None:
        yield f"admin socket {admin.socket}"


def _log_place(path: str) -> str:
    """A FIFO is not tried: its reader would take the close for the end of the log."""
    is_fifo = os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode)
    return f"{path}, a FIFO: the server starts only while somebody reads it" if is_fifo else path


def _storage(storage: StorageConfig) -> Iterator[str]:
    """The settings of storage that are not the defaults."""
    if kinds := [kind for kind in ("durable", "atomic") if getattr(storage, f"{kind}_uploads")]:
        yield f"uploads: {' and '.join(kinds)}"
    for key, said in (("hide", "hidden"), ("forbid", "forbidden")):
        if patterns := getattr(storage, key):
            yield f"{said} names: {', '.join(map(quoted, patterns))}"


def _account(account: AccountConfig) -> str:
    rights = ", ".join(
        f"{each.path} {_rights(read=each.read, write=each.write)}" for each in account.permissions
    )
    begins = "" if account.home == "/" else f" from {account.home} on"
    group = getattr(account, "group", None)
    shared = f"; in group {group}" * bool(group)
    return f"{account.root}{begins}; {rights}; {_limits(account)}{shared}"


def _rights(*, read: bool, write: bool) -> str:
    return {
        (True, True): "read and write",
        (True, False): "read",
        (False, True): "write",
        (False, False): "nothing",
    }[read, write]


def _limits(limits: Limits | AccountConfig, names: tuple[str, ...] = ()) -> str:
    """The limits that there are, in the words of the file: all, or those of ``names``."""
    found = []
    for name in names or limits.__struct_fields__:
        value = getattr(limits, name)
        if value is not None and name == "new_connections_per_address":
            found.append(f"{name.replace('_', ' ')} {show_frequency(*value)}")
        elif value is not None and name.startswith("connections"):
            found.append(f"{name.replace('_', ' ')} {value}")
        elif value is not None and name.startswith(("download", "upload")):
            found.append(f"{name.replace('_', ' ')} {show_size(value)}/s")
    return ", ".join(found) or "no limits"
