"""Data connections over IPv6 link-local addresses, which need the interface named with them."""

from __future__ import annotations

import sys

import pytest

from tests.support.apart import apart
from tests.support.kinds import IN_PROCESS
from tests.support.linklocal import WAYS


@pytest.mark.parametrize("loop", IN_PROCESS)
@pytest.mark.parametrize("way", WAYS)
def test_both_modes_work_over_link_local_addresses(way: str, loop: str) -> None:
    printed = apart(sys.executable, "-m", "tests.support.linklocal", loop, way)
    assert printed == "over a link-local address\n"
