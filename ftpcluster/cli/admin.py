"""Steering a running server: ``who``, ``kick``, ``limit``, ``drain``, ``reload``, ``stop``."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ftpcluster.admin import default_socket
from ftpcluster.admin.client import Connection, NoServer
from ftpcluster.admin.messages import (
    Done,
    DrainWorker,
    Kick,
    Limit,
    Overview,
    Reload,
    Request,
    SessionView,
    Stop,
    Who,
    WorkerView,
)
from ftpcluster.cli.flags import Flags
from ftpcluster.config import ConfigError
from ftpcluster.config.load import load
from ftpcluster.config.units import parse_size, show_size

F = TypeVar("F", bound=Callable[..., Any])
_WIDE = 400


def _server(command: F) -> F:
    """The options that say which server is meant."""
    command = click.option(
        "--socket",
        "path",
        metavar="PATH",
        help="The server's admin socket [default: the usual one]",
    )(command)
    return click.option(
        "-c",
        "--config",
        "file",
        type=Path,
        metavar="FILE",
        help="The server that runs by this file",
    )(command)


@contextlib.contextmanager
def connected(file: Path | None, path: str | None) -> Iterator[Connection]:
    """A connection to the server that is meant. Raises NoServer, ConfigError."""
    if path is None and file is not None:
        path = load(file, Flags()).admin.socket
    path = path or default_socket()
    if path is None:
        raise NoServer("there is no usual place for a socket; say which one with --socket PATH")
    connection = Connection(path)
    try:
        yield connection
    finally:
        connection.close()


def _order(file: Path | None, path: str | None, request: Request) -> None:
    with connected(file, path) as connection:
        reply = connection.ask(request)
    assert isinstance(reply, Done)
    click.echo(reply.text)


@click.command()
@_server
@click.option("--json", "as_json", is_flag=True, help="For programs")
def who(file: Path | None, path: str | None, *, as_json: bool) -> None:
    """Show the workers and sessions of a running server."""
    with connected(file, path) as connection:
        overview = connection.ask(Who())
    assert isinstance(overview, Overview)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(overview)).decode())
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)  # whatever reads it finds all there
    console.print(headline(overview), markup=False, soft_wrap=True)
    console.print(workers_table(overview.workers))
    console.print(sessions_table(overview.sessions))


@click.command()
@click.argument("whom", metavar="SESSION|USER|ADDRESS")
@_server
def kick(file: Path | None, path: str | None, whom: str) -> None:
    """End sessions: one by its number, or those of a user or of an address."""
    _order(file, path, kick_request(whom))


def kick_request(whom: str) -> Kick:
    """What is meant: a number is a session, an address an address, all else a user."""
    if whom.isascii() and whom.isdecimal():
        return Kick(session=int(whom))
    try:
        return Kick(address=str(ipaddress.ip_address(whom)))
    except ValueError:
        return Kick(login=whom)


@click.command()
@click.argument("whom", metavar="USER|server")
@click.option("--download", metavar="SPEED", required=True, help='"5MB" a second, or "none"')
@click.option("--upload", metavar="SPEED", required=True, help='"5MB" a second, or "none"')
@_server
def limit(file: Path | None, path: str | None, whom: str, download: str, upload: str) -> None:
    """Set speed limits of the server, or of a user's sessions together, until the next reload."""
    login = None if whom == "server" else whom
    _order(file, path, Limit(login, _speed("--download", download), _speed("--upload", upload)))


def _speed(flag: str, text: str) -> int | None:
    if text == "none":
        return None
    try:
        return parse_size(text)
    except ValueError:
        raise ConfigError(
            f'{flag} {text}: expected bytes per second such as "10MB" or "10MiB", or "none"'
        ) from None


@click.command()
@click.argument("worker", type=int)
@_server
def drain(file: Path | None, path: str | None, worker: int) -> None:
    """Replace a worker: another one starts, this one ends as its sessions do."""
    _order(file, path, DrainWorker(worker))


@click.command()
@_server
def reload(file: Path | None, path: str | None) -> None:
    """Have a server read everything again, and serve by it."""
    _order(file, path, Reload())


@click.command()
@_server
@click.option("--now", is_flag=True, help="Do not wait for transfers")
def stop(file: Path | None, path: str | None, *, now: bool) -> None:
    """Stop a server, when its transfers are done or their grace is over."""
    _order(file, path, Stop(now))


# ---------------------------------------------------------------------- what is shown


def headline(overview: Overview) -> str:
    """The server in a line."""
    most = overview.most_connections
    connections = f"{overview.connections}" + ("" if most is None else f" of {most}")
    return (
        f"ftpcluster {overview.version} on {', '.join(overview.listening)}, "
        f"up {duration(overview.age)}: {connections} connections, "
        f"download {_rate(overview.download, overview.download_limit)}, "
        f"upload {_rate(overview.upload, overview.upload_limit)}"
    )


def _rate(speed: float, limit: int | None) -> str:
    return f"{size(speed)}/s" + ("" if limit is None else f" of {show_size(limit)}/s")


def workers_table(workers: tuple[WorkerView, ...]) -> Any:
    """The workers, a row each."""
    table = _table("WORKER", "PID", "STATE", "SESSIONS", "LOAD", "LAG", "MEMORY", "AGE")
    for each in workers:
        table.add_row(
            str(each.worker),
            str(each.pid),
            each.state,
            str(each.sessions),
            f"{100 * each.load:.0f} %",
            f"{1000 * each.lag:.0f} ms",
            size(each.memory),
            duration(each.age),
        )
    return table


def sessions_table(sessions: tuple[SessionView, ...]) -> Any:
    """The sessions, a row each."""
    table = _table(
        "SESSION",
        "WORKER",
        "USER",
        "ADDRESS",
        "TLS",
        "AGE",
        "IDLE",
        "DOES",
        "DONE",
        "SPEED",
        "HELD BY",
    )
    for each in sessions:
        table.add_row(*_session_row(each))
    return table


def _session_row(each: SessionView) -> list[str]:
    from rich.markup import escape

    moves = bool(each.direction)
    return [
        str(each.session),
        str(each.worker),
        escape(each.user or "-"),
        each.address,
        "yes" if each.tls else "no",
        duration(each.age),
        "" if moves else duration(each.idle),
        escape(each.command or "-"),
        progress(each) if moves else "",
        f"{size(each.speed)}/s" if moves else "",
        each.held_by if moves else "",
    ]


def progress(each: SessionView) -> str:
    """How far a transfer is."""
    if not each.size:
        return size(each.moved)
    return f"{100 * each.moved // each.size} % of {size(each.size)}"


def size(count: float) -> str:
    """Bytes, in three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """A time, in its two largest units."""
    whole = int(seconds)
    for unit, length, below, part in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= length:
            return f"{whole // length}{unit} {whole % length // part}{below}"
    return f"{whole}s"


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in ("DOES",), overflow="fold")
    return table
