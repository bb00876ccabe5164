"""docs/abuse.md: read, and written anew from outcomes."""

from __future__ import annotations

import re
from pathlib import Path

from tests.peers.checks import CHECKS, Outcome
from tests.peers.servers import MAKES, Make

PAGE = Path(__file__).parents[2] / "docs" / "abuse.md"
_NOTE = re.compile(r"^(\d+)\. \*\*(.+?)\*\*\n((?:   .+\n?)*)", re.MULTILINE)
_FAILS = re.compile(r"does not \((\d+)\)")

Outcomes = dict[tuple[str, str], Outcome]
"""By make and attempt."""


def heading(make: Make) -> str:
    """What stands above a make's column."""
    return f"{make.title} {make.version}" if make.distribution else make.title


def table(text: str) -> list[list[str]]:
    """The cells of all rows, the heading's first."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def read(text: str) -> Outcomes:
    """What the page says."""
    reasons = {number: reason for number, reason, _ in _NOTE.findall(text)}
    names = {check.title: name for name, check in CHECKS.items()}
    _, *rows = table(text)
    found = {}
    for title, *cells in rows:
        for make, cell in zip(MAKES, cells, strict=True):
            fails = _FAILS.fullmatch(cell)
            outcome = Outcome("does not", reasons[fails[1]]) if fails else Outcome(cell)
            found[make, names[title]] = outcome
    return found


def explanations(text: str) -> dict[tuple[str, str], str]:
    """What the page says beyond the outcomes, of each that is a failure."""
    failures = [key for key, outcome in read(text).items() if outcome.reason]
    return dict(zip(failures, (why for _, _, why in _NOTE.findall(text)), strict=True))


def write(outcomes: Outcomes, explained: dict[tuple[str, str], str]) -> str:
    """The table and the notes below it."""
    rows = [["attempt", *map(heading, MAKES.values())], ["---"] * (len(MAKES) + 1)]
    notes: list[str] = []
    for name, check in CHECKS.items():
        row = [check.title]
        for make in MAKES:
            outcome = outcomes[make, name]
            if outcome.reason is None:
                row.append(outcome.cell)
                continue
            why = explained.get((make, name), "   Nobody has said why.\n")
            notes.append(f"{len(notes) + 1}. **{outcome.reason}**\n{why}")
            row.append(f"{outcome.cell} ({len(notes)})")
        rows.append(row)
    lines = (f"| {' | '.join(row)} |".replace("| --- ", "|---") for row in rows)
    return "\n".join(lines).replace("|--- |", "|---|") + "\n\n" + "".join(notes)
