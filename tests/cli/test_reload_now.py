"""What an administrator is told who has a server read everything again."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from ftpcluster.cli.cluster import Cluster
from ftpcluster.cli.flags import Flags
from ftpcluster.cli.logfiles import LogFiles
from ftpcluster.config import Config
from ftpcluster.config.load import load
from ftpcluster.supervisor.admin_server import ReloadRefused
from ftpcluster.supervisor.supervisor import Supervisor

FILE = """
workers = 1
[[listen]]
address = "127.0.0.1"
port = 0
[admin]
enabled = false
[anonymous]
root = "."
"""


async def test_a_reload_that_fails_for_an_unknown_reason_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has not been done, and the next one is tried as ever."""
    file = tmp_path / "ftpcluster.toml"
    file.write_text(FILE)
    config = load(file, Flags())
    attempts = []

    async def read_again() -> Config:
        attempts.append(file)
        raise RuntimeError("can't start new thread")

    cluster = Cluster(config, read_again, lambda _: (config, []), LogFiles(config.log), None)
    cluster._supervisor = Supervisor(cluster._plan)
    try:
        for _ in range(2):
            async with asyncio.timeout(20):
                with pytest.raises(ReloadRefused, match="RuntimeError: can't start new thread"):
                    await cluster.reload_now()
    finally:
        cluster._supervisor.kill()
    assert len(attempts) == 2
    told = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.getMessage() for each in told] == [
        "not reloaded: RuntimeError: can't start new thread"
    ] * 2
