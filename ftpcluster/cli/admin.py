"""Steering a running server: ``who``, ``kick``, ``limit``, ``ban``, ``drain``, ``reload``…"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ftpcluster.admin import default_socket
from ftpcluster.admin.client import AdminConnection, NotRunning
from ftpcluster.admin.requests import (
    MOST_SPEED,
    AnyReply,
    BanList,
    BanNetwork,
    Done,
    DrainWorker,
    Kick,
    Limit,
    ListBans,
    Overview,
    Reload,
    Request,
    Stop,
    Unban,
    WhoRequest,
)
from ftpcluster.cli.paths import a_file, a_file_s_name
from ftpcluster.cli.views import bans_table, headline, sessions_table, workers_table
from ftpcluster.config import ConfigError
from ftpcluster.config.environment import take_environment
from ftpcluster.config.load import admin_socket
from ftpcluster.config.units import parse_duration, parse_size, show_size
from ftpcluster.protocol.text import visible

F = TypeVar("F", bound=Callable[..., Any])
_WIDE = 10_000
_USER = "user:"


def of_server(command: F) -> F:
    """The options that say which server is meant."""
    command = click.option(
        "--socket",
        "path",
        type=a_file_s_name,
        metavar="PATH",
        help="The server's admin socket [default: the usual one]",
    )(command)
    return click.option(
        "-c",
        "--config",
        "file",
        type=a_file,
        metavar="FILE",
        help="The server that uses this file",
    )(command)


@contextlib.contextmanager
def connected(file: Path | None, path: str | None) -> Iterator[AdminConnection]:
    """A connection to the server that the options name. Raises NoServer, ConfigError."""
    if path is None:
        path = admin_socket(file, take_environment(os.environ))
    path = path or default_socket()
    if path is None:
        raise NotRunning("there is no usual place for a socket; say which one with --socket PATH")
    connection = AdminConnection(path)
    try:
        yield connection
    finally:
        connection.close()


def _order(file: Path | None, path: str | None, request: Request) -> None:
    with connected(file, path) as connection:
        reply = connection.ask(request)
    assert isinstance(reply, Done)
    click.echo(visible(reply.text))


def _print_json(reply: AnyReply) -> None:
    # in ASCII: clients may send characters that a terminal obeys
    click.echo(json.dumps(msgspec.to_builtins(reply), indent=2))


def _console() -> Any:
    """The console for tables. If stdout is no terminal, nothing is cut off."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDE)


as_json_option = click.option("--json", "as_json", is_flag=True, help="For programs")


@click.command()
@of_server
@as_json_option
def who(file: Path | None, path: str | None, *, as_json: bool) -> None:
    """Show the workers and sessions of a running server."""
    with connected(file, path) as connection:
        overview = connection.ask(WhoRequest())
    assert isinstance(overview, Overview)
    if as_json:
        _print_json(overview)
        return
    console = _console()
    width = console.width if console.is_terminal else None
    console.print(headline(overview), markup=False, soft_wrap=True)
    console.print(workers_table(overview.workers))
    console.print(sessions_table(overview.sessions, width))


@click.command()
@click.argument("whom", metavar="SESSION|USER|ADDRESS")
@of_server
def kick(file: Path | None, path: str | None, whom: str) -> None:
    """End sessions: one by its number, or those of a user or of an address.

    A user whose name is a number, or an address, is user:NAME.
    """
    _order(file, path, kick_request(whom))


def kick_request(whom: str) -> Kick:
    """The request for a word: a number is a session, an address an address, all else a user.

    ``user:NAME`` is a user, whatever the name looks like.
    """
    if not whom:
        raise ConfigError('kick "": expected a session, a user, or an address')
    if whom.startswith(_USER):
        return Kick(login=whom.removeprefix(_USER))
    if whom.isascii() and whom.isdecimal():
        return Kick(session=int(whom))
    try:
        return Kick(address=str(ipaddress.ip_address(whom)))
    except ValueError:
        return Kick(login=whom)


@click.command()
@click.argument("whom", metavar="USER|server")
@click.option("--download", metavar="SPEED", help='"5MB" a second, or "none"')
@click.option("--upload", metavar="SPEED", help='"5MB" a second, or "none"')
@of_server
def limit(
    file: Path | None, path: str | None, whom: str, download: str | None, upload: str | None
) -> None:
    """Set speed limits of the server, or of a user's sessions together, until the next reload.

    Both are given: they replace those that there are. A user with the name "server" is user:server.
    """
    if not whom:
        raise ConfigError('limit "": expected a user, or "server"')
    if download is None or upload is None:
        raise ConfigError(
            f"limit {whom}: give both --download and --upload, since they replace the limits that "
            'there are; "none" is no limit'
        )
    login = None if whom == "server" else whom.removeprefix(_USER)
    _order(file, path, Limit(login, _speed("--download", download), _speed("--upload", upload)))


def _speed(flag: str, text: str) -> int | None:
    if text == "none":
        return None
    try:
        speed = parse_size(text)
    except ValueError:
        raise ConfigError(
            f'{flag} {text}: expected bytes per second such as "10MB" or "10MiB", or "none"'
        ) from None
    if speed > MOST_SPEED:
        most = show_size(MOST_SPEED)
        raise ConfigError(f'{flag} {text}: is more than "{most}"; "none" is no limit')
    return speed


@click.command()
@click.argument("network", metavar="ADDRESS|NETWORK")
@click.option("--for", "time", metavar="TIME", help='"30m", "2h" [default: until it is lifted]')
@click.option("--reason", default="no reason given", help="What `bans` and the log say")
@of_server
def ban(file: Path | None, path: str | None, network: str, time: str | None, reason: str) -> None:
    """Turn an address or a network away, and end its sessions.

    A ban outlives reloads, but not the server.
    """
    try:
        seconds = None if time is None else int(time) if time.isdecimal() else parse_duration(time)
    except ValueError:
        raise ConfigError(f'--for {time}: expected a time such as "30m" or "2h"') from None
    _order(file, path, BanNetwork(network, seconds, reason))


@click.command()
@click.argument("network", metavar="ADDRESS|NETWORK")
@of_server
def unban(file: Path | None, path: str | None, network: str) -> None:
    """Lift the ban of an address or a network."""
    _order(file, path, Unban(network))


@click.command()
@of_server
@as_json_option
def bans(file: Path | None, path: str | None, *, as_json: bool) -> None:
    """Show who is banned, why, and for how long still."""
    with connected(file, path) as connection:
        banned = connection.ask(ListBans())
    assert isinstance(banned, BanList)
    if as_json:
        _print_json(banned)
    else:
        _console().print(bans_table(banned.bans))


@click.command()
@click.argument("worker", type=int)
@of_server
def drain(file: Path | None, path: str | None, worker: int) -> None:
    """Replace a worker: another one starts, and this one gets no new sessions.

    Those that it has go on for `timeouts.drain` (30 s); then transfers are cut.
    """
    _order(file, path, DrainWorker(worker))


@click.command()
@of_server
def reload(file: Path | None, path: str | None) -> None:
    """Have a server read configuration and certificates again, and use them."""
    _order(file, path, Reload())


@click.command()
@of_server
@click.option("--now", is_flag=True, help="Do not wait for transfers")
def stop(file: Path | None, path: str | None, *, now: bool) -> None:
    """Have a server stop, when its transfers are done or their grace is over.

    The answer comes at once; it does not wait for the end.
    """
    _order(file, path, Stop(now))
