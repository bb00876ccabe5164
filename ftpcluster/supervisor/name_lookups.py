"""Lookups of host names for workers: a confined worker cannot read the resolver's configuration."""

from __future__ import annotations

import asyncio
import functools

from ftpcluster.ipc.channel import BadMessage
from ftpcluster.ipc.messages import LookedUp, LookUp
from ftpcluster.net.lookups import NameService
from ftpcluster.supervisor.worker_handle import WorkerHandle

_KEPT = 5.0
"""Seconds for which an answer is used again. Workers need the same name at the same time. And a
worker that asks all the time causes no more lookups than one in this time."""


class NameLookups:
    """Looks up the names of a plan for its workers, without blocking the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._names = NameService()
        self._known: dict[str, tuple[LookedUp, float]] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, list[WorkerHandle]] = {}

    def on_message(self, worker: WorkerHandle, message: LookUp) -> None:
        """Answer a worker, now or later. Raises BadMessage where its plan lacks the name."""
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
            worker.channel.send(answer)  # does nothing if the worker is gone

    def _on_done(self, name: str, _: asyncio.Task[None]) -> None:
        del self._looking[name]

    def close(self) -> None:
        """Cancel the lookups that run."""
        for task in self._looking.values():
            task.cancel()
