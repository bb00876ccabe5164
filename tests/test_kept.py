"""When a cluster that tests share is lent again."""

from __future__ import annotations

import msgspec

from tests.support.kept import is_unused
from tests.support.picture import sample

REPLACE = msgspec.structs.replace


def test_a_cluster_is_lent_again_while_all_its_workers_serve_nobody() -> None:
    idle = REPLACE(sample(), connections=0)
    assert len(idle.workers) == 4
    assert is_unused(idle, 4)
    assert not is_unused(sample(), 4)
    draining = REPLACE(idle.workers[0], state="draining")
    assert not is_unused(REPLACE(idle, workers=(draining, *idle.workers[1:])), 4)


def test_a_cluster_that_stops_or_lacks_a_worker_is_not_lent_again() -> None:
    idle = REPLACE(sample(), connections=0)
    assert not is_unused(REPLACE(idle, workers=()), 4)
    assert not is_unused(REPLACE(idle, workers=idle.workers[1:]), 4)
