"""The picture of ``top`` in the docs: ``python -m tests.support.picture docs/top.svg``."""

from __future__ import annotations

import io
import sys

from rich.console import Console

from ftpcluster.admin.requests import Overview, SessionView, WorkerView
from ftpcluster.cli.top import picture

COLUMNS, LINES = 132, 17


def session(number: int, user: str, address: str, **what: object) -> SessionView:
    nothing = {
        "worker": 1 + number % 4,
        "tls": True,
        "age": 40.0 + 97 * (number % 7),
        "idle": 3.0,
        "command": "",
        "direction": "",
        "size": None,
        "moved": 0,
        "speed": 0.0,
        "held_by": "",
    }
    return SessionView(session=number, user=user, address=address, **{**nothing, **what})  # type: ignore[arg-type]


def moving(
    verb: str, name: str, size: int | None, moved: int, speed: float, by: str
) -> dict[str, object]:
    direction = "download" if verb == "RETR" else "upload"
    return {
        "command": f'{verb} "{name}"',
        "direction": direction,
        "size": size,
        "moved": moved,
        "speed": speed,
        "held_by": by,
    }


def sample() -> Overview:
    """A server on an afternoon."""
    sessions = (
        session(
            4711,
            "alice",
            "192.0.2.7",
            **moving(
                "RETR", "/images/release.iso", 4_700_000_000, 3_200_000_000, 5e6, "user limit"
            ),
        ),
        session(
            4713,
            "alice",
            "192.0.2.7",
            **moving("RETR", "/images/notes.pdf", 88_000_000, 21_000_000, 5e6, "user limit"),
        ),
        session(
            4690,
            "scanner",
            "198.51.100.23",
            tls=False,
            **moving("STOR", "/incoming/page-0031.tif", None, 61_000_000, 23.4e6, "disk"),
        ),
        session(
            4705,
            "backup",
            "2001:db8::42",
            **moving("STOR", "/2026/11/db.tar.zst", None, 18_400_000_000, 48.1e6, "server limit"),
        ),
        session(
            4698,
            "carol",
            "203.0.113.99",
            **moving("RETR", "/film.mkv", 9_100_000_000, 410_000_000, 1.1e6, "client"),
        ),
        session(4714, "anonymous", "198.51.100.4", idle=21.0),
        session(4715, "", "203.0.113.5", idle=2.0, tls=False),
    )
    workers = tuple(
        WorkerView(number, 900 + number, "serving", held, load, lag, memory, 273_600.0)
        for number, held, load, lag, memory in (
            (1, 2, 0.11, 0.0002, 35_800_000), (2, 2, 0.34, 0.0009, 36_400_000),
            (3, 2, 0.07, 0.0001, 35_100_000), (4, 1, 0.29, 0.0006, 36_900_000),
        )
    )  # fmt: skip
    return Overview(
        version="0.1.0",
        age=273_612.0,
        listening=("0.0.0.0:21", "[::]:21"),
        connections=7,
        most_connections=2000,
        download=11.1e6,
        upload=71.5e6,
        download_limit=1_000_000_000,
        upload_limit=72_000_000,
        workers=workers,
        sessions=sessions,
    )


def main() -> None:
    console = Console(record=True, width=COLUMNS, height=LINES, highlight=False, file=io.StringIO())
    console.print(picture(sample(), COLUMNS, LINES))
    console.save_svg(sys.argv[1], title="ftpcluster top", unique_id="top")


if __name__ == "__main__":
    main()
