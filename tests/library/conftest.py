"""What tests of the library share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import ftpcluster


class Sleeps:
    """Stands for ``asyncio.sleep``: writes down how long waits would have lasted, and lasts none.

    ``until`` is the latest time that somebody wanted to wait for, in seconds after ``restart``.
    """

    def __init__(self) -> None:
        self.delays: list[float] = []
        self._start: float | None = None
        self._latest = 0.0

    def restart(self) -> None:
        self.delays.clear()
        self._start = asyncio.get_running_loop().time()
        self._latest = self._start

    async def __call__(self, delay: float, result: Any = None) -> Any:
        self.delays.append(delay)
        self._latest = max(self._latest, asyncio.get_running_loop().time() + delay)
        return result

    @property
    def until(self) -> float:
        assert self._start is not None, "nobody has called restart"
        return self._latest - self._start


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Sleeps:
    """``asyncio.sleep`` is replaced: nobody waits for speed any more."""
    sleeps = Sleeps()
    monkeypatch.setattr(asyncio, "sleep", sleeps)
    return sleeps


@pytest.fixture
def nobody_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of ``asyncio.sleep`` fails."""

    def sleep(*_: object) -> None:
        raise AssertionError("asyncio.sleep was called")

    monkeypatch.setattr(asyncio, "sleep", sleep)


LAYERS: dict[str, Callable[..., ftpcluster.AbstractPathIO]] = {
    "PathIO": ftpcluster.PathIO,
    "AsyncPathIO": ftpcluster.AsyncPathIO,
    "MemoryPathIO": ftpcluster.MemoryPathIO,
}


@pytest.fixture(params=list(LAYERS))
def layer(request: pytest.FixtureRequest) -> Callable[..., ftpcluster.AbstractPathIO]:
    """The class of each path layer that ftpcluster has."""
    return LAYERS[request.param]
