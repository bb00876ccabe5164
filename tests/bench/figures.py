"""What is computed of what clients and servers have spent."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Figure(NamedTuple):
    """How a figure is written, and which is the better one."""

    text: str
    more_is_better: bool = False

    def write(self, value: float) -> str:
        """In three digits, or as many as there are before the point."""
        decimals = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
        return self.text.format(f"{value:,.{decimals}f}")


FIGURES = {
    "operations_per_second": Figure("{}/s", more_is_better=True),
    "megabytes_per_second": Figure("{} MB/s", more_is_better=True),
    "cpu_us_per_operation": Figure("{} µs"),
    "cpu_ms_per_gb": Figure("{} ms/GB"),
    "cpu_ms": Figure("{} ms"),
    "p50_ms": Figure("p50 {} ms"),
    "p99_ms": Figure("p99 {} ms"),
    "pss_mb": Figure("{} MB"),
    "pss_kb_per_session": Figure("{} kB each"),
    "start_s": Figure("{} s"),
    "operations": Figure("{}", more_is_better=True),
    "bytes": Figure("{}", more_is_better=True),
}
"""All that is measured: the table shows some for each workload, JSON has them all.

MB and GB are powers of ten; ``pss_mb`` is the most memory that the server's processes had together
during the load; CPU is that of all its processes, also of those that have ended."""

Values = dict[str, float]


@dataclass
class Outcome:
    """What one client did: the seconds that each operation took, and why it gave up, if it did."""

    seconds: float = 0.0
    moved: int = 0
    latencies: Sequence[float] = ()
    error: str | None = None


@dataclass
class Round:
    """A workload on a server, once."""

    values: Values = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def of_clients(outcomes: Iterable[Outcome], cpu: float) -> Round:
    """Their figures together; ``cpu``: seconds that the server spent on them.

    Rates are sums of each client's own, over its own time: how long one is still at its last
    operation, when others have stopped, says nothing.
    """
    done = [each for each in outcomes if each.latencies]
    latencies = sorted(latency for each in done for latency in each.latencies)
    found = Round(errors=[each.error for each in outcomes if each.error is not None])
    if not latencies:
        return found
    moved = sum(each.moved for each in done)
    found.values = {
        "operations": len(latencies),
        "bytes": moved,
        "operations_per_second": sum(len(each.latencies) / each.seconds for each in done),
        "cpu_us_per_operation": cpu / len(latencies) * 1e6,
        "cpu_ms": cpu * 1e3,
        "p50_ms": percentile(latencies, 0.50) * 1e3,
        "p99_ms": percentile(latencies, 0.99) * 1e3,
    }
    if moved:
        found.values["megabytes_per_second"] = sum(e.moved / e.seconds for e in done) / 1e6
        found.values["cpu_ms_per_gb"] = cpu * 1e3 / (moved / 1e9)
    return found


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that so many of them do not exceed."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def medians(rounds: Sequence[Round]) -> Values:
    """Of each figure that some rounds have."""
    names = dict.fromkeys(name for each in rounds for name in each.values)
    return {
        name: statistics.median(each.values[name] for each in rounds if name in each.values)
        for name in names
    }


def ratio(name: str, first: Values, others: Iterable[Values]) -> float | None:
    """A figure of the first server over that of the best of the others; None without both."""
    found = [each[name] for each in others if name in each]
    if name not in first or not found:
        return None
    best = max(found) if FIGURES[name].more_is_better else min(found)
    # too little to be measured, such as the memory of a few sessions, is no ground for a ratio
    return first[name] / best if min(best, first[name]) > 0 else None
