"""Sessions that do nothing: what they cost in memory, and those beside them in time."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.processes import memory_of
from tests.support.cluster import Cluster
from tests.support.dialogue import Dialogue
from tests.support.memory import anonymous

pytestmark = [pytest.mark.slow, pytest.mark.alone]
MB = 1_000_000
WHOLE = 10_000
"""So many sessions on two workers have to do with ``MEMORY`` in all."""
MEMORY = 200 * MB


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Room for so many connections in this process; without it the test is skipped."""
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"RLIMIT_NOFILE is {hard}, {count} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def noop_times(client: Dialogue, count: int) -> list[float]:
    """Seconds that each took, in order of size."""
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        client.says("NOOP", 200)
        times.append(time.perf_counter() - begin)
    return sorted(times)


@pytest.mark.parametrize("sessions", [1000, pytest.param(WHOLE, marks=pytest.mark.soak)])
def test_ten_thousand_idle_sessions_fit_into_200_mb(root: Path, sessions: int) -> None:
    """With fewer, what each takes is counted for as many."""
    arguments = ("--workers", "2", "--root", str(root), "--user", "user:12345")
    with (
        descriptors(sessions + 1000),
        Cluster(*arguments, "--log-level", "warning") as cluster,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(20):  # what is imported and made once
            stack.enter_context(Dialogue(cluster.port)).logs_in()
        empty = sum(map(memory_of, cluster.processes()))
        before = sum(map(anonymous, cluster.processes()))
        for _ in range(sessions):
            stack.enter_context(Dialogue(cluster.port)).logs_in()
        each = (sum(map(anonymous, cluster.processes())) - before) / sessions
        print(f"{empty / MB:.0f} MB, {each / 1000:.1f} kB for each session")
        assert each > 0
        assert empty + each * WHOLE <= MEMORY
        beside = stack.enter_context(Dialogue(cluster.port))
        beside.logs_in()
        times = noop_times(beside, 2000)
        print(f"NOOP: p99 {1000 * times[int(0.99 * len(times))]:.2f} ms")
        if sessions == WHOLE:
            assert times[int(0.99 * len(times))] < 0.005
