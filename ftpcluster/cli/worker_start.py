"""How ``run`` starts a worker: by the fork server, or as a new interpreter."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import spawn
from multiprocessing.reduction import DupFd

from ftpcluster.cli.logfiles import LogFiles
from ftpcluster.config import Config, Loop
from ftpcluster.descriptors import close_quietly
from ftpcluster.ipc.orders import give
from ftpcluster.supervisor.forking import AskedProcess, ForkServer
from ftpcluster.supervisor.process import ProcessLike, WorkerProcess, leave_lost_directory
from ftpcluster.worker.config_in_memory import Packed, config_in_memory
from ftpcluster.worker.entry import initialize, new_uvloop, run_worker


@dataclass(frozen=True, slots=True)
class WorkerStarter:
    """Starts the workers of a generation. ``packed``: their configuration."""

    config: Config
    packed: Packed
    logs: LogFiles
    forks: ForkServer | None

    def __call__(self, index: int, epoch: int, sock: socket.socket) -> ProcessLike:
        """Start a worker that has ``sock``, which stays the caller's. Raises OSError."""
        leave_lost_directory()
        if self.forks is None or not self.forks.is_usable:
            return self._spawn(index, epoch, sock)
        kept = sock.dup()
        try:
            return AskedProcess(
                self.forks,
                lambda orders: self._give_order(index, epoch, kept, orders),
                lambda: self._spawn(index, epoch, kept),
                lambda: close_quietly(kept.detach()),
            )
        except OSError:
            close_quietly(kept.detach())
            return self._spawn(index, epoch, sock)

    def _spawn(self, index: int, epoch: int, sock: socket.socket) -> WorkerProcess:
        with self._prepared(index, epoch, sock) as process:
            process.start()
        return process

    def _give_order(
        self, index: int, epoch: int, sock: socket.socket, orders: socket.socket
    ) -> None:
        """Send a forked worker all that a spawned one would inherit from this process."""
        with self._prepared(index, epoch, sock) as process:
            inherited = {
                "preparation": spawn.get_preparation_data(process.name),
                "environment": dict(os.environ),
                "files": resource.getrlimit(resource.RLIMIT_NOFILE),
            }
            give(orders, lambda: {**inherited, "stderr": DupFd(2)}, lambda: process.unit)

    @contextlib.contextmanager
    def _prepared(self, index: int, epoch: int, sock: socket.socket) -> Iterator[WorkerProcess]:
        with config_in_memory(index, self.packed) as settings:
            yield WorkerProcess(
                target=run_worker,
                args=(sock, settings, os.getpid(), self.logs.transfers),
                name=f"ftpcluster-worker-{index + 1}-{epoch}",
                loop_initializer=_workers_loop(self.config),
                initializer=initialize,
                initargs=(
                    f"worker {index + 1}",
                    self.config.log.level,
                    self.config.log.format,
                    self.logs.log,
                ),
            )


def _workers_loop(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    if config.loop == "uvloop" and config.confine:
        return new_uvloop
    return loop_factory(config.loop)


def loop_factory(loop: Loop) -> Callable[[], asyncio.AbstractEventLoop]:
    if loop == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop
