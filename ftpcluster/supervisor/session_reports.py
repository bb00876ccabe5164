"""Asking all workers what their sessions do, at one moment."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable

from ftpcluster.expiry import wait_for
from ftpcluster.ipc.messages import Describe, Described, SessionReport
from ftpcluster.quota.ledger import Ledger
from ftpcluster.supervisor.worker_handle import WorkerHandle

_PATIENCE = 0.25
"""Seconds that a worker has for its answer: a worker that hangs must not hide the others."""


class SessionReports:
    """Gets reports of all sessions from their workers.

    Each answer has the number of its question; late ones are dropped.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, workers: Callable[[], Iterable[WorkerHandle]]
    ) -> None:
        self._loop = loop
        self._workers = workers
        self._numbers = itertools.count(1)
        self._asked: dict[tuple[int, int], asyncio.Future[None]] = {}
        self._found: dict[tuple[int, int], dict[int, SessionReport]] = {}

    async def ask(self) -> list[tuple[WorkerHandle, list[SessionReport]]]:
        """What the sessions of each worker that answers in time do now."""
        number = next(self._numbers)
        workers = list(self._workers())
        for worker in workers:
            key = worker.epoch, number
            self._asked[key] = self._loop.create_future()
            self._found[key] = {}
            worker.channel.send(Describe(number))
        waited_for = [self._asked[worker.epoch, number] for worker in workers]
        if waited_for:
            await wait_for(asyncio.gather(*waited_for), _PATIENCE)
        answers = []
        for worker in workers:
            key = worker.epoch, number
            has_answered = self._asked.pop(key).done()
            found = self._found.pop(key)
            answers.append((worker, list(found.values()) if has_answered else []))
        return answers

    def on_described(self, epoch: int, message: Described, ledger: Ledger) -> None:
        """A worker answers. Reports of sessions that are not its own are dropped."""
        key = epoch, message.number
        if key in self._found:
            for report in message.sessions:
                if ledger.holds(epoch, report.session):
                    self._found[key][report.session] = report
            if message.is_last and not self._asked[key].done():
                self._asked[key].set_result(None)

    def on_gone(self, epoch: int) -> None:
        """A worker will not answer any more."""
        for key, answered in self._asked.items():
            if key[0] == epoch and not answered.done():
                answered.set_result(None)
