"""A cluster that the tests of a module share, since starting one takes longer than most tests.

Each test gets it without sessions, without bans and with an empty log. If a test ends it, or leaves
it in another state, the next test gets a new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Self

from ftpcluster.admin.client import AdminConnection, NoServer, OrderRefused
from ftpcluster.admin.requests import BanList, ListBans, Overview, Unban, WhoRequest
from tests.support.cluster import READY, Cluster, until


class Kept:
    """Starts a cluster when a test needs one, and keeps it for the next test."""

    def __init__(self, start: Callable[[], Cluster]) -> None:
        self._start = start
        self._cluster: Cluster | None = None
        self._workers = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @contextlib.contextmanager
    def lent(self) -> Iterator[Cluster]:
        """Lend the cluster to one test."""
        if self._cluster is None:
            self._cluster = self._start().__enter__()
            ready = READY.search(self._cluster.log)
            assert ready is not None
            self._workers = int(ready[2])
        cluster = self._cluster
        cluster.forget_log()
        try:
            yield cluster
            assert "Traceback" not in cluster.log, cluster.log
        except BaseException:
            self._end()  # whatever the test has left, another one would fail for it
            raise
        if not _is_as_before(cluster, self._workers):
            self._end()

    def _end(self) -> None:
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.__exit__(None, None, None)


def is_unused(seen: Overview, workers: int) -> bool:
    """Whether all its workers serve, and nobody is connected. One that stops has no workers."""
    return (
        seen.connections == 0
        and len(seen.workers) == workers
        and all(each.state == "serving" for each in seen.workers)
    )


def _is_as_before(cluster: Cluster, workers: int) -> bool:
    """Lift all bans. Returns whether it serves with all its workers, and all its sessions end."""
    if cluster.process.poll() is not None:
        return False
    try:
        with contextlib.closing(AdminConnection(cluster.admin)) as admin:
            bans = admin.ask(ListBans())
            assert isinstance(bans, BanList)
            for ban in bans.bans:
                admin.ask(Unban(ban.network))

            def is_idle() -> bool:
                seen = admin.ask(WhoRequest())
                assert isinstance(seen, Overview)
                return is_unused(seen, workers)

            until(is_idle, 5.0)
    except (NoServer, OrderRefused, AssertionError):
        return False
    return True
