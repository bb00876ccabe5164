"""A configuration comes from another process, whole and without stopping the loop."""

from __future__ import annotations

import asyncio
import functools
import operator
import os

import pytest
import uvloop

from ftpcluster.cli.aside import call_bounded_beside


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_large_result_comes_in_pieces(factory: object) -> None:
    """More than a pipe holds; uvloop makes what it watches non-blocking."""
    assert callable(factory)
    with asyncio.Runner(loop_factory=factory) as runner:
        result = runner.run(call_bounded_beside(functools.partial(operator.mul, b"x", 10**7)))
    assert result == b"x" * 10**7


def test_a_process_that_ends_without_a_result_is_an_error() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        with pytest.raises(RuntimeError, match=r"the process that was to load .* has ended"):
            runner.run(call_bounded_beside(functools.partial(os._exit, 3)))
