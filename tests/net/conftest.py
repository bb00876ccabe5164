"""What needs a loop, and no server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.conftest import LOOPS

DEADLINE = 20.0


@pytest.fixture(params=sorted(LOOPS))
def run(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[Callable[[Any], Coroutine[Any, Any, None]]], None]]:
    """Runs a scenario with the module's ``Bench``, which is closed in the end, on a loop of each
    kind; nothing may be left open after it."""
    with asyncio.Runner(loop_factory=LOOPS[request.param], debug=False) as runner:

        async def bounded(scenario: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
            bench = request.module.Bench(asyncio.get_running_loop())
            try:
                async with asyncio.timeout(DEADLINE):
                    await scenario(bench)
            finally:
                bench.close()

        runner.get_loop()
        before = set(os.listdir("/proc/self/fd"))
        yield lambda scenario: runner.run(bounded(scenario))
        assert set(os.listdir("/proc/self/fd")) <= before
