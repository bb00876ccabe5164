"""Worker processes: aiomultiprocess's, without its manager process and its polling.

``aiomultiprocess.Process`` starts a manager process in its constructor, which blocks the loop and
is a single point of failure: when the manager is dead, no worker can be started again. Only
``Worker`` uses the manager, so our subclass builds its unit without one. ``join()`` polls, so the
end of a process is taken from its pidfd. The sentinel would not do: it is a pipe, and a process can
close it and live on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from multiprocessing import process as multiprocessing_process
from multiprocessing import resource_tracker
from typing import Any, Protocol

from aiomultiprocess.core import Process
from aiomultiprocess.core import context as spawn_context
from aiomultiprocess.types import Unit

from ftpcluster.descriptors import close_quietly
from ftpcluster.supervisor.cut_connections import cut_connections
from ftpcluster.supervisor.procstatus import stuck_thread

log = logging.getLogger(__name__)


class ProcessLike(Protocol):
    """What the supervisor needs of a process (tests have another one)."""

    @property
    def pid(self) -> int | None: ...
    @property
    def exitcode(self) -> int | None: ...

    def kill(self) -> None:
        """Send SIGKILL; harmless where the process is gone."""

    def abort(self) -> None:
        """Send SIGABRT, and SIGCONT in case the process is stopped; harmless where it is gone."""

    def on_exit(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when the process has ended."""

    @property
    def is_stuck(self) -> bool:
        """Whether it is in a system call that no signal interrupts, not even SIGKILL."""

    def leave(self) -> None:
        """Never wait for its end, not even at our own. Its connections are shut down."""


class WorkerProcess(Process):
    """A spawned process that runs a coroutine on a loop of its own."""

    def __init__(
        self,
        target: Callable[..., Coroutine[Any, Any, None]],
        args: Sequence[Any],
        name: str,
        loop_initializer: Callable[[], Any],
        initializer: Callable[..., None],
        initargs: Sequence[Any],
    ) -> None:
        # not super().__init__(): see above
        self.unit = Unit(
            target=target,
            args=tuple(args),
            kwargs={},
            namespace=None,
            initializer=initializer,
            initargs=tuple(initargs),
            loop_initializer=loop_initializer,
        )
        self.aio_process = spawn_context.Process(  # type: ignore[attr-defined]
            target=Process.run_async, args=(self.unit,), name=name
        )

    def start(self) -> None:
        """Start the process, with Ctrl-C blocked until the process has set its signal handlers.

        The signal goes to the whole process group, and a Python that is just starting would
        answer it with a traceback. SIGHUP and SIGUSR1, which an administrator may send to all
        processes, would end it. Raises OSError.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR1))
        try:
            resource_tracker.ensure_running()  # if it starts the tracker, it unblocks the other two
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            self._pidfd = os.pidfd_open(self.aio_process.pid)
        except OSError:
            super().kill()
            self.aio_process.join()
            self.aio_process.close()
            raise

    def kill(self) -> None:
        if self.is_alive():
            super().kill()

    def abort(self) -> None:
        if self.is_alive() and self.pid is not None:
            os.kill(self.pid, signal.SIGABRT)
            os.kill(self.pid, signal.SIGCONT)

    def on_exit(self, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self._pidfd)
            close_quietly(self._pidfd)
            self.aio_process.join()  # reaps; it has ended, so this does not block
            # close its two pipes, which only the garbage collector would close; the object keeps
            # its pid and exit code
            with contextlib.suppress(OSError):
                self.aio_process._popen.close()
            callback()

        loop.add_reader(self._pidfd, ended)

    @property
    def is_stuck(self) -> bool:
        return self.pid is not None and stuck_thread(self.pid) is not None

    def leave(self) -> None:
        # multiprocessing waits at the interpreter's exit for all that it knows
        known: set[Any] = multiprocessing_process._children  # type: ignore[attr-defined]
        known.discard(self.aio_process)
        if self.pid is not None:
            cut_connections(self.pid)


def leave_lost_directory() -> None:
    """Change to ``/`` if the current directory was removed, or must not be entered any more. A
    spawned process inherits it, and spawning asks for its name: no worker could be started
    again."""
    try:
        os.chdir(os.getcwd())
    except OSError as error:
        log.warning(
            "the directory that the server was started in cannot be entered any more (%s): "
            "it goes on in /", error.strerror,
        )  # fmt: skip
        os.chdir("/")
