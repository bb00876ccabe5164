"""The clock by which the poller ends its turns."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from ftpcluster.net import poller
from ftpcluster.net.poller import Poller


def set_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Have the poller, compiled or not, look at ``clock``."""
    for module in (poller, sys.modules[Poller.__mro__[1].__module__]):
        monkeypatch.setattr(module, "monotonic", clock)
