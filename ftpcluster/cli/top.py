"""``ftpcluster top``: a running server, live in the terminal."""

from __future__ import annotations

import contextlib
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftpcluster.admin.requests import Overview, SessionView, WhoRequest
from ftpcluster.cli.admin import connected, of_server
from ftpcluster.cli.views import headline, sessions_table, workers_table

if TYPE_CHECKING:
    from rich.console import Group

_HEADINGS = 6
"""Lines that are no rows: the server's line, the tables' headings, and the empty lines."""
_QUIT = ("q", "Q", "\x1b")


@click.command()
@of_server
@click.option(
    "--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True, metavar="S"
)
def top(file: Path | None, path: str | None, interval: float) -> None:
    """Watch a running server; q ends it."""
    from rich.console import Console
    from rich.live import Live

    interrupts: list[int] = []

    def on_interrupt(number: int, _: object) -> None:
        interrupts.append(number)  # an exception in a finalizer, say, would get lost
        raise KeyboardInterrupt

    console = Console(highlight=False)
    # a dumb terminal cannot redraw its screen
    if console.is_dumb_terminal or not (console.is_terminal and sys.stdin.isatty()):
        raise click.ClickException("top needs a terminal; `ftpcluster who` prints once")
    with (
        connected(file, path) as connection,
        _keys_at_once(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        signal.signal(signal.SIGINT, on_interrupt)
        while not interrupts:
            overview = connection.ask(WhoRequest())
            assert isinstance(overview, Overview)
            live.update(picture(overview, *console.size), refresh=True)
            if _key(interval) in _QUIT:
                return
    raise KeyboardInterrupt


def picture(overview: Overview, width: int, height: int) -> Group:
    """The contents of a screen of that size: the busiest sessions first."""
    from rich.console import Group
    from rich.text import Text

    room = max(1, height - _HEADINGS - len(overview.workers))
    busiest = sorted(overview.sessions, key=_business)
    hidden = len(busiest) - room
    return Group(
        Text(headline(overview), overflow="ellipsis", no_wrap=True),
        Text(),
        workers_table(overview.workers),
        Text(),
        sessions_table(busiest[:room], width),
        Text(f"and {hidden} more" if hidden > 0 else "", style="dim"),
    )


def _business(session: SessionView) -> tuple[bool, float, float]:
    return not session.direction, -session.speed, session.idle


@contextlib.contextmanager
def _keys_at_once() -> Iterator[None]:
    """Keys come without Return, and are not shown; Ctrl-C works as usual."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _key(patience: float) -> str:
    """The key that is pressed within so many seconds, if any is."""
    readable, _, _ = select.select((sys.stdin,), (), (), patience)
    return sys.stdin.read(1) if readable else ""
