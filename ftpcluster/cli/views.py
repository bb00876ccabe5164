"""A running server, as tables for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ftpcluster.admin.requests import BanView, Overview, SessionView, WorkerView
from ftpcluster.protocol.text import visible

_SESSION = (
    *("SESSION", "WORKER", "USER", "ADDRESS", "TLS", "AGE", "IDLE"),
    *("DOES", "DONE", "SPEED", "HELD BY"),
)
_LEAST = ("WORKER", "TLS", "AGE", "DONE")
_SHORT = 12
_WIDE = 110
"""The width of a screen that has room for all columns."""


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
    return f"{size(speed)}/s" + (
        "" if limit is None else f" of {size(limit).replace('.0 ', ' ')}/s"
    )


def workers_table(workers: Iterable[WorkerView]) -> Any:
    """The workers, a row each."""
    table = _table("WORKER", "PID", "STATE", "SESSIONS", "LOAD", "LAG", "MEMORY", "AGE")
    for each in workers:
        table.add_row(
            str(each.worker),
            str(each.pid),
            _cell(each.state),
            str(each.sessions),
            f"{100 * each.load:.0f} %",
            f"{1000 * each.lag:.0f} ms",
            size(each.memory),
            duration(each.age),
        )
    return table


def sessions_table(sessions: Sequence[SessionView], width: int | None) -> Any:
    """The sessions, a row each; on a narrow screen without what matters least.

    ``width`` None: nothing is left out or cut.
    """
    left_out = () if width is None or width >= _WIDE else _LEAST
    names = [name for name in _SESSION if name not in left_out]
    longest = max((len(each.command) for each in sessions), default=0)
    table = _table(*names, width=width if longest > _SHORT else None)
    for each in sessions:
        cells = dict(zip(_SESSION, _session_row(each), strict=True))
        table.add_row(*(cells[name] for name in names))
    return table


def bans_table(bans: Iterable[BanView]) -> Any:
    """The bans, a row each."""
    table = _table("ADDRESS", "FOR", "BY", "REASON")
    for each in bans:
        left = "ever" if each.left is None else duration(each.left)
        by = "hand" if each.by_hand else "server"
        table.add_row(_cell(each.network), left, by, _cell(each.reason))
    return table


def _session_row(each: SessionView) -> list[str]:
    moves = bool(each.direction)
    return [
        str(each.session),
        str(each.worker),
        _cell(each.user or "-"),
        _cell(each.address),
        "yes" if each.tls else "no",
        duration(each.age),
        "" if moves else duration(each.idle),
        _cell(each.command or "-"),
        progress(each) if moves else "",
        f"{size(each.speed)}/s" if moves else "",
        _cell(each.held_by) if moves else "",
    ]


def _cell(text: str) -> str:
    """Text from a client or a worker, which neither the terminal nor rich may obey."""
    from rich.markup import escape

    return escape(visible(text))


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


def _table(*columns: str, width: int | None = None) -> Any:
    """A table. With a ``width``, the column of commands takes the rest of it."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", width=width)
    for column in columns:
        is_flexible = column == "DOES" and width is not None
        table.add_column(
            column,
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if is_flexible else None,
            min_width=12 if is_flexible else None,
        )
    return table
