"""Host names that workers need: a confined one could not read the files that say whom to ask."""

from __future__ import annotations

import asyncio
import functools

from ftpcluster.ipc.channel import BadMessage
from ftpcluster.ipc.messages import LookedUp, LookUp
from ftpcluster.net.lookups import NameService
from ftpcluster.supervisor.worker_handle import WorkerHandle

_KEPT = 5.0
"""Seconds for which an answer is given again: workers need the same name at the same time, and one
that asks all the time gets no more lookups than that."""


class NameLookups:
    """Looks up, for workers, the names that their plan has. It keeps no loop waiting."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._names = NameService()
        self._known: dict[str, tuple[LookedUp, float]] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, list[WorkerHandle]] = {}

    def on_message(self, worker: WorkerHandle, message: LookUp) -> None:
        """Answer a worker, now or later. Raises BadMessage where it has no use for that name."""
        name = message.name
        if name not in worker.place.generation.plan.names:
            raise BadMessage("it asked for a host name that is not configured")
        answer, until = self._known.get(name, (None, 0.0))
        if answer is not None and self._loop.time() < until:
            worker.channel.send(answer)
            return
        waiting = self._waiting.setdefault(name, [])
        if worker not in waiting:
            waiting.append(worker)
        if name not in self._looking:
            self._looking[name] = task = self._loop.create_task(self._look_up(name))
            task.add_done_callback(functools.partial(self._on_done, name))

    async def _look_up(self, name: str) -> None:
        try:
            answer = LookedUp(name, await self._names.addresses_of(name))
        except OSError as error:
            answer = LookedUp(name, (), error.strerror or str(error))
        self._known[name] = answer, self._loop.time() + _KEPT
        for worker in self._waiting.pop(name, ()):
            worker.channel.send(answer)  # which does nothing where that is gone

    def _on_done(self, name: str, _: asyncio.Task[None]) -> None:
        del self._looking[name]

    def close(self) -> None:
        """Wait for nothing any more."""
        for task in self._looking.values():
            task.cancel()
