"""Servers that fork are counted whole, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.forking import CHECKOUT, environment


def test_what_an_orphan_of_the_server_has_spent_is_not_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.orphans", str(tmp_path / "log")],
        cwd=CHECKOUT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 0.28
