"""``ftpcluster`` without waits that say nothing about faults.

What it keeps between sessions does not change: what comes and goes with time looks like a leak.

python -m tests.support.impatient run …
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_DELAY, _IDLE = 0.05, 0.3
"""Seconds that a failed login is delayed, and that an idle thread stays."""
_FOR_EVER = 1e6
_THREADS = 2


class Pool(ThreadPoolExecutor):
    """A pool all of whose threads run from the beginning."""

    def __init__(self, _: int, name: str, initializer: Callable[[], object]) -> None:
        super().__init__(_THREADS, name, initializer)
        all_run = threading.Barrier(_THREADS)
        for _ in range(_THREADS):
            self.submit(all_run.wait)


if __name__ == "__main__":  # workers import this module, too
    from ftpcluster.session.commands import access
    from ftpcluster.storage import roots, threads
    from ftpcluster.worker import worker_services
    from ftpcluster.worker.fork_server import begin

    _pause = access.pause

    def pause(loop: asyncio.AbstractEventLoop, seconds: float) -> asyncio.Future[None]:
        return _pause(loop, min(seconds, _DELAY))

    access.pause = pause
    threads._IDLE = _IDLE
    roots._KEPT_FOR = _FOR_EVER
    worker_services.ThreadPoolExecutor = Pool
    fork_server = begin()

    from ftpcluster.cli.main import main

    main(fork_server)
