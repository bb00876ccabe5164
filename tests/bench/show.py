"""What was measured, as a table for a person and as JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tests.bench.figures import FIGURES, Round, Values, medians, ratio
from tests.bench.makes import Make
from tests.bench.workloads import Workload

BEST = "BEST OTHER"


@dataclass
class Results:
    """All rounds of all workloads on all servers, in the order of the table."""

    makes: Sequence[Make]
    workloads: dict[str, Workload]
    missing: dict[str, str]
    rounds: dict[tuple[str, str], list[Round]] = field(default_factory=dict)

    def add(self, workload: str, make: Make, found: Round) -> None:
        self.rounds.setdefault((workload, make.name), []).append(found)

    def values(self, workload: str, make: Make) -> Values:
        return medians(self.rounds.get((workload, make.name), ()))

    def errors(self, workload: str, make: Make) -> list[str]:
        """What went wrong in any round, each thing once."""
        rounds = self.rounds.get((workload, make.name), ())
        return list(dict.fromkeys(error for each in rounds for error in each.errors))

    def ratios(self, workload: str) -> Values:
        """The first server's figures over those of the best that is not ours, and had no errors."""
        first, *others = self.makes
        theirs = [
            self.values(workload, make)
            for make in others
            if not make.is_ours and not self.errors(workload, make)
        ]
        mine = self.values(workload, first)
        found = {name: ratio(name, mine, theirs) for name in self.workloads[workload].shows}
        return {name: value for name, value in found.items() if value is not None}


def table(results: Results) -> Table:
    """A row for each workload, in which each line is a figure, and a column for each server."""
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    shown.add_column("WORKLOAD", no_wrap=True)
    for make in results.makes:
        title = Text(f"{make.name}\n{make.version or ''}")
        shown.add_column(title, justify="right", min_width=8, overflow="fold")
    compares = any(not make.is_ours for make in results.makes[1:])
    if compares:
        shown.add_column(BEST, justify="right", no_wrap=True)
    notes = _numbers(results)
    for name in results.workloads:
        cells = [_cell(results, name, make, notes) for make in results.makes]
        if compares:
            cells.append(_ratios(results, name))
        shown.add_row(Text(name), *cells)
    return shown


def _cell(results: Results, name: str, make: Make, notes: dict[tuple[str, str], int]) -> Text:
    values = results.values(name, make)
    marks = [str(notes[make.name, error]) for error in results.errors(name, make)]
    lines = [
        FIGURES[figure].write(values[figure]) if figure in values else "-"
        for figure in results.workloads[name].shows
    ]
    if not results.rounds.get((name, make.name)):
        lines = ["", "", ""]
    elif not any(figure in values for figure in results.workloads[name].shows):
        lines = ["fails", "", ""]
    if marks:
        lines[0] += f" ({','.join(marks)})"
    return _lines(lines)


def _ratios(results: Results, name: str) -> Text:
    found = results.ratios(name)
    return _lines(
        [f"× {found[each]:.2f}" if each in found else "" for each in results.workloads[name].shows]
    )


def _lines(lines: Sequence[str]) -> Text:
    """The first one counts most, the last one least."""
    first, *others, last = lines
    return Text("\n").join([Text(first, "bold"), *map(Text, others), Text(last, "dim")])


def _numbers(results: Results) -> dict[tuple[str, str], int]:
    """Everything that went wrong gets a number."""
    found: dict[tuple[str, str], int] = {}
    for name in results.workloads:
        for make in results.makes:
            for error in results.errors(name, make):
                found.setdefault((make.name, error), len(found) + 1)
    return found


def heading(rounds: int, seconds: float) -> str:
    """What stands above the table."""
    where = machine()
    return (
        f"{where['cores']} cores, Linux {where['kernel']}, Python {where['python']}; medians of "
        f"{rounds} x {seconds:g} s\n"
        "rate; CPU of the server for each operation or GB; 99 % of operations took at most\n"
    )


def notes(results: Results) -> list[str]:
    """What stands below the table."""
    lines = [f"({number}) {name}: {error}" for (name, error), number in _numbers(results).items()]
    lines += [f"not measured: {name}: {reason}" for name, reason in results.missing.items()]
    return lines


# ---------------------------------------------------------------------- for programs


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _first_of("/proc/cpuinfo", "model name"),
        "memory": _first_of("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _first_of(file: str, name: str) -> str | None:
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def as_json(results: Results, command: Iterable[str], options: dict[str, Any]) -> dict[str, Any]:
    """All there is: medians and each round of every workload on every server."""
    return {
        "command": list(command),
        "options": options,
        "machine": machine(),
        "servers": [{"name": each.name, "version": each.version} for each in results.makes],
        "missing": results.missing,
        "workloads": {
            name: {
                "about": workload.about,
                "clients": workload.clients,
                "servers": {
                    make.name: {
                        "medians": results.values(name, make),
                        "errors": results.errors(name, make),
                        "rounds": [
                            asdict(each) for each in results.rounds.get((name, make.name), ())
                        ],
                    }
                    for make in results.makes
                },
                "ratios_to_best_other": results.ratios(name),
            }
            for name, workload in results.workloads.items()
        },
    }
