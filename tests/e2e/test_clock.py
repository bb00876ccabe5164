"""“Clock set ± 1 day: no session ends, no limit changes.”"""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import pytest

from tests.support.clock import shim
from tests.support.cluster import Cluster, until
from tests.support.dialogue import Dialogue

RATE = 1_000_000


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_sessions_and_limits_do_not_care_what_time_it_is(tmp_path: Path, loop: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(os.urandom(4 * RATE))
    clock = tmp_path / "clock.py"  # in the shape of a module, which confined workers may read
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": shim(),
        "PYTHONPATH": str(tmp_path),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    arguments = ["--workers", "2", "--root", str(root), "--user", "user:12345", "--writable"]
    arguments += ["--download-limit", str(RATE), "--loop", loop]
    with Cluster(*arguments, env=environment) as cluster:
        workers = cluster.workers()
        with Dialogue(cluster.port) as idle, Dialogue(cluster.port) as busy:
            for client in (idle, busy):
                client.logs_in()
            ended = threading.Event()

            def turn() -> None:
                while not ended.wait(0.5):
                    clock.write_text("-1d" if clock.read_text() == "+1d" else "+1d")

            turning = threading.Thread(target=turn)
            turning.start()
            try:
                began = time.monotonic()
                assert len(busy.downloads("RETR file")) == 4 * RATE
                took = time.monotonic() - began
                until(lambda: idle.uploads("STOR new", b"") and len(days(cluster)) == 3)
            finally:
                ended.set()
                turning.join()
            assert took >= 3.5  # as fast as it may, whatever the clock says
            assert took < 12
            idle.says("NOOP", 200)
        assert cluster.workers() == workers
        assert "WARNING" not in cluster.log


def days(cluster: Cluster) -> set[str]:
    """The days that the server believed it was, as its log has them."""
    return set(re.findall(r"^\d{4}-\d\d-\d\d", cluster.log, re.MULTILINE))
